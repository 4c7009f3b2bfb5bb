"""`cj.profile`: which of eight definitions of model collapse a run meets."""

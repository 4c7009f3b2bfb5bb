"""Real data from a file, which replaces the real distribution of a family."""

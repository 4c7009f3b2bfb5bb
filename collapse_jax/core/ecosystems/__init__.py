"""Models that read each other, as one process."""

"""Real data out of a file, in the place of a family's own real distribution."""

"""Several models that train on each other's points, as one process."""

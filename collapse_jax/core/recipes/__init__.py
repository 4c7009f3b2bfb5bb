"""What things are made of: how they compare, hash, print and pickle, and share programs."""

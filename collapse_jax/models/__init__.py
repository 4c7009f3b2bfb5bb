"""Networks and their training, independent of generations."""

"""Networks that learn a distribution of points or images: denoisers, flows and their training.

Knows nothing of generations.
"""

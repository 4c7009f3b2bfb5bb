"""Networks that learn a law of points or images: denoisers, flows and their training.

Knows nothing of generations.
"""

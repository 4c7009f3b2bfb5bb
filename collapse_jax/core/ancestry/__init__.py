"""Where points come from: genealogies, alone and along with a model."""

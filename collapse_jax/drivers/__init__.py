"""The drivers of a process: `simulate`, compiled, and `run`, a host loop with checkpoints."""

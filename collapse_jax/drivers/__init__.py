"""The two drivers of a process: `simulate` (traceable, thousands of chains) and `run` (host loop, a
checkpoint per generation).
"""

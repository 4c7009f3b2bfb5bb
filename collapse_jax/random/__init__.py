"""Exact samplers without rejection: a draw has the same cost in every chain.

`key` is one typed key [] of `jax.random` throughout.
"""

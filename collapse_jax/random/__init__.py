"""Exact samplers without rejection: a draw costs the same in every chain.

`key` is one typed key [] of `jax.random` throughout.
"""

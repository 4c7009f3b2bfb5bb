"""Five seeds fine-tuned at once by `vmap`, or one after another: tokens per second of both.

    python experiments/benchmarks/seeds.py [--seeds 5] [--batch-sizes 8 32]

Run time: 72 seconds on 2 cores. The sizes of ../shared/data/opt-mini-books (5.3 M parameters) with
random weights, blocks of 64 tokens, AdamW, the loss and gradient of
`collapse_jax.models.lm.score.batch_loss`. Every seed has separate parameters, moments and batches.
Both ways take the same steps and end at the same losses up to float rounding, which is printed too.
"""

import dataclasses
import time

import tyro

LENGTH, STEPS = 64, 4


def make_steps(model):
    """(params, moments, batches [STEPS, batch, LENGTH]) -> (params, moments, losses [STEPS])."""
    import jax
    import jax.numpy as jnp
    import optax

    from collapse_jax.models.lm.score import batch_loss

    optimiser = optax.adamw(1e-4, weight_decay=0.01)

    def step(carry, tokens):
        params, moments = carry
        loss, gradient = jax.value_and_grad(
            lambda params: batch_loss(model, params, tokens, jnp.ones(len(tokens)))
        )(params)
        update, moments = optimiser.update(gradient, moments, params)
        return (optax.apply_updates(params, update), moments), loss

    return lambda params, moments, batches: jax.lax.scan(
        step, (params, moments), batches
    ), optimiser


def rate(function, tokens, least=8.0):
    """(tokens a second after a first call that compiles, what it returned)."""
    import jax

    found = jax.block_until_ready(function())
    began, calls = time.perf_counter(), 0
    while time.perf_counter() - began < least:
        jax.block_until_ready(function())
        calls += 1
    return calls * tokens / (time.perf_counter() - began), found


def main(seeds: int = 5, batch_sizes: tuple[int, ...] = (8, 32)) -> None:
    """Measures both ways, and prints a table."""
    import jax
    import numpy as np

    from collapse_jax.models.lm.opt import MINI, OPT, init_params

    model = OPT(dataclasses.replace(MINI, dropout=0.0))
    steps, optimiser = make_steps(model)
    together, alone = jax.jit(jax.vmap(steps)), jax.jit(steps)
    params = [init_params(model.config, jax.random.key(seed)) for seed in range(seeds)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *params)
    print(
        "| batch size | seeds | by vmap | one after another | vmap / one after another | largest "
        "difference of losses |\n" + "|---" * 6 + "|"
    )
    for batch in batch_sizes:
        shape = (seeds, STEPS, batch, LENGTH)
        tokens = (
            np.random.default_rng(0).integers(4, model.config.vocab_size, shape).astype(np.int32)
        )
        moments = jax.vmap(optimiser.init)(stacked)
        at_once, (_, losses) = rate(
            lambda moments=moments, tokens=tokens: together(stacked, moments, tokens), tokens.size
        )

        def in_turn(tokens=tokens):
            return [
                alone(one, optimiser.init(one), part)[1]
                for one, part in zip(params, tokens, strict=True)
            ]

        one_by_one, each = rate(in_turn, tokens.size)
        off = float(np.max(np.abs(np.asarray(losses) - np.asarray(each))))
        print(
            f"| {batch} | {seeds} | {at_once:,.0f} tokens/s | {one_by_one:,.0f} tokens/s | "
            f"{at_once / one_by_one:.2f} | {off:.1e} |"
        )


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)

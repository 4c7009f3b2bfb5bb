"""Sampling and refitting n-grams compared with NumPy and Python: tokens per second of a generation.

    OMP_NUM_THREADS=1 python experiments/benchmarks/ngrams.py [--repeats 3]      44 seconds of CPU
    time with --repeats 2 (AMD EPYC)

One generation draws as many blocks as the training set has (--block-length tokens each) and fits a
model to them. Time is CPU time of the process (`time.process_time`), the shortest of several
repeats, so that it does not depend on other load. Only XLA uses more than one core; its threads are
counted together. Text: tokens of Zipf's law, exponent 1, over 20,054 words.
- Python: a dictionary of lists of what followed each context, and `random.choice` token by token.
- NumPy, stream: the same sorted occurrences as ours, one stream token by token in Python.
- NumPy, blocks: the same, all blocks at once, position by position: the algorithm of this library
  in NumPy. It is the faster one on a CPU, because NumPy's sort uses vector instructions and XLA's
  does not: sorting is two thirds of the time of a trigram's generation.
"""

import collections
import os
import random
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from collapse_jax.core import points
from collapse_jax.estimators.ngram import ngram

VOCABULARY = 20_054


def best(generation, blocks, repeats):
    """CPU seconds of the shortest generation after a first one, each on its predecessor's text."""
    times = []
    for _ in range(repeats + 1):
        began = time.process_time()
        blocks = generation(blocks)
        times.append(time.process_time() - began)
    return min(times[1:])


def ours(order, shape):
    """blocks -> blocks by this library, on the device."""
    family = ngram(order, VOCABULARY, shape[1])

    @jax.jit
    def generation(x):
        params, _ = family.fit(jax.random.key(0), None, points.of_sample(x))
        return family.sample(jax.random.key(1), params, shape[0])

    return lambda x: jax.block_until_ready(generation(x))


def with_dictionary(order, shape):
    """blocks -> blocks as one writes it in plain Python."""

    def generation(blocks):
        followers = collections.defaultdict(list)
        for block in blocks:
            for place in range(order - 1, len(block)):
                followers[tuple(block[place - order + 1 : place])].append(block[place])
        everything = [token for block in blocks for token in block]
        made = []
        for _ in range(shape[0]):
            block = list(random.choice(blocks)[: order - 1])
            while len(block) < shape[1]:
                block.append(
                    random.choice(followers.get(tuple(block[len(block) - order + 1 :]), everything))
                )
            made.append(block)
        return made

    return generation


def with_numpy(order, shape, together):
    """blocks -> blocks by sorted occurrences; together: all blocks at once, else token by token."""
    rng = np.random.default_rng(0)

    def generation(blocks):
        context = np.zeros(blocks[:, order - 1 :].shape, np.int64)
        for back in range(order - 1):
            context = context * VOCABULARY + blocks[:, back : shape[1] - order + 1 + back]
        both = np.sort((context * VOCABULARY + blocks[:, order - 1 :]).ravel())
        context, token = np.divmod(both, VOCABULARY)
        following = (context * VOCABULARY + token) % VOCABULARY ** (order - 1)
        if order == 2:
            offset = np.searchsorted(context, np.arange(VOCABULARY + 1))
            start, count = offset[following], offset[following + 1] - offset[following]
        else:
            start = np.searchsorted(context, following)
            count = np.searchsorted(context, following, side="right") - start
        start, count = np.where(count > 0, start, 0), np.where(count > 0, count, len(context))
        made = np.empty(shape, np.int32)
        if together:
            place = rng.integers(len(context), size=shape[0])
            for step in range(shape[1]):
                made[:, step] = token[place]
                place = start[place] + (rng.random(shape[0]) * count[place]).astype(np.int64)
        else:
            place, flat, draws = 0, made.ravel(), rng.random(made.size)
            for step, u in enumerate(draws):
                flat[step] = token[place]
                place = start[place] + int(u * count[place])
        return made

    return generation


def main(
    repeats: int = 3, block_length: int = 500, tokens: tuple[int, ...] = (500_000, 2_000_000)
) -> None:
    """Measures all sides, and prints a table."""
    shares = 1 / np.arange(1, VOCABULARY + 1)
    text = (
        np.random.default_rng(0)
        .choice(VOCABULARY, size=max(tokens), p=shares / shares.sum())
        .astype(np.int32)
    )
    print(
        "| model | tokens | side | million tokens a CPU second | ours is so many times faster "
        "|\n|---|---|---|---|---|"
    )
    for order, name in {2: "bigram", 3: "trigram"}.items():
        for count in tokens:
            blocks = text[: count // block_length * block_length].reshape(-1, block_length)
            sides = {
                "collapse_jax": (ours(order, blocks.shape), jnp.asarray(blocks), repeats),
                "NumPy, blocks": (with_numpy(order, blocks.shape, True), blocks, repeats),
                "NumPy, stream": (with_numpy(order, blocks.shape, False), blocks, 1),
                "Python": (with_dictionary(order, blocks.shape), blocks.tolist(), 1),
            }
            first = None
            for side, given in sides.items():
                seconds = best(*given)
                first = first or seconds
                print(
                    f"| {name} | {count:,} | {side} | {count / seconds / 1e6:.2f} | "
                    f"{seconds / first:.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)

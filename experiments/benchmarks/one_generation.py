"""One generation of the language model, stage by stage, compared with a lower bound of its time.

The bound follows from the operations and bytes of each stage.

    python experiments/benchmarks/one_generation.py
        5.3 M parameters, 512 blocks, 70 seconds on 2 CPU cores
    python experiments/benchmarks/one_generation.py 125m --blocks 38403 --precision bfloat16
    --fit-batch 128 --score-batch 256
                                                           all of WikiText-2 at the paper's size,
                                                           for one large GPU

Fine-tune for five epochs, continue every block by 5-beam search, score the continuations under two
models (generation 0 and the model itself). Weights are random: no speed depends on them, as
end-of-text is banned. Each stage first runs on a few batches, which compiles it; that time has a
separate column. The rates of the machine are measured in the same run: the matrix rate with factors
of the given precision (float32 means float32), the bandwidth by copying. Lower bounds: products of
weights, of the tied head and of causal attention divided by that rate; weights, optimiser state,
and keys and values that fit no cache of the chip divided by that bandwidth. Activations and logits
are not counted.
"""

import dataclasses
import time
from typing import Annotated, Literal, NamedTuple

import numpy as np
import tyro
from language_model import LENGTH, blocks_of

EPOCHS, BEAMS = 5, 5


def sizes_of(name):
    """The `OPTConfig` of a size, without dropout."""
    from collapse_jax.models.lm.opt import MINI, OPTConfig

    return dataclasses.replace(MINI if name == "small" else OPTConfig(), dropout=0.0)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure."""

    size: Annotated[Literal["small", "125m"], tyro.conf.Positional] = "small"
    blocks: int = 512
    precision: Literal["float32", "bfloat16"] = "float32"
    fit_batch: int = 32
    decode_batch: int | None = None
    """By default what `collapse-jax lm` takes: 64 on CPUs, as many as fit on accelerators."""
    score_batch: int = 64


class Need(NamedTuple):
    """What a stage cannot do without: floating-point operations, and bytes to and from memory."""

    operations: float
    bytes: float


def attention(config, queries, keys):
    """Operations of `queries` tokens that each look at `keys` tokens, in all layers."""
    return 4 * config.num_hidden_layers * config.hidden_size * queries * keys


def needs(config, settings):
    """The `Need` of each stage."""
    width = config.hidden_size
    layers = config.num_hidden_layers * (4 * width**2 + 2 * width * config.ffn_dim)
    head = config.vocab_size * width
    factor = 2 if settings.precision == "bfloat16" else 4
    blocks, batches = settings.blocks, lambda size: -(-settings.blocks // size)
    forward = blocks * (
        2 * LENGTH * layers + 2 * (LENGTH - 1) * head + attention(config, LENGTH, (LENGTH + 1) / 2)
    )
    steps = EPOCHS * batches(settings.fit_batch)
    # Parameters and both moments, in float32, are read and written by every optimiser step.
    fit = Need(3 * EPOCHS * forward, steps * 6 * 4 * (layers + head))

    prefill = 2 * LENGTH * layers + 2 * head + attention(config, LENGTH, (LENGTH + 1) / 2)
    later = LENGTH - 1
    seen = LENGTH + LENGTH / 2  # the prompt, and half of the new tokens on average
    decode = blocks * (
        prefill + BEAMS * later * (2 * layers + 2 * head) + BEAMS * attention(config, later, seen)
    )
    # Five beams share what they read of the prompt; of their own past they share at best
    # everything.
    cached = 2 * config.num_hidden_layers * width * seen * factor
    read = (
        batches(settings.decode_batch) * LENGTH * (layers + head) * factor + blocks * later * cached
    )
    score = Need(2 * forward, 2 * batches(settings.score_batch) * (layers + head) * factor)
    return {"fit": fit, "generate": Need(decode, read), "score": score}


def fastest(function, argument, least=1.0):
    """Seconds of the fastest of many calls."""
    import jax

    jax.block_until_ready(function(argument))
    times, began = [], time.perf_counter()
    while time.perf_counter() - began < least:
        start = time.perf_counter()
        jax.block_until_ready(function(argument))
        times.append(time.perf_counter() - start)
    return min(times)


def machine_rates(precision):
    """(operations a second of a large product, bytes a second read and written by a large copy)."""
    import jax
    import jax.numpy as jnp

    large = jax.default_backend() != "cpu"
    side, numbers = (8192, 2**30) if large else (2048, 2**26)
    exact = jax.lax.Precision.HIGHEST if precision == "float32" else None
    # Random, because chips clock higher on zeros; the transpose keeps XLA from calling it a square.
    factor = jax.random.normal(jax.random.key(0), (side, side), precision)
    product = jax.jit(lambda x: jnp.matmul(x, x.T, precision=exact))
    copy = jax.jit(lambda x: x + 1)
    return 2 * side**3 / fastest(product, factor), 8 * numbers / fastest(
        copy, jnp.ones(numbers, jnp.float32)
    )


def stages(settings):
    """(name, function of the numbers of blocks and epochs, blocks that compile it) of each stage.

    Each stage uses what earlier ones made.
    """
    import jax

    from collapse_jax.models.lm import OPT, BeamSearch, FineTune, fine_tune, generate, perplexity
    from collapse_jax.models.lm.opt import init_params

    model = OPT(sizes_of(settings.size), settings.precision)
    params = init_params(model.config, jax.random.key(0))
    blocks, few = (blocks_of(model.config.vocab_size, count) for count in (settings.blocks, 2))
    made = {"params": params, "tokens": blocks}

    def fit(count, epochs):
        recipe = FineTune(epochs=epochs, batch_size=settings.fit_batch, keep="last")
        made["params"], _ = fine_tune(model, params, blocks[:count], few, recipe, jax.random.key(1))
        jax.block_until_ready(made["params"])

    def decode(count, epochs):
        prompts = blocks[:count]
        made["tokens"] = generate(
            model,
            made["params"],
            prompts,
            BeamSearch(BEAMS),
            LENGTH,
            batch_size=settings.decode_batch,
        )

    def score(count, epochs):
        for under in (params, made["params"]):
            perplexity(model, under, made["tokens"][:count], batch_size=settings.score_batch)

    # Sixteen steps are one compiled call of a fit.
    return (
        ("fit", fit, 16 * settings.fit_batch),
        ("generate", decode, settings.decode_batch),
        ("score", score, settings.score_batch),
    )


def main(settings: Settings) -> None:
    """Prints the machine's rates and the table."""
    import jax

    from collapse_jax.models.lm import OPT, BeamSearch
    from collapse_jax.models.lm.decode_batch import prompts_at_once
    from collapse_jax.runs.memory import PeakMemory

    operations, bandwidth = machine_rates(settings.precision)
    print(
        f"{jax.devices()[0].device_kind}: {operations / 1e12:,.3g} TFLOP/s in "
        f"{settings.precision}, {bandwidth / 1e9:,.3g} GB/s"
    )
    print(
        "| stage | seconds | TFLOP/s | share of the matrix rate | floor by operations | floor by "
        "bytes | first call | peak memory |\n" + "|---" * 8 + "|"
    )
    config, memory, total = sizes_of(settings.size), PeakMemory(), 0.0
    if settings.decode_batch is None:
        batch = prompts_at_once(
            OPT(config, settings.precision), BeamSearch(BEAMS), LENGTH, LENGTH, settings.blocks
        )
        settings = dataclasses.replace(settings, decode_batch=batch)
    required = needs(config, settings)
    for name, run, enough in stages(settings):
        began = time.perf_counter()
        run(min(enough, settings.blocks), 1)
        first, began = time.perf_counter() - began, time.perf_counter()
        with memory.stage(name):
            run(settings.blocks, EPOCHS)
        seconds, need, peaks = time.perf_counter() - began, required[name], memory.take()
        rate = need.operations / seconds
        peak = peaks.get(f"{name}_device_peak_mib", peaks.get(f"{name}_peak_mib", np.nan))
        cells = [name, f"{seconds:.2f}", f"{rate / 1e12:.3g}", f"{rate / operations:.0%}"]
        cells += [
            f"{need.operations / operations:.2f} s",
            f"{need.bytes / bandwidth:.2f} s",
            f"{first:.1f} s",
            f"{peak:,.0f} MiB",
        ]
        print("| " + " | ".join(cells) + " |", flush=True)
        total += seconds
    batches = f"batches of {settings.fit_batch}, {settings.decode_batch} and {settings.score_batch}"
    print(
        f"one generation of {settings.blocks:,} blocks in {batches}: {total:.1f} s, without "
        "compiling"
    )


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))

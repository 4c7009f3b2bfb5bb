"""Fine-tuning and 5-beam decoding of an OPT beside transformers on torch, with the same weights.

Both are measured in the same run.

    python experiments/benchmarks/language_model.py small
        the 5.3 M sizes of ../shared/data/opt-mini-books, about 4 minutes
    python experiments/benchmarks/language_model.py 125m
        the sizes of facebook/opt-125m, about 15 minutes
    python experiments/benchmarks/language_model.py 125m --precision bfloat16

Weights are random: no speed depends on them, as end-of-text is banned. Each side takes each of its
batch sizes in a process of its own, and the table shows the best one: tokens fine-tuned (AdamW,
blocks of 64, no dropout) and new tokens decoded (64 after 64) in a second, the rate of arithmetic
that this is, and the ratio. Without torch and transformers only our side is shown. On an
accelerator both sides use it.
"""

import concurrent.futures
import dataclasses
import importlib.util
import multiprocessing
import pathlib
import resource
import tempfile
import time
from typing import Annotated, Literal

import numpy as np
import tyro

LENGTH = 64
OURS = {
    "small": {"fit": (16, 32, 128), "decode": (64, 128, 256)},
    "125m": {"fit": (8, 16), "decode": (16, 32)},
}
THEIRS = {
    "small": {"fit": (16, 32, 128), "decode": (8, 32, 128)},
    "125m": {"fit": (8, 16), "decode": (4, 8)},
}
ON_ACCELERATOR = {"fit": (128, 512), "decode": (256, 1024)}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure."""

    size: Annotated[Literal["small", "125m"], tyro.conf.Positional] = "small"
    stages: tuple[Literal["fit", "decode"], ...] = ("fit", "decode")
    precision: Literal["float32", "bfloat16"] = "float32"
    batches: tuple[int, ...] = ()
    """Batch sizes to try, instead of the ones that did best here."""


def sizes_of(name):
    """The `OPTConfig` of a size, without dropout."""
    from collapse_jax.models.lm.opt import MINI, OPTConfig

    return dataclasses.replace(MINI if name == "small" else OPTConfig(), dropout=0.0)


def blocks_of(config, count):
    """Random blocks of tokens [count, LENGTH]."""
    return np.random.default_rng(0).integers(4, config.vocab_size, (count, LENGTH)).astype(np.int32)


def timed(function, least=5.0):
    """(calls a second, seconds of the first call).

    Enough calls for some seconds, after a first one that compiles.
    """
    began = time.perf_counter()
    function()
    first = time.perf_counter() - began
    began, calls = time.perf_counter(), 0
    while time.perf_counter() - began < least or calls < 1:
        function()
        calls += 1
    return calls / (time.perf_counter() - began), first


def ours(size, stage, batch, precision, folder):
    """(tokens a second, seconds of the first call, MiB)."""
    import jax

    from collapse_jax.models.lm.decode import BeamSearch, generate
    from collapse_jax.models.lm.finetune import FineTune, fine_tune
    from collapse_jax.models.lm.opt import OPT
    from collapse_jax.models.lm.weights import load_opt

    model, params = load_opt(folder)
    model = OPT(model.config, precision)
    if stage == "decode":
        blocks = blocks_of(model.config, batch)
        rate, first = timed(
            lambda: generate(model, params, blocks, BeamSearch(5), LENGTH, batch_size=batch)
        )
        tokens = rate * batch * LENGTH
    else:
        blocks, few = blocks_of(model.config, 16 * batch), blocks_of(model.config, 2)
        settings = FineTune(epochs=1, batch_size=batch, keep="last")
        rate, first = timed(
            lambda: fine_tune(model, params, blocks, few, settings, jax.random.key(0))
        )
        tokens = rate * blocks.size
    return tokens, first, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def theirs(size, stage, batch, precision, folder):
    """The same for transformers on torch."""
    import torch
    from transformers import OPTForCausalLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = OPTForCausalLM.from_pretrained(folder, dtype=getattr(torch, precision)).to(device)
    blocks = torch.tensor(blocks_of(model.config, 4 * batch), device=device).long()
    if stage == "decode":
        options = {
            "num_beams": 5,
            "do_sample": False,
            "min_new_tokens": LENGTH,
            "max_new_tokens": LENGTH,
        }
        prompts = blocks[:batch]
        with torch.inference_mode():
            rate, first = timed(
                lambda: model.generate(prompts, attention_mask=torch.ones_like(prompts), **options)
            )
        tokens = rate * batch * LENGTH
    else:
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.01)

        def steps():
            for part in blocks.split(batch):
                optimiser.zero_grad()
                model(input_ids=part, labels=part).loss.backward()
                optimiser.step()
            if device == "cuda":
                torch.cuda.synchronize()

        rate, first = timed(steps)
        tokens = rate * blocks.numel()
    return tokens, first, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def operations(config, stage):
    """Floating-point operations of one token: products with weights and the tied head.

    Fine-tuning takes three times as many, decoding five (one a beam).
    """
    layer = 4 * config.hidden_size**2 + 2 * config.hidden_size * config.ffn_dim
    return (
        2
        * (config.num_hidden_layers * layer + config.vocab_size * config.hidden_size)
        * (3 if stage == "fit" else 5)
    )


def alone(function, *arguments):
    """The result, from a process of its own."""
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def best(function, batches, *arguments):
    """(batch size, result) of the batch size that is fastest."""
    size, stage, precision, folder = arguments
    results = {batch: alone(function, size, stage, batch, precision, folder) for batch in batches}
    return max(results.items(), key=lambda item: item[1][0])


def main(settings: Settings) -> None:
    """Prints the table."""
    config = sizes_of(settings.size)
    has_torch = all(importlib.util.find_spec(name) for name in ("torch", "transformers"))
    print(
        "| stage | side | best batch | tokens a second | GFLOP/s | first call | peak memory | "
        "ratio |\n" + "|---" * 8 + "|"
    )
    with tempfile.TemporaryDirectory() as folder:
        accelerated = alone(prepare, settings.size, folder)
        for stage in settings.stages:
            rates = {}
            for name, function, batches in (("ours", ours, OURS), ("transformers", theirs, THEIRS)):
                if function is theirs and not has_torch:
                    continue
                tried = settings.batches or (
                    ON_ACCELERATOR[stage] if accelerated else batches[settings.size][stage]
                )
                batch, (tokens, first, memory) = best(
                    function, tried, settings.size, stage, settings.precision, folder
                )
                rates[name] = tokens
                arithmetic = tokens * operations(config, stage) / 1e9
                ratio = f"{rates['ours'] / tokens:.2f}" if name != "ours" else ""
                row = [
                    f"{settings.size} {stage}",
                    name,
                    batch,
                    f"{tokens:,.0f}",
                    f"{arithmetic:,.0f}",
                    f"{first:.1f} s",
                    f"{memory:.0f} MiB",
                ]
                print("| " + " | ".join(map(str, [*row, ratio])) + " |", flush=True)


def prepare(size, folder):
    """Writes random weights of a size; whether there is an accelerator."""
    import jax

    from collapse_jax.models.lm.opt import OPT, init_params
    from collapse_jax.models.lm.weights import save_opt

    config = sizes_of(size)
    save_opt(pathlib.Path(folder), OPT(config), init_params(config, jax.random.key(0)))
    return jax.default_backend() != "cpu"


if __name__ == "__main__":
    main(tyro.cli(Settings))

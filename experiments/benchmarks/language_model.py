"""Fine-tuning, 5-beam decoding and sampling, compared with transformers on torch.

    python experiments/benchmarks/language_model.py opt small
        about 5 M parameters, about 6 minutes; also gpt2 and llama
    python experiments/benchmarks/language_model.py llama 125m
        the sizes of facebook/opt-125m, gpt2 or SmolLM2-135M, about 25 minutes
    python experiments/benchmarks/language_model.py opt 125m --precision bfloat16

Both programs have the same random weights: no speed depends on them, as end-of-text is banned. Each
program runs each of its batch sizes in a separate process, in turn, and the table shows the best
one: tokens fine-tuned (AdamW, blocks of 64, no dropout) or new tokens decoded (64 after 64) per
second of wall time and of CPU time, the arithmetic operations per second, their share of the rate
of one large matrix product in the same process, and the ratios. On a shared machine CPU seconds are
the better measure. Without torch and transformers only this package is shown. On an accelerator
both programs use it.
"""

import concurrent.futures
import dataclasses
import importlib.util
import json
import multiprocessing
import os
import pathlib
import platform
import resource
import tempfile
import time
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import tyro

LENGTH = 64
BEAMS = 5
_LLAMA = {"model_type": "llama", "tie_word_embeddings": True, "rms_norm_eps": 1e-5}
# What a config.json says, for each family at its sizes; without dropout.
MODELS: dict[str, dict[str, dict[str, Any]]] = {
    "opt": {
        "small": {
            "model_type": "opt",
            "vocab_size": 8192,
            "hidden_size": 256,
            "word_embed_proj_dim": 256,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "ffn_dim": 1024,
            "max_position_embeddings": 256,
            "dropout": 0.0,
        },
        "125m": {"model_type": "opt", "dropout": 0.0},
    },
    "gpt2": {
        "small": {"vocab_size": 8192, "n_embd": 256, "n_layer": 4, "n_head": 4, "n_positions": 256}
        | {"bos_token_id": 1, "eos_token_id": 2},
        "125m": {},
    },
    "llama": {
        "small": _LLAMA
        | {
            "vocab_size": 8192,
            "hidden_size": 256,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 768,
            "max_position_embeddings": 256,
        },
        "125m": _LLAMA
        | {
            "vocab_size": 49152,
            "hidden_size": 576,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "intermediate_size": 1536,
            "max_position_embeddings": 2048,
        },
    },
}
for _sizes in MODELS["gpt2"].values():
    _sizes |= {"model_type": "gpt2", "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
OURS = {
    "small": {"fit": (16, 32, 128), "beams": (64, 128), "sample": (128, 256)},
    "125m": {"fit": (8, 16), "beams": (16, 32), "sample": (32, 64)},
}
THEIRS = {
    "small": {"fit": (16, 32, 128), "beams": (32, 128), "sample": (64, 256)},
    "125m": {"fit": (8, 16), "beams": (4, 8), "sample": (16, 32)},
}
ON_ACCELERATOR = {"fit": (128, 512), "beams": (256, 1024), "sample": (256, 1024)}
COLUMNS = (
    "model and stage",
    "side",
    "best batch",
    "tokens a second",
    "a CPU-second",
    "GFLOP/s",
    "a matrix product",
    "share",
    "first call",
    "peak memory",
    "ratio",
    "by CPU-seconds",
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure."""

    family: Annotated[Literal["opt", "gpt2", "llama"], tyro.conf.Positional] = "opt"
    size: Annotated[Literal["small", "125m"], tyro.conf.Positional] = "small"
    stages: tuple[Literal["fit", "beams", "sample"], ...] = ("fit", "beams", "sample")
    precision: Literal["float32", "bfloat16"] = "float32"
    batches: tuple[int, ...] = ()
    """Batch sizes to try on both sides, instead of the ones that did best here."""
    seconds: float = 5.0
    """How long each is measured, at the least; one call may take longer."""


class Task(NamedTuple):
    """What one process measures."""

    stage: str
    batch: int
    precision: str
    folder: str
    seconds: float


class Measured(NamedTuple):
    """What one process found.

    tokens: a second of the clock; by_cpu: a second of the processor (of all cores together).
    first: seconds of the first call, which compiles. memory: MiB, the peak.
    matrix: FLOP/s of a large product, by the clock.
    """

    tokens: float
    by_cpu: float
    first: float
    memory: float
    matrix: float


def blocks_of(words, count):
    """Random blocks of tokens [count, LENGTH]."""
    return np.random.default_rng(0).integers(4, words, (count, LENGTH)).astype(np.int32)


def measured(function, tokens, seconds, product):
    """`Measured`: calls for some seconds, after a first one that compiles.

    product: Does a large matrix product and says its floating-point operations.
    """
    began = time.perf_counter()
    function()
    first = time.perf_counter() - began
    rate, by_cpu = _rates(function, seconds)
    product()
    matrix = max(_rates(product, 0.5)[0] for _ in range(3)) * product()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Measured(tokens * rate, tokens * by_cpu, first, memory, matrix)


def _rates(function, seconds):
    """Calls a second of the clock, and of the processor."""
    began, used, calls = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - began < seconds or calls < 1:
        function()
        calls += 1
    return calls / (time.perf_counter() - began), calls / (time.process_time() - used)


def ours(task: Task) -> Measured:
    """This package."""
    import jax
    import jax.numpy as jnp

    import collapse_jax as cj

    model, params = cj.lm.load(task.folder)
    model = dataclasses.replace(model, dtype=task.precision)
    words, size = model.switches.vocab_size, task.batch
    if task.stage == "fit":
        blocks, few = blocks_of(words, 16 * size), blocks_of(words, 2)
        settings = cj.lm.FineTune(epochs=1, batch_size=size, keep="last")

        def function():
            cj.lm.fine_tune(model, params, blocks, few, settings, jax.random.key(0))
    else:
        blocks = blocks_of(words, size)
        decoder = cj.lm.BeamSearch(BEAMS) if task.stage == "beams" else cj.lm.Sampling()

        def function():
            key = jax.random.key(0)
            cj.lm.generate(model, params, blocks, decoder, LENGTH, key=key, batch_size=size)

    square = jnp.ones((2048, 2048), task.precision)
    exact = jax.jit(
        lambda x: jnp.dot(x, x, precision=model.precision, preferred_element_type=jnp.float32)
    )

    def product():
        exact(square).block_until_ready()
        return 2 * 2048**3

    return measured(function, blocks.size, task.seconds, product)


def theirs(task: Task) -> Measured:
    """transformers on torch."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    device, size = "cuda" if torch.cuda.is_available() else "cpu", task.batch
    kind = getattr(torch, task.precision)
    loaded: Any = AutoModelForCausalLM.from_pretrained(task.folder, dtype=kind)
    model = loaded.to(device)
    words = model.config.vocab_size
    count = 4 * size if task.stage == "fit" else size
    blocks = torch.tensor(blocks_of(words, count), device=device).long()
    if task.stage == "fit":
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.01)

        def function():
            for part in blocks.split(size):
                optimiser.zero_grad()
                model(input_ids=part, labels=part).loss.backward()
                optimiser.step()
            if device == "cuda":
                torch.cuda.synchronize()
    else:
        options: dict[str, Any] = {"min_new_tokens": LENGTH, "max_new_tokens": LENGTH}
        chooses = (
            {"num_beams": BEAMS, "do_sample": False}
            if task.stage == "beams"
            else {"do_sample": True, "top_k": 0}
        )

        def function():
            with torch.inference_mode():
                mask = torch.ones_like(blocks)
                model.generate(blocks, attention_mask=mask, **options, **chooses)

    square = torch.ones(2048, 2048, dtype=kind, device=device)

    def product():
        torch.mm(square, square)
        if device == "cuda":
            torch.cuda.synchronize()
        return 2 * 2048**3

    return measured(function, blocks.numel(), task.seconds, product)


def operations(config, stage):
    """Floating-point operations of a token: products with weights and the head.

    Of a token fine-tuned, three times the forward pass; of a token decoded, one for each beam and
    one of a prompt's token, without the head.
    """
    width, heads = config.hidden_size, config.num_attention_heads + config.num_key_value_heads
    layer = 2 * width * heads * config.head_dim + (2 + config.gated) * width * config.ffn_dim
    layers, head = config.num_hidden_layers * layer, config.vocab_size * config.embed_size
    if stage == "fit":
        return 3 * 2 * (layers + head)
    return 2 * ((BEAMS if stage == "beams" else 1) * (layers + head) + layers)


def alone(function, *arguments):
    """The result, from a process of its own."""
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def processor() -> str:
    """The name of the processor, its cores for this process, and what it multiplies matrices by."""
    told = pathlib.Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    values = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    flags = values.get("flags", "").split()
    has = [
        f"{name} {'yes' if flag in flags else 'no'}"
        for name, flag in (("AVX2", "avx2"), ("AVX-512", "avx512f"), ("AMX bfloat16", "amx_bf16"))
    ]
    name = values.get("model name") or platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores; " + (", ".join(has) if flags else "flags unknown")


def best_of_both(settings, stage, folder, accelerated):
    """{side: (batch size, `Measured`)} of the batch size at which each is fastest."""
    sides = {"ours": (ours, OURS)}
    if all(importlib.util.find_spec(name) for name in ("torch", "transformers")):
        sides["transformers"] = (theirs, THEIRS)
    own = {
        side: settings.batches or (ON_ACCELERATOR if accelerated else batches[settings.size])[stage]
        for side, (_, batches) in sides.items()
    }
    found = {side: {} for side in sides}
    for i in range(max(map(len, own.values()))):
        for side, (function, _) in sides.items():
            for batch in own[side][i : i + 1]:
                task = Task(stage, batch, settings.precision, folder, settings.seconds)
                found[side][batch] = alone(function, task)
    return {side: max(one.items(), key=lambda item: item[1].by_cpu) for side, one in found.items()}


def main(settings: Settings) -> None:
    """Prints the table."""
    print(f"{processor()}; {settings.precision}\n")
    print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        config, accelerated = alone(prepare, settings.family, settings.size, folder)
        for stage in settings.stages:
            found = best_of_both(settings, stage, folder, accelerated)
            mine = found["ours"][1]
            for side, (batch, one) in found.items():
                arithmetic = one.tokens * operations(config, stage)
                other = side != "ours"
                row = [
                    f"{settings.family} {settings.size} {stage}",
                    side,
                    batch,
                    f"{one.tokens:,.0f}",
                    f"{one.by_cpu:,.0f}",
                    f"{arithmetic / 1e9:,.0f}",
                    f"{one.matrix / 1e9:,.0f}",
                    f"{arithmetic / one.matrix:.0%}",
                    f"{one.first:.1f} s",
                    f"{one.memory:,.0f} MiB",
                    f"{mine.tokens / one.tokens:.2f}" if other else "",
                    f"{mine.by_cpu / one.by_cpu:.2f}" if other else "",
                ]
                print("| " + " | ".join(map(str, row)) + " |", flush=True)


def prepare(family, size, folder):
    """Writes random weights; (sizes and switches, whether there is an accelerator)."""
    import jax

    import collapse_jax as cj
    from collapse_jax.models.lm.families import model_from_json
    from collapse_jax.models.lm.transformer import init_params

    model = model_from_json(json.dumps(MODELS[family][size]))
    cj.lm.save(pathlib.Path(folder), model, init_params(model, jax.random.key(0)))
    return model.switches, jax.default_backend() != "cpu"


if __name__ == "__main__":
    main(tyro.cli(Settings))

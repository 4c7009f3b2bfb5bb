"""The whole package on a GPU or TPU, compared with the CPU and with torch, in under 8 minutes.

    python experiments/benchmarks/accelerator.py
    python experiments/benchmarks/accelerator.py --dry     some rows, tiny, on a CPU: 1 minute

Rows are chains of every family, statistics over chains, and OPT-125m with random weights: tokens
fine-tuned, new tokens sampled and found by 5 beams, and tokens scored. Rates are the best of
several calls, after a first one that compiles. Each program runs in a separate process for each
half of the table, and prints each row as soon as it is measured. Rows that do not finish in time
are left out, so a slow program loses only its own rows. Without torch (and transformers) its
columns are empty. On a machine without an accelerator the first column is the CPU's.

Nothing here was measured on an accelerator yet (docs/scale.md).
"""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import tyro
from language_model import LENGTH, MODELS, Task, alone, blocks_of, ours, prepare, theirs
from peers import installed, machine, torch_multinomial, torch_points

# Gaussians by (d, M), categorical distributions by (K, M); the other families by their examples.
GAUSSIANS = ((1, 100), (10, 1000), (64, 1000))
CATEGORICALS = ((100, 1000), (50_000, 100_000))
EXAMPLES = tuple(
    "dirichlet_multinomial bernoulli poisson exponential pareto uniform gaussian_mean "
    "normal_inverse_gamma student_t gmm kde empirical gaussian_copula linear_regression "
    "logistic_regression poisson_regression ngram diffusion flow_matching normalizing_flow "
    "vae".split()
)
# Blocks at once, by what is done, on an accelerator and on a CPU.
BATCHES = {"fit": (128, 8), "sample": (1024, 32), "beams": (256, 16), "score": (256, 16)}
TINY = {"model_type": "opt", "vocab_size": 64, "hidden_size": 16, "word_embed_proj_dim": 16}
TINY |= {"num_hidden_layers": 1, "num_attention_heads": 2, "ffn_dim": 16, "dropout": 0.0}
TINY |= {"max_position_embeddings": 256}
SIDES = ("device", "torch", "cpu")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure."""

    dry: bool = False
    """Some rows at tiny sizes: whether all runs, and no number that means anything."""
    minutes: float = 7.5
    """The longest that it takes in all."""
    side: str = ""
    """Set by the script itself: measure one side of one half in this process."""
    half: str = ""
    """Set by the script itself: chains or language_model."""
    folder: str = ""
    """Set by the script itself: where the random model lies."""


def rate(function, work, seconds=1.0):
    """(work a second of the best call, seconds of the first call)."""
    began = time.perf_counter()
    function()
    first, best = time.perf_counter() - began, float("inf")
    began = time.perf_counter()
    while best == float("inf") or time.perf_counter() - began < seconds:
        call = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - call)
    return work / best, first


def processes() -> Iterator[tuple[str, Any, int]]:
    """(row, process, numbers of a chain) of every family."""
    import collapse_jax as cj
    from collapse_jax.estimators.registry import families

    replace = cj.workflows.replace()
    for dim, size in GAUSSIANS:
        real = cj.sources.normal(np.zeros(dim), np.eye(dim))
        family = cj.estimators.gaussian(dim)
        made = cj.generational_process(family, real, replace, sample_size=size)
        yield f"Gaussian d={dim}, M={size:,}", made, dim * dim
    for categories, size in CATEGORICALS:
        real = cj.sources.categorical(np.full(categories, 1 / categories))
        family = cj.estimators.categorical(categories)
        made = cj.generational_process(family, real, replace, sample_size=size)
        yield f"categorical K={categories:,}, M={size:,}", made, categories
    for name in EXAMPLES:
        family, params = families()[name].example()
        real = cj.sources.population(family, params)
        made = cj.generational_process(family, real, replace, sample_size=100)
        yield f"{name} (its example), M=100", made, 1000


def chain_rows(settings) -> Iterator[tuple[str, float, float]]:
    """(row, chain-generations a second, first call) of all families, and of statistics."""
    import jax

    import collapse_jax as cj

    accelerated, key = jax.default_backend() != "cpu", jax.random.key(0)
    numbers = 2**27 if accelerated else 2**20
    generations = 3 if settings.dry else 20
    made = processes()
    few = {"Gaussian d=1, M=100", "categorical K=100, M=1,000", "kde (its example), M=100"}
    for name, process, each in made:
        if settings.dry and name not in few:
            continue
        chains = 8 if settings.dry else min(max(numbers // each, 128), 10**6)
        metric = next(name for name, function in process.metrics.items() if function)
        options = {"generations": generations, "metrics": (metric,), "record": generations}
        options |= {"chains": chains, "memory_limit": 10**15}

        def go(simulate=cj.simulate, process=process, options=options):
            simulate(process, key, **options)

        seconds = 0 if settings.dry else 1
        yield name, *rate(go, chains * generations, seconds)
        if name.startswith("Gaussian d=1,"):

            def statistics(process=process, options=options):
                cj.simulate_summary(process, key, **options | {"record": 1})

            yield f"{name}, statistics", *rate(statistics, chains * generations, seconds)


def torch_chain_rows(settings) -> Iterator[tuple[str, float, float]]:
    """The same through points, by torch on its accelerator."""
    import torch

    has_gpu = torch.cuda.is_available()
    torch.set_default_device("cuda" if has_gpu else "cpu")
    rows = [(f"Gaussian d={d}, M={size:,}", torch_points, (d, size)) for d, size in GAUSSIANS]
    rows += [
        (f"categorical K={k:,}, M={size:,}", torch_multinomial, (k, size, 3))
        for k, size in CATEGORICALS
    ]
    for name, make, shape in rows:
        go, work = make(*shape)

        def synchronised(go=go):
            go()
            if has_gpu:
                torch.cuda.synchronize()

        yield name, *rate(synchronised, work, 0 if settings.dry else 1)


def model_rows(settings) -> Iterator[tuple[str, float, float]]:
    """(row, tokens a second, first call) of the language model, by this package or by torch."""
    accelerated = _is_accelerated(settings)
    for stage, batches in BATCHES.items():
        batch = 2 if settings.dry else batches[not accelerated]
        task = Task(stage, batch, "float32", settings.folder, 0.0 if settings.dry else 3.0)
        if stage == "score":
            found = score(task, settings.side == "torch")
        else:
            one = (theirs if settings.side == "torch" else ours)(task)
            found = one.tokens, one.first
        yield f"OPT: {stage}", *found


def _is_accelerated(settings):
    if settings.side == "torch":
        import torch

        return torch.cuda.is_available()
    import jax

    return jax.default_backend() != "cpu"


def score(task, by_torch):
    """(tokens scored a second, first call)."""
    blocks = 4 * task.batch
    if by_torch:
        import torch
        from transformers import AutoModelForCausalLM

        device = "cuda" if torch.cuda.is_available() else "cpu"
        loaded: Any = AutoModelForCausalLM.from_pretrained(task.folder, dtype=torch.float32)
        model = loaded.to(device)
        tokens = torch.tensor(blocks_of(model.config.vocab_size, blocks), device=device).long()

        def go():
            with torch.inference_mode():
                for part in tokens.split(task.batch):
                    model(input_ids=part, labels=part).loss.item()
    else:
        import collapse_jax as cj
        from collapse_jax.models.lm.score import mean_loss

        model, params = cj.lm.load(task.folder)
        tokens = blocks_of(model.switches.vocab_size, blocks)

        def go():
            mean_loss(model, params, tokens, batch_size=task.batch)

    return rate(go, blocks * LENGTH, task.seconds)


def one_side(settings) -> None:
    """Prints a line of JSON for each row of a side, as soon as it is measured."""
    if settings.half == "language_model":
        rows = model_rows
    else:
        rows = torch_chain_rows if settings.side == "torch" else chain_rows
    for name, found, first in rows(settings):
        print(json.dumps([name, found, first]), flush=True)


def measured(settings, side, half, folder, until) -> dict[str, tuple[float, float]]:
    """Row -> (rate, first call) of what a process of its own found before `until`."""
    command = [sys.executable, __file__, "--side", side, "--half", half, "--folder", folder]
    command += ["--dry"] * settings.dry
    only_cpu = {"JAX_PLATFORMS": "cpu"} if side == "cpu" else {}
    left = max(until - time.monotonic(), 1.0)
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as complaints:
        environment = os.environ | only_cpu
        try:
            done = subprocess.run(
                command, env=environment, stdout=said, stderr=complaints, timeout=left, check=False
            )
        except subprocess.TimeoutExpired:
            done = None
        said.seek(0)
        lines = [line for line in said.read().splitlines() if line.startswith("[")]
        if done is not None and done.returncode:
            complaints.seek(0)
            last = complaints.read().strip().splitlines()[-1:]
            print(f"{side}, {half}: ended early ({' '.join(last)})", file=sys.stderr)
    return {name: (found, first) for name, found, first in map(json.loads, lines)}


def amount(number):
    """A rate in at most four digits."""
    for scale, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= scale:
            return f"{number / scale:.3g}{letter}"
    return f"{number:.3g}"


def table(found) -> str:
    """The rows of all sides: side -> row -> (rate, first call)."""
    columns = "a second", "this device", "first call", "its CPU", "ratio", "torch", "ratio"
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for name in dict.fromkeys(name for side in SIDES for name in found.get(side, ())):
        mine = found["device"].get(name)
        cells = [name, amount(mine[0]) if mine else "", f"{mine[1]:.1f} s" if mine else ""]
        for side in ("cpu", "torch"):
            other = found.get(side, {}).get(name)
            cells.append(amount(other[0]) if other else "")
            cells.append(f"{mine[0] / other[0]:.3g}" if mine and other else "")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def devices() -> str:
    """What JAX computes on."""
    import jax

    kinds = [device.device_kind for device in jax.devices()]
    return f"jax {jax.__version__}, {len(kinds)} x {kinds[0]} ({jax.default_backend()})"


def prepare_tiny(folder) -> None:
    """The random weights of a dry run."""
    MODELS["opt"]["tiny"] = TINY
    prepare("opt", "tiny", folder)


def main(settings: Settings) -> None:
    """Prints the table."""
    if settings.side:
        one_side(settings)
        return
    until = time.monotonic() + 60 * settings.minutes
    where = alone(devices)
    print(f"{where}; {machine()}", flush=True)
    # The device first, for it is what this is about; the slow CPU last.
    sides = [side for side in SIDES if side != "torch" or installed("torch")]
    if "(cpu)" in where:
        sides.remove("cpu")  # the first column is the CPU's
    found = {side: {} for side in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        if settings.dry:
            alone(prepare_tiny, folder)
        else:
            alone(prepare, "opt", "125m", folder)
        for side in sides:
            for half in ("chains", "language_model"):
                if side == "torch" and half == "language_model" and not installed("transformers"):
                    continue
                found[side] |= measured(settings, side, half, folder, until)
    print(table(found))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))

"""Runs that are disturbed: their kinds, how they are started, what is compared.

And the loop that kills and restarts them.
"""

import json
import math
import os
import pathlib
import random
import signal
import subprocess
import sys
import time
from typing import NamedTuple

import numpy as np

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]


class Kind(NamedTuple):
    """A kind of run.

    program, arguments: as `server.child` takes them; CORPUS, MODEL and TABLE stand for the inputs.

    stages: name -> (what is hooked, what may happen there). newest_only: whether older checkpoints
    go as newer ones come. put: ("module:name", the value that it has in such a run) ...
    """

    program: str
    arguments: str
    stages: dict[str, tuple[str, tuple[str, ...]]]
    newest_only: bool = False
    put: tuple[tuple[str, float], ...] = ()


_BEFORE_AND_AFTER = ("kill", "killed")
_FILES = {
    "save": ("collapse_jax.runs.checkpoint:Checkpoints.save", _BEFORE_AND_AFTER),
    # Everything is written, and nothing has its final name yet.
    "commit": ("orbax.checkpoint:PyTreeCheckpointHandler.finalize", ("kill",)),
    "move": ("collapse_jax.runs.small_checkpoint:replace", _BEFORE_AND_AFTER),
    "rename": ("pathlib:Path.replace", _BEFORE_AND_AFTER),
    "rows": ("collapse_jax.runs.folder:RunFolder.write_rows", ("kill",)),
    "results": ("collapse_jax.runs.folder:RunFolder.write_results", ("kill",)),
}
_MAKE = {"make": ("collapse_jax.drivers.run:_Chain._advance", ("kill",))}
_LM_STAGES = _MAKE | {
    "fit": ("collapse_jax.models.lm.finetune:run_steps", _BEFORE_AND_AFTER),
    "decode": ("collapse_jax.models.lm.decode:_generate_batch", _BEFORE_AND_AFTER),
    "score": ("collapse_jax.models.lm.score:_mean_loss", ("kill",)),
    "piece": ("numpy:savez", ("kill", "half", "killed")),
    "clear": ("collapse_jax.runs.scratch:FileScratch.clear", ("kill",)),
    "samples": ("collapse_jax.app.commands.observe:write_samples", ("kill",)),
    **_FILES,
}
_LM = (
    "lm --corpus CORPUS --model MODEL --block-length 8 --train-blocks 24 --valid-blocks 5 "
    "--test-blocks 5 --batch-size 8 --epochs 2 --learning-rate 1e-2 --decoding sampling "
    "--decode-batch 4 "
)
KINDS = {
    "chains": Kind(
        "collapse-jax",
        "simulate --sample-size 20 --chains 50 --generations 24 --chunk 3",
        {"fit": ("collapse_jax.drivers.tiles:advance", _BEFORE_AND_AFTER), **_FILES},
        newest_only=True,
        put=(("collapse_jax.app.commands.chains:RECORDS_SAVE_SECONDS", 0.0),),
    ),
    "summary": Kind(
        "collapse-jax",
        "simulate --sample-size 20 --chains 50 --generations 24 --chunk 3 --keep summary",
        {"fit": ("collapse_jax.drivers.tiles:advance", _BEFORE_AND_AFTER), **_FILES},
        newest_only=True,
        put=(("collapse_jax.app.commands.chains:SAVE_SECONDS", 0.0),),
    ),
    "grid": Kind(
        "collapse-jax",
        "simulate --dim 1,2,3 --sample-size 10,20 --chains 50 --generations 5 --chunk 2",
        {"fit": ("collapse_jax.drivers.tiles:advance", _BEFORE_AND_AFTER), **_FILES},
    ),
    "data": Kind(
        "collapse-jax",
        "simulate --data TABLE --columns height girth --held-out 0.2 --sample-size 20 --chains 50 "
        "--generations 24 --chunk 3",
        {"fit": ("collapse_jax.drivers.tiles:advance", _BEFORE_AND_AFTER), **_FILES},
        newest_only=True,
        put=(("collapse_jax.app.commands.chains:RECORDS_SAVE_SECONDS", 0.0),),
    ),
    "host": Kind(
        "host",
        "--chains 2 --generations 12",
        _MAKE | {"fit": ("collapse_jax.drivers.run:_refuse_nan", ("kill",)), **_FILES},
        # Records lag behind, as those of long runs do.
        put=(
            ("collapse_jax.drivers.book:_WRITTEN_EACH_TIME", 4.0),
            ("collapse_jax.drivers.book:_LONGEST_BEHIND_SECONDS", 1e9),
        ),
    ),
    "vae": Kind(
        "vae",
        "--scale digits --seeds 2 --generations 2 --sample-size 40 --capacity 1 --latent 2 "
        "--epochs 1 --batch-size 20",
        _MAKE | {"fit": ("collapse_jax.drivers.run:_refuse_nan", ("kill",)), **_FILES},
    ),
    "lm": Kind(
        "collapse-jax",
        _LM + "--seeds 2 --generations 2 --workflow accumulate_subsample --start first",
        _LM_STAGES,
    ),
    "lm ends": Kind(
        "collapse-jax",
        _LM + "--seeds 1 --generations 3 --checkpoints ends",
        _LM_STAGES
        | {"drop": ("collapse_jax.runs.checkpoint:Checkpoints.drop_state", _BEFORE_AND_AFTER)},
    ),
    "lm mix": Kind(
        "collapse-jax",
        _LM + "--seeds 1 --generations 3 --preset fig1c --real-kept batches --start previous",
        _LM_STAGES,
        put=(
            ("collapse_jax.models.lm.decode:_SAVE_SECONDS", 0.0),
        ),  # text is saved batch by batch, and not after the last alone
    ),
    "pretrain": Kind(
        "collapse-jax",
        "pretrain --corpus CORPUS --hidden-size 8 --num-hidden-layers 1 --num-attention-heads 2 "
        "--ffn-dim 16 --block-length 16 --max-position-embeddings 32 --batch-size 4 --steps 40 "
        "--warmup-steps 4 --learning-rate 1e-2 --held-out 0.1 --held-out-windows 20 "
        "--evaluate-every 15 --save-every 6",
        {
            "tokens": (
                "collapse_jax.app.commands.pretrain_materials:write_tokens",
                _BEFORE_AND_AFTER,
            ),
            "fit": ("collapse_jax.app.commands.pretrain_steps:advance", _BEFORE_AND_AFTER),
            "score": ("collapse_jax.app.commands.pretrain_steps:mean_loss", ("kill",)),
            "export": ("collapse_jax.app.commands.pretrain_steps:save_opt", _BEFORE_AND_AFTER),
            **{name: stage for name, stage in _FILES.items() if name != "results"},
        },
        newest_only=True,
    ),
}


def make_inputs(folder: pathlib.Path) -> pathlib.Path:
    """A tiny random OPT in folder/model, a corpus folder/text.txt and a table folder/table.csv."""
    import jax

    from collapse_jax.models.lm import corpus
    from collapse_jax.models.lm.opt import OPT, OPTConfig, init_params
    from collapse_jax.models.lm.weights import save_opt

    config = OPTConfig(
        vocab_size=2048,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        ffn_dim=16,
        max_position_embeddings=16,
        dropout=0.1,
        init_std=0.3,
    )
    save_opt(folder / "model", OPT(config), init_params(config, jax.random.key(0)))
    corpus._train_embedded().save(str(folder / "model" / "tokenizer.json"))
    (folder / "text.txt").write_text("".join(corpus.embedded_corpus().train[:60]))
    points = np.random.default_rng(0).normal((12, 3), (2, 0.5), (90, 2)).round(3)
    np.savetxt(folder / "table.csv", points, "%.3f", ",", header="height,girth", comments="")
    return folder


def arguments_of(kind: str, inputs: pathlib.Path, out) -> list[str]:
    """Those of the command line."""
    places = {"CORPUS": str(inputs / "text.txt"), "MODEL": str(inputs / "model")}
    places["TABLE"] = str(inputs / "table.csv")
    return [*(places.get(word, word) for word in KINDS[kind].arguments.split()), "--out", str(out)]


# Starting.


class Running(NamedTuple):
    """A child under way. wait() -> its exit code, negative for a signal."""

    pid: int
    wait: object


class Server:
    """`server.py`, for one child at a time. cache: the folder of compiled programs."""

    def __init__(self, inputs: pathlib.Path, cache: pathlib.Path):
        self._inputs, self._cache = inputs, cache
        environment = {
            "PYTHONPATH": os.pathsep.join(
                [str(ROOT), str(ROOT / "experiments"), os.environ.get("PYTHONPATH", "")]
            ),
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
            "OPENBLAS_NUM_THREADS": "1",
            "COLUMNS": "300",
        }
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "server.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env=os.environ | environment,
        )

    def programs(self) -> int:
        """How many compiled programs the cache holds."""
        return len(list(self._cache.glob("*-cache")))

    def close(self) -> None:
        """Ends it."""
        self._process.stdin.close()
        self._process.wait()

    def start(
        self, kind: str, out: pathlib.Path, hooks=(), *, compiles: bool = False, **order
    ) -> Running:
        """A child with the arguments of a kind.

        It prints into OUT.log and tells its hooked calls in OUT.events.

        compiles: whether it may write compiled programs; what is killed may not, or it would leave
        halves of them.
        """
        environment = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0" if compiles else "1e9"}
        order |= {
            "program": KINDS[kind].program,
            "arguments": arguments_of(kind, self._inputs, out),
            "hooks": list(hooks),
            "log": f"{out}.log",
            "events": f"{out}.events",
            "environment": environment,
            "put": KINDS[kind].put,
        }
        print(json.dumps(order), file=self._process.stdin)
        pid = json.loads(self._process.stdout.readline())["pid"]
        return Running(pid, lambda: json.loads(self._process.stdout.readline())["code"])

    def run(self, kind: str, out: pathlib.Path, hooks=(), **order) -> int:
        """The exit code of such a child."""
        return self.start(kind, out, hooks, **order).wait()


def hook(kind: str, stage: str, act: str = "", call: int = 0) -> dict:
    """What the server is told to put at a stage of a kind."""
    return {"at": KINDS[kind].stages[stage][0], "name": stage, "act": act, "call": call}


def events(out: pathlib.Path) -> list[list[str]]:
    """[seconds, stage, how many calls of it so far, place, generation] of each hooked call.

    Of all starts; the last two may lack.
    """
    path = pathlib.Path(f"{out}.events")
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def said(out: pathlib.Path) -> str:
    """What all starts have printed."""
    return pathlib.Path(f"{out}.log").read_text()


class Whole(NamedTuple):
    """A run that nobody disturbed.

    seconds: what it took. calls: stage -> how often it was called.
    """

    out: pathlib.Path
    seconds: float
    calls: dict[str, int]


def undisturbed(server: Server, kind: str, out: pathlib.Path) -> Whole:
    """Runs it once, and once more to measure if the first had to compile; both must be equal."""
    seconds = math.inf
    for one in (out.with_name(out.name + "-first"), out):
        before, began = server.programs(), time.monotonic()
        assert (
            server.run(
                kind, one, [hook(kind, stage) for stage in KINDS[kind].stages], compiles=True
            )
            == 0
        ), said(one)
        seconds = time.monotonic() - began
        if server.programs() == before:
            break
    if one != out:
        one.rename(out)
        pathlib.Path(f"{one}.events").rename(f"{out}.events")
    else:
        assert differences(out, out.with_name(out.name + "-first")) == []
    calls = {stage: sum(event[1] == stage for event in events(out)) for stage in KINDS[kind].stages}
    return Whole(out, seconds, calls)


# Comparing.


def finished(out: pathlib.Path) -> set[tuple[str, int]]:
    """(folder, generation) of every checkpoint that is on disk under its final name."""
    folders = [out / "checkpoints", *(out / "checkpoints").glob("*[a-z]*")]
    return {
        (str(folder.absolute()), int(one.name))
        for folder in folders
        for one in folder.glob("[0-9]*")
        if one.name.isdigit()
    }


def contents(out: pathlib.Path) -> dict:
    """name -> what a run must give again, bit for bit.

    Rows without what they cost, results, samples, exported files, all states.
    """
    from collapse_jax.runs.checkpoint import Checkpoints
    from collapse_jax.runs.folder import RunFolder

    folder, found = RunFolder(out), {}
    costs = ("seconds", "tokens_per_second")
    for i, row in enumerate(folder.rows()):
        found[f"row {i}"] = json.dumps(
            {
                name: value
                for name, value in row.items()
                if name not in costs and not name.endswith("_mib")
            }
        )
    results = folder.results()
    for name in [] if results is None else results.variables:
        found[f"results {name}"] = _bits(results[name].values)
    for part in ("samples", "model", "tokenizer", "tokens"):
        for path in (out / part).rglob("*"):
            if path.is_file():
                found[str(path.relative_to(out))] = path.read_bytes()
    newest = {
        name: max(g for other, g in finished(out) if other == name) for name, _ in finished(out)
    }
    for name, generation in finished(out):
        # Where the older ones go, which of them are still there, and how much of one, tells only
        # when the last kill came.
        if generation != newest[name] and "chain_" not in name and "grid" not in name:
            continue
        checkpoints, short = Checkpoints(name), pathlib.Path(name).relative_to(out.absolute())
        _, arrays = checkpoints.restore_record(generation)
        leaves = (
            checkpoints._restore(generation, "state") if checkpoints.has_state(generation) else {}
        )
        checkpoints.close()
        found |= {
            f"{short} {generation} {key}": _bits(value) for key, value in (arrays | leaves).items()
        } | {f"{short} {generation}": True}
    return found


def _bits(values):
    values = np.asarray(values)
    if values.dtype == object:  # names
        return values.tolist()
    return str(values.dtype), values.shape, np.ascontiguousarray(values).tobytes()


def differences(out: pathlib.Path, whole: pathlib.Path) -> list[str]:
    """Names of what is not the same in two runs, and of files that are in one alone."""
    ours, theirs = contents(out), contents(whole)
    names = [
        {str(path.relative_to(one)) for path in one.rglob("*") if "checkpoints" not in path.parts}
        for one in (out, whole)
    ]
    return sorted(
        {name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)}
        | (names[0] ^ names[1])
    )


# Killing.


class Plan(NamedTuple):
    """One kill.

    seconds: after so long; or else at a call of a stage, with what happens there (see
    `server._acted`).
    """

    seconds: float | None = None
    stage: str = ""
    act: str = ""
    call: int = 0


class Count(NamedTuple):
    """What came of the kills.

    remade: finished generations that were made or saved again. lost: finished generations that were
    gone.
    broken: files that could not be read after a kill. different: names of what is not as in the
    undisturbed run. stages: where the kills came, "moment" for those after a time.
    """

    kills: int = 0
    restarts: int = 0
    remade: int = 0
    lost: int = 0
    broken: int = 0
    different: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()

    def __add__(self, other):
        return Count(*(ours + theirs for ours, theirs in zip(self, other, strict=True)))


def random_plan(rng: random.Random, kind: str, whole: Whole) -> Plan:
    """Half of the kills at a random moment of an undisturbed run's time.

    Half at a random call of a random stage.
    """
    if rng.random() < 0.5:
        return Plan(seconds=rng.uniform(0, whole.seconds))
    stage = rng.choice(sorted(name for name, calls in whole.calls.items() if calls))
    # Early calls, for a restart has fewer of them left.
    return Plan(
        None,
        stage,
        rng.choice(KINDS[kind].stages[stage][1]),
        1 + int(rng.random() ** 2 * min(whole.calls[stage], 12)),
    )


def killed_until_it_ends(
    server: Server, kind: str, out: pathlib.Path, whole: Whole, plans
) -> Count:
    """Starts a run again and again, each start killed as the next plan says, and compares it."""
    count, plans, before = Count(), iter(plans), set()
    while True:
        plan, told = next(plans, None), len(events(out))
        hooks = [
            hook(kind, stage)
            for stage in ("save", "make")
            if stage in KINDS[kind].stages and (plan is None or stage != plan.stage)
        ]
        if plan is not None and plan.stage:
            hooks.append(hook(kind, *plan[1:]))
        child = server.start(kind, out, hooks)
        if plan is not None and plan.seconds is not None:
            _wait_or_kill(child.pid, plan.seconds)
        code = child.wait()
        after = finished(out)
        again = {
            (event[3], int(event[4]))
            for event in events(out)[told:]
            if event[1] in ("save", "make")
        } & before
        count += Count(
            remade=len(again),
            lost=len(_lost(before, after, KINDS[kind].newest_only)),
            broken=_broken(out),
        )
        if code == 0:
            return count + Count(different=tuple(differences(out, whole.out)))
        assert code == -signal.SIGKILL, f"ended with {code}: {said(out)[-3000:]}"
        count += Count(kills=1, restarts=1, stages=(plan.stage or "moment",))
        before = after


def _wait_or_kill(pid, seconds):
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        time.sleep(0.005)
        if not pathlib.Path(f"/proc/{pid}").exists():
            return
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _lost(before, after, newest_only):
    if newest_only:
        return [
            name for name, g in before if not any(other == name and h >= g for other, h in after)
        ]
    return before - after


def _broken(out):
    """How many of the files that are always whole are not."""
    from collapse_jax.runs.folder import RunFolder

    folder, broken = RunFolder(out), len(list((out / "checkpoints").rglob("damaged-*")))
    for read in (
        folder.rows,
        folder.results,
        lambda: json.loads((out / "config.json").read_text()),
    ):
        try:
            read()
        except FileNotFoundError:
            continue
        except Exception:
            broken += 1
    return broken

"""Makes the run folders of version 0.1.0 that `test_old_folders.py` opens, plots and resumes.

Only the old code may run this, on CPUs. From the root of the repository:

    git worktree add ../collapse-jax-0.1.0 a97a7df
    PYTHONPATH=../collapse-jax-0.1.0 python tests/old_folders/make.py

Each archive NAME.tar.xz holds `stopped/`, a run that was stopped half-way, `whole/`, the records of
the same run that nobody stopped, and for the language model `inputs/`. Paths in the settings are
relative to the folder that holds these.
"""

import contextlib
import os
import pathlib
import shutil
import tarfile
import tempfile
from unittest import mock

HERE = pathlib.Path(__file__).resolve().parent
# What a run folder of 0.1.0 records, and what the tests compare.
RECORDS = ("results.nc", "metrics.jsonl", "samples")
# Name -> arguments of `collapse-jax simulate`, and the save at which it is stopped.
SIMULATIONS = {
    "grid": (
        "--sample-size 5,20 --gamma 0,0.5 --chains 16 --generations 4",
        2,
    ),
    "summary": (
        "--family categorical --num-categories 4 --sample-size 8 --chains 16 --generations 8 "
        "--chunk 2 --keep summary",
        3,
    ),
    "chains": (
        "--workflow accumulate --sample-size 6 --chains 4 --generations 8 --chunk 2",
        3,
    ),
    "points": (
        "--family kde --workflow accumulate_subsample --sample-size 6 --chains 4 --generations 8 "
        "--chunk 2",
        3,
    ),
}
LM = (
    "--corpus inputs/text.txt --model inputs/model --seeds 1 --generations 2 --block-length 8 "
    "--train-blocks 16 --valid-blocks 4 --test-blocks 4 --batch-size 8 --epochs 2 "
    "--learning-rate 1e-2 --decoding sampling --decode-batch 8 --examples 1"
)


class Stopped(BaseException):
    """Ends a run as a power cut would."""


def stopping_at(function, call):
    """The function, which stops the run at this call."""
    calls = []

    def stopping(*arguments, **options):
        calls.append(0)
        if len(calls) == call:
            raise Stopped
        return function(*arguments, **options)

    return stopping


def both(run, place, name, call):
    """whole/, and stopped/ whose run is stopped at a call of a function."""
    run("whole")
    stopping = mock.patch.object(place, name, stopping_at(getattr(place, name), call))
    with stopping, contextlib.suppress(Stopped):
        run("stopped")


def command_line(*arguments):
    """run(out) of a command."""
    from collapse_jax.cli import main

    return lambda out: main([*" ".join(arguments).split(), "--out", out])


def make_simulation(name):
    from collapse_jax.checkpoint import Checkpoints
    from collapse_jax.commands import simulate

    arguments, call = SIMULATIONS[name]
    with mock.patch.object(simulate, "SAVE_SECONDS", 0):
        both(command_line("simulate", arguments), Checkpoints, "save", call)


def make_lm():
    """Stopped in the second epoch of generation 1."""
    from collapse_jax.lm import finetune

    write_inputs(pathlib.Path("inputs"))
    both(command_line("lm", LM), finetune, "_run_steps", 4)


def write_inputs(folder):
    """A random OPT of 2 kB, a tokenizer of single letters, and some text."""
    import jax
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    from collapse_jax.lm.corpus import embedded_corpus
    from collapse_jax.lm.opt import OPT, OPTConfig, init_params
    from collapse_jax.lm.weights import save_opt

    text = "".join(embedded_corpus().train[:20])
    letters = sorted(set(text) - {"\n"})
    entries = ["<s>", "<pad>", "</s>", "<unk>", *letters]
    config = OPTConfig(
        vocab_size=128,
        hidden_size=4,
        num_hidden_layers=1,
        num_attention_heads=2,
        ffn_dim=8,
        max_position_embeddings=16,
        init_std=0.3,
    )
    save_opt(folder / "model", OPT(config), init_params(config, jax.random.key(0)))
    tokenizer = Tokenizer(
        models.WordLevel({entry: i for i, entry in enumerate(entries)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.save(str(folder / "model" / "tokenizer.json"))
    (folder / "text.txt").write_text(text)


def make_run():
    """`cj.run` from Python, on points, stopped in its second chain."""
    import jax

    import collapse_jax as cj
    from collapse_jax.checkpoint import Checkpoints

    process = cj.generational_process(
        cj.estimators.gaussian(2, by="points"),
        cj.sources.normal([0.0, 1.0], [[1.0, 0.5], [0.5, 2.0]]),
        cj.workflows.mix(0.5, 0.25, 0.25),
        sample_size=8,
    )

    def run(out):
        options = {"generations": 2, "chains": 2, "metrics": ("mean", "log_determinant")}
        cj.run(process, jax.random.key(3), folder=out, **options)

    both(run, Checkpoints, "save", 5)


def pack(name):
    """NAME.tar.xz of the working directory, without figures, names of people and times."""

    def bare(entry):
        entry.uid = entry.gid = entry.mtime = 0
        entry.uname = entry.gname = ""
        return entry

    shutil.rmtree("stopped/figures", ignore_errors=True)
    for path in pathlib.Path("stopped").rglob("commit_success.txt"):
        path.write_text(path.read_text().replace(f"{pathlib.Path.cwd()}/", ""))
    for path in pathlib.Path("whole").iterdir():
        if path.name not in RECORDS:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    with tarfile.open(HERE / f"{name}.tar.xz", "w:xz") as archive:
        for path in sorted(pathlib.Path().iterdir()):
            archive.add(path, filter=bare)
    print(f"{name}.tar.xz: {(HERE / f'{name}.tar.xz').stat().st_size:,} bytes")


def main():
    import collapse_jax.plots

    collapse_jax.plots.draw_run = lambda folder: []
    makers = {name: lambda name=name: make_simulation(name) for name in SIMULATIONS}
    for name, make in (makers | {"lm": make_lm, "run": make_run}).items():
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            make()
            pack(name)


if __name__ == "__main__":
    os.environ["JAX_PLATFORMS"] = "cpu"
    main()

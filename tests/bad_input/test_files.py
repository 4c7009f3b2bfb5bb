"""Broken corpora, and run folders whose files are not what was written there."""

import gzip
import json
import lzma
import shutil
import struct

import pytest

from collapse_jax.app.cli import main

TEXT = ("A line of text that is long enough for a block or two.\n" * 40).encode()
LM = "lm --block-length 8 --batch-size 2 --epochs 1 --seeds 1 --generations 1".split()


def split_folder(**files):
    def write(path):
        path.mkdir()
        for name, data in files.items():
            (path / name.replace("_", ".")).write_bytes(data)

    return write


def single(data):
    return lambda path: path.write_bytes(data)


CORPORA = {
    "empty.txt": (single(b""), ["its train split is empty"]),
    "blank.txt": (single(b"\n \n\t\n" * 50), ["its train split is empty"]),
    "short.txt": (single(b"a\n" * 10), ["shorter than one block of 8 tokens"]),
    "binary.txt": (single(bytes(range(256)) * 50), ["binary.txt", "cannot be read"]),
    "latin.txt": (
        single("Ærøskøbing\n".encode("latin-1") * 50),
        ["latin.txt", "cannot be read", "utf-8"],
    ),
    "cut.txt.xz": (single(lzma.compress(TEXT)[:-20]), ["cut.txt.xz", "cannot be read"]),
    "cut.txt.gz": (single(gzip.compress(TEXT)[:-20]), ["cut.txt.gz", "cannot be read"]),
    "flipped.txt.gz": (
        single(gzip.compress(TEXT)[:40] + b"\xff" * 30),
        ["flipped.txt.gz", "cannot be read"],
    ),
    "no.txt.xz": (single(TEXT), ["no.txt.xz", "cannot be read"]),
    "no.txt.gz": (single(TEXT), ["no.txt.gz", "cannot be read"]),
    "empty.txt.xz": (single(b""), ["empty.txt.xz"]),
    "words.jsonl": (single(b"hello\n" * 50), ["words.jsonl", "field 'text'"]),
    "numbers.jsonl": (single(b'{"text": 5}\n' * 50), ["numbers.jsonl", "contains 5"]),
    "lists.jsonl": (single(b"[1]\n" * 50), ["lists.jsonl", "field 'text'"]),
    "deep.jsonl": (single(b"[" * 100_000), ["deep.jsonl", "field 'text'"]),
    "digits.jsonl": (single(b'{"text": ' + b"1" * 5000 + b"}"), ["digits.jsonl", "field 'text'"]),
    "words.parquet": (single(TEXT), ["words.parquet", "parquet"]),
    "empty.parquet": (single(b""), ["empty.parquet", "parquet"]),
    "nothing": (split_folder(), ["nothing", "has no train file"]),
    "images": (split_folder(train_png=b"x", test_png=b"x"), ["images", "has no train file"]),
    "no_valid": (split_folder(train_txt=TEXT, test_txt=TEXT), ["no_valid", "has no valid file"]),
    "empty_test": (
        split_folder(train_txt=TEXT, valid_txt=TEXT, test_txt=b""),
        ["its test split is empty"],
    ),
    "short_test": (
        split_folder(train_txt=TEXT, valid_txt=TEXT, test_txt=b"a\n"),
        ["shorter than one block of 8 tokens"],
    ),
}


@pytest.mark.parametrize("name", CORPORA)
def test_a_broken_corpus(refused, here, good, name):
    write, says = CORPORA[name]
    write(here / name)
    refused([*LM, "--model", good / "model", "--corpus", name], *says)


@pytest.mark.parametrize(
    "name",
    [
        "empty.txt",
        "short.txt",
        "binary.txt",
        "cut.txt.xz",
        "flipped.txt.gz",
        "deep.jsonl",
        "words.parquet",
    ],
)
def test_a_broken_corpus_for_pretraining(refused, here, name):
    CORPORA[name][0](here / name)
    says = (
        "has 0 tokens" if name == "empty.txt" else "give at least" if name == "short.txt" else name
    )
    refused(["pretrain", "--corpus", name, "--block-length", "64"], says)


# A finished run, one of whose files is not what it was.


@pytest.fixture(scope="module")
def runs(tmp_path_factory, good):
    """Finished runs that are never changed: simulate/, lm/ and pretrain/."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("collapse_jax.app.plots.draw_run", lambda run: [])
        main([*SIMULATE, "--out", str(folder / "simulate")])
        main([*lm_of(good), "--out", str(folder / "lm")])
        main([*pretrain_of(good), "--out", str(folder / "pretrain")])
    return folder


SIMULATE = "simulate --chains 8 --generations 3 --sample-size 5".split()


def lm_of(good):
    small = "--train-blocks 4 --valid-blocks 2 --test-blocks 2 --decoding greedy".split()
    return [*LM, *small, "--corpus", str(good / "text.txt"), "--model", str(good / "model")]


def pretrain_of(good):
    sizes = (
        "--hidden-size 8 --num-hidden-layers 1 --num-attention-heads 2 --ffn-dim 16 "
        "--max-position-embeddings 16 --block-length 8"
    )
    steps = "--steps 2 --warmup-steps 1 --batch-size 2 --held-out-windows 2"
    return ["pretrain", "--corpus", str(good / "text.txt"), *sizes.split(), *steps.split()]


BROKEN = {
    "config.json": {
        "empty": (b"", ["config.json", "cannot be read"]),
        "binary": (b"\x00\xff\xfe", ["config.json", "cannot be read"]),
        "nested": (b"[" * 100_000, ["config.json", "cannot be read"]),
        "list": (b"[]", ["config.json", "'command' must be one of"]),
        "unknown": (b'{"command": "simulate", "chainz": 5}', ["config.json", "'chainz'"]),
        "typed": (
            b'{"command": "simulate", "chains": "8"}',
            ["config.json", "chains is '8'", "int"],
        ),
        "outside": (b'{"command": "simulate", "chains": -8}', ["chains is -8", "at least 1"]),
    },
    "metrics.jsonl": {
        "empty lines": (b"\n\n", ["metrics.jsonl is damaged", "delete it"]),
        "binary": (b"\x00\xff\xfe", ["metrics.jsonl is damaged", "delete it"]),
        "cut": (b'{"generation": 0, "mean_me', ["metrics.jsonl is damaged", "delete it"]),
        "nested": (b"[" * 100_000, ["metrics.jsonl is damaged", "delete it"]),
        "lists": (b"[1, 2]\n", ["metrics.jsonl is damaged (line 1 is not a record"]),
        "words": (
            b'{"generation": "one", "chain": 0, "step": 1}\n',
            ["metrics.jsonl is damaged (line 1 is not a record"],
        ),
        "nothing": (b"{}\n", ["metrics.jsonl is damaged (line 1 is not a record"]),
    },
    "results.nc": {
        "empty": (b"", ["results.nc is damaged", "delete it"]),
        "text": (b"hello", ["results.nc is damaged", "delete it"]),
        "cut": (-40, ["results.nc is damaged", "delete it"]),
        "a header that claims more": (
            b"CDF\x02" + struct.pack(">I", 0) + b"\x00\x00\x00\x0a\x7f\xff\xff\xff",
            ["results.nc"],
        ),
    },
}
CASES = [(name, how) for name, cases in BROKEN.items() for how in cases]


def break_file(path, data):
    path.write_bytes(path.read_bytes()[:data] if isinstance(data, int) else data)


@pytest.mark.parametrize(("name", "how"), CASES, ids=[" ".join(case) for case in CASES])
@pytest.mark.parametrize("kind", ["simulate", "lm"])
def test_a_broken_file_of_a_run(refused, runs, here, good, kind, name, how):
    data, says = BROKEN[name][how]
    shutil.copytree(runs / kind, here / "run")
    break_file(here / "run" / name, data)
    if name != "metrics.jsonl":
        refused(["plot", "run"], *says)
    if name != "results.nc":
        refused([*(SIMULATE if kind == "simulate" else lm_of(good)), "--out", "run"], *says)


@pytest.mark.parametrize("kind", ["simulate", "lm"])
def test_results_of_another_run(refused, runs, here, kind):
    shutil.copytree(runs / kind, here / "run")
    other = "lm" if kind == "simulate" else "simulate"
    shutil.copy(runs / other / "results.nc", here / "run" / "results.nc")
    refused(["plot", "run"], "results.nc", "contains no")


@pytest.mark.parametrize("how", BROKEN["metrics.jsonl"])
def test_broken_records_of_a_pretraining(refused, runs, here, good, how):
    data, says = BROKEN["metrics.jsonl"][how]
    shutil.copytree(runs / "pretrain", here / "run")
    break_file(here / "run" / "metrics.jsonl", data)
    refused(["plot", "run"], *says)
    refused([*pretrain_of(good), "--out", "run"], *says)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("tokens.json", b""),
        ("tokens.json", b"[]"),
        ("tokens.json", b'{"made_from": 5}'),
        ("tokens.bin", b"\x00"),
        ("tokens.bin", b""),
        ("rows.npz", b"PK"),
        ("rows.npz", b""),
    ],
)
def test_broken_tokens_of_a_pretraining(refused, runs, here, good, name, data):
    shutil.copytree(runs / "pretrain", here / "run")
    (here / "run" / "metrics.jsonl").unlink()
    (here / "run" / "tokens" / name).write_bytes(data)
    refused([*pretrain_of(good), "--out", "run"], "run/tokens", "delete")


def test_folders_of_chains_that_are_none_of_ours(runs, here, good, capfd):
    """Whatever lies among the checkpoints under a name that no chain has is left alone."""
    shutil.copytree(runs / "lm", here / "run")
    odd = [
        "chain_one",
        "chain_",
        "chain_-1",
        "chain_01",
        "chain_1 (copy)",
        "chain_99999999999999999999",
    ]
    for name in odd:
        (here / "run" / "checkpoints" / name).mkdir()
    (here / "run" / "checkpoints" / "chain_7").write_text("mine")
    (here / "run" / "metrics.jsonl").unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("collapse_jax.app.plots.draw_run", lambda run: [])
        main([*lm_of(good), "--out", "run"])
    rows = [json.loads(line) for line in (here / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [(row["chain"], row["generation"]) for row in rows] == [(0, 0), (0, 1)]
    assert all((here / "run" / "checkpoints" / name).is_dir() for name in odd)


# reproduce: entries and results that name files elsewhere.

ENTRY = """
from collapse_jax.app.reproduce.entries import Paper, entry

PAPER = Paper("0000.00000", "Nobody 2000", "Nothing")


@entry(ID, claim="c.", status="derived here", setting="s", oracle="o")
def check(key):
    raise AssertionError("must not run")
"""


@pytest.mark.parametrize(
    "id",
    ["../escape", "a/b", "/etc/escape", "..", ".hidden", "", "a\nb", "x" * 300, "a b", None, 5],
)
def test_an_entry_whose_id_is_no_file_name(refused, here, id):
    (here / "registry").mkdir()
    (here / "registry" / "one.py").write_text(ENTRY.replace("ID", repr(id)))
    refused(
        ["reproduce", "--registry", "registry", "--out", "run"],
        "one.py",
        "entry id",
        "letters, digits",
    )


@pytest.mark.parametrize("text", ["1 +", "import no_such_package", "raise SystemExit(3)", "x = 5"])
def test_a_registry_that_cannot_be_loaded(refused, here, text):
    (here / "registry").mkdir()
    (here / "registry" / "one.py").write_text(text)
    refused(["reproduce", "--registry", "registry", "--out", "run"], "registry")


@pytest.fixture(scope="module")
def result():
    """The text of one result's file, as `reproduce` writes it."""
    import numpy as np

    from collapse_jax.app.reproduce import store
    from collapse_jax.app.reproduce.compare import Comparison
    from collapse_jax.app.reproduce.entries import Entry, Paper
    from collapse_jax.app.reproduce.judge import Result
    from collapse_jax.runs.folder import RunFolder

    one = Entry(
        "fine",
        "c.",
        "derived here",
        "s",
        "o",
        "cpu",
        "x",
        "y",
        "",
        "",
        "",
        "",
        None,
        Paper("0", "n", "t"),
        None,
    )
    arrays = {name: np.ones(2) for name in ("at", "ours", "error", "expected", "z")}
    written = []

    class Folder(RunFolder):
        def write_text(self, name, text):
            written.append(text)

    store.save(
        Folder("nowhere"),
        Result(one, "agrees", (Comparison("w", p_value=0.5, rule="r", **arrays),), 0.01, "", 1.0),
    )
    return json.loads(written[0])


def with_id(result, id):
    return json.dumps(result | {"entry": result["entry"] | {"id": id}}).encode()


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (lambda result: b"", ["is not a result"]),
        (lambda result: b"\xff\xfe", ["is not a result"]),
        (lambda result: b"[" * 100_000, ["is not a result"]),
        (lambda result: b"[]", ["is not a result"]),
        (lambda result: b"{}", ["is not a result"]),
        (lambda result: json.dumps(result | {"comparisons": 5}).encode(), ["is not a result"]),
        (
            lambda result: json.dumps(result).replace("[1.0, 1.0]", '["x", "y"]').encode(),
            ["is not a result"],
        ),
        (lambda result: with_id(result, "../../escape"), ["'../../escape'", "letters, digits"]),
        (lambda result: with_id(result, "other"), ["holds the result of 'other'"]),
    ],
)
def test_a_broken_result(refused, here, result, broken, says):
    (here / "run" / "results").mkdir(parents=True)
    (here / "run" / "config.json").write_text('{"command": "reproduce"}')
    (here / "run" / "results" / "fine.json").write_bytes(broken(result))
    refused(["plot", "run"], "fine.json", *says)


def test_a_whole_result_is_drawn(here, result, capfd):
    (here / "run" / "results").mkdir(parents=True)
    (here / "run" / "config.json").write_text('{"command": "reproduce"}')
    (here / "run" / "results" / "fine.json").write_text(json.dumps(result))
    main(["plot", "run"])
    assert (here / "run" / "table.md").is_file() and (
        here / "run" / "figures" / "fine.png"
    ).is_file()

"""Files of a run folder that are truncated, changed or gone.

Named and made again with the same numbers, or refused in one line.
"""

import shutil

import faulty
import pytest


def truncated(file):
    file.write_bytes(
        file.read_bytes()[: 2 * file.stat().st_size // 5]
    )  # not half of a table, which may be whole lines


def flipped(file):
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 128
    file.write_bytes(bytes(raw))


def deleted(file):
    file.unlink()


HARMS = {"truncated": truncated, "flipped": flipped, "deleted": deleted}
# name: (the file, the largest that this matches; what is said where it is refused, by harm). None:
# nothing is to be said.
FILES = {
    "state of generation 0": (
        "checkpoints/chain_0/0/state/**/*",
        "checkpoints/chain_0/0 is damaged",
    ),
    "state of the newest": ("checkpoints/chain_0/1/state/**/*", "checkpoints/chain_0/1 is damaged"),
    "record of generation 0": (
        "checkpoints/chain_0/0/record/metadata",
        "checkpoints/chain_0/0 is damaged",
    ),
    "arrays of the newest": (
        "checkpoints/chain_0/1/arrays/d/*",
        "checkpoints/chain_0/1 is damaged",
    ),
    "unfinished work": ("unfinished/fit-*.npz", "this part starts over"),
    "metrics.jsonl": ("metrics.jsonl", "metrics.jsonl is damaged"),
    "metrics.csv": ("metrics.csv", ""),
    "results.nc": ("results.nc", ""),
    "config.json": ("config.json", "config.json cannot be read"),
}


@pytest.fixture(scope="module")
def cut(server, tmp_path_factory):
    """A run that was killed while generation 2 was being fitted."""
    out = tmp_path_factory.mktemp("damaged") / "cut"
    assert server.run("lm", out, [faulty.hook("lm", "fit", "kill", 6)]) < 0
    assert len(faulty.finished(out)) == 2 and list(out.glob("unfinished/fit-*.npz"))
    return out


@pytest.mark.parametrize(
    ("name", "harm"),
    [(name, harm) for name in FILES for harm in HARMS],
)
@pytest.mark.slow
def test_damage_is_found(server, whole, cut, tmp_path, name, harm):
    """In the middle of a run of a language model, the last fit unfinished."""
    out = tmp_path / "run"
    shutil.copytree(cut, out)
    pattern, words = FILES[name]
    file = max(
        (path for path in out.glob(pattern) if path.is_file()), key=lambda path: path.stat().st_size
    )
    HARMS[harm](file)
    code, text = server.run("lm", out), faulty.said(out)
    assert "Traceback" not in text, text
    if harm != "deleted" or name.startswith(("state", "record", "arrays")):
        assert words in text, text
    if code == 2:
        (line,) = [line for line in text.splitlines() if line.startswith("error: ")]
        if harm == "deleted":
            assert name == "config.json" and "is not a run folder" in line
            return
        assert words and words in line
        if name == "config.json":
            return
        file.unlink()  # as the line says
        code = server.run("lm", out)
    assert code == 0, faulty.said(out)
    for aside in out.rglob("damaged-*"):
        shutil.rmtree(aside)
    assert faulty.differences(out, whole("lm").out) == []


@pytest.mark.parametrize("name", ["metrics.jsonl", "results.nc"])
@pytest.mark.parametrize("harm", HARMS)
def test_damage_to_the_records_of_a_finished_run(whole, tmp_path, name, harm):
    """Whoever reads them is told in one line."""
    from collapse_jax.errors import InputError
    from collapse_jax.runs.folder import RunFolder

    out = tmp_path / "run"
    shutil.copytree(whole("chains").out, out)
    HARMS[harm](out / name)
    folder = RunFolder(out)
    read = folder.rows if name == "metrics.jsonl" else folder.results
    if harm == "deleted":
        assert not read()
    else:
        with pytest.raises(
            InputError,
            match=f"{name} is damaged .*; delete it, and the command of the run writes it again",
        ):
            read()

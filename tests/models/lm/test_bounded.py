"""Tokenizers that panic, or take for ever, end in one line."""

import json
import os
import threading
import time

import numpy as np
import pytest
from tokenizers import Regex, decoders, normalizers, pre_tokenizers

from collapse_jax.app.commands.observe import write_samples
from collapse_jax.errors import InputError
from collapse_jax.models.lm import bounded, corpus
from collapse_jax.runs.folder import RunFolder

# Each "a" may be taken by the inner or by the outer repetition: 2^40 ways, all of which fail.
CATASTROPHIC, TEXT = "(a+)+$", "a" * 40 + "!"


@pytest.fixture
def saved(tmp_path):
    """saved(**parts) -> the folder of the embedded tokenizer with other parts."""

    def save(**parts):
        tokenizer = corpus.tokenizer_files("embedded")["tokenizer.json"]
        values = json.loads(tokenizer)
        for name, part in parts.items():
            values[name] = json.loads(part.__getstate__())
        (tmp_path / "tokenizer.json").write_text(json.dumps(values))
        return str(tmp_path)

    return save


@pytest.mark.parametrize(
    "parts",
    [
        {"pre_tokenizer": pre_tokenizers.Split(Regex(CATASTROPHIC), "isolated")},
        {"normalizer": normalizers.Replace(Regex(CATASTROPHIC), "x")},
    ],
    ids=["split", "normalise"],
)
def test_a_regex_that_tries_too_many_ways_is_one_line(parts, saved, capfd):
    """Rust panics, which is no Exception, and prints a traceback of its own."""
    folder = saved(**parts)
    tokenizer = corpus.load_tokenizer(folder)
    assert len(tokenizer.encode(["aa !"])) == 1
    with pytest.raises(InputError) as refused:
        tokenizer.encode(["fine", TEXT])
    line = str(refused.value)
    assert line.startswith(f"tokenizer {folder!r} failed (") and "regular expression" in line
    assert capfd.readouterr().err == ""


def test_a_corpus_that_breaks_a_tokenizer_is_refused(saved, capfd):
    folder = saved(pre_tokenizer=pre_tokenizers.Split(Regex(CATASTROPHIC), "isolated"))
    with pytest.raises(InputError, match="failed"):
        corpus.blocks_of([TEXT] * 8, corpus.load_tokenizer(folder), 2)
    assert capfd.readouterr().err == ""


def test_a_decoder_that_panics(saved, capfd, tmp_path):
    """The samples of a run are written by `decode`."""
    parts = [decoders.Fuse(), decoders.Replace(Regex(CATASTROPHIC), "x")]
    tokenizer = corpus.load_tokenizer(saved(decoder=decoders.Sequence(parts)))
    blocks = np.array(tokenizer.encode([TEXT]))
    with pytest.raises(InputError, match="failed"):
        write_samples(RunFolder(tmp_path), tokenizer, 0, 0, blocks)
    assert capfd.readouterr().err == ""


def test_a_tokenizer_that_takes_for_ever(monkeypatch):
    """Tried from each letter on, a regex may take hours without ever trying too many ways."""
    monkeypatch.setattr(bounded, "_SECONDS", 0.05)
    end = threading.Event()
    with pytest.raises(InputError, match=r"'slow' did not encode 2 rows in 0 seconds"):
        bounded.encoded("slow", lambda rows: end.wait(30), ["a", "b"])
    end.set()
    # long texts have longer
    started = time.perf_counter()
    assert bounded.encoded("slow", lambda rows: time.sleep(0.2) or 5, ["a" * 20_000]) == 5
    assert time.perf_counter() - started >= 0.2


def test_other_errors_and_what_others_print_pass(capfd):
    def fail(rows):
        os.write(2, b"said meanwhile\n")
        raise KeyError("x")

    with pytest.raises(KeyError):
        bounded.encoded("x", fail, [])
    assert capfd.readouterr().err == "said meanwhile\n"
    with pytest.raises(KeyboardInterrupt), bounded.no_panics("x"):
        raise KeyboardInterrupt
    assert bounded.encoded("x", list, ["a"]) == ["a"]

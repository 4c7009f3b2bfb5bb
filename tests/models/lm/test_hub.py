"""Where weights come from: local folders, and a stand-in for the hub, since no test calls the real
one.
"""

import json
import os
import shutil
import sys
import types
from pathlib import Path

import pytest

from collapse_jax.models.lm.hub import PINNED_REVISIONS, find_model
from collapse_jax.models.lm.weights import load, load_opt

FIXTURE = Path(__file__).parent / "fixtures" / "opt_tiny"


class Hub(types.ModuleType):
    """Stands for huggingface_hub: what it holds by (name, revision), what is cached, and the calls
    it got.
    """

    def __init__(self, online, cached):
        super().__init__("huggingface_hub")
        self.online, self.cached, self.calls, self.error = online, cached, [], None

    def list_repo_files(self, name, revision):
        self.calls.append(("list", name, revision))
        if self.error:
            raise self.error
        return os.listdir(self.online)

    def snapshot_download(self, name, revision, local_files_only=False, allow_patterns=None):
        if local_files_only:
            if self.cached is None:
                raise FileNotFoundError("not cached")
            return str(self.cached)
        self.calls.append(("fetch", name, revision, allow_patterns))
        return str(self.online)


def test_folders_and_hub_names(tmp_path, only, monkeypatch, refused):
    monkeypatch.setitem(
        sys.modules, "huggingface_hub", Hub(None, None)
    )  # no test calls the real hub
    monkeypatch.chdir(tmp_path)
    for name in (
        "",
        "missing",
        "a/b/c",
        "own er/name",
        "owner/na\nme",
        "../owner",
        "owner/..",
        "own--er/name",
        "owner/x;y",
        "ö/x",
        "a/\0",
    ):
        assert repr(name) in refused(load_opt, name)
    assert "neither a local folder nor a hub name" in refused(load_opt, tmp_path / "missing")
    folder = only("model.safetensors")
    assert "is a file" in refused(load_opt, folder / "config.json")
    assert "no revisions" in refused(load_opt, folder, revision="main")
    (folder / "model.safetensors").unlink()
    assert "no weight file; looked for flax_model.msgpack, model.safetensors" in refused(
        load_opt, folder
    )


def test_the_hub(tmp_path, only, monkeypatch, refused):
    monkeypatch.chdir(tmp_path)
    hub = Hub(online=only("pytorch_model.bin", "online"), cached=None)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert load_opt("facebook/opt-125m")[0].config.vocab_size == 97
    pinned = PINNED_REVISIONS["facebook/opt-125m"]
    (_, _, listed), (_, _, _, first), (_, name, revision, patterns) = hub.calls
    assert first == ["config.json"] and name == "facebook/opt-125m" and listed == revision == pinned
    assert {"config.json", "tokenizer.json", "vocab.json", "pytorch_model.bin"} <= set(
        patterns
    ) and "flax_model.msgpack" not in patterns
    find_model("facebook/opt-125m", "main"), find_model("someone/else")
    assert [call[2] for call in hub.calls[3:]] == ["main"] * 3 + [None] * 3
    (hub.online / "pytorch_model.bin").rename(hub.online / "model.safetensors.index.json")
    find_model("someone/else")
    assert "model-*.safetensors" in hub.calls[-1][3]
    (hub.online / "model.safetensors.index.json").unlink()
    assert "contains no weight file" in refused(find_model, "someone/else")


def test_the_hub_out_of_reach(tmp_path, only, monkeypatch, refused):
    monkeypatch.chdir(tmp_path)
    hub = Hub(online=None, cached=None)
    hub.error = ConnectionError("no route\nto host")
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    text = refused(load_opt, "runs/generation-3")
    assert (
        "'runs/generation-3' is not a local folder, and the hub did not provide it "
        "(ConnectionError: no route to host)" in text
    )
    hub.cached = only("pytorch_model.bin", "cache")
    assert "at revision '27dc" in refused(
        load_opt, "facebook/opt-125m"
    )  # a snapshot without its tokenizer was cut short
    (hub.cached / "tokenizer.json").write_text("{}")
    hub.calls.clear()
    assert load_opt("facebook/opt-125m")[0].config.vocab_size == 97
    assert hub.calls == []
    assert find_model("someone/else") == hub.cached and hub.calls == [
        ("list", "someone/else", None)
    ]
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "needs the package huggingface_hub" in refused(load_opt, "facebook/opt-125m")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"model_type": "falcon"}, "model_type is 'falcon'; supported are opt, gpt2, "),
        ({"model_type": "falcon"}, "; the most similar one is 'gpt_neox'; no weights were"),
        ({"model_type": "llama4"}, "; the most similar one is 'llama'; no weights were"),
        ({"model_type": "qwen2_moe"}, "; the most similar one is 'qwen2'; no weights were"),
        ({"model_type": "t5"}, "gemma3_text; no weights were downloaded"),
        ({"model_type": "llama", "quantization_config": {"bits": 4}}, "quantization_config"),
        ("no object", "must contain one JSON object"),
        ({"model_type": "opt", "vocab_size": "many"}, "vocab_size"),
    ],
)
def test_an_unbuilt_model_is_refused_before_its_weights_are_fetched(
    tmp_path, monkeypatch, values, says, refused
):
    """From its config.json alone, which is all that was asked for."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(values))
    (tmp_path / "model.safetensors").write_text("")
    hub = Hub(online=tmp_path, cached=None)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    text = refused(load, "someone/else")
    assert text.startswith("'someone/else' on the hub: ") and says in text
    assert [call[3] for call in hub.calls if call[0] == "fetch"] == [["config.json"]]


def test_another_family_than_opt_is_not_fetched_for_load_opt(tmp_path, monkeypatch, refused):
    monkeypatch.chdir(tmp_path)
    model = next((FIXTURE.parent).glob("**/*llama*/config.json"))
    shutil.copy(model, tmp_path)
    (tmp_path / "model.safetensors").write_text("")
    hub = Hub(online=tmp_path, cached=None)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert "model_type is 'llama', not that of an OPT" in refused(load_opt, "someone/else")
    assert [call[3] for call in hub.calls if call[0] == "fetch"] == [["config.json"]]


def test_repositories_without_what_is_needed(tmp_path, monkeypatch, refused):
    monkeypatch.chdir(tmp_path)
    hub = Hub(online=tmp_path, cached=None)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    (tmp_path / "model-Q4.gguf").write_text("")
    text = refused(load, "someone/else")
    assert (
        "contains only GGUF files, such as model-Q4.gguf; download one, and give its path" in text
    )
    (tmp_path / "model.safetensors").write_text("")
    assert "contains no config.json" in refused(load, "someone/else")


def test_names_from_before_there_were_owners(tmp_path, monkeypatch, refused):
    monkeypatch.chdir(tmp_path)
    hub = Hub(online=tmp_path, cached=None)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    refused(load, "gpt2"), refused(load, "distilgpt2")
    assert [call[1] for call in hub.calls] == ["openai-community/gpt2", "distilbert/distilgpt2"]

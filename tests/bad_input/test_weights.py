"""Model folders that are broken or mean harm, as `collapse-jax lm --model` meets them."""

import json
import pickle
import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from collapse_jax.models.lm.weights import load_opt

# One tensor of the model, and its shape.
BIAS = "model.decoder.layers.0.fc1.bias"


def tensors_of(folder):
    return safetensors.numpy.load_file(folder / "model.safetensors")


def changed(**changes):
    """A breaker that writes the tensors again with some of them changed; None takes one away."""

    def write(folder):
        tensors = tensors_of(folder) | changes
        kept = {name: value for name, value in tensors.items() if value is not None}
        safetensors.numpy.save_file(kept, folder / "model.safetensors")

    return write


def header(entries, size=64):
    """A breaker that writes a safetensors file of this header, and `size` bytes of data."""

    def write(folder):
        text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
        (folder / "model.safetensors").write_bytes(
            struct.pack("<Q", len(text)) + text + bytes(size)
        )

    return write


def raw(data, name="model.safetensors"):
    def write(folder):
        (folder / "model.safetensors").unlink()
        (folder / name).write_bytes(data)

    return write


def cut(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def config(**changes):
    def write(folder):
        values = json.loads((folder / "config.json").read_text()) | changes
        (folder / "config.json").write_text(json.dumps(values))

    return write


def file(name, data):
    return lambda folder: (folder / name).write_bytes(data)


def index(weight_map):
    def write(folder):
        (folder / "model.safetensors").rename(folder / "a.safetensors")
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))

    return write


def link_to_nowhere(folder):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("gone")


def folder_as_file(folder):
    (folder / "config.json").unlink()
    (folder / "config.json").mkdir()


def msgpack(folder, keep):
    import flax.serialization
    import flax.traverse_util

    params = load_opt(folder)[1]
    tree = flax.serialization.msgpack_serialize({"model": {"decoder": flax.core.unfreeze(params)}})
    (folder / "flax_model.msgpack").write_bytes(tree[:keep] if keep else b"\x93\x01\x02\x03")


BROKEN = {
    "truncated safetensors": (cut, ["model.safetensors", "not a whole safetensors file"]),
    "empty safetensors": (raw(b""), ["model.safetensors", "not a whole safetensors file"]),
    "a header that claims gigabytes": (
        raw(struct.pack("<Q", 1 << 40) + b"{}"),
        ["model.safetensors", "not a whole"],
    ),
    "a header of 2^64 - 1 bytes": (raw(b"\xff" * 8 + b"{}"), ["model.safetensors", "not a whole"]),
    "a header that is no JSON": (header(b"{" * 64), ["model.safetensors", "not a whole"]),
    "a tensor that claims gigabytes": (
        header({BIAS: {"dtype": "F32", "shape": [1 << 33], "data_offsets": [0, 1 << 35]}}),
        ["model.safetensors", "not a whole"],
    ),
    "tensors that overlap": (
        header(
            {
                name: {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]}
                for name in (BIAS, "other")
            }
        ),
        ["model.safetensors", "not a whole"],
    ),
    "float8": (
        header({BIAS: {"dtype": "F8_E4M3", "shape": [64], "data_offsets": [0, 64]}}),
        [BIAS, "F8_E4M3", "not read here"],
    ),
    "a missing tensor": (changed(**{BIAS: None}), ["1 missing", BIAS]),
    "an extra tensor": (changed(extra=np.zeros(3, np.float32)), ["1 unexpected", "extra"]),
    "a wrong shape": (
        changed(**{BIAS: np.zeros(17, np.float32)}),
        ["1 misshapen", f"{BIAS} is [17], not [16]"],
    ),
    "integers": (changed(**{BIAS: np.zeros(16, np.int32)}), [f"{BIAS} is int32, not floating"]),
    "nan": (changed(**{BIAS: np.full(16, np.nan, np.float32)}), [BIAS, "nan"]),
    "infinity": (changed(**{BIAS: np.full(16, np.inf, ml_dtypes.bfloat16)}), [BIAS, "infinite"]),
    "no weights": (raw(b"", "readme.txt"), ["no weight file", "model.safetensors"]),
    "a link to nowhere": (link_to_nowhere, ["no weight file"]),
    "shards outside the folder": (
        index({BIAS: "../a.safetensors"}),
        ["index.json", "'../a.safetensors'"],
    ),
    "shards by an absolute path": (index({BIAS: "/etc/passwd"}), ["index.json", "'/etc/passwd'"]),
    "a shard that is missing": (
        index({BIAS: "a.safetensors", "other": "b.safetensors"}),
        ["1 of 2 shards are missing", "b.safetensors"],
    ),
    "an index that is none": (index([1, 2]), ["index.json", "weight_map"]),
    "an index of numbers": (index({BIAS: 5}), ["index.json", "weight_map"]),
    "a cut flax_model.msgpack": (
        lambda folder: msgpack(folder, 1000),
        ["flax_model.msgpack", "not a whole Flax checkpoint"],
    ),
    "flax_model.msgpack of a list": (lambda folder: msgpack(folder, 0), ["flax_model.msgpack"]),
    "an empty flax_model.msgpack": (file("flax_model.msgpack", b""), ["flax_model.msgpack"]),
    "no config.json": (lambda folder: (folder / "config.json").unlink(), ["no config.json"]),
    "config.json is a folder": (folder_as_file, ["config.json", "cannot be read"]),
    "config.json is empty": (file("config.json", b""), ["config.json is not JSON"]),
    "config.json is not UTF-8": (
        file("config.json", b'{"a": "\xff"}'),
        ["config.json", "cannot be read"],
    ),
    "config.json is nested without end": (file("config.json", b"[" * 100_000), ["config.json"]),
    "config.json holds a number without end": (
        file("config.json", b'{"a": ' + b"1" * 5000 + b"}"),
        ["config.json"],
    ),
    "config.json is a list": (
        file("config.json", b"[]"),
        ["config.json must contain one JSON object"],
    ),
    "another architecture": (config(model_type="mamba"), ["model_type is 'mamba'", "opt"]),
    "another activation": (config(activation_function="gelu"), ["activation_function is 'gelu'"]),
    "a size of words": (
        config(hidden_size="8", word_embed_proj_dim="8"),
        ["hidden_size is '8'", "positive integer"],
    ),
    "a size that is a list": (config(ffn_dim=[16]), ["ffn_dim is [16]"]),
    "a negative size": (config(vocab_size=-1), ["vocab_size is -1"]),
    "a billion layers": (
        config(num_hidden_layers=10**9),
        ["num_hidden_layers is 1000000000", "at most 1000"],
    ),
    "heads that do not divide": (
        config(num_attention_heads=3),
        ["hidden_size 8", "num_attention_heads 3"],
    ),
    "dropout of words": (config(dropout="some"), ["dropout is 'some'"]),
    "an end token of words": (config(eos_token_id="</s>"), ["eos_token_id is '</s>'", "0 to 2047"]),
    "a padding token outside the vocabulary": (
        config(pad_token_id=5000),
        ["pad_token_id is 5000", "0 to 2047"],
    ),
    "an initial deviation of words": (config(init_std="x"), ["init_std is 'x'"]),
    "sizes of another model": (
        config(ffn_dim=32),
        ["is incompatible with its config.json", "[16], not [32]"],
    ),
    "a tokenizer that is empty": (
        file("tokenizer.json", b""),
        ["tokenizer.json", "cannot be read"],
    ),
    "a tokenizer that is binary": (
        file("tokenizer.json", bytes(range(256))),
        ["tokenizer.json", "cannot be read"],
    ),
    "a tokenizer that is cut": (
        file("tokenizer.json", b'{"version": "1.0", "model"'),
        ["tokenizer.json", "cannot be read"],
    ),
    "a tokenizer of another thing": (
        file("tokenizer.json", b'{"hello": 1}'),
        ["tokenizer.json", "cannot be read"],
    ),
    "a tokenizer without a model": (
        file("tokenizer.json", b'{"version": "1.0", "model": null}'),
        ["tokenizer.json", "cannot be read"],
    ),
    "a tokenizer with ids outside the vocabulary": (
        file(
            "tokenizer.json",
            json.dumps(
                {
                    "version": "1.0",
                    "added_tokens": [],
                    "pre_tokenizer": {"type": "Whitespace"},
                    "model": {
                        "type": "WordLevel",
                        "vocab": {"<unk>": 5000, "the": 5001},
                        "unk_token": "<unk>",
                    },
                }
            ).encode(),
        ),
        ["tokenizer", "ids", "2048"],
    ),
    "no tokenizer": (
        lambda folder: (folder / "tokenizer.json").unlink(),
        ["neither tokenizer.json nor vocab.json"],
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_model_folder(refused, copy, good, name):
    folder = copy("model")
    breaks, says = BROKEN[name]
    breaks(folder)
    refused(
        [
            "lm",
            "--model",
            "model",
            "--corpus",
            good / "text.txt",
            "--block-length",
            "8",
            "--out",
            "run",
        ],
        *says,
    )


# Pickles that mean harm: each would create the file "marker" if a part of it were run.


class Call:
    """Pickles as a call of `function(*arguments)`."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def by_name(module, name, *arguments):
    """A pickle, spelled out, that calls module.name with texts."""
    texts = b"".join(b"V" + text.encode() + b"\n" for text in arguments)
    return f"c{module}\n{name}\n".encode() + b"(" + texts + b"tR."


TOUCH = "touch marker"
WRITE = "open('marker', 'w').close()"
HARMFUL = {
    "os.system": by_name("os", "system", TOUCH),
    "posix.system": by_name("posix", "system", TOUCH),
    "subprocess": by_name("subprocess", "getoutput", TOUCH),
    "builtins.eval": by_name("builtins", "eval", WRITE),
    "builtins.exec": by_name("builtins", "exec", WRITE),
    "__builtin__.eval": by_name("__builtin__", "eval", WRITE),
    "builtins.open": by_name("builtins", "open", "marker", "w"),
    "a chain of getattr": b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n(Vos\ntRVsystem\n"
    b"tR(Vtouch marker\ntR.",
    "a dotted name": b"\x80\x04\x8c\x0ctorch._utils\x8c\x28"
    b"_rebuild_tensor_v2.__globals__.os.system\x93(V" + TOUCH.encode() + b"\ntR.",
    "a dotted name of what is allowed": b"\x80\x04\x8c\x0bcollections\x8c\x1d"
    b"OrderedDict.__init_subclass__\x93)R.",
    "a nested reduce": pickle.dumps({"weight": [Call(dict, [Call(eval, WRITE)])]}, protocol=2),
    "a reduce as the key of a dict": pickle.dumps({Call(eval, WRITE): 1}, protocol=2),
    "a state that is set": b"ccollections\nOrderedDict\n)R}V__class__\ncos\nsystem\nsb.",
    "build on an OrderedDict with a reduce": b"ccollections\nOrderedDict\n)R(Vx\n"
    + by_name("os", "system", TOUCH)[:-1]
    + b"db.",
    "an instance opcode": b"(Vtouch marker\nios\nsystem\n.",
    "an object opcode": b"(cos\nsystem\nVtouch marker\no.",
    "an extension code": b"\x80\x02\x82\x01.",
    "codecs": by_name("_codecs", "encode", "x", "latin1"),
    "numpy's loader": by_name("numpy", "load", "marker"),
    "torch's own loader": by_name("torch", "load", "marker"),
    "a persistent id of a path outside": b"}Vx\nctorch._utils\n_rebuild_tensor_v2\n"
    b"((Vstorage\nctorch\nFloatStorage\nV../../../etc/passwd\nVcpu\nI6\ntQI0\n(I6\nt(I1\nt\x89}tRs.",
    "a persistent id that is a call": b"(Vstorage\n"
    + by_name("os", "system", TOUCH)[:-1]
    + b"V0\nVcpu\nI6\ntQ.",
    "a persistent id that is a word": b"Pmarker\n.",
    "a recursion": b"(" * 100_000,
    "a text of 2^62 bytes": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"x.",
    "a memo of 2^31": b"\x80\x02}r" + struct.pack("<I", (1 << 31) - 1) + b".",
}


@pytest.mark.parametrize("name", HARMFUL)
def test_an_unsafe_pickle_is_refused_and_not_run(refused, copy, good, here, name):
    folder = copy("model")
    (folder / "model.safetensors").unlink()
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w") as archive:
        archive.writestr("archive/data.pkl", HARMFUL[name])
        archive.writestr("archive/data/0", bytes(24))
    refused(
        ["lm", "--model", "model", "--corpus", good / "text.txt", "--block-length", "8"],
        "pytorch_model.bin",
    )
    assert not (here / "marker").exists() and not (folder / "marker").exists()


def test_the_harmful_ones_would_do_harm(here):
    """Most of them, read by Python's own pickle, do create the file: the test above can fail."""
    for name in (
        "os.system",
        "builtins.eval",
        "a chain of getattr",
        "a nested reduce",
        "an instance opcode",
        "an object opcode",
    ):
        marker = here / "marker"
        try:
            pickle.loads(HARMFUL[name])
        except Exception:
            pass
        assert marker.exists(), name
        marker.unlink()


@pytest.mark.parametrize("member", ["../../marker", "/tmp/../marker", "..\\marker"])
def test_a_zip_with_paths_that_lead_outside_writes_nothing(refused, copy, good, here, member):
    folder = copy("model")
    (folder / "model.safetensors").unlink()
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}, protocol=2))
        archive.writestr(member, b"mine")
    refused(
        ["lm", "--model", "model", "--corpus", good / "text.txt", "--block-length", "8"],
        "pytorch_model.bin",
        "missing",
    )
    assert not list(here.rglob("marker")) and not (here.parent / "marker").exists()


def test_a_zip_bomb_is_refused_by_its_size(refused, copy, good):
    """A few KiB that unpack to 4 MiB of one storage, and a pickle that wants 6 numbers of it."""
    folder = copy("model")
    (folder / "model.safetensors").unlink()
    tensor = (
        b"}Vx\nctorch._utils\n_rebuild_tensor_v2\n((Vstorage\nctorch\nFloatStorage\n"
        b"V0\nVcpu\nI6\ntQI0\n(I6\nt(I1\nt\x89}tRs."
    )
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", tensor)
        archive.writestr("archive/data/0", bytes(1 << 22))
    refused(
        ["lm", "--model", "model", "--corpus", good / "text.txt", "--block-length", "8"],
        "4194304 bytes where 6 values",
    )

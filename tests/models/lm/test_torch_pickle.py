"""The torch checkpoint read without torch: formats, strides and byte orders, and pickles that mean
harm.
"""

import io
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from collapse_jax.models.lm.torch_pickle import read_torch_pickle
from collapse_jax.models.lm.weights import load_opt

FIXTURE = Path(__file__).parent / "fixtures" / "opt_tiny"


class Call:
    """Pickles as a call of `function(*args)`."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


def write_checkpoint(path, payload, members=None, byteorder=None):
    """A zip in torch's layout. payload: bytes of data.pkl, or an object to pickle."""
    if not isinstance(payload, bytes):
        payload = pickle.dumps(payload, protocol=2)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", payload)
        if byteorder is not None:
            archive.writestr("archive/byteorder", byteorder)
        for key, value in (members or {}).items():
            archive.writestr(f"archive/data/{key}", value)


def tensor_pickle(storage, numel, offset, shape, strides, key="0"):
    """The data.pkl of {"x": tensor}, spelled in pickle's text opcodes, as no torch may be here to
    write it.
    """

    def ints(values):
        return b"(" + b"".join(b"I%d\n" % value for value in values) + b"t"

    pid = (
        b"(Vstorage\nctorch\n"
        + storage.encode()
        + b"\nV"
        + key.encode()
        + b"\nVcpu\n"
        + b"I%d\ntQ" % numel
    )
    return (
        b"}Vx\nctorch._utils\n_rebuild_tensor_v2\n("
        + pid
        + b"I%d\n" % offset
        + ints(shape)
        + ints(strides)
        + b"I00\n}tRs."
    )


@pytest.mark.parametrize("function", [os.system, eval, os.unlink, getattr, __import__])
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path, function, refused):
    folder, witness = tmp_path, tmp_path / "witness"
    shutil.copy(FIXTURE / "config.json", folder)
    witness.write_text("here")
    args = {
        os.system: (f"rm {witness}",),
        os.unlink: (str(witness),),
        eval: (f"__import__('os').unlink({str(witness)!r})",),
    }
    payload = {"decoder.embed_tokens.weight": Call(function, *args.get(function, ("os", "path")))}
    write_checkpoint(folder / "pytorch_model.bin", payload)
    text = refused(load_opt, folder)
    assert f".{function.__name__}'" in text and "not on the list of names allowed" in text
    assert witness.read_text() == "here"


@pytest.mark.parametrize(
    "payload",
    [
        b"ctorch\nFloatStorage\n(I3\ntR.",  # a storage class called
        b"ctorch\nFloatStorage\n}Vname\nVx\nsb.",  # and its state set
        # Attributes set on the function that rebuilds.
        b"ctorch._utils\n_rebuild_tensor_v2\n(N}V__call__\nNstb.",
        b"cos\nsystem\n(Vtrue\ntR.",
        b"cnumpy._core.multiarray\n_reconstruct\n.",
        b"ctorch._utils\n_rebuild_tensor_v3\n.",
        b"(Vstorage\nN\nV0\nVcpu\nI3\ntQ.",
        b"I3\n.",
        b"}Vx\nI3\ns.",
        b"}I3\nI3\ns.",
        b"\x80\x02",
        b"",
        tensor_pickle("FloatStorage", 6, 0, (2, 3), (3, 2)),  # past the end
        tensor_pickle("FloatStorage", 6, 7, (0,), (1,)),
        tensor_pickle("FloatStorage", 6, -1, (2,), (1,)),
        tensor_pickle("FloatStorage", 6, 0, (2,), (-1,)),
        tensor_pickle("FloatStorage", 6, 0, (2, 3), (3,)),
        tensor_pickle("FloatStorage", 7, 0, (2, 3), (3, 1)),
        tensor_pickle("FloatStorage", 6, 0, (1 << 62, 1 << 62), (0, 0)),
        tensor_pickle("FloatStorage", 6, 0, (2, 3), (3, 1), key="../data.pkl"),
        tensor_pickle("ComplexFloatStorage", 3, 0, (3,), (1,)),
    ],
)
def test_odd_checkpoints_are_refused(tmp_path, payload, refused):
    path = tmp_path / "pytorch_model.bin"
    write_checkpoint(path, payload, {"0": bytes(24)})
    assert str(path) in refused(read_torch_pickle, path)


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize(
    "storage",
    [
        "FloatStorage",
        "HalfStorage",
        "BFloat16Storage",
        "DoubleStorage",
        "LongStorage",
        "BoolStorage",
    ],
)
def test_types_and_byte_orders(tmp_path, order, storage):
    dtype = {
        "Float": np.float32,
        "Half": np.float16,
        "BFloat16": ml_dtypes.bfloat16,
        "Double": np.float64,
        "Long": np.int64,
    }
    values = np.arange(12).astype(dtype.get(storage.removesuffix("Storage"), np.bool_))
    raw = values.view(f"u{values.itemsize}")
    raw = (raw.byteswap() if order == "big" else raw).tobytes()
    write_checkpoint(
        tmp_path / "x.bin", tensor_pickle(storage, 12, 2, (3, 2), (1, 4)), {"0": raw}, order
    )
    array = read_torch_pickle(tmp_path / "x.bin")["x"]
    assert array.dtype == values.dtype
    np.testing.assert_array_equal(array, values[np.array([[2, 6], [3, 7], [4, 8]])])
    assert not array.flags.writeable


def test_other_formats_are_named(tmp_path, refused):
    path = tmp_path / "old.bin"
    path.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2))
    assert "before torch 1.6" in refused(read_torch_pickle, path)
    path.write_bytes(b"\x00" * 600)
    assert "not a torch checkpoint" in refused(read_torch_pickle, path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme", "x")
    assert "0 files named data.pkl" in refused(read_torch_pickle, path)
    write_checkpoint(path, {}, byteorder="middle")
    assert "byte order" in refused(read_torch_pickle, path)
    assert "No such file" in refused(read_torch_pickle, tmp_path / "missing.bin")


def test_against_torch(tmp_path, refused):
    torch = pytest.importorskip("torch")
    base = torch.arange(60, dtype=torch.float32).reshape(3, 4, 5)
    state = {
        "whole": base,
        "swapped": base.transpose(0, 2),
        "part": base[1:, ::2, 3],
        "spread": base[0, 0, :1].expand(7),
        "empty": base[:0],
        "scalar": torch.tensor(2.5),
        "half": base.half(),
        "brain": base[0].bfloat16().T,
        "long": base.long(),
        "flag": base > 7,
        "parameter": torch.nn.Parameter(base[2].T),
    }
    torch.save(state, tmp_path / "x.bin")
    ours = read_torch_pickle(tmp_path / "x.bin")
    assert ours.keys() == state.keys()
    for name, tensor in state.items():
        assert ours[name].shape == tuple(tensor.shape) and ours[name].dtype.name == str(
            tensor.dtype
        ).removeprefix("torch.")
        np.testing.assert_array_equal(
            ours[name].astype(np.float64), tensor.detach().double().numpy(), err_msg=name
        )
    assert np.shares_memory(ours["whole"], ours["swapped"])
    torch.save(state, tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    assert "before torch 1.6" in refused(read_torch_pickle, tmp_path / "old.bin")
    buffer = io.BytesIO()
    torch.save(torch.nn.Linear(2, 2), buffer)
    (tmp_path / "module.bin").write_bytes(buffer.getvalue())
    assert "torch.nn.modules.linear.Linear" in refused(read_torch_pickle, tmp_path / "module.bin")

"""Images from IDX files, packed or not, from the hub, and the digits."""

import gzip
import hashlib
import struct
import sys
import types

import numpy as np
import pytest

from collapse_jax.errors import InputError
from collapse_jax.models.vae.images import load_images

RNG = np.random.default_rng(0)
TRAIN, TEST = (RNG.integers(0, 256, (n, 3, 5), np.uint8) for n in (4, 2))


def write(folder, train=TRAIN, packed=True, magic=0x803):
    for name, x in (("train", train), ("t10k", TEST)):
        data = struct.pack(">IIII", magic, *x.shape) + x.tobytes()
        (folder / f"{name}-images-idx3-ubyte{'.gz' if packed else ''}").write_bytes(
            gzip.compress(data) if packed else data
        )
    return str(folder)


@pytest.mark.parametrize("packed", [True, False])
def test_idx_files(tmp_path, packed):
    images = load_images(write(tmp_path, packed=packed))
    np.testing.assert_allclose(images.train, TRAIN / 255, atol=1e-7)
    np.testing.assert_allclose(images.test, TEST / 255, atol=1e-7)
    assert images.train.dtype == np.float32


def test_what_is_not_right_is_one_line(tmp_path):
    with pytest.raises(InputError, match="holds neither train-images-idx3-ubyte nor"):
        load_images(str(tmp_path))
    with pytest.raises(InputError, match="there is no such folder"):
        load_images(str(tmp_path / "nowhere"))
    write(tmp_path, magic=0x801)
    with pytest.raises(InputError, match="not an IDX file of images"):
        load_images(str(tmp_path))
    file = tmp_path / "train-images-idx3-ubyte.gz"
    file.write_bytes(gzip.compress(struct.pack(">IIII", 0x803, 4, 3, 5) + b"short"))
    with pytest.raises(InputError, match="5 bytes of pixels, but its header states 4 x 3 x 5"):
        load_images(str(tmp_path))
    file.write_bytes(b"not packed")
    with pytest.raises(InputError, match="cannot be read"):
        load_images(str(tmp_path))


def test_two_copies_must_be_one(tmp_path):
    write(tmp_path, packed=True)
    write(tmp_path, packed=False)
    np.testing.assert_allclose(load_images(str(tmp_path)).train, TRAIN / 255, atol=1e-7)
    write(tmp_path, train=255 - TRAIN, packed=True)
    with pytest.raises(InputError, match="both train-images-idx3-ubyte and train-images-idx3-ub"):
        load_images(str(tmp_path))


@pytest.mark.parametrize(
    ("train", "says"),
    [
        (TEST, "its test images are its training images"),
        (np.zeros((0, 3, 5), np.uint8), "both must have images"),
        (np.zeros((4, 5, 3), np.uint8), "of the same height and width"),
    ],
)
def test_training_and_test_images_that_do_not_go_together(tmp_path, train, says):
    with pytest.raises(InputError, match=says):
        load_images(write(tmp_path, train))


def test_a_damaged_packing_is_one_line(tmp_path):
    write(tmp_path)
    file = tmp_path / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:12] + b"\xff" * 30)
    with pytest.raises(InputError, match="cannot be read"):
        load_images(str(tmp_path))


def test_the_hub(monkeypatch):
    """Stands in for the client, which has no network here."""

    class Picture:
        def __init__(self, x):
            self.x = x

        def convert(self, mode):
            assert mode == "L"
            return self.x

    class Split(dict):
        column_names = ("image", "label")

    def load_dataset(name):
        if name != "ylecun/mnist":
            raise FileNotFoundError(f"no {name}\nmore lines")
        return {
            "train": Split(image=[Picture(x) for x in TRAIN]),
            "test": Split(image=[Picture(x) for x in TEST]),
        }

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    np.testing.assert_allclose(load_images("ylecun/mnist").train, TRAIN / 255, atol=1e-7)
    with pytest.raises(InputError, match=r"the hub does not give it: no other/name$"):
        load_images("other/name")


def test_digits():
    """scikit-learn's own, 1,797 of them, 16 grey levels."""
    from sklearn.datasets import load_digits

    images = load_images("digits")
    assert images.train.shape == (1500, 8, 8) and images.test.shape == (297, 8, 8)
    np.testing.assert_array_equal(np.concatenate(images) * 16, load_digits().images)


def test_mnist(shared):
    """The unpacked training file has the published SHA-256; its header is 16 bytes."""
    if not (shared / "mnist").is_dir():
        pytest.skip("needs shared/data/mnist")
    images = load_images(str(shared / "mnist"))
    assert images.train.shape == (60_000, 28, 28) and images.test.shape == (10_000, 28, 28)
    data = (
        struct.pack(">IIII", 0x803, *images.train.shape)
        + np.rint(images.train * 255).astype(np.uint8).tobytes()
    )
    assert (
        hashlib.sha256(data).hexdigest()
        == "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
    )

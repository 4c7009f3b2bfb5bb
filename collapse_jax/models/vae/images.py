"""Grey images in [0, 1]: MNIST from a local folder or the hub, or scikit-learn's small digits."""

import gzip
import pathlib
import struct
import zlib
from typing import Any, NamedTuple

import numpy as np

from collapse_jax.errors import InputError, first_line

# The header of an IDX file of unsigned bytes in three dimensions.
_MAGIC = 0x00000803
_FILES = {"train": "train-images-idx3-ubyte", "test": "t10k-images-idx3-ubyte"}
# Of the 1,797 images of `load_digits` the last ones are held out.
_DIGITS_HELD_OUT = 297


class Images(NamedTuple):
    """train, test: float32 [n, height, width] in [0, 1], not binarised."""

    train: np.ndarray
    test: np.ndarray


def load_images(name: str = "digits") -> Images:
    """Images by name.

    Args:
        name: "digits" (scikit-learn's 8x8 handwritten digits, 1,500 to train on and 297 held out;
            needs no network), a folder with MNIST's IDX files (.gz or not), or a data set of the
            hub.

    Raises:
        InputError: If the folder lacks a file or contains two that differ, a file is not an IDX
            file of images, training and test images have different sizes or are the same, the hub
            does not provide the data set, or scikit-learn is missing.
    """
    if name == "digits":
        return _digits()
    folder = pathlib.Path(name).expanduser()
    if folder.is_dir():
        parts = (_read_split(folder, _FILES[split]) for split in Images._fields)
        return _checked(Images(*parts), name)
    if folder.is_absolute() or name.startswith((".", "~")):
        raise InputError(f"images is {name!r}; there is no such folder")
    return _from_hub(name)


def _digits():
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise InputError(
            "images 'digits' come with scikit-learn, which is not installed; install the "
            "extra 'toys'"
        ) from None
    digits: Any = load_digits()
    x = (digits.images / 16).astype(np.float32)
    return Images(x[:-_DIGITS_HELD_OUT], x[-_DIGITS_HELD_OUT:])


def _read_split(folder, stem):
    """The images of a file or of its packed copy; of both, if they are the same."""
    paths = [path for path in (folder / stem, folder / f"{stem}.gz") if path.is_file()]
    if not paths:
        raise InputError(f"{folder} holds neither {stem} nor {stem}.gz")
    images = _read_idx(paths[0])
    if len(paths) > 1 and not np.array_equal(images, _read_idx(paths[1])):
        raise InputError(
            f"{folder} holds both {stem} and {stem}.gz, which are not the same images; keep one"
        )
    return images


def _checked(images, name):
    sizes = [part.shape[1:] for part in images]
    if sizes[0] != sizes[1] or not all(map(np.size, images)):
        raise InputError(
            f"images is {name!r}; its training images have shape {images.train.shape} and those of "
            f"the test {images.test.shape}; both must have images of the same height and width"
        )
    if np.array_equal(images.train, images.test):
        raise InputError(f"images is {name!r}; its test images are its training images")
    return images


def _read_idx(path):
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    if len(data) < 16 or struct.unpack(">I", data[:4])[0] != _MAGIC:
        raise InputError(
            f"{path} is not an IDX file of images: it must begin with the number {_MAGIC:#010x}"
        )
    shape = struct.unpack(">III", data[4:16])
    if len(data) != 16 + np.prod(shape, dtype=np.int64):
        raise InputError(
            f"{path} has {len(data) - 16} bytes of pixels, but its header states "
            f"{' x '.join(map(str, shape))}"
        )
    return np.frombuffer(data, np.uint8, offset=16).reshape(shape).astype(np.float32) / 255


def _from_hub(name):
    import datasets

    try:
        splits: Any = datasets.load_dataset(name)
    except Exception as error:  # the hub client raises many kinds
        raise InputError(
            f"images is {name!r}, neither 'digits' nor a folder, and the hub does not give "
            f"it: {first_line(error)}"
        ) from None
    for split in Images._fields:
        if split not in splits or "image" not in splits[split].column_names:
            raise InputError(
                f"images is {name!r}; a data set of the hub must have a column 'image' in "
                f"its split {split!r}"
            )
    try:
        images = Images(*(_grey(splits[split]["image"]) for split in Images._fields))
    except ValueError as error:  # of several sizes
        raise InputError(f"images is {name!r}: {first_line(error)}") from None
    return _checked(images, name)


def _grey(images):
    return np.stack([np.asarray(image.convert("L"), np.float32) / 255 for image in images])

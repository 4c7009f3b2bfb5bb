"""Finds the training, validation and test files of a folder by whole words in their names."""

import pathlib
import re
from collections.abc import Iterable
from typing import NamedTuple

from collapse_jax.errors import InputError
from collapse_jax.models.lm.notice import listed
from collapse_jax.models.lm.text_files import SUFFIXES, kind_of, packing_of

# The words of a name that make it a file of a split.
WORDS = {
    "train": ("train", "training"),
    "valid": ("valid", "validation", "val", "dev"),
    "test": ("test", "testing"),
}
# Names, without suffixes, of files that tell of a text and are none of it.
_ABOUT = ("readme", "license", "licence", "copying", "notice")
_SHARD = re.compile(r"(?P<head>.*?)(?P<number>\d+)[-_]of[-_](?P<count>\d+)(?P<rest>.*)")


class Found(NamedTuple):
    """The files of a folder.

    files: the text files of each split that has any, in the order in which they are read.
    left_out: everything else that is not hidden.
    """

    files: dict[str, list[pathlib.Path]]
    left_out: list[pathlib.Path]


def find_splits(folder: pathlib.Path) -> Found:
    """Returns the text files of a folder by split.

    A file belongs to the split whose word its name contains as a whole word, in upper or lower
    case: no letter may precede or follow the word. The same applies to every text file in a
    sub-folder with such a name. Several files of a split must be its shards: their names differ in
    one running number that starts at 0 or 1, or they are a complete set of "K-of-N" names. A file
    with the word "raw" is left out if its split has one without.

    Raises:
        InputError: If a name contains the words of two splits, a split has several files that are
            not shards, or the folder cannot be read.
    """
    found: dict[str, list[pathlib.Path]] = {}
    left_out = []
    for path in entries_of(folder):
        holds_text = any(map(is_text, entries_of(path))) if path.is_dir() else is_text(path)
        split = split_of(folder, path) if holds_text else None
        if split is None:
            left_out.append(path)
        else:
            found.setdefault(split, []).append(path)
    files = {}
    for split, paths in found.items():
        plain = [path for path in paths if "raw" not in _words(path.name)]
        if plain:
            left_out += [path for path in paths if path not in plain]
        files[split] = _files_of(folder, split, plain or paths, left_out)
    return Found(files, sorted(left_out))


def text_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """All text files of a folder that are not hidden and not about the text, by name.

    Raises:
        InputError: If two differ only in their compression, or the folder cannot be read.
    """
    files = [path for path in entries_of(folder) if is_text(path)]
    _refuse_twice(folder, files)
    return files


def entries_of(folder: pathlib.Path) -> list[pathlib.Path]:
    """What lies in a folder and is not hidden, by name.

    Raises:
        InputError: If it cannot be read, or a text file in it is a link to nothing.
    """
    try:
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise InputError(f"corpus folder {folder} cannot be read: {error.strerror}") from None
    for path in entries:
        if kind_of(path.name) in SUFFIXES and not path.exists():
            raise InputError(f"corpus file {path} is a link to a file that does not exist")
    return entries


def is_text(path: pathlib.Path) -> bool:
    """Whether a name is that of a text file, and not of one about the text such as README.txt."""
    return path.is_file() and kind_of(path.name) in SUFFIXES and _stem(path) not in _ABOUT


def split_of(folder: pathlib.Path, path: pathlib.Path) -> str | None:
    """The split that the name of a file or sub-folder names by a whole word, or None.

    Raises:
        InputError: If it names two.
    """
    words = _words(_stem(path) if path.is_file() else path.name)
    splits = [split for split, names in WORDS.items() if words & set(names)]
    if len(splits) > 1:
        raise InputError(
            f"corpus folder {folder}: {path.name!r} names {' and '.join(splits)}; a file or folder "
            "must name one split, so rename it or move it away"
        )
    return splits[0] if splits else None


def named(paths: Iterable[pathlib.Path], folder: pathlib.Path) -> str:
    """Paths below a folder for a line of text, only the first ones if there are many."""
    return listed(
        [path.relative_to(folder).as_posix() + "/" * path.is_dir() for path in paths], most=6
    )


def _files_of(folder, split, paths, left_out):
    """The files that a split is read from; those of its sub-folder, if that is what it has."""
    if len(paths) == 1 and paths[0].is_dir():
        inner = entries_of(paths[0])
        files = [path for path in inner if is_text(path)]
        left_out += [path for path in inner if not is_text(path)]
        others = [path for path in files if split_of(paths[0], path) not in (None, split)]
        if others:
            raise InputError(
                f"corpus folder {folder}: {named(others, folder)} names another split than its "
                "folder; rename it or move it away"
            )
        _refuse_twice(folder, files)
        return sorted(files, key=_natural)
    if len(paths) > 1 and not _are_shards(paths):
        raise InputError(
            f"corpus folder {folder} has {len(paths)} entries for its {split} split: "
            f"{named(paths, folder)}; keep one, or number shards from 1 on "
            f"({split}-1.txt, {split}-2.txt)"
        )
    _refuse_missing_shards(folder, paths)
    return sorted(paths, key=_natural)


def _are_shards(paths):
    """Whether several files differ in one running number, or in that of K-of-N and what follows."""
    if any(path.is_dir() for path in paths):
        return False
    counted = [_SHARD.fullmatch(path.name) for path in paths]
    if all(counted):
        kinds = {
            (match["head"], match["count"], kind_of(path.name), packing_of(path.name))
            for match, path in zip(counted, paths, strict=True)
            if match
        }
        return len(kinds) == 1
    pieces = [re.split(r"(\d+)", path.name.lower()) for path in paths]
    if len({tuple(each[::2]) for each in pieces}) > 1:
        return False
    varying = [place for place, each in enumerate(zip(*pieces, strict=True)) if len(set(each)) > 1]
    if len(varying) != 1:
        return False
    numbers = sorted(int(each[varying[0]]) for each in pieces)
    is_version = re.search(r"(?<![^\W\d_])v$", pieces[0][varying[0] - 1])
    return not is_version and numbers in (
        list(range(len(paths))),
        list(range(1, len(paths) + 1)),
    )


def _refuse_missing_shards(folder, paths):
    counted = [match for path in paths if (match := _SHARD.fullmatch(path.name))]
    if not counted:
        return
    count, numbers = int(counted[0]["count"]), {int(match["number"]) for match in counted}
    if len(numbers) != count or len(counted) != count:
        raise InputError(
            f"corpus folder {folder} has {len(paths)} of {count} shards: {named(paths, folder)}; "
            "fetch the others, or rename what is there"
        )


def _refuse_twice(folder, files):
    """Refuses train.txt beside train.txt.xz: both would be read, or one of two texts."""
    by_name: dict[str, list[pathlib.Path]] = {}
    for path in files:
        name = path.name[: len(path.name) - len(packing_of(path.name))].lower()
        by_name.setdefault(name, []).append(path)
    for paths in by_name.values():
        if len(paths) > 1:
            raise InputError(
                f"corpus folder {folder} has {named(paths, folder)}, one text twice by their "
                "names; keep one"
            )


def _stem(path):
    """A file's name in lower case, without packing and kind."""
    name = path.name[: len(path.name) - len(packing_of(path.name))].lower()
    return name.removesuffix(kind_of(name))


def _words(name):
    """The runs of letters of a name; all else parts them."""
    letters = (character if character.isalpha() else " " for character in name.lower())
    return set("".join(letters).split())


def _natural(path):
    """Sorts by name with its numbers by size: part 2 before part 10."""
    pieces = re.split(r"(\d+)", path.name.lower())
    return [int(piece) if place % 2 else piece for place, piece in enumerate(pieces)], path.name

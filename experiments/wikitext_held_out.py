"""Raw WikiText-2 for a machine without a hub: three splits from the two available raw files.

    python experiments/wikitext_held_out.py [--folder FOLDER]

In ../shared/data/wikitext-2 only the validation and the test split are raw; in the training split
rare words are `<unk>`. So here three of every four articles of the raw validation split are the
training text, the remaining ones are the validation text (to choose the best epoch), and the test
text is the raw test split. No article is in two splits. Writes train.txt, valid.txt and test.txt.
"""

import lzma
import pathlib
import re

from collapse_jax.app.script import run_script
from collapse_jax.errors import InputError

WIKITEXT = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data" / "wikitext-2"
# The line of an article's title; those of its sections have more than one =.
_TITLE = re.compile(r" = [^=\n]+ = \n")
# One article out of so many is validation text.
_EVERY = 4


def articles(text: str) -> list[str]:
    """The articles of a raw WikiText, which together are the text; a title begins each."""
    rows = text.splitlines(keepends=True)
    starts = [i for i, row in enumerate(rows) if _TITLE.fullmatch(row)]
    ends = [*starts[1:], len(rows)]
    first = "".join(rows[: starts[0]])
    made = ["".join(rows[start:end]) for start, end in zip(starts, ends, strict=True)]
    return [first + made[0], *made[1:]]


def write(folder: str | pathlib.Path) -> pathlib.Path:
    """The folder with the three files, which are written unless they are there.

    Raises:
        InputError: If the raw files are not beside the repository.
    """
    folder = pathlib.Path(folder)
    splits = dict.fromkeys(("train", "valid", "test"), "")
    raw = {name: WIKITEXT / f"wiki.{name}.raw.xz" for name in ("valid", "test")}
    for path in raw.values():
        if not path.exists():
            raise InputError(
                f"{path} is not there; give --corpus, a folder with train, valid, test"
            )
    made = articles(_read(raw["valid"]))
    for number, article in enumerate(made):
        splits["valid" if number % _EVERY == _EVERY - 1 else "train"] += article
    splits["test"] = _read(raw["test"])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in splits.items():
        path = folder / f"{name}.txt"
        if not path.exists():
            path.write_text(text, encoding="utf-8", newline="")
    return folder


def _read(path):
    return lzma.open(path, "rt", encoding="utf-8", newline="").read()


def main(folder: str = "runs/wikitext-2-held-out") -> None:
    """Writes the three files and says where they are."""
    print(write(folder))


if __name__ == "__main__":
    run_script(main, __doc__)

"""The text that comes with Python, and the type of every corpus: rows by split."""

import re
from typing import NamedTuple


class Corpus(NamedTuple):
    """Rows of text by split; a blank row is "", any other ends as it did in its file."""

    train: list[str]
    valid: list[str]
    test: list[str]


def embedded_corpus() -> Corpus:
    """The reference text in every CPython (`pydoc_data.topics`), one paragraph per row.

    One topic in 10 is for validation, and one for the test. Topics quote each other: in Python 3.11
    three quarters of the test's long paragraphs also occur in the training text. Use it for trying
    things out; its held-out perplexities mean little.
    """
    from pydoc_data.topics import topics

    splits = {"train": [], "valid": [], "test": []}
    for index, name in enumerate(sorted(topics)):
        split = {3: "valid", 7: "test"}.get(index % 10, "train")
        paragraphs = re.split(r"\n\s*\n", topics[name])
        splits[split] += [
            re.sub(r"\s+", " ", paragraph).strip() + "\n"
            for paragraph in paragraphs
            if paragraph.strip()
        ]
    return Corpus(**splits)

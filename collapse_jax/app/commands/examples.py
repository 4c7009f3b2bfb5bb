"""Continuations of the same prompts by every generation (Shumailov et al. 2024, Example 1)."""

import json
from collections.abc import Collection

import numpy as np

from collapse_jax.app.written import json_line, markdown_cell
from collapse_jax.errors import InputError
from collapse_jax.models.lm.corpus import TextTokenizer
from collapse_jax.runs.folder import RunFolder


def example_prompts(test_blocks: np.ndarray, count: int) -> np.ndarray:
    """At most `count` blocks of the real test text [N, length], evenly spaced from its first."""
    count = min(count, len(test_blocks))
    return test_blocks[np.arange(count) * len(test_blocks) // max(count, 1)]


def write_examples(
    folder: RunFolder,
    tokenizer: TextTokenizer,
    seed: int,
    generation: int,
    prompts: np.ndarray,
    continuations: np.ndarray,
) -> None:
    """Writes a generation's continuations of the prompts [P, length] to the file of its seed.

    The file has one line per generation and prompt, in order.
    """
    name = _name(seed)
    written = [
        {
            "generation": generation,
            "example": index,
            "prompt": tokenizer.decode(prompt),
            "continuation": tokenizer.decode(continuation),
        }
        for index, (prompt, continuation) in enumerate(zip(prompts, continuations, strict=True))
    ]
    rows = [row for row in _rows(folder, name) if row["generation"] != generation] + written
    rows.sort(key=lambda row: (row["generation"], row["example"]))
    folder.write_text(name, "".join(map(json_line, rows)))


def example_table(
    folder: RunFolder, seed: int = 0, generations: Collection[int] | None = None
) -> str:
    """Returns Markdown: for each prompt of a run, a table of its continuations by generation.

    generations: those to show; by default all.

    Raises:
        InputError: If the run has no examples of that seed or of those generations.
    """
    name = _name(seed)
    rows = [
        row
        for row in _rows(folder, name)
        if generations is None or row["generation"] in generations
    ]
    if not rows:
        which = "" if generations is None else f" of generations {', '.join(map(str, generations))}"
        raise InputError(
            f"{folder.path} contains no examples{which} in {name}; run it with --examples above 0"
        )
    parts = []
    for example in sorted({row["example"] for row in rows}):
        of_prompt = [row for row in rows if row["example"] == example]
        lines = [
            f"Input: {markdown_cell(of_prompt[0]['prompt'])}",
            "",
            "| generation | continuation |",
            "|---|---|",
        ]
        lines += [
            f"| {row['generation']} | {markdown_cell(row['continuation'])} |" for row in of_prompt
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _name(seed):
    return f"samples/examples_seed_{seed}.jsonl"


def _rows(folder, name):
    path = folder.path / name
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]

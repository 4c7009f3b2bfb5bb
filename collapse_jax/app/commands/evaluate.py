"""`collapse-jax evaluate`: scores of another text under the models of a run."""

import functools
import pathlib
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from collapse_jax.app.commands.lm_table import over_seeds
from collapse_jax.app.commands.other_text import OtherText, in_blocks, in_windows
from collapse_jax.app.config.lm import PERPLEXITY_WORDS
from collapse_jax.app.generations import PRETRAINED, SavedModels
from collapse_jax.errors import InputError
from collapse_jax.runs import strict_json
from collapse_jax.runs.atomic import atomic
from collapse_jax.runs.session import Session

if TYPE_CHECKING:
    from rich.console import Console

_COLUMNS = {
    "perplexity_mean": PERPLEXITY_WORDS["test_perplexity_mean"],
    "perplexity": PERPLEXITY_WORDS["test_perplexity"],
}
_STRIDED = {"perplexity": "exp of the mean loss"}
_BITS = "bits_per_byte"


def evaluate_command(
    console: "Console",
    run: str,
    corpus: str,
    generation: str | tuple[str, ...] = "all",
    seed: int | tuple[int, ...] = (),
    split: str | None = None,
    block_length: int | None = None,
    blocks: int = 0,
    context_length: int | None = None,
    stride: int | None = None,
    text_column: str | None = None,
    model: str | None = None,
    tokenizer: str | None = None,
) -> None:
    """Scores a text with models of a run, and writes the scores to evaluations/ in its folder.

    Scores that exist for the same text in the same blocks or windows are not computed again.

    Args:
        console: Where progress, a table and the file's path are printed.
        run: The run folder; nothing else in it is changed.
        corpus: The text, as lm takes it.
        generation: Numbers, "last" (the newest on disk), "pretrained" or "all".
        seed: Numbers of the seeds; () is all.
        split: Split of the corpus; None is a single file as a whole, else the test text.
        block_length: Tokens of a block; by default the run's.
        blocks: How many of the first blocks to score; 0 is all.
        context_length: Tokens of a sliding window, which replaces the blocks.
        stride: Tokens by which the window moves; by default half of its length.
        text_column: Column of parquet, JSON or a hub data set.
        model: New path of the model that the run started from, if it has been moved.
        tokenizer: New path of the tokenizer, if it has been moved.

    Raises:
        InputError: Before any scoring, if something cannot be read or is incompatible with the run.
    """
    from collapse_jax.app.commands.progress import StageProgress

    _refuse_ignored(block_length, blocks, context_length, stride)
    generations = generation if isinstance(generation, tuple) else (generation,)
    seeds = seed if isinstance(seed, tuple) else (seed,)
    saved = SavedModels(run, model=model, tokenizer=tokenizer)
    wanted = _wanted(saved, generations, seeds)
    with StageProgress(console) as bar:
        source = (corpus, split, saved.tokenizer, saved.model)
        reading = {"say": bar.line, "text_column": text_column}
        if context_length is not None:
            text = in_windows(*source, context_length, stride, **reading)
        else:
            length = block_length or saved.config.block_length
            text = in_blocks(*source, length, blocks, **reading)
        file = _file_of(saved, corpus, text)
        rows = _scored(saved, wanted, text, file, bar)
    rows = [row for row in rows if (row["seed"], row["generation"]) in wanted]
    console.print(_table(rows, text))
    console.print(str(file), highlight=False)


def _refuse_ignored(block_length, blocks, context_length, stride):
    """Raises `InputError` for options that exclude each other."""
    if stride is not None and context_length is None:
        raise InputError(
            f"stride is {stride} without a sliding window; give the length of the window, "
            "--context-length"
        )
    for name, value in (("block_length", block_length), ("blocks", blocks)):
        if context_length is not None and value:
            raise InputError(
                f"{name} is {value} with context_length {context_length}, which has no blocks; "
                "give one of the two"
            )
    if block_length is not None and block_length < 2:
        raise InputError(f"block_length is {block_length}; it must be at least 2")


def _wanted(saved, generations, seeds) -> list[tuple[int | None, int | str]]:
    """(seed, generation) of the models to score, all of which are on disk."""
    every = saved.seeds()
    if not every and generations != (PRETRAINED,):
        raise InputError(f"{saved.folder.path} has no saved parameters of any generation")
    pairs: list = []
    for word in generations:
        if word == PRETRAINED or word == "all":
            pairs.append((None, PRETRAINED))
        elif word != "last" and not word.isdecimal():
            raise InputError(
                f"generation is {word!r}; it must be 'all', 'last', {PRETRAINED!r} or numbers with "
                "commas"
            )
        for seed in () if word == PRETRAINED else seeds or every:
            there = saved.generations(seed)
            numbers = _numbers(word, there)
            for number in numbers:
                saved.refuse_missing(number, seed)
                pairs.append((seed, number))
    return list(dict.fromkeys(pairs))


def _numbers(word, there):
    """Generations that a word stands for; `there` are on disk, and 0 is what is then missing."""
    if word.isdecimal():
        return [int(word)]
    return (there if word == "all" else there[-1:]) or [0]


def _file_of(saved: SavedModels, corpus: str, text: OtherText) -> pathlib.Path:
    """The file of the scores; its name identifies the text and how it is scored."""
    name = re.sub(r"[^\w.-]+", "_", pathlib.Path(corpus).name)[:60]
    return saved.folder.path / "evaluations" / f"{name}-{text.sha256[:12]}.json"


def _scored(saved, wanted, text, file, bar) -> list[dict]:
    """The rows of the file, after the wanted ones that were missing have been added."""
    rows = _read(file)
    try:
        file.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"{file.parent} cannot be written ({error.strerror})") from None
    for seed, generation in wanted:
        if any((row["seed"], row["generation"]) == (seed, generation) for row in rows):
            continue
        params = saved.params(generation, seed or 0)
        of = generation if seed is None else f"seed {seed} generation {generation}"
        session = Session(progress=functools.partial(_shown, bar, of))
        row = {"seed": seed, "generation": generation}
        rows.append(row | text.scores(text.losses(saved.model, params, session)))
        rows.sort(key=_place)
        _write(file, saved, text, rows)
    return rows


def _shown(bar, of, stage, done, total):
    bar.stage(f"{of}: {stage}", done, total)


def _place(row):
    return (-1, -1) if row["generation"] == PRETRAINED else (row["seed"], row["generation"])


def _read(file) -> list[dict]:
    """The rows of an earlier call; a damaged file is written again."""
    try:
        rows = strict_json.loads(file.read_text(encoding="utf-8"))["rows"]
        [(row["seed"], row["generation"], row["loss"]) for row in rows]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []
    return rows


def _write(file, saved, text, rows):
    values = {
        "corpus": text.name,
        "scored": text.words,
        "tokens": text.tokens,
        "bytes": text.bytes,
        "sha256": text.sha256,
        "model": saved.config.model,
        "tokenizer": saved.tokenizer.name,
        "rows": rows,
    }
    with atomic(file) as temporary:
        temporary.write_text(strict_json.dumps(values, indent=1) + "\n", encoding="utf-8")


def _table(rows: Iterable[dict], text: OtherText) -> Any:
    """A rich table by generation, means over seeds ± their standard deviation."""
    from rich.table import Column, Table

    columns = _COLUMNS if text.per_block else _STRIDED
    headers = ("generation", "seeds", *(f"perplexity, {words}" for words in columns.values()))
    table = Table(
        *(Column(name, overflow="fold", min_width=10) for name in (*headers, "bits per byte")),
        title=f"{text.name}: {text.words}",
        title_justify="left",
        show_edge=False,
        pad_edge=False,
    )
    groups: dict[Any, list[dict]] = {}
    for row in rows:
        groups.setdefault(row["generation"], []).append(row)
    for generation, group in groups.items():
        count = "" if generation == PRETRAINED else str(len(group))
        values = (over_seeds(group, name) for name in columns)
        table.add_row(str(generation), count, *values, over_seeds(group, _BITS, digits=4))
    return table

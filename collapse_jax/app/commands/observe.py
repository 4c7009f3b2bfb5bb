"""What is measured of each generation of a language model, and the texts that are written of it."""

import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from collapse_jax.app.commands.examples import write_examples
from collapse_jax.app.commands.origins import words
from collapse_jax.app.written import json_line
from collapse_jax.core import points
from collapse_jax.core.types import State, StepInfo
from collapse_jax.errors import DivergenceError
from collapse_jax.metrics.text import has_sacrebleu, real_quantiles, tail_shares, text_metrics
from collapse_jax.models.lm.bounded import no_panics
from collapse_jax.models.lm.corpus import TextTokenizer
from collapse_jax.models.lm.decode import Decoder, generate
from collapse_jax.models.lm.score import mean_loss
from collapse_jax.models.lm.transformer import Transformer
from collapse_jax.runs.folder import RunFolder
from collapse_jax.runs.session import Session

# Observed arrays that are written as texts, and stay out of results.nc.
PUBLISHED_ONLY = ("tokens", "origins", "example_tokens")


@dataclasses.dataclass(frozen=True)
class Observer:
    """What `run` observes: perplexities, tails and variety of the training set, continuations.

    train_perplexity_first and train_perplexity_own are those of each sequence of the training set,
    under the model of generation 0 and under that of its own generation. See `tail_shares` and
    `text_metrics` for shares beyond quantiles and for the variety. Where a training set holds older
    or real blocks too, newest_NAME is the same of those that the newest model wrote.

    pretrained: parameters before any fit.
    blocks: the real ones: fields train, valid, test, each int [N, length].
    prompts: int [P, length], continued by every generation; P may be 0.
    key: of the continuations of every generation: under sampling they differ by the models alone.
    session: devices and progress (stage "score").
    origins: generation -> int [N] of its training set, as `Origins.of`; () where nobody asks.
    mixed: whether a training set may hold more than what the newest model wrote.
    """

    model: Transformer
    pretrained: dict
    blocks: Any
    prompts: np.ndarray
    decoder: Decoder
    key: jax.Array
    session: Session
    origins: Callable[[int], np.ndarray] = lambda generation: np.zeros(0, np.int32)
    mixed: bool = False

    def __call__(self, first: State, state: State, info: StepInfo) -> dict[str, Any]:
        """Named scalars and arrays of a generation; `first` is generation 0 of its chain."""
        tokens = points.filled(info.data)
        first_params, params = first.params.model, state.params.model
        under_first = np.exp(self._losses(first_params, tokens))
        under_own = under_first
        if params is not first_params:
            under_own = np.exp(self._losses(params, tokens))
        test = self._losses(params, self.blocks.test)
        observed = {
            "test_perplexity": np.exp(test.mean()),
            "test_perplexity_mean": np.exp(test).mean(),
            "valid_loss": info.fit.loss,
            "best_epoch": info.fit.detail["best_epoch"],
        }
        observed |= _averages("train_perplexity_first", under_first)
        observed |= _averages("train_perplexity_own", under_own)
        observed |= tail_shares(under_first, self._real_quantiles(first_params))
        observed |= text_metrics(tokens)
        generation = int(state.generation)
        origins = self.origins(generation)
        newest = origins == generation - 1
        if self.mixed and generation > 0 and newest.any():
            apart = _averages("train_perplexity_first", under_first[newest])
            apart |= _averages("train_perplexity_own", under_own[newest])
            apart |= tail_shares(under_first[newest], self._real_quantiles(first_params))
            apart |= text_metrics(tokens[newest])
            observed |= {f"newest_{name}": value for name, value in apart.items()}
        if generation == 0:
            before = self._losses(self.pretrained, self.blocks.test)
            observed["pretrained_test_perplexity"] = np.exp(before.mean())
            observed["pretrained_test_perplexity_mean"] = np.exp(before).mean()
        for name in ("train_loss", "valid_loss"):
            observed[f"{name}_by_epoch"] = info.fit.detail[name]
        observed |= {"train_perplexity_first": under_first, "train_perplexity_own": under_own}
        observed |= {"tokens": tokens.astype(np.int32), "origins": origins}
        if len(self.prompts):
            options = {"key": self.key, "session": self.session.devices_only()}
            # Blocks are text throughout, even one that begins with the token for padding.
            options["attention_mask"] = np.ones(self.prompts.shape, bool)
            length = self.prompts.shape[1]
            observed["example_tokens"] = generate(
                self.model, params, self.prompts, self.decoder, length, **options
            )
        return observed

    def _losses(self, params, tokens):
        session = Session(self.session.placement, progress=self.session.progress)
        losses = mean_loss(self.model, params, tokens, session=session)
        odd = ~np.isfinite(losses)
        if odd.any():
            raise DivergenceError(
                f"the loss of {odd.sum()} of {len(losses)} sequences is {losses[odd][0]} under a "
                "fitted model; try a smaller learning rate"
            )
        return losses

    @functools.cached_property
    def _real_quantiles(self):
        return _remembered(
            lambda params: real_quantiles(np.exp(self._losses(params, self.blocks.train)))
        )


def _averages(name, values):
    return {f"{name}_median": np.median(values), f"{name}_mean": values.mean()}


def publisher(
    folder: RunFolder, tokenizer: TextTokenizer, prompts: np.ndarray
) -> Callable[[int, int, dict], None]:
    """publish(chain, generation, arrays) for `run`: writes the training set and the examples.

    prompts: int [P, length], those of the examples.
    """

    def publish(chain, generation, arrays):
        # Runs of older versions have no origins or no ids, and go on as they began.
        first = _first_sample(folder, chain)
        origins = arrays.get("origins", ()) if "origin" in first else ()
        with_ids = "tokens" in first
        write_samples(folder, tokenizer, chain, generation, arrays["tokens"], origins, with_ids)
        if "example_tokens" in arrays:  # runs begun without examples have none
            write_examples(folder, tokenizer, chain, generation, prompts, arrays["example_tokens"])

    return publish


def write_samples(
    folder: RunFolder,
    tokenizer: TextTokenizer,
    chain: int,
    generation: int,
    tokens: np.ndarray,
    origins: Sequence[int] | np.ndarray = (),
    with_ids: bool = True,
) -> None:
    """Writes the text of a training set [N, length], one block per line, its ids, and who wrote it.

    origins: int [N], as `Origins.of`; () writes none.
    """
    with no_panics(tokenizer.name):
        rows: list[dict[str, Any]] = [{"text": tokenizer.decode(block)} for block in tokens]
    for row, block in zip(rows if with_ids else (), tokens, strict=False):
        row["tokens"] = np.asarray(block).tolist()
    for row, origin in zip(rows, origins, strict=False):
        row["origin"] = words(int(origin))
    folder.write_text(_samples_name(chain, generation), "".join(map(json_line, rows)))


def _samples_name(chain, generation):
    return f"samples/seed_{chain}_generation_{generation}.jsonl"


def _first_sample(folder, chain):
    """The first sample of generation 0; of a run that has none yet, one as they are now."""
    now = {"text": "", "tokens": [], "origin": ""}
    try:
        with open(folder.path / _samples_name(chain, 0), encoding="utf-8") as lines:
            first = json.loads(lines.readline())
    except (FileNotFoundError, ValueError):  # a damaged one is written again with the others
        return now
    return first if isinstance(first, dict) else now


def unmeasured() -> list[str]:
    """A line for each measure that cannot be taken here."""
    if has_sacrebleu():
        return []
    return ["self-BLEU is left out: it needs the package 'sacrebleu' (pip install sacrebleu)"]


def _remembered(function):
    """`function` of one argument, with its newest value kept while the argument is the same object.

    A resumed run passes another object, and so computes the value again from the same numbers.
    """
    held = []

    def call(argument):
        if not held or held[0] is not argument:
            held[:] = [argument, function(argument)]
        return held[1]

    return call

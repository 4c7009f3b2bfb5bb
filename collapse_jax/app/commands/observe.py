"""What is measured of each generation of a language model, and the texts that are written of it."""

import dataclasses
import functools
import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from collapse_jax.app.commands.examples import write_examples
from collapse_jax.core import points
from collapse_jax.core.types import State, StepInfo
from collapse_jax.metrics.text import has_sacrebleu, real_quantiles, tail_shares, text_metrics
from collapse_jax.models.lm.corpus import TextTokenizer
from collapse_jax.models.lm.decode import Decoder, generate
from collapse_jax.models.lm.score import mean_loss
from collapse_jax.models.lm.transformer import Transformer
from collapse_jax.runs.folder import RunFolder
from collapse_jax.runs.session import Session

# Observed arrays that are written as texts, and stay out of results.nc.
PUBLISHED_ONLY = ("tokens", "example_tokens")


@dataclasses.dataclass(frozen=True)
class Observer:
    """What `run` observes: perplexities, tails and variety of the training set, continuations.

    train_perplexity_first and train_perplexity_own are those of each sequence of the training set,
    under the model of generation 0 and under that of its own generation. See `tail_shares` and
    `text_metrics` for shares beyond quantiles and for the variety.

    pretrained: parameters before any fit.
    blocks: the real ones: fields train, valid, test, each int [N, length].
    prompts: int [P, length], continued by every generation; P may be 0.
    key: of the continuations of every generation: under sampling they differ by the models alone.
    session: devices and progress (stage "score").
    """

    model: Transformer
    pretrained: dict
    blocks: Any
    prompts: np.ndarray
    decoder: Decoder
    key: jax.Array
    session: Session

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
        if int(state.generation) == 0:
            before = self._losses(self.pretrained, self.blocks.test)
            observed["pretrained_test_perplexity"] = np.exp(before.mean())
        for name in ("train_loss", "valid_loss"):
            observed[f"{name}_by_epoch"] = info.fit.detail[name]
        observed |= {"train_perplexity_first": under_first, "train_perplexity_own": under_own}
        observed["tokens"] = tokens.astype(np.int32)
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
        return mean_loss(self.model, params, tokens, session=session)

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
        write_samples(folder, tokenizer, chain, generation, arrays["tokens"])
        if "example_tokens" in arrays:  # runs begun without examples have none
            write_examples(folder, tokenizer, chain, generation, prompts, arrays["example_tokens"])

    return publish


def write_samples(
    folder: RunFolder, tokenizer: TextTokenizer, chain: int, generation: int, tokens: np.ndarray
) -> None:
    """Writes the text of a training set [N, length], one block per line."""
    lines = (
        json.dumps({"text": tokenizer.decode(block)}, ensure_ascii=False) + "\n" for block in tokens
    )
    folder.write_text(f"samples/seed_{chain}_generation_{generation}.jsonl", "".join(lines))


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

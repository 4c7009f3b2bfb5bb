"""Measures each generation of a language model, and writes its texts."""

import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from collapse_jax.app.commands import held_out
from collapse_jax.app.commands.examples import write_examples
from collapse_jax.app.commands.held_out import HeldOut, Scores
from collapse_jax.app.commands.origins import NO_BLOCK, REAL, words
from collapse_jax.app.written import json_line
from collapse_jax.core import points
from collapse_jax.core.types import State, StepInfo
from collapse_jax.errors import DivergenceError
from collapse_jax.metrics.embeddings import embedding_diversity, mauve_score
from collapse_jax.metrics.frequencies import frequency_metrics
from collapse_jax.metrics.text import has_sacrebleu, real_quantiles, tail_shares, text_metrics
from collapse_jax.models.lm.bounded import no_panics
from collapse_jax.models.lm.corpus import TextTokenizer
from collapse_jax.models.lm.decode import Decoder, generate
from collapse_jax.models.lm.hidden_states import mean_hidden
from collapse_jax.models.lm.log_probs import strided_log_probs
from collapse_jax.models.lm.score import mean_loss, mean_loss_and_entropy
from collapse_jax.models.lm.transformer import Transformer
from collapse_jax.runs.folder import RunFolder
from collapse_jax.runs.session import Session

# Observed arrays that are written as texts, and stay out of results.nc.
PUBLISHED_ONLY = ("tokens", "origins", "origin_blocks", "origin_lineages", "example_tokens")


@dataclasses.dataclass(frozen=True)
class Observer:
    """The observer of `run`: scores of the test text and the training set, and continuations.

    train_perplexity_first is the perplexity of each sequence of the training set under the model of
    generation 0, and train_perplexity_own under the model fitted to the set. train_entropy_own is
    the mean entropy of the latter's predictions. `tail_shares` defines the shares beyond quantiles,
    `text_metrics` and `frequency_metrics` the measures of diversity, and `held_out` the scores of
    the test text. If a training set also contains older or real blocks, newest_NAME is the same
    measure for the blocks that the newest model wrote.

    pretrained: parameters before any fit.
    blocks: the real blocks: fields train, valid, test, each int [N, length].
    prompts: int [P, length], continued by every generation; P may be 0.
    key: of the continuations, the same in every generation: under sampling they differ only by the
        models.
    session: devices and progress (stage "score").
    origins: generation -> int [N] of its training set, as `Origins.of`; () if not needed.
    mixed: whether a training set may contain more than the text of the newest model.
    new_tokens: number of new tokens per prompt; None is the length of the prompt.
    text: how the test text is scored; by default by block alone.
    extras: more measures of training sets, as in `MeasureSettings`.
    origin_blocks: generation -> int [N], as `Origins.blocks_of`; () if not needed.
    origin_lineages: generation -> int [N], as `Origins.lineages_of_current`; None for one lineage.
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
    new_tokens: int | None = None
    text: HeldOut | None = None
    extras: tuple[str, ...] = ()
    origin_blocks: Callable[[int], np.ndarray] = lambda generation: np.zeros(0, np.int32)
    origin_lineages: Callable[[int], np.ndarray] | None = None

    def __call__(self, first: State, state: State, info: StepInfo) -> dict[str, Any]:
        """Returns scalars and arrays of a generation by name; `first` is generation 0 of the
        chain."""
        tokens = points.filled(info.data)
        first_params, params = first.params.model, state.params.model
        own, entropies = self._scored(params, tokens)
        under_first = under_own = np.exp(own)
        if params is not first_params:
            under_first = np.exp(self._losses(first_params, tokens))
        real_tails = self._real_quantiles(first_params)
        test = self._of_first(params) if params is first_params else self._of_test(params)
        observed: dict[str, Any] = held_out.perplexities(test)
        observed |= {"valid_loss": info.fit.loss, "best_epoch": info.fit.detail["best_epoch"]}
        observed |= _of_sequences(under_first, under_own, real_tails)
        observed |= text_metrics(tokens)
        generation = int(state.generation)
        origins = self.origins(generation)
        newest = origins == generation - 1
        apart = {}
        if self.mixed and generation > 0 and newest.any():
            apart = _of_sequences(under_first[newest], under_own[newest], real_tails)
            apart |= text_metrics(tokens[newest])
            observed |= held_out.prefixed("newest", apart)
        observed["optimiser_steps"] = int(info.fit.iterations)
        observed["gradient_norm"] = float(info.fit.detail["gradient_norm"][-1])
        if generation == 0:
            observed |= held_out.prefixed("pretrained", held_out.perplexities(self._before))
        for name in ("train_loss", "valid_loss"):
            observed[f"{name}_by_epoch"] = info.fit.detail[name]
        observed |= {"train_perplexity_first": under_first, "train_perplexity_own": under_own}
        observed |= self._later_columns(first_params, test, generation == 0)
        observed |= self._of_set(tokens, entropies, newest if apart else None)
        observed |= {"tokens": tokens.astype(np.int32), "origins": origins}
        observed["origin_blocks"] = self.origin_blocks(generation)
        if self.origin_lineages is not None:
            observed["origin_lineages"] = self.origin_lineages(generation)
        return observed | self._examples(params)

    def _later_columns(self, first_params, test, is_first):
        """The measures of the test text that versions up to 0.3.0 did not record."""
        text = self._text
        found = held_out.others(text, test)
        found |= held_out.gain_lost(test, self._of_first(first_params), self._before)
        if is_first:
            found |= held_out.prefixed("pretrained", held_out.others(text, self._before))
        return found

    def _of_set(self, tokens, entropies, newest):
        """Frequencies, entropy and extras of a training set, and of its subset `newest`."""
        states = None
        if self.extras:
            is_real = np.array_equal(tokens, self.blocks.train)
            states = self._real_states if is_real else self._states(tokens)
        found = {"train_entropy_own": float(entropies.mean())}
        found |= frequency_metrics(tokens, self.blocks.train) | self._extras_of(states)
        if newest is not None:
            apart = {"train_entropy_own": float(entropies[newest].mean())}
            apart |= frequency_metrics(tokens[newest], self.blocks.train)
            apart |= self._extras_of(None if states is None else states[newest])
            found |= held_out.prefixed("newest", apart)
        return found

    def _extras_of(self, states):
        """The extras of blocks from their hidden states [N, width]; nothing for a single block."""
        found = {}
        if states is not None and len(states) > 1:
            if "embedding-diversity" in self.extras:
                found["embedding_diversity"] = embedding_diversity(states)
            if "mauve" in self.extras:
                found["mauve"] = mauve_score(states, self._real_states)
        return found

    def _examples(self, params):
        """The model's continuations of the prompts, and the entropy of its predictions."""
        if not len(self.prompts):
            return {}
        options: dict[str, Any] = {"key": self.key, "session": self.session.devices_only()}
        # Blocks are text throughout, even one that begins with the token for padding.
        options["attention_mask"] = np.ones(self.prompts.shape, bool)
        length = self.new_tokens or self.prompts.shape[1]
        written = generate(self.model, params, self.prompts, self.decoder, length, **options)
        whole = np.concatenate([self.prompts, written], axis=1)
        entropies = self._scored(params, whole, first=self.prompts.shape[1])[1]
        return {"example_entropy": float(entropies.mean()), "example_tokens": written}

    @property
    def _text(self):
        return self.text or HeldOut(self.blocks.test)

    @property
    def _scoring(self):
        """The session of all scores, without scratch files and progress stages."""
        return Session(self.session.placement, progress=self.session.progress)

    def _losses(self, params, tokens):
        losses = mean_loss(self.model, params, tokens, session=self._scoring)
        _refuse_odd(losses)
        return losses

    def _scored(self, params, tokens, **options):
        """Losses and entropies of blocks, computed in one forward pass."""
        losses, entropies = mean_loss_and_entropy(
            self.model, params, tokens, session=self._scoring, **options
        )
        _refuse_odd(losses)
        return losses, entropies

    def _of_test(self, params):
        """`Scores` of the test text."""
        text, strided = self._text, None
        losses, entropies = self._scored(params, text.blocks)
        if text.window:
            stream = text.blocks.ravel()
            strided = strided_log_probs(
                self.model, params, stream, *text.window, session=self._scoring
            )
            _refuse_odd(-strided, "tokens")
        return Scores(losses, entropies, strided)

    def _states(self, tokens):
        return mean_hidden(self.model, self.pretrained, tokens, session=self._scoring)

    @functools.cached_property
    def _real_states(self):
        return self._states(self.blocks.train)

    @functools.cached_property
    def _before(self):
        """`Scores` of the test text before any fit, the same for all seeds."""
        return self._of_test(self.pretrained)

    @functools.cached_property
    def _of_first(self):
        """`Scores` of the test text under generation 0, by its parameters."""
        return _remembered(self._of_test)

    @functools.cached_property
    def _real_quantiles(self):
        return _remembered(
            lambda params: real_quantiles(np.exp(self._losses(params, self.blocks.train)))
        )


def _of_sequences(under_first, under_own, real_tails):
    """Averages of the sequences' perplexities, and the shares in the tails of the real text."""
    found = {}
    for name, values in (("first", under_first), ("own", under_own)):
        found[f"train_perplexity_{name}_median"] = np.median(values)
        found[f"train_perplexity_{name}_mean"] = values.mean()
    return found | tail_shares(under_first, real_tails)


def _refuse_odd(losses, what="sequences"):
    """Raises `DivergenceError` if a loss is not finite."""
    odd = ~np.isfinite(losses)
    if odd.any():
        raise DivergenceError(
            f"the loss of {odd.sum()} of {len(losses)} {what} is {losses[odd][0]} under a "
            "fitted model; try a smaller learning rate"
        )


def publisher(
    folder: RunFolder, tokenizer: TextTokenizer, prompts: np.ndarray
) -> Callable[[int, int, dict], None]:
    """publish(chain, generation, arrays) for `run`: writes the training set and the examples.

    prompts: int [P, length], those of the examples.
    """

    def publish(chain, generation, arrays):
        # Runs of older versions have no origins, no blocks or no ids, and go on as they began.
        first = _first_sample(folder, chain)
        origins = arrays.get("origins", ()) if "origin" in first else ()
        numbers = arrays.get("origin_blocks", ()) if "block" in first else ()
        with_ids = "tokens" in first
        write_samples(
            folder,
            tokenizer,
            chain,
            generation,
            arrays["tokens"],
            origins,
            with_ids,
            numbers,
            arrays.get("origin_lineages", ()),
        )
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
    numbers: Sequence[int] | np.ndarray = (),
    lineages: Sequence[int] | np.ndarray = (),
) -> None:
    """Writes the text of a training set [N, length], one block per line, its ids, and its origin.

    origins: int [N], as `Origins.of`; () writes none.
    numbers: int [N], as `Origins.blocks_of`; () writes none.
    lineages: int [N], as `Origins.lineages_of_current`; () writes none.
    """
    with no_panics(tokenizer.name):
        rows: list[dict[str, Any]] = [{"text": tokenizer.decode(block)} for block in tokens]
    for row, block in zip(rows if with_ids else (), tokens, strict=False):
        row["tokens"] = np.asarray(block).tolist()
    for row, origin in zip(rows, origins, strict=False):
        row["origin"] = words(int(origin))
    for row, number in zip(rows, numbers, strict=False):
        row["block"] = None if number == NO_BLOCK else int(number)
    for row, lineage in zip(rows, lineages, strict=False):
        row["lineage"] = None if lineage == REAL else int(lineage)
    folder.write_text(_samples_name(chain, generation), "".join(map(json_line, rows)))


def _samples_name(chain, generation):
    return f"samples/seed_{chain}_generation_{generation}.jsonl"


def _first_sample(folder, chain):
    """The first sample of generation 0; for a run without samples, one in the current format."""
    now = {"text": "", "tokens": [], "origin": "", "block": None}
    try:
        with open(folder.path / _samples_name(chain, 0), encoding="utf-8") as lines:
            first = json.loads(lines.readline())
    except (FileNotFoundError, ValueError):  # a damaged one is written again with the others
        return now
    return first if isinstance(first, dict) else now


def unmeasured() -> list[str]:
    """A line for each measure that cannot be computed here."""
    if has_sacrebleu():
        return []
    return ["self-BLEU is left out: it needs the package 'sacrebleu' (pip install sacrebleu)"]


def _remembered(function):
    """`function` of one argument, which caches the value for the newest argument object.

    A resumed run passes another object, so that the value is computed again from equal numbers.
    """
    held = []

    def call(argument):
        if not held or held[0] is not argument:
            held[:] = [argument, function(argument)]
        return held[1]

    return call

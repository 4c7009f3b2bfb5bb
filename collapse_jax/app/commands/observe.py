"""What is measured of each generation of a language model, and what is written of it besides the
records.
"""

import json

import jax
import numpy as np

from collapse_jax.app.commands.examples import write_examples
from collapse_jax.core import points
from collapse_jax.metrics.text import has_sacrebleu, real_quantiles, tail_shares, text_metrics
from collapse_jax.models.lm.decode import Decoder, generate
from collapse_jax.models.lm.devices import Placement
from collapse_jax.models.lm.opt import OPT
from collapse_jax.models.lm.score import mean_loss
from collapse_jax.runs.folder import RunFolder

# Observed arrays that are for files of their own, and stay out of results.nc.
PUBLISHED_ONLY = ("tokens", "example_tokens")


def observer(
    model: OPT, pretrained: dict, blocks, prompts, decoder: Decoder, key: jax.Array, progress=lambda stage, done, total: None,
    placement: Placement = Placement(),
):  # fmt: skip
    """observe(first, state, info) for `run`: perplexities, the tails and the variety of the
    training set, continuations of `prompts`.

    blocks: the real ones, with fields train, valid, test, each [N, length]. prompts: int [P,
    length], P may be 0.
    key: of the continuations of every generation, so that under sampling they differ by the models
    alone.
    Of each sequence of the training set: train_perplexity_first and train_perplexity_own, under the
    model of generation 0 and of
    its own generation. Shares beyond quantiles: see `tail_shares`. The training set's variety: see
    `text_metrics`.
    """

    def score(params, tokens):
        report = lambda done: progress("score", done * tokens.shape[1], tokens.size)  # noqa: E731
        return mean_loss(model, params, tokens, progress=report, placement=placement)

    quantiles_under = _remembered(
        lambda params: real_quantiles(np.exp(score(params, blocks.train)))
    )

    def observe(first, state, info):
        tokens = points.filled(info.data)
        params, under_first = state.params.model, np.exp(score(first.params.model, tokens))
        under_own = under_first if params is first.params.model else np.exp(score(params, tokens))
        test = score(params, blocks.test)
        observed = {
            "test_perplexity": np.exp(test.mean()),
            "test_perplexity_mean": np.exp(test).mean(),
            "valid_loss": info.fit.loss,
            "best_epoch": info.fit.detail["best_epoch"],
            "train_perplexity_first_median": np.median(under_first),
            "train_perplexity_first_mean": under_first.mean(),
            "train_perplexity_own_median": np.median(under_own),
            "train_perplexity_own_mean": under_own.mean(),
        }
        observed |= tail_shares(under_first, quantiles_under(first.params.model))
        observed |= text_metrics(tokens)
        if int(state.generation) == 0:
            observed["pretrained_test_perplexity"] = np.exp(score(pretrained, blocks.test).mean())
        losses = {name: info.fit.detail[name] for name in ("train_loss", "valid_loss")}
        arrays = {f"{name}_by_epoch": values for name, values in losses.items()}
        arrays |= {
            "train_perplexity_first": under_first,
            "train_perplexity_own": under_own,
            "tokens": tokens.astype(np.int32),
        }
        if len(prompts):
            arrays["example_tokens"] = generate(
                model, params, prompts, decoder, prompts.shape[1], key=key, placement=placement
            )
        return observed | arrays

    return observe


def publisher(folder: RunFolder, tokenizer, prompts):
    """publish(chain, generation, arrays) for `run`: the training set's text, and the continuations
    of `prompts` [P, length].
    """

    def publish(chain, generation, arrays):
        write_samples(folder, tokenizer, chain, generation, arrays["tokens"])
        if "example_tokens" in arrays:  # runs begun without examples have none
            write_examples(folder, tokenizer, chain, generation, prompts, arrays["example_tokens"])

    return publish


def write_samples(folder: RunFolder, tokenizer, chain: int, generation: int, tokens) -> None:
    """The text of a training set [N, length], a line a block."""
    lines = (
        json.dumps({"text": tokenizer.decode(block)}, ensure_ascii=False) + "\n" for block in tokens
    )
    folder.write_text(f"samples/seed_{chain}_generation_{generation}.jsonl", "".join(lines))


def left_out() -> list[str]:
    """A line for each measure that cannot be taken here."""
    return (
        []
        if has_sacrebleu()
        else ["self-BLEU is left out: it needs the package 'sacrebleu' (pip install sacrebleu)"]
    )


def _remembered(function):
    """`function` of one argument, whose newest value is kept for as long as the argument is the
    same object.

    A resumed run brings another object, and so its value is made again, from the same numbers.
    """
    held = []

    def call(argument):
        if not held or held[0] is not argument:
            held[:] = [argument, function(argument)]
        return held[1]

    return call

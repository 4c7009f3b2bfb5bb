"""A causal language model as an estimator: `fit` fine-tunes, `sample` continues the original blocks
(Shumailov et al. 2024, Fig. 1).
"""

import contextlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.core import points
from collapse_jax.core.factory import estimator
from collapse_jax.core.types import Estimator, Family, FitInfo
from collapse_jax.errors import InputError
from collapse_jax.models.lm.decode import BeamSearch, Decoder, check_decoder, generate
from collapse_jax.models.lm.devices import Placement
from collapse_jax.models.lm.finetune import FineTune, check_fine_tune, fine_tune
from collapse_jax.models.lm.opt import OPT
from collapse_jax.models.lm.score import check_blocks
from collapse_jax.runs.scratch import Scratch

__all__ = ["causal_lm"]

STARTS = ("pretrained", "first", "previous")


class CausalLMParams(NamedTuple):
    """model: the parameters of this generation. first: generation 0's, kept with start="first"
    only. fits: int [] done so far.
    """

    model: dict
    first: dict
    fits: jax.Array


def causal_lm(
    model: OPT,
    pretrained: dict,
    prompts,
    valid_blocks,
    *,
    settings: FineTune = FineTune(),
    decoder: Decoder = BeamSearch(),
    start: str = "pretrained",
    decode_batch: int | None = None,
    progress=lambda stage, done, total: None,
    scratch: Scratch = Scratch(),
    stage=lambda name: contextlib.nullcontext(),
    placement: Placement = Placement(),
) -> Estimator:
    """The paper's language model: x is int32 token blocks [n, length], runs under `run` only.

    sample: n continuations, as long as the prompts, of n of the `prompts` [P, length] (all of them
    in order where n = P, else a
    random n without replacement). continued: the continuation of each given block.
    fit: from `start`, "pretrained" weights, the "first" (generation 0) model, or the "previous"
    one.
    scratch: where a fit keeps its epochs and a draw its tokens, so that either goes on after a
    kill.
    decode_batch: prompts decoded at once, as in `generate`. stage(name): a context around each fit
    ("fit") and draw ("generate"). placement: the devices that do either.
    Raises `InputError` for an unknown start, bad settings, no prompts, or (in `sample`) more points
    than prompts.
    Source: Shumailov et al. 2024, Fig. 1.
    """
    if start not in STARTS:
        raise InputError(f"start is {start!r}; it must be one of {', '.join(STARTS)}")
    check_fine_tune(settings)
    check_decoder(decoder)
    prompts, valid_blocks = check_blocks(model, prompts), check_blocks(model, valid_blocks)
    length = prompts.shape[1]
    if not len(prompts):
        raise InputError("there are no prompts; at least 1 block is needed")
    if 2 * length > model.config.max_position_embeddings:
        raise InputError(
            f"continuing blocks of {length} tokens needs {2 * length} positions; "
            "max_position_embeddings is less"
        )

    def init(key, data):
        return CausalLMParams(
            pretrained, pretrained if start == "first" else {}, jnp.asarray(0, jnp.int32)
        )

    def fit(key, params, data):
        if start == "first" and params.fits > 0:
            begin = params.first
        else:
            begin = params.model if start == "previous" else pretrained
        blocks = points.filled(data)
        with stage("fit"):
            options = {"progress": progress, "scratch": scratch, "placement": placement}
            fitted, result = fine_tune(model, begin, blocks, valid_blocks, settings, key, **options)
        first = fitted if start == "first" and params.fits == 0 else params.first
        info = FitInfo(
            converged=jnp.asarray(result.best_epoch < settings.epochs - 1),
            iterations=jnp.asarray(result.steps),
            loss=jnp.asarray(
                result.valid_loss[result.best_epoch if settings.keep == "best" else -1]
            ),
            detail={
                "train_loss": result.train_loss,
                "valid_loss": result.valid_loss,
                "best_epoch": np.asarray(result.best_epoch),
            },
        )
        return CausalLMParams(fitted, first, params.fits + 1), info

    def sample(key, params, n):
        if n > len(prompts):
            raise InputError(
                f"{n} continuations are asked for, but there are {len(prompts)} prompts"
            )
        choice_key, decode_key = jax.random.split(key)
        chosen = (
            np.arange(n)
            if n == len(prompts)
            else np.sort(np.asarray(jax.random.permutation(choice_key, len(prompts))[:n]))
        )
        return continued(decode_key, params, prompts[chosen])

    def continued(key, params, x):
        report = lambda done: progress("generate", done * length, len(x) * length)  # noqa: E731
        options = {
            "key": key,
            "batch_size": decode_batch,
            "progress": report,
            "scratch": scratch,
            "placement": placement,
        }
        with stage("generate"):
            tokens = generate(model, params.model, x, decoder, length, **options)
        return jnp.asarray(tokens)

    return estimator(fit, sample, init=init, traceable=False, continued=continued)


FAMILY = Family(causal_lm)

"""A causal language model as an estimator: `fit` fine-tunes, `sample` continues original blocks."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.core import points
from collapse_jax.core.factory import estimator
from collapse_jax.core.types import Estimator, Family, FitInfo
from collapse_jax.errors import InputError, made_by, one_of
from collapse_jax.models.lm.decode import BeamSearch, Decoder, Sampling, check_decoder, generate
from collapse_jax.models.lm.finetune import FineTune, check_fine_tune, fine_tune, plan_for
from collapse_jax.models.lm.random_weights import init_params
from collapse_jax.models.lm.score import check_blocks
from collapse_jax.models.lm.transformer import Transformer
from collapse_jax.models.prompting import Prompting
from collapse_jax.runs.memory import give_back
from collapse_jax.runs.session import Session

__all__ = ["causal_lm"]

STARTS = ("pretrained", "first", "previous", "random")
# What the key of a fit is folded with for random weights: the highest number, which no epoch counts
# up to.
_RANDOM = np.uint32(2**32 - 1)
# Parameters from which on freed memory goes back to the system after a stage, which takes about as
# long as touching it again.
_LARGE_BYTES = 2**24


class CausalLMParams(NamedTuple):
    """Parameters of one generation.

    model: the parameters of its network.
    first: the parameters of generation 0; {} unless start="first".
    fits: int [], the number of fits so far.
    """

    model: dict
    first: dict
    fits: jax.Array


def causal_lm(
    model: Transformer,
    pretrained: dict,
    prompts: Any,
    valid_blocks: Any,
    *,
    settings: FineTune = FineTune(),
    decoder: Decoder = BeamSearch(),
    start: str = "pretrained",
    decode_batch: int | None = None,
    prompting: Prompting = Prompting(),
    session: Session = Session(),
) -> Estimator:
    """Causal language model that is fine-tuned in every generation; it needs `cj.run`.

    Points x are int32 blocks of tokens [n, length]. `sample` continues original blocks: all P in
    order if n = P, else a random choice of n without replacement.

    Args:
        model, pretrained: The network, and its parameters before any fit.
        prompts: int [P, length], the original blocks.
        valid_blocks: int [V, length], the validation blocks of every fit.
        settings: The settings of each fit.
        decoder: How blocks are continued.
        start: The weights from which each fit starts: "pretrained", those of the "first" model
            (generation 0) or of the "previous" one, or new "random" weights.
        decode_batch: Prompts that are decoded at once, as in `generate`.
        prompting: Which part of a block is the prompt, how many tokens continue it, and what a new
            block is. With prompts="start" no original block is read, and n may be any number.
        session: Devices, scratch of fits and draws, progress, and the stages "fit" and "generate".

    Raises:
        InputError: If an option is out of range, blocks do not fit the model, there are no prompts,
            `sample` needs more prompts, or prompts="start" has a deterministic decoder.

    References:
        Shumailov et al. 2024, Fig. 1.
    """
    one_of("start", start, STARTS)
    check_fine_tune(settings)
    check_decoder(decoder)
    prompts, valid_blocks = check_blocks(model, prompts), check_blocks(model, valid_blocks)
    if not len(prompts):
        raise InputError("there are no prompts; at least 1 block is needed")
    plan_for(settings, pretrained, len(prompts), valid_blocks.shape[1])
    made_by("prompting", prompting, Prompting, "cj.lm.Prompting(...)")
    prompting.check_for(model, prompts.shape[1])
    _refuse_one_text(prompting, decoder, len(prompts))
    how = (settings, decoder, start, decode_batch, prompting, session)
    family = _CausalLM(model, pretrained, prompts, valid_blocks, *how)
    return estimator(
        family.fit,
        family.sample,
        name=f"causal_lm({model.label}, {type(decoder).__name__})",
        init=family.init,
        traceable=False,
        weighed="trains on every block alike",
        continued=family.continued,
        check=family.check,
    )


def _refuse_one_text(prompting, decoder, count):
    """Raises `InputError` if the same text would be generated many times."""
    varies = isinstance(decoder, Sampling) and decoder.top_k != 1 and decoder.min_p < 1
    if prompting.prompts == "start" and count > 1 and not varies:
        raise InputError(
            f"decoder is {decoder!r:.200} with prompts start, which would generate the same text "
            f"{count} times; it must be Sampling, from more than one token"
        )


def prompt_numbers(key: jax.Array, n: int, count: int) -> np.ndarray:
    """Returns the numbers of the original blocks that `sample` continues.

    Args:
        key: The key that is given to `sample`.
        n: The number of new blocks, at most `count`.
        count: The number of original blocks.

    Returns:
        int [n], ascending.
    """
    choice_key, _ = jax.random.split(key)
    return np.arange(count) if n == count else _some_of(choice_key, n, count)


def _some_of(key, n, count):
    return np.sort(np.asarray(jax.random.permutation(key, count)[:n]))


@dataclasses.dataclass(frozen=True, eq=False)
class _CausalLM:
    """The functions of the estimator; fields are the arguments of `causal_lm`."""

    model: Transformer
    pretrained: dict
    prompts: np.ndarray
    valid_blocks: np.ndarray
    settings: FineTune
    decoder: Decoder
    start: str
    decode_batch: int | None
    prompting: Prompting
    session: Session

    def check(self, x):
        """Blocks as they are held: int32 [n, length] in the vocabulary."""
        if x.dtype.kind == "f" and (np.floor(x) == x).all():
            x = x.astype(np.int64)
        blocks = check_blocks(self.model, x)
        return x if x.dtype == blocks.dtype else blocks

    def init(self, key, data):
        first = self.pretrained if self.start == "first" else {}
        return CausalLMParams(self.pretrained, first, jnp.asarray(0, jnp.int32))

    def fit(self, key, params: CausalLMParams, data):
        start, settings = self.start, self.settings
        if start == "random":
            begin = self._random(jax.random.fold_in(key, _RANDOM))
        elif start == "first" and params.fits > 0:
            begin = params.first
        else:
            begin = params.model if start == "previous" else self.pretrained
        blocks = points.filled(data)
        with self._stage("fit"):
            fitted, result = fine_tune(
                self.model, begin, blocks, self.valid_blocks, settings, key, session=self.session
            )
        first = fitted if start == "first" and params.fits == 0 else params.first
        returned = result.best_epoch if settings.keep == "best" else -1
        info = FitInfo(
            converged=jnp.asarray(result.best_epoch < len(result.valid_loss) - 1),
            iterations=jnp.asarray(result.steps),
            loss=jnp.asarray(result.valid_loss[returned]),
            detail={
                "train_loss": result.train_loss,
                "valid_loss": result.valid_loss,
                "best_epoch": np.asarray(result.best_epoch),
                "gradient_norm": result.gradient_norm,
            },
        )
        return CausalLMParams(fitted, first, params.fits + 1), info

    def _random(self, key):
        """Weights that nothing has been fitted to."""
        here = contextlib.nullcontext()
        if self.session.placement.shard:  # too large for one device
            here = jax.default_device(jax.local_devices(backend="cpu")[0])
        with here:
            return init_params(self.model, key)

    def sample(self, key, params, n):
        choice_key, decode_key = jax.random.split(key)
        return self.continued(decode_key, params, self._chosen(choice_key, n))

    def _chosen(self, key, n):
        """n original blocks [n, length]."""
        count = len(self.prompts)
        if self.prompting.prompts == "start":  # which reads none of them
            return np.broadcast_to(self.prompts[:1], (n, self.prompts.shape[1]))
        if n > count:
            raise InputError(
                f"{n} continuations are asked for, but there are {count} prompts; give at least as "
                "many prompts as sample_size"
            )
        if n == count:
            return self.prompts
        return self.prompts[_some_of(key, n, count)]

    def continued(self, key, params, x):
        prompts = self.prompting.prompts_of(self.model, x)
        # Blocks are text throughout, even one that begins with the token for padding.
        mask = np.ones(prompts.shape, bool)
        options = {"key": key, "batch_size": self.decode_batch, "attention_mask": mask}
        with self._stage("generate"):
            tokens = generate(
                self.model,
                params.model,
                prompts,
                self.decoder,
                self.prompting.lengths(self.prompts.shape[1]).new,
                session=self.session,
                **options,
            )
        return jnp.asarray(self.prompting.new_blocks(prompts, tokens))

    @contextlib.contextmanager
    def _stage(self, name) -> Iterator[None]:
        """A stage of the session that finds and leaves nothing resident that was freed."""
        leaves = jax.tree.leaves(self.pretrained)
        tidy = give_back if sum(leaf.nbytes for leaf in leaves) >= _LARGE_BYTES else lambda: None
        tidy()
        with self.session.stage(name):
            yield
        tidy()


FAMILY = Family(causal_lm)

"""Settings of the generations of `collapse-jax lm`: their number and their training sets."""

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

from collapse_jax.app.config.checks import LARGEST_COUNT, LARGEST_SEED, at_least, at_most
from collapse_jax.errors import InputError

if TYPE_CHECKING:
    from collapse_jax.models.prompting import Prompting

# A run lists its generations.
MOST_GENERATIONS = 100_000
# Numbers of real tokens or blocks that are kept in the place of a share.
COUNTS = ("real_tokens", "real_blocks")
# Of temperature, top_p and typical_p: a token less likely than the first by a factor of 1.01 would
# be drawn e times less often, and hardly any model has a first token of less probability.
_LEAST_FROM_START = 0.01


@dataclasses.dataclass(frozen=True)
class LoopSettings:
    """Generations, and the training set of each."""

    generations: int = 9
    """Number of the last generation; generation 0 is the model fitted to real text."""
    seeds: int = 5
    """Number of independent replicates, run one after another."""
    seed: int = 0
    """Seed of all random numbers."""
    workflow: Literal["replace", "accumulate", "accumulate_subsample"] = "replace"
    """replace: each training set is text of the newest model, plus the shares given below.
    accumulate: it is all blocks so far. accumulate_subsample: it is a new random subset of all
    blocks so far, as large as the original set."""
    prompts: Literal["real", "start"] = "real"
    """Prompts of the generated text: original blocks, or only the beginning-of-text token. real:
    original blocks. start: the model's beginning-of-text token alone, so that texts differ only by
    sampling."""
    prompt_length: int | None = None
    """Number of tokens at the start of an original block that form the prompt; by default the whole
    block."""
    continuation_length: int | None = None
    """Number of tokens that a model adds to a prompt; by default as many as the new block needs.
    This is block_length, or block_length - prompt_length if train_on is both."""
    train_on: Literal["continuation", "both"] = "continuation"
    """Content of a new block, which must have block_length tokens: the continuation alone, or the
    prompt and the continuation. With prompts start, both includes the beginning-of-text token."""
    real_fraction: float | None = None
    """Share of original blocks in each training set, chosen again in every generation; by default
    the preset's. The size of the set does not change; this is not stated in the paper and follows
    the released code."""
    real_blocks: int | None = None
    """Number of original blocks in each training set, instead of a share."""
    real_tokens: int | None = None
    """Number of original tokens in each training set, instead of a share; rounded to whole
    blocks."""
    real_kept: Literal["drawn", "batches"] | None = None
    """How the original blocks are chosen: drawn or batches; by default the protocol's. drawn: a
    random share, and the model continues blocks that are chosen independently. batches: ceil(share
    * blocks / batch_size) whole batches of the shuffled blocks stay unchanged, and the model
    continues the other blocks. If a number of blocks is given, exactly that number stays
    unchanged."""
    real_share: float = 0.0
    """With accumulate and accumulate_subsample: share of original blocks in each generation's new
    blocks, chosen again each time; the newest model writes the others."""
    beta: float = 0.0
    """Share of each training set that is drawn without replacement from the previous training
    set."""
    control: Literal["none", "real", "kept"] = "none"
    """Make this run a control, in which fresh real text replaces generated text (real), or only the
    real blocks that are kept are trained on (kept). real: fresh text of the corpus replaces the
    generated text; a text is used again only when the corpus has been used up. kept: the training
    set consists only of the real blocks that are kept. A control has the same generation 0 as the
    run with the same other settings and seeds."""
    start: Literal["pretrained", "first", "previous", "random"] = "pretrained"
    """Initial weights of each generation: the pretrained model (pretrained), the model of
    generation 0 (first), the previous model (previous) or random weights (random). previous takes
    the epoch that generator chooses; random draws new weights for each generation and seed. The
    paper can be read as pretrained or as first."""
    generator: Literal["best", "last"] | None = None
    """The epoch whose model writes the next text: the one with the lowest loss on the original
    validation set (best) or the last one; by default the protocol's."""
    checkpoints: Literal["all", "ends"] = "all"
    """Generations whose parameters stay on disk: all, or only generation 0 and the newest (ends).
    Records and texts always stay."""

    def check_loop(self) -> None:
        """Raises `InputError` for the first setting of these that is out of range."""
        at_least(self, 0, "generations", "seed")
        at_least(self, 1, "seeds")
        at_most(self, LARGEST_SEED, "seed")
        at_most(self, MOST_GENERATIONS, "generations", "seeds")
        self._check_real_share()
        given = [name for name in COUNTS if getattr(self, name) is not None]
        at_least(self, 0, *given)
        at_most(self, LARGEST_COUNT, *given)
        if self.real_fraction is not None:
            given.append("real_fraction")
        if len(given) > 1:
            both = " and ".join(f"{name} {getattr(self, name)}" for name in given)
            raise InputError(f"{both} both set how much real text is kept; give only one of them")

    def _check_real_share(self):
        share = self.real_share
        if not 0 <= share < 1:
            raise InputError(f"real_share is {share:g}; it must be at least 0 and below 1")
        if share and self.workflow == "replace":
            raise InputError(
                f"real_share is {share:g} with workflow replace, which ignores it; give "
                f"--real-fraction {share:g}, or --workflow accumulate"
            )
        if share and self.control == "kept":
            raise InputError(
                f"real_share is {share:g} with control kept, whose training sets are those real "
                "blocks alone that are kept throughout; give --control real"
            )

    @property
    def counts_real(self) -> bool:
        """Whether real text is given as a number, so that the share of the preset is ignored."""
        return any(getattr(self, name) is not None for name in COUNTS)

    def check_shares(self, real_fraction: float | None) -> None:
        """Raises `InputError` for shares of real text out of range, or that would be ignored.

        Args:
            real_fraction: The share, which may come from the preset; None if a number of blocks is
                given.
        """
        shares = {"real_fraction": real_fraction or 0.0, "beta": self.beta}
        counts = {name: getattr(self, name) or 0 for name in COUNTS}
        for name, share in shares.items():
            if not 0 <= share <= 1:
                raise InputError(f"{name} is {share}; it must be in [0, 1]")
        for name, value in (shares | counts).items():
            if self.workflow != "replace" and value > 0:
                kept = "earlier" if name == "beta" else "real"
                raise InputError(
                    f"{name} is {value} with workflow {self.workflow}, which keeps all "
                    f"{kept} data from generation 0 on; give 0, or --workflow replace"
                    f"{', or --real-share for each new batch' * (kept == 'real')}"
                )
        if sum(shares.values()) > 1 + 1e-6:
            raise InputError(
                f"real_fraction + beta is {sum(shares.values()):g}; it must be at most 1"
            )
        if self.control == "kept":
            self._check_kept_alone(any((shares | counts).values()))

    def _check_kept_alone(self, is_kept):
        if self.workflow == "accumulate_subsample":
            raise InputError(
                "control is kept with workflow accumulate_subsample, in which the number of real "
                "blocks differs from generation to generation; give --control real"
            )
        if self.beta > 0:
            raise InputError(
                f"beta is {self.beta} with control kept, whose training sets consist only of real "
                "text; give 0"
            )
        if self.workflow == "replace" and not is_kept:
            raise InputError(
                "control is kept, but no real text is kept (real_fraction is 0); give "
                "--real-fraction, --real-blocks or --real-tokens, or --control real"
            )


def check_prompts(values: dict[str, Any]) -> None:
    """Raises `InputError` for prompts that give no blocks, or the same block many times.

    Args:
        values: All settings by name, with the values of preset and protocol filled in.
    """
    prompting_of(values).lengths(values["block_length"])
    if values["prompts"] != "start" or values["train_blocks"] == 1:
        return
    if values["decoding"] != "sampling":
        raise InputError(
            f"decoding is {values['decoding']} with prompts start, which always gives the same "
            "text; give --decoding sampling, or --prompts real"
        )
    for name, other in (("top_k", "larger"), ("min_p", "smaller")):
        if values[name] == 1:
            raise InputError(
                f"{name} is {values[name]} with prompts start, which always gives the same text; "
                f"give 0 (off) or a {other} value"
            )


def check_first_token(values: dict[str, Any]) -> None:
    """Raises `InputError` for sampling with prompts start that gives almost always the same text.

    Args:
        values: As for `check_prompts`.
    """
    if values["prompts"] != "start" or values["train_blocks"] == 1:
        return
    for name in ("temperature", "top_p", "typical_p"):
        if 0 <= values[name] < _LEAST_FROM_START:
            raise InputError(
                f"{name} is {values[name]} with prompts start, which almost always gives the same "
                f"text; give at least {_LEAST_FROM_START:g}, or --prompts real"
            )


def prompting_of(values: dict[str, Any]) -> "Prompting":
    """Returns how new blocks are generated from old ones, by settings with these names."""
    from collapse_jax.models.prompting import Prompting

    return Prompting(**{name: values[name] for name in Prompting._fields})

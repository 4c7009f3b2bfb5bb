"""The generations of `collapse-jax lm`: how many, and what each is trained on."""

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
    """Generations, and what each is trained on."""

    generations: int = 9
    """The last generation; generation 0 is the model fitted to real text."""
    seeds: int = 5
    """Independent runs, one after another."""
    seed: int = 0
    """Root of all randomness."""
    workflow: Literal["replace", "accumulate", "accumulate_subsample"] = "replace"
    """replace: what the newest model made, and the shares below. accumulate: all blocks so far.
    accumulate_subsample: as many of those as the original set has, drawn anew."""
    prompts: Literal["real", "start"] = "real"
    """What a model is given to go on from. real: original blocks. start: the beginning-of-text
    token of the model alone, so that its texts differ by sampling."""
    prompt_length: int | None = None
    """Tokens of an original block, from its first, that are the prompt; by default the whole
    block."""
    continuation_length: int | None = None
    """Tokens that a model adds to a prompt; by default as many as make up a block: block_length,
    less those of the prompt where train_on is both."""
    train_on: Literal["continuation", "both"] = "continuation"
    """What a new block is, which must come to block_length tokens. continuation: what was added
    alone. both: the prompt and what was added, with prompts start the beginning-of-text token
    too."""
    real_fraction: float | None = None
    """Share of each training set that original blocks make up, chosen anew in every generation; by
    default the preset's. That the set keeps its size is not stated in the paper; it does in the
    released code."""
    real_blocks: int | None = None
    """Number of original blocks in each training set, in the place of a share."""
    real_tokens: int | None = None
    """Number of original tokens in each training set, in the place of a share; rounded to whole
    blocks."""
    real_kept: Literal["drawn", "batches"] | None = None
    """How real blocks are chosen; by default the protocol's. drawn: a random share, and the model
    continues blocks chosen independently of it. batches: ceil(share * blocks / batch_size) whole
    batches of the shuffled blocks pass unchanged, and the model continues the others; of a number
    of blocks, exactly so many pass."""
    real_share: float = 0.0
    """With accumulate and accumulate_subsample: share of each generation's new blocks that are
    original ones, chosen anew; the newest model makes the others."""
    beta: float = 0.0
    """Share of each training set that is drawn without replacement from the previous one."""
    control: Literal["none", "real", "kept"] = "none"
    """Makes this run a control of the one that has the same other settings and seeds: generation 0
    is the same. real: what models would make is fresh text of the corpus, which no earlier
    generation was given until there is no more. kept: the real blocks that are kept are the whole
    training set."""
    start: Literal["pretrained", "first", "previous", "random"] = "pretrained"
    """What each generation is fine-tuned from: the pretrained weights, the generation-0 model, its
    predecessor (the epoch that generator chose), or random weights, drawn anew for each generation
    and seed. The paper can be read as either of the first two."""
    generator: Literal["best", "last"] | None = None
    """The epoch that goes on: the one of lowest loss on the original validation set, or the last;
    by default the protocol's."""
    checkpoints: Literal["all", "ends"] = "all"
    """Generations whose parameters stay on disk: all, or the two ends, generation 0 and the newest.
    Records and texts stay in any case."""

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
            raise InputError(f"{both} both say how much real text is kept; give one of them")

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
        """Whether real text is kept by number, so that no share of the preset counts."""
        return any(getattr(self, name) is not None for name in COUNTS)

    def check_shares(self, real_fraction: float | None) -> None:
        """Raises `InputError` for shares of kept text that are none, or that nothing reads.

        Args:
            real_fraction: That of the preset where it is left to it; None where text is kept by
                number.
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
                "control is kept with workflow accumulate_subsample, which keeps another number of "
                "real blocks in every generation; give --control real"
            )
        if self.beta > 0:
            raise InputError(
                f"beta is {self.beta} with control kept, whose training sets are real text alone; "
                "give 0"
            )
        if self.workflow == "replace" and not is_kept:
            raise InputError(
                "control is kept, but no real text is (real_fraction is 0); give --real-fraction, "
                "--real-blocks or --real-tokens, or --control real"
            )


def check_prompts(values: dict[str, Any]) -> None:
    """Raises `InputError` for prompts that cannot make blocks, or make the same one many times.

    Args:
        values: All settings by name, with nothing left to preset and protocol.
    """
    prompting_of(values).lengths(values["block_length"])
    if values["prompts"] != "start" or values["train_blocks"] == 1:
        return
    if values["decoding"] != "sampling":
        raise InputError(
            f"decoding is {values['decoding']} with prompts start, from where it always makes the "
            "same text; give --decoding sampling, or --prompts real"
        )
    for name, other in (("top_k", "larger"), ("min_p", "smaller")):
        if values[name] == 1:
            raise InputError(
                f"{name} is {values[name]} with prompts start, from where it always makes the same "
                f"text; give 0 (off) or a {other} one"
            )


def check_first_token(values: dict[str, Any]) -> None:
    """Raises `InputError` for sampling from the start that makes hardly more than one text.

    Args:
        values: As for `check_prompts`.
    """
    if values["prompts"] != "start" or values["train_blocks"] == 1:
        return
    for name in ("temperature", "top_p", "typical_p"):
        if 0 <= values[name] < _LEAST_FROM_START:
            raise InputError(
                f"{name} is {values[name]} with prompts start, from where it makes hardly more "
                f"than one text; give at least {_LEAST_FROM_START:g}, or --prompts real"
            )


def prompting_of(values: dict[str, Any]) -> "Prompting":
    """How new blocks are made of old ones, by settings that have these names."""
    from collapse_jax.models.prompting import Prompting

    return Prompting(**{name: values[name] for name in Prompting._fields})

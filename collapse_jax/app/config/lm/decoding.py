"""How `collapse-jax lm` lets a model continue text."""

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

from collapse_jax.app.config.checks import LARGEST_COUNT, at_least, at_most
from collapse_jax.errors import InputError

if TYPE_CHECKING:
    from collapse_jax.models.lm.decode import Decoder

# Settings that only one way of decoding reads.
DECODING_OF = {
    "num_beams": "beam",
    "num_beam_groups": "beam",
    "diversity_penalty": "beam",
    "temperature": "sampling",
    "top_k": "sampling",
    "top_p": "sampling",
    "min_p": "sampling",
    "typical_p": "sampling",
}
# A prompt in decoding is as many rows as there are beams.
MOST_BEAMS = 1000


@dataclasses.dataclass(frozen=True)
class DecodingSettings:
    """How text is continued."""

    decoding: Literal["beam", "greedy", "sampling"] = "beam"
    """How blocks are continued."""
    num_beams: int = 5
    """Of beam search."""
    repetition_penalty: float | None = None
    """1 is none, the paper's ablation has 2; tokens of the prompt count too. By default the
    protocol's."""
    temperature: float = 1.0
    """Of sampling."""
    top_k: int = 0
    """Sampling from the k most probable tokens only; 0 is off."""
    top_p: float = 1.0
    """Nucleus sampling: from the most probable tokens that hold this probability together; 1 is
    off."""
    min_p: float = 0.0
    """Sampling from tokens with at least this share of the largest probability; 0 is off."""
    typical_p: float = 1.0
    """Typical sampling: from tokens whose information is nearest to the entropy, until they hold
    this probability together; 1 is off."""
    no_repeat_ngram_size: int = 0
    """No n-gram of so many tokens occurs twice in a prompt with its continuation; 0 is off."""
    num_beam_groups: int = 1
    """Diverse beam search: groups that the beams are divided into; 1 is off. The best beam of all
    groups goes on, which is often that of a plain search with the beams of one group."""
    diversity_penalty: float = 0.0
    """Of diverse beam search: what a token loses in log-probability for each beam of an earlier
    group that chose it at the same step."""
    decode_batch: int | None = None
    """Prompts decoded at once; by default 64 on CPUs, and on accelerators as many as fit into half
    of their memory, at most 1,024 on each."""

    def check_decoding(self) -> None:
        """Raises `InputError` for the first setting of these that is out of range."""
        optional = ["decode_batch"] if self.decode_batch is not None else []
        at_least(self, 0, "top_k", "no_repeat_ngram_size")
        at_least(self, 1, "num_beams", *optional)
        at_most(self, LARGEST_COUNT, "decode_batch", "top_k", "no_repeat_ngram_size")
        at_most(self, MOST_BEAMS, "num_beams")
        for name, decoding in DECODING_OF.items():
            value = getattr(self, name)
            if self.decoding != decoding and value != getattr(type(self), name):
                raise InputError(
                    f"{name} is {value} with decoding {self.decoding}, which ignores it; "
                    f"give --decoding {decoding}"
                )


def decoder_of(values: dict[str, Any]) -> "Decoder":
    """The decoder that settings by name describe.

    Raises:
        InputError: If one is out of range.
    """
    from collapse_jax.models.lm.decode import BeamSearch, Greedy, Sampling, check_decoder

    kind = {"beam": BeamSearch, "greedy": Greedy, "sampling": Sampling}[values["decoding"]]
    decoder = kind(**{name: values[name] for name in kind._fields if name in values})
    check_decoder(decoder)
    return decoder

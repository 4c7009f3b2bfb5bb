"""Decoding settings of `collapse-jax lm`."""

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
    """How a model continues text."""

    decoding: Literal["beam", "greedy", "sampling"] = "beam"
    """Decoding method: beam search, greedy decoding or sampling."""
    num_beams: int = 5
    """Number of beams of beam search."""
    repetition_penalty: float | None = None
    """Repetition penalty, which also applies to tokens of the prompt; 1 is off. The ablation of
    Shumailov et al. uses 2. By default the protocol's."""
    temperature: float = 1.0
    """Sampling temperature."""
    top_k: int = 0
    """Top-k sampling: sample only from the k most probable tokens; 0 is off."""
    top_p: float = 1.0
    """Nucleus sampling: sample from the most probable tokens whose total probability reaches this
    value; 1 is off."""
    min_p: float = 0.0
    """Min-p sampling: sample from tokens with at least this share of the largest probability; 0 is
    off."""
    typical_p: float = 1.0
    """Typical sampling: sample from the tokens whose information content is closest to the entropy
    and whose total probability reaches this value; 1 is off."""
    no_repeat_ngram_size: int = 0
    """Forbid repeated n-grams of this length within a prompt and its continuation; 0 is off."""
    num_beam_groups: int = 1
    """Diverse beam search: number of groups of beams; 1 is off. The best beam of all groups is
    returned. It is often the beam that plain beam search finds with the beams of one group."""
    diversity_penalty: float = 0.0
    """Diverse beam search: log-probability that a token loses for each beam of an earlier group
    that chose the same token at the same step."""
    decode_batch: int | None = None
    """Number of prompts decoded at once. The default is 64 on CPUs; on accelerators it is the
    number that fits into half of the memory, at most 1,024 per device."""

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
    """Returns the decoder that these settings describe.

    Raises:
        InputError: If one is out of range.
    """
    from collapse_jax.models.lm.decode import BeamSearch, Greedy, Sampling, check_decoder

    kind = {"beam": BeamSearch, "greedy": Greedy, "sampling": Sampling}[values["decoding"]]
    decoder = kind(**{name: values[name] for name in kind._fields if name in values})
    check_decoder(decoder)
    return decoder

"""The settings of each decoder, with the names that transformers uses."""

from typing import NamedTuple

from collapse_jax.errors import InputError, one_of, real, whole


class BeamSearch(NamedTuple):
    """Deterministic beam search; all fields have the same meaning as in transformers.

    With `num_beam_groups` above 1 it is diverse beam search (Vijayakumar et al. 2016), as
    transformers 4 has it.

    num_beams: sequences kept at each step.
    repetition_penalty: 1 is off; it also applies to tokens of the prompt (Keskar et al. 2019).
    min_new_tokens: end-of-text is banned before this number of new tokens; None bans it throughout.
    length_penalty: the score of a finished sequence is divided by length ** length_penalty.
    early_stopping: True, False or "never": when the search stops waiting for better finished
        sequences.
    no_repeat_ngram_size: length of n-grams that may not occur twice, including those of the prompt;
        0 is off.
    num_beam_groups: number of groups of equal size, which search one after another at each step.
    diversity_penalty: log-probability that a token loses for each beam of an earlier group that has
        chosen the same token at the same step.
    """

    num_beams: int = 5
    repetition_penalty: float = 1.0
    min_new_tokens: int | None = None
    length_penalty: float = 1.0
    early_stopping: bool | str = False
    no_repeat_ngram_size: int = 0
    num_beam_groups: int = 1
    diversity_penalty: float = 0.0


class Greedy(NamedTuple):
    """The most probable token at each step; fields as in `BeamSearch`."""

    repetition_penalty: float = 1.0
    min_new_tokens: int | None = None
    no_repeat_ngram_size: int = 0


class Sampling(NamedTuple):
    """Ancestral sampling, truncated in the order of the fields; other fields as in `BeamSearch`.

    temperature: divides the logits, before every truncation.
    top_k: sample only from the k most probable tokens; 0 is off.
    top_p: sample from the most probable tokens whose total probability reaches this value; 1 is
        off.
    min_p: sample from tokens with at least this share of the largest probability; 0 is off.
    typical_p: sample from the tokens whose information content is closest to the entropy and whose
        total probability reaches this value; 1 is off.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    min_new_tokens: int | None = None
    min_p: float = 0.0
    typical_p: float = 1.0
    no_repeat_ngram_size: int = 0


Decoder = BeamSearch | Greedy | Sampling
# Fields that the first decoders did not have.
LATER_FIELDS = (
    "min_p",
    "typical_p",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "diversity_penalty",
)


def check_decoder(decoder: Decoder) -> None:
    """Raises `InputError` for the first setting of a decoder that is out of range."""
    if not isinstance(decoder, Decoder):
        raise InputError(f"decoder is {decoder!r:.200}; it must be BeamSearch, Greedy or Sampling")
    penalty = "finite and above 0 (1 is off)"
    real("repetition_penalty", decoder.repetition_penalty, above=0, must_be=penalty)
    if decoder.min_new_tokens is not None:
        at_least = "0 or more, or None (end-of-text is banned)"
        whole("min_new_tokens", decoder.min_new_tokens, 0, must_be=at_least)
    size = "0 (off) or a positive integer"
    whole("no_repeat_ngram_size", decoder.no_repeat_ngram_size, 0, must_be=size)
    if isinstance(decoder, BeamSearch):
        whole("num_beams", decoder.num_beams, 1)
        real("length_penalty", decoder.length_penalty)
        choices = "True, False or 'never'"
        one_of("early_stopping", decoder.early_stopping, (True, False, "never"), must_be=choices)
        check_groups(decoder.num_beams, decoder.num_beam_groups, decoder.diversity_penalty)
    if isinstance(decoder, Sampling):
        limit = "finite and above 0 (use Greedy for the limit)"
        real("temperature", decoder.temperature, above=0, must_be=limit)
        whole("top_k", decoder.top_k, 0, must_be="0 (off) or positive")
        real("top_p", decoder.top_p, above=0, at_most=1)
        real("min_p", decoder.min_p, at_least=0, at_most=1)
        real("typical_p", decoder.typical_p, above=0, at_most=1)


def check_groups(num_beams: int, num_beam_groups: int, diversity_penalty: float) -> None:
    """Raises `InputError` for invalid groups of beams, or groups that would be identical."""
    whole("num_beam_groups", num_beam_groups, 1)
    real("diversity_penalty", diversity_penalty, at_least=0)
    if num_beams % num_beam_groups:
        raise InputError(
            f"num_beam_groups is {num_beam_groups}; it must divide num_beams, {num_beams}"
        )
    if num_beam_groups > 1 and diversity_penalty == 0:
        raise InputError(
            f"diversity_penalty is {diversity_penalty} with num_beam_groups {num_beam_groups}; it "
            "must be above 0, since otherwise all groups find the same beams"
        )
    if num_beam_groups == 1 and diversity_penalty > 0:
        raise InputError(
            f"diversity_penalty is {diversity_penalty} with num_beam_groups 1, which ignores it; "
            "give num_beam_groups of at least 2"
        )

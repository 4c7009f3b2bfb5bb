"""Whether a tokenizer and a model belong together."""

from collapse_jax.errors import InputError
from collapse_jax.models.lm.corpus import TextTokenizer
from collapse_jax.models.lm.opt import OPTConfig

# Text that two tokenizers of other vocabularies or other rules encode differently.
PROBE = [
    "The quick brown fox jumps over 1,234.50 lazy dogs; isn't it naïve?\n",
    "",
    " def f(x):\n\treturn [x ** 2]  # «你好» ☃\n",
]


def check_tokenizer(
    tokenizer: TextTokenizer, config: OPTConfig, own: TextTokenizer | None = None
) -> None:
    """Holds a tokenizer against the model that is to read its ids.

    Args:
        tokenizer: Of the text.
        config: Of the model.
        own: The tokenizer that comes with the model's weights, if there is one and it is another.

    Raises:
        InputError: If it has more entries than the model, ends a text with another id than the
            model does, or encodes otherwise than the model's own.
    """
    if tokenizer.vocab_size > config.vocab_size:
        raise InputError(
            f"tokenizer {tokenizer.name!r} has {tokenizer.vocab_size} entries, more than "
            f"the model's vocabulary of {config.vocab_size}; give the model's own tokenizer"
        )
    ends = config.switches.ends
    end = tokenizer.special.get("eos_token", ends[0])
    if end not in ends:
        raise InputError(
            f"tokenizer {tokenizer.name!r} ends a text with id {end}, but eos_token_id in the "
            f"model's configuration is {config.eos_token_id}; make them equal, or give the model's "
            "own tokenizer"
        )
    if own is not None and own.encode(PROBE) != tokenizer.encode(PROBE):
        raise InputError(
            f"tokenizer {tokenizer.name!r} encodes text differently from the model's own, "
            f"{own.name!r}, so that its ids would mean other words; leave --tokenizer out"
        )

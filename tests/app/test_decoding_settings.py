"""What `collapse-jax lm` makes of its options on decoding."""

import pytest

from collapse_jax.app.config import LMConfig
from collapse_jax.errors import InputError
from collapse_jax.models.lm.decode import BeamSearch, Greedy, Sampling


@pytest.mark.parametrize(
    ("options", "decoder"),
    [
        ({}, BeamSearch()),
        ({"no_repeat_ngram_size": 3}, BeamSearch(no_repeat_ngram_size=3)),
        (
            {"num_beams": 6, "num_beam_groups": 3, "diversity_penalty": 0.5},
            BeamSearch(6, num_beam_groups=3, diversity_penalty=0.5),
        ),
        (
            {"decoding": "greedy", "no_repeat_ngram_size": 2, "repetition_penalty": 1.2},
            Greedy(1.2, no_repeat_ngram_size=2),
        ),
        (
            {"decoding": "sampling", "min_p": 0.1, "typical_p": 0.9, "no_repeat_ngram_size": 4},
            Sampling(min_p=0.1, typical_p=0.9, no_repeat_ngram_size=4),
        ),
    ],
)
def test_decoders_by_option(options, decoder):
    assert LMConfig(**options).settings().decoder == decoder


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"min_p": 0.1}, "min_p is 0.1 with decoding beam, which ignores it; give --decoding"),
        ({"decoding": "greedy", "typical_p": 0.5}, "give --decoding sampling"),
        ({"decoding": "sampling", "num_beam_groups": 2}, "give --decoding beam"),
        ({"decoding": "greedy", "diversity_penalty": 1.0}, "give --decoding beam"),
        ({"num_beam_groups": 2}, "num_beam_groups is 2; it must divide num_beams, 5"),
        ({"diversity_penalty": 1.0}, "with num_beam_groups 1, which ignores it"),
        ({"no_repeat_ngram_size": 2**40}, "no_repeat_ngram_size is 1099511627776; it must be at"),
    ],
)
def test_options_that_nothing_reads(options, says):
    with pytest.raises(InputError) as caught:
        LMConfig(**options).settings()
    assert says in str(caught.value) and "\n" not in str(caught.value)

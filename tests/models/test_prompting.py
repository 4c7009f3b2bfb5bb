"""Prompts, new tokens and new blocks, against sums by hand."""

import numpy as np
import pytest

from collapse_jax.errors import InputError
from collapse_jax.models.lm.opt import OPT, TINY
from collapse_jax.models.prompting import Prompting

MODEL = OPT(TINY)  # 128 positions, texts begin with token 2


@pytest.mark.parametrize(
    ("prompting", "block", "expected"),
    [
        (Prompting(), 64, (64, 64, 0)),  # Shumailov et al.
        (Prompting(32), 64, (32, 64, 0)),
        (Prompting(256, 256, train_on="both"), 512, (256, 256, 256)),  # Drayson et al.
        (Prompting(64, train_on="both"), 512, (64, 448, 64)),
        (Prompting(1, 1, train_on="both"), 2, (1, 1, 1)),
        (Prompting(prompts="start"), 64, (1, 64, 0)),
        (Prompting(None, 63, "start", "both"), 64, (1, 63, 1)),
        (Prompting(prompts="start", train_on="both"), 64, (1, 63, 1)),
    ],
)
def test_lengths(prompting, block, expected):
    assert prompting.lengths(block) == expected


def test_new_blocks_have_the_length_of_the_old_ones():
    blocks, new = np.arange(24).reshape(3, 8), 100 + np.arange(24).reshape(3, 8)
    for prompting, begin, made in (
        (Prompting(), 8, 8),
        (Prompting(3), 3, 8),
        (Prompting(3, train_on="both"), 3, 5),
    ):
        prompts = prompting.prompts_of(MODEL, blocks)
        assert prompts.tolist() == blocks[:, :begin].tolist()
        found = prompting.new_blocks(prompts, new[:, :made])
        old = blocks[:, :begin] if made == 5 else blocks[:, :0]
        assert found.tolist() == [
            [*a, *b] for a, b in zip(old.tolist(), new[:, :made].tolist(), strict=True)
        ]
        assert found.shape == blocks.shape
    prompts = Prompting(prompts="start").prompts_of(MODEL, blocks)
    assert prompts.tolist() == [[2], [2], [2]] and prompts.dtype == np.int32


@pytest.mark.parametrize(
    ("prompting", "says"),
    [
        (Prompting(0), "prompt_length is 0"),
        (Prompting(65), "prompt_length is 65, more than a block has; give at most block_length"),
        (Prompting(32, 0), "continuation_length is 0"),
        (Prompting(train_on="both"), "leaves no token to generate; give a smaller prompt_length"),
        (
            Prompting(16, 16, train_on="both"),
            r"prompt_length 16 \+ continuation_length 16 = 32 tokens, and block_length is 64; give "
            "continuation_length 48, or block_length 32",
        ),
        (
            Prompting(16, 32),
            "train_on continuation trains on continuation_length 32 tokens, and block_length is "
            "64; give continuation_length 64, or block_length 32",
        ),
        (Prompting(1, prompts="start"), "prompt_length is 1 with prompts start"),
        (Prompting(prompts="none"), "prompts is 'none'"),
        (Prompting(train_on="all"), "train_on is 'all'"),
    ],
)
def test_what_does_not_come_to_a_block_is_refused(prompting, says):
    with pytest.raises(InputError, match=says):
        prompting.lengths(64)


def test_positions_must_suffice():
    assert Prompting(20).check_for(MODEL, 108) == (20, 108, 0)
    assert Prompting(64, train_on="both").check_for(MODEL, 128) == (64, 64, 64)
    with pytest.raises(InputError, match="needs 130 positions; max_position_embeddings is 128"):
        Prompting().check_for(MODEL, 65)
    with pytest.raises(
        InputError, match=r"prompt of 21 by 108 tokens needs 129 .* prompt_length or"
    ):
        Prompting(21).check_for(MODEL, 108)

"""The settings of a fit: how they become `FineTune`, and what is refused before any work."""

import numpy as np
import pytest

from collapse_jax.app.commands.fit_words import fit_words
from collapse_jax.app.commands.lm_ingredients import Blocks, Ingredients
from collapse_jax.app.commands.needs import disk_need
from collapse_jax.app.config import LMConfig
from collapse_jax.app.config.lm.fit import fine_tune_of
from collapse_jax.app.plots.language_model import title
from collapse_jax.errors import InputError
from collapse_jax.models.lm.finetune import FineTune
from collapse_jax.runs.settings import as_dict, from_dict

CHANGED = {
    "epochs": 7,
    "max_steps": 9,
    "max_tokens": 600,
    "batch_size": 3,
    "gradient_accumulation": 2,
    "learning_rate": 1e-3,
    "final_learning_rate": 0.0,
    "schedule": "linear",
    "warmup_steps": 4,
    "max_grad_norm": 1.0,
    "weight_decay": 0.2,
    "lora_rank": 2,
    "lora_alpha": 4.0,
    "lora_targets": ("k_proj", "fc1"),
}


def test_the_defaults_are_those_of_fine_tune():
    settings = LMConfig().settings().fine_tune
    assert settings == FineTune() and settings.schedule == "cosine-by-epoch"


def test_every_setting_arrives():
    config = LMConfig(**CHANGED)
    assert config.settings().fine_tune == FineTune(**CHANGED)
    assert from_dict(as_dict(config), "here") == config


def test_the_loss_on_the_continuation_begins_after_the_prompt():
    """Where blocks hold a prompt and its continuation; else nothing would be left out."""
    values = vars(LMConfig(loss_on="continuation").resolved())
    both = values | {"train_on": "both", "prompt_length": 20}
    assert fine_tune_of(both).loss_from == 20
    assert fine_tune_of(both | {"loss_on": "all"}).loss_from == 0
    with pytest.raises(InputError, match="train_on continuation, whose blocks contain no prompt"):
        fine_tune_of(both | {"train_on": "continuation"})
    with pytest.raises(InputError, match="prompt_length is not given"):
        fine_tune_of(both | {"prompt_length": None})
    with pytest.raises(InputError, match="with prompts start, whose prompt is a single token"):
        fine_tune_of(both | {"prompts": "start", "prompt_length": None})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"max_steps": 0}, "max_steps is 0; it must be at least 1"),
        ({"max_tokens": -5}, "max_tokens is -5; it must be at least 1"),
        (
            {"max_tokens": 63},
            "max_tokens is 63; a block has 64 tokens, so it must be at least that",
        ),
        ({"gradient_accumulation": 0}, "gradient_accumulation is 0; it must be at least 1"),
        ({"warmup_steps": -1}, "warmup_steps is -1; it must be at least 0"),
        ({"warmup_steps": 3}, "warmup_steps is 3 with schedule cosine-by-epoch, which ignores it"),
        ({"max_grad_norm": 0.0}, "max_grad_norm is 0.0; it must be finite and above 0"),
        ({"lora_rank": -2}, "lora_rank is -2; it must be at least 0"),
        ({"lora_rank": 2, "lora_alpha": float("nan")}, "lora_alpha is nan; it must be finite"),
        ({"lora_alpha": 16.0}, "lora_alpha is 16.0 with lora_rank 0, which ignores it"),
        ({"lora_targets": ("fc1",)}, "lora_targets is fc1 with lora_rank 0, which ignores it"),
        (
            {"schedule": "constant", "final_learning_rate": 0.0},
            "final_learning_rate is 0.0 with schedule constant, which ignores it",
        ),
    ],
)
def test_what_has_no_meaning_is_refused(change, says):
    with pytest.raises(InputError) as caught:
        LMConfig(**change).settings()
    assert str(caught.value).startswith(says) and "\n" not in str(caught.value)


class Tokenizer:
    def decode(self, tokens):
        return "a" * len(tokens)


def test_what_is_said_and_needed_of_a_budget_and_of_lora():
    """2 of 3 matrices of 10 x 6 and a bias get matrices of rank 2; 30 blocks in steps of 4 * 2."""
    layer = {
        name: {"kernel": np.zeros((10, 6), np.float32)} for name in ("q_proj", "k_proj", "fc1")
    }
    layer["fc1"]["bias"] = np.zeros(6, np.float32)
    blocks = np.zeros((30, 16), np.int32)
    ingredients = Ingredients(
        None, {"layers_0": layer}, Tokenizer(), Blocks(blocks, blocks, blocks)
    )
    lora = {"lora_rank": 2, "lora_targets": ("q_proj", "fc1")}
    shared = {"block_length": 16, "batch_size": 4, "gradient_accumulation": 2}
    settings = LMConfig(**shared, **lora, max_steps=6).settings()
    assert fit_words(settings, ingredients) == [
        "fit of generation 0: 6 optimiser steps of up to 8 blocks, 736 tokens, 1.53 epochs",
        "LoRA of rank 2 on q_proj, fc1: 64 parameters are trained instead of 186",
    ]
    assert fit_words(LMConfig(**shared).settings(), ingredients) == []
    # Two epochs: parameters, two moments and the best; more of them: the old state too.
    for changes, numbers in (
        (lora | {"max_steps": 6}, 4 * 64),
        (lora, 7 * 64),
        ({"max_steps": 6}, 4 * 186),
        ({"max_tokens": 16}, 186),
        ({}, 7 * 186),
    ):
        need = disk_need(LMConfig(**shared, **changes).settings(), ingredients, set())
        assert need.unfinished == 4 * numbers + 30 * 16 * 4 and need.state == 4 * 186


def test_the_title_of_a_figure_names_them():
    assert "kept, 5 epochs, 5 seeds" in title(LMConfig())
    words = "kept, at most 5 epochs or 1,200 steps or 9 tokens, LoRA of rank 4, 5 seeds, start"
    assert words in title(LMConfig(max_steps=1200, max_tokens=9, lora_rank=4))

"""What a run of `collapse-jax lm` follows: the figures of a paper, and their protocol."""

import dataclasses
from typing import Literal

PRESETS = {
    "fig1b": {"real_fraction": 0.0, "epochs": 5},
    "fig1c": {"real_fraction": 0.1, "epochs": 10},
}
# What each protocol adds to the preset: the differences between the paper and the code that its
# authors released.
PROTOCOLS = {
    "paper": {"generator": "best", "repetition_penalty": 1.0, "real_kept": "drawn"},
    "released-code": {
        "generator": "last",
        "repetition_penalty": 3.0,
        "real_kept": "batches",
        "epochs": 5,
    },
}


@dataclasses.dataclass(frozen=True)
class PresetSettings:
    """Which loop is run; other settings that are left out follow it."""

    preset: Literal["fig1b", "fig1c"] = "fig1b"
    """fig1b: 5 epochs, no real data kept. fig1c: 10 epochs, 10% of the original blocks kept in
    every generation."""
    protocol: Literal["paper", "released-code"] = "paper"
    """paper: the best epoch goes on, no repetition penalty, real blocks drawn anew; its perplexity
    is test_perplexity_mean. released-code: the last epoch, a penalty of 3, whole batches of real
    blocks, 5 epochs in both presets; test_perplexity."""

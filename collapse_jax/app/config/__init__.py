"""Settings of every command, as frozen dataclasses.

The command line, config.json and Python share them.
"""

from collapse_jax.app.config.devices import Devices, ModelDevices, SeedDevices
from collapse_jax.app.config.lm import PRESETS, PROTOCOLS, TEST_PERPLEXITY, LMConfig
from collapse_jax.app.config.pretrain import PretrainConfig
from collapse_jax.app.config.quickstart import QuickstartConfig
from collapse_jax.app.config.reproduce import ReproduceConfig
from collapse_jax.app.config.simulate import PROGRAM_AXES, VALUE_AXES, WORKFLOWS, SimulateConfig

__all__ = [
    "PRESETS",
    "PROGRAM_AXES",
    "PROTOCOLS",
    "TEST_PERPLEXITY",
    "VALUE_AXES",
    "WORKFLOWS",
    "Devices",
    "LMConfig",
    "ModelDevices",
    "PretrainConfig",
    "QuickstartConfig",
    "ReproduceConfig",
    "SeedDevices",
    "SimulateConfig",
]

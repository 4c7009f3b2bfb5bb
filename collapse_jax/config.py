"""Settings of every command, as frozen dataclasses: the command line, config.json and Python share them."""

import dataclasses
import difflib
import itertools
import math
import types
import typing
from typing import ClassVar, Literal

from collapse_jax.errors import InputError

PRESETS = {
    "fig1b": {"real_fraction": 0.0, "epochs": 5},
    "fig1c": {"real_fraction": 0.1, "epochs": 10},
}


@dataclasses.dataclass(frozen=True)
class LMConfig:
    """Fine-tune an OPT on real text, let it make the next training set, and so on. The defaults are the paper's Fig. 1b."""

    command: ClassVar[str] = "lm"
    may_change: ClassVar[tuple[str, ...]] = ("generations", "seeds")

    preset: Literal["fig1b", "fig1c"] = "fig1b"
    """fig1b: 5 epochs, no real data kept. fig1c: 10 epochs, a fresh random 10% of the original blocks in every generation."""
    corpus: str = "wikitext-2-raw-v1"
    """A folder with train/valid/test files, one text file, a WikiText name on the hub, or "embedded"."""
    model: str = "facebook/opt-125m"
    """A folder in Hugging Face layout, a hub name, or random weights: "random:opt-125m", "random:mini", "random:tiny"."""
    tokenizer: str | None = None
    """A folder, a hub name, or "embedded"; by default the model's own."""
    generations: int = 9
    """The last generation; generation 0 is the model fitted to real text."""
    seeds: int = 5
    """Independent runs, one after another."""
    seed: int = 0
    """Root of all randomness."""
    workflow: Literal["replace", "accumulate", "accumulate_subsample"] = "replace"
    real_fraction: float | None = None
    """Share of each training set that is a fresh random part of the original blocks; by default the preset's."""
    start: Literal["pretrained", "first", "previous"] = "pretrained"
    """What each generation is fine-tuned from: the pretrained weights, the generation-0 model, or its predecessor."""
    keep: Literal["best", "last"] = "best"
    """The epoch that goes on: the one of lowest loss on the original validation set, or the last."""
    block_length: int = 64
    train_blocks: int = 0
    """How many blocks of the training text to use, from its start; 0 uses all."""
    valid_blocks: int = 0
    test_blocks: int = 0
    epochs: int | None = None
    """Epochs of each fit; by default the preset's."""
    batch_size: int = 128
    learning_rate: float = 2e-5
    final_learning_rate: float = 1e-6
    weight_decay: float = 0.01
    dropout: float | None = None
    """By default the model's own."""
    decoding: Literal["beam", "greedy", "sampling"] = "beam"
    num_beams: int = 5
    repetition_penalty: float = 1.0
    temperature: float = 1.0
    top_k: int = 0
    """Sampling from the k most probable tokens only; 0 is off."""
    top_p: float = 1.0
    decode_batch: int = 64
    """Prompts decoded at once."""

    def check(self) -> None:
        """Raises `InputError` for the first setting that has no meaning."""
        _at_least(self, 0, "generations", "seed", "train_blocks", "valid_blocks", "test_blocks", "top_k")
        _at_least(self, 1, "seeds", "batch_size", "num_beams", "decode_batch")
        _at_least(self, 2, "block_length")
        if self.epochs is not None:
            _at_least(self, 1, "epochs")
        _finite(self, "learning_rate", "final_learning_rate", "weight_decay")
        if self.real_fraction is not None and not 0 <= self.real_fraction <= 1:
            raise InputError(f"real_fraction is {self.real_fraction}; it must be in [0, 1]")
        if self.workflow != "replace" and self.resolved().real_fraction > 0:
            raise InputError(
                f"real_fraction is {self.resolved().real_fraction} with workflow {self.workflow}, which keeps all real data; give 0"
            )

    def resolved(self) -> "LMConfig":
        """The same with every setting that the preset leaves open filled in."""
        preset = PRESETS[self.preset]
        return dataclasses.replace(self, **{name: value for name, value in preset.items() if getattr(self, name) is None})


WORKFLOWS = ("replace", "mix", "accumulate", "accumulate_subsample")
# What a comma-separated option may vary: programs of their own for the first, one program for all values of the others.
PROGRAM_AXES, VALUE_AXES = ("workflow", "dim", "ddof", "num_categories"), ("sample_size", "alpha", "beta", "gamma")


@dataclasses.dataclass(frozen=True)
class SimulateConfig:
    """Thousands of chains of a Gaussian or a categorical family, drawn against their closed forms.

    Options that show a comma take several values; a simulation then covers the grid of all of them.
    """

    command: ClassVar[str] = "simulate"
    may_change: ClassVar[tuple[str, ...]] = ("generations", "chunk", "memory_limit")

    family: Literal["gaussian", "categorical"] = "gaussian"
    workflow: str | tuple[str, ...] = ""
    """replace, mix, accumulate, accumulate_subsample; by default mix where shares are given, else replace."""
    alpha: float | tuple[float, ...] | None = None
    """With mix: the share of each training set that the newest model makes; by default what beta and gamma leave."""
    beta: float | tuple[float, ...] = 0.0
    """With mix: the share taken from the previous training set."""
    gamma: float | tuple[float, ...] = 0.0
    """With mix: the share of fresh real data."""
    sample_size: int | tuple[int, ...] = 100
    generations: int = 200
    """The last generation; generation 0 is the model fitted to `sample_size` real draws."""
    chains: int = 10_000
    """Chains at each point of the grid."""
    dim: int | tuple[int, ...] = 1
    """Dimensions of the Gaussian."""
    ddof: int | tuple[int, ...] = 1
    """1: unbiased covariance (the theorem). 0: maximum likelihood (the released code)."""
    num_categories: int | tuple[int, ...] = 10
    """Categories, equally probable at the start."""
    metrics: tuple[str, ...] = ()
    """Names of what to record; by default what the family's figure needs."""
    record: str = "1"
    """Which generations to record: a stride, "log", or their numbers with commas. 0 and the last are always among them."""
    keep: Literal["chains", "summary"] = "chains"
    """What of them: every chain, or mean, deviation and quantiles over chains alone (always so on a grid)."""
    memory_limit: float = 8.0
    """GiB that the simulation may hold; more is refused before it starts."""
    seed: int = 0
    chunk: int = 50
    """Records in one compiled call."""

    def check(self) -> None:
        """Raises `InputError` for the first setting that has no meaning."""
        _at_least(self, 0, "generations", "seed", "beta", "gamma", "ddof")
        _at_least(self, 1, "sample_size", "chains", "dim", "num_categories", "chunk")
        if not (math.isfinite(self.memory_limit) and self.memory_limit > 0):
            raise InputError(f"memory_limit is {self.memory_limit}; it must be a positive number of GiB")
        self.recorded()
        for point in self.points():
            if point.workflow not in WORKFLOWS:
                raise InputError(f"workflow is {point.workflow!r}; it must be one of {', '.join(WORKFLOWS)}")
            for name in ("beta", "gamma", "alpha"):
                if not 0 <= getattr(point, name) <= 1:
                    raise InputError(f"{name} is {getattr(point, name):g}; it must be in [0, 1], and alpha + beta + gamma must be 1")
            total = point.alpha + point.beta + point.gamma
            if abs(total - 1) > 1e-6:
                shares = f"{point.alpha:g} + {point.beta:g} + {point.gamma:g}"
                raise InputError(f"alpha + beta + gamma is {total:g} ({shares}); it must be 1")
            if point.workflow != "mix" and (point.alpha, point.beta, point.gamma) != (1.0, 0.0, 0.0):
                shares = f"{point.alpha:g}, {point.beta:g}, {point.gamma:g}"
                raise InputError(f"alpha, beta, gamma are {shares} with workflow {point.workflow}, which ignores them; give --workflow mix")

    def resolved(self) -> "SimulateConfig":
        """The same with everything filled in that the family or other settings imply, and one value where one was meant."""
        default = ("mean", "variance", "log_variance") if self.family == "gaussian" else ("heterozygosity", "entropy", "support")
        mixed = self.alpha is not None or self.beta != 0.0 or self.gamma != 0.0
        given = {name: getattr(self, name) for name in (*PROGRAM_AXES, *VALUE_AXES)}
        given["workflow"] = self.workflow or ("mix" if mixed else "replace")
        single = {name: values[0] if isinstance(values, tuple) and len(values) == 1 else values for name, values in given.items()}
        whole = dataclasses.replace(self, **single, metrics=self.metrics or default)
        if whole.axes():
            return dataclasses.replace(
                whole, keep="summary", metrics=tuple(name for name in whole.metrics if self.metrics or name != "mean")
            )
        return whole if whole.alpha is not None else dataclasses.replace(whole, alpha=round(1 - whole.beta - whole.gamma, 12))

    def axes(self) -> dict[str, tuple]:
        """Name -> values of each setting that is given several."""
        given = {name: getattr(self, name) for name in (*PROGRAM_AXES, *VALUE_AXES)}
        return {name: values for name, values in given.items() if isinstance(values, tuple) and len(values) > 1}

    def points(self) -> list["SimulateConfig"]:
        """The settings at each point of the grid, single values all, in the order of `axes` (the last varies fastest)."""
        whole = self.resolved()
        combinations = itertools.product(*whole.axes().values())
        return [dataclasses.replace(whole, **dict(zip(whole.axes(), values, strict=True))).resolved() for values in combinations]

    def recorded(self) -> "int | str | list[int]":
        """`record` as `simulate` takes it. Raises `InputError` if it is none of the three."""
        if self.record == "log":
            return self.record
        try:
            numbers = [int(number) for number in self.record.split(",")]
        except ValueError:
            numbers = [-1]
        if min(numbers) < 0 or (len(numbers) == 1 and numbers[0] < 1):
            raise InputError(f"record is {self.record!r}; it must be a stride of at least 1, 'log', or generation numbers with commas")
        return numbers[0] if len(numbers) == 1 else numbers


@dataclasses.dataclass(frozen=True)
class QuickstartConfig:
    """Everything at once, offline, in under 3 minutes: chains against theory, then the language-model loop on embedded text."""

    command: ClassVar[str] = "quickstart"
    may_change: ClassVar[tuple[str, ...]] = ()

    chains: int = 10_000
    """Chains of each family under each workflow."""
    generations: int = 4
    """The last generation of the language model."""
    seed: int = 0

    def check(self) -> None:
        """Raises `InputError` for the first setting that has no meaning."""
        _at_least(self, 0, "generations", "seed")
        _at_least(self, 1, "chains")

    def resolved(self) -> "QuickstartConfig":
        """Itself: nothing is left open."""
        return self


Config = LMConfig | SimulateConfig | QuickstartConfig
CONFIGS = {config.command: config for config in (LMConfig, SimulateConfig, QuickstartConfig)}


def config_from_dict(values: dict, where: str) -> Config:
    """The configuration in a parsed config.json. Raises `InputError` for unknown, misspelt or ill-typed fields; `where` names the file."""
    if not isinstance(values, dict) or values.get("command") not in CONFIGS:
        raise InputError(f"{where}: 'command' must be one of {', '.join(CONFIGS)}")
    kind = CONFIGS[values["command"]]
    hints = typing.get_type_hints(kind)
    fields = {field.name: hints[field.name] for field in dataclasses.fields(kind)}
    given = {name: value for name, value in values.items() if name != "command"}
    for name, value in given.items():
        if name not in fields:
            nearest = difflib.get_close_matches(name, fields, 1)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"known are {', '.join(fields)}"
            raise InputError(f"{where}: unknown field {name!r}; {hint}")
        given[name] = _typed(value, fields[name], f"{where}: {name}")
    config = kind(**given)
    config.check()
    return config


def differing_fields(there: Config, here: Config) -> list[str]:
    """The settings in which two runs of one kind differ, as "name: THERE there, HERE here"; those that may grow are left out."""
    there, here = there.resolved(), here.resolved()
    names = [field.name for field in dataclasses.fields(there) if field.name not in there.may_change]
    return [
        f"{name}: {getattr(there, name)} there, {getattr(here, name)} here" for name in names if getattr(there, name) != getattr(here, name)
    ]


def _typed(value, kind, where):
    if isinstance(kind, types.UnionType):
        options = typing.get_args(kind)
        if value is None and type(None) in options:
            return None
        several = [option for option in options if typing.get_origin(option) is tuple]
        return _typed(value, several[0] if several and isinstance(value, list | tuple) else options[0], where)
    if typing.get_origin(kind) is Literal:
        if value not in typing.get_args(kind):
            raise InputError(f"{where} is {value!r}; it must be one of {', '.join(map(str, typing.get_args(kind)))}")
        return value
    if typing.get_origin(kind) is tuple:
        kind = typing.get_args(kind)[0]
        if not isinstance(value, list | tuple):
            raise InputError(f"{where} is {value!r}; it must be a list of {'names' if kind is str else 'numbers'}")
        return tuple(_typed(item, kind, where) for item in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InputError(f"{where} is {value!r}; it must be of type {kind.__name__}")
    return value


def _at_least(config, least, *names):
    for name in names:
        values = getattr(config, name)
        for value in values if isinstance(values, tuple) else (values,):
            if not value >= least:
                raise InputError(f"{name} is {value}; it must be at least {least}")


def _finite(config, *names):
    for name in names:
        value = getattr(config, name)
        if not (math.isfinite(value) and value >= 0):
            raise InputError(f"{name} is {value}; it must be finite and not negative")

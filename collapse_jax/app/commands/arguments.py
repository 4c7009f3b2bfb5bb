"""Arguments of commands that are not settings: no run folder holds them."""

import dataclasses
from typing import Annotated, Literal

import tyro


@dataclasses.dataclass(frozen=True)
class RunArguments:
    """Where a run lies, and where its settings may come from."""

    out: str = ""
    """The run folder; a run that was begun there goes on."""
    settings_file: Annotated[str, tyro.conf.arg(name="config", metavar="FILE")] = ""
    """A config.json: its settings are the defaults of all others. It names no code; only the
    command line does."""


@dataclasses.dataclass(frozen=True)
class PlanArguments:
    """Whether a simulation is only planned."""

    dry_run: bool = False
    """Print what it would take and write, by a short piece of it, and write nothing."""


@dataclasses.dataclass(frozen=True)
class MeasureArguments:
    """What `collapse-jax measure` adds to a run."""

    run: Annotated[str, tyro.conf.arg(metavar="RUN"), tyro.conf.Positional]
    """A run folder of simulate."""
    metrics: tuple[str, ...]
    """Names of what to record of the chains that are there, at the generations that are."""


@dataclasses.dataclass(frozen=True)
class PlotArguments:
    """What `collapse-jax plot` draws."""

    run: Annotated[str, tyro.conf.arg(metavar="RUN"), tyro.conf.Positional]
    """A run folder."""


@dataclasses.dataclass(frozen=True)
class ReproduceArguments:
    """Which entries `collapse-jax reproduce` checks."""

    ids: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Entries to check; all by default."""
    paper: str = ""
    """Only those of papers whose arXiv number or name contains this."""
    cost: str = ""
    """cpu, gpu or weights: only entries of this cost."""
    show: Annotated[bool, tyro.conf.arg(name="list")] = False
    """Name the entries and check nothing."""


@dataclasses.dataclass(frozen=True)
class EvaluateArguments:
    """What `collapse-jax evaluate` scores, and by which models."""

    run: Annotated[str, tyro.conf.arg(metavar="RUN"), tyro.conf.Positional]
    """A run folder of lm."""
    corpus: str
    """The text: whatever lm takes as one. A single file is read whole, of others the test text."""
    generation: str | tuple[str, ...] = "all"
    """Numbers, "pretrained" for the model before any fit, or "all" of those on disk."""
    seed: int | tuple[int, ...] = ()
    """Numbers of the run's seeds, from 0; by default all."""
    split: Literal["train", "valid", "test"] | None = None
    """Which text of the corpus; a single file is then cut as lm cuts it."""
    block_length: int | None = None
    """Tokens of a block; by default the run's."""
    blocks: int = 0
    """The first so many blocks; 0 is all."""
    context_length: int | None = None
    """Score the text as one, by a window of so many tokens that moves on, instead of blocks."""
    stride: int | None = None
    """By how many tokens that window moves on: each token is scored once, with at least
    context_length - stride tokens before it. By default half of context_length."""
    text_column: str | None = None
    """Column of parquet, JSON or a hub's text that is read; by default "text"."""
    model: str | None = None
    """Where the model lies now that the run began from; by default where it lay then."""
    tokenizer: str | None = None
    """The same of the tokenizer."""


@dataclasses.dataclass(frozen=True)
class ExportArguments:
    """Which model `collapse-jax export` writes, and where to."""

    run: Annotated[str, tyro.conf.arg(metavar="RUN"), tyro.conf.Positional]
    """A run folder of lm."""
    to: str
    """A new folder, or an empty one."""
    generation: str = "last"
    """A number, "last" of those on disk, or "pretrained" for the model before any fit."""
    seed: int = 0
    """Number of the run's seed, from 0."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the weights; bfloat16 takes half the room."""
    model: str | None = None
    """Where the model lies now that the run began from; by default where it lay then."""
    tokenizer: str | None = None
    """The same of the tokenizer."""


@dataclasses.dataclass(frozen=True)
class CompareArguments:
    """Which runs `collapse-jax compare` puts side by side."""

    runs: Annotated[tuple[str, ...], tyro.conf.arg(metavar="RUN"), tyro.conf.Positional]
    """Run folders of lm, two or more."""
    out: str = "runs/compare"
    """Where the figure and the table go."""


@dataclasses.dataclass(frozen=True)
class ProfileArguments:
    """Which run `collapse-jax profile` judges, by which metrics and thresholds."""

    runs: Annotated[tuple[str, ...], tyro.conf.arg(metavar="RUN"), tyro.conf.Positional]
    """A run folder of simulate, lm or cj.run; several of other sample sizes for the scaling law."""
    json: bool = False
    """Print all numbers as JSON in the place of the table."""
    out: str = ""
    """Write profile.json, profile.txt and a figure into this folder. Runs are never written to."""
    metrics: tuple[str, ...] = ()
    """ROLE=METRIC, or ROLE=METRIC:SCALE, for a recorded metric of your own. Roles are loss,
    diversity, modes, tails and hallucination."""
    truth: tuple[str, ...] = ()
    """METRIC=NUMBER that the real distribution has, in the place of generation 0."""
    at: tuple[str, ...] = ()
    """AXIS=VALUE of a grid, where all but the scaling law are judged."""
    catastrophic: float | None = None
    """Threshold: by what factor the test loss rises (perplexity: 2, an error: 10)."""
    increase: float | None = None
    """Threshold: the factor of the test loss from which on it counts as a rise (1.01)."""
    divergence: float | None = None
    """Threshold: the factor of the test loss in a doubling of the samplings that counts as growth
    (1.05)."""
    diversity: float | None = None
    """Threshold: the share of generation 0's diversity that is left (0.5)."""
    scaling: float | None = None
    """Threshold: by how much the exponent of the loss in the sample size changes (0.1)."""
    modes: float | None = None
    """Threshold: the share of generation 0's modes that is left (0.9), or the mass lost (0.05)."""
    tails: float | None = None
    """Threshold: the share of generation 0's tails that is left (0.5), or the mass lost (0.05)."""
    hallucination: float | None = None
    """Threshold: the mass where the truth has none, beyond that of generation 0 (0.01)."""


@dataclasses.dataclass(frozen=True)
class WarningArguments:
    """What `collapse-jax warning` watches, and when an alarm rings."""

    run: Annotated[str, tyro.conf.arg(metavar="RUN"), tyro.conf.Positional]
    """A run folder of simulate, lm or cj.run that holds every chain, or seed."""
    loss: str
    """The metric that collapses, as test_perplexity."""
    threshold: float
    """Where it counts as collapsed; crossed upwards if it lies above the first losses."""
    steady: str = ""
    """A run folder of chains that do not collapse, recorded at the same generations. By default the
    chains of RUN that do not cross the threshold."""
    relative: bool = False
    """Whether the threshold is in units of each chain's own first loss."""
    metrics: str | tuple[str, ...] = ()
    """Names with commas; by default all with one number a generation."""
    indicators: str | tuple[str, ...] = ()
    """Of level, change, variance and autocorrelation, with commas. By default all but change; with
    --limits or --change the level alone."""
    false_alarm_rate: float | None = None
    """The chance that a steady chain rings at all, .05 by default. Half of the steady chains set
    the limits, and the other half is counted."""
    limits: str | tuple[str, ...] = ()
    """METRIC=NUMBER with commas: limits of levels, instead of a rate."""
    change: float | None = None
    """The share of its first value by which a metric must change, as .1, instead of a rate."""
    directions: str | tuple[str, ...] = ()
    """rises, falls or either for all metrics, or METRIC=falls with commas; by default learned of
    half of the chains."""
    by_generation: bool = False
    """Whether metrics are held against those of the steady chains at the same generation."""
    lead: int = 1
    """Generations that an alarm must be ahead to count."""
    window: int | None = None
    """Generations that variance and autocorrelation look back on; by default a quarter of all."""
    set_size: int = 1
    """Watch sets of so many chains, which may disagree, instead of chains."""
    out: str = "runs/warning"
    """Where the table, the figure and warning.json go."""


@dataclasses.dataclass(frozen=True)
class TrackArguments:
    """Where a run is followed beside its folder, and whether it is only planned."""

    dry_run: bool = False
    """Print what it would take and write, by a short piece of it, and write nothing."""
    track: str | tuple[str, ...] = ()
    """Follow the run in tensorboard, wandb or trackio, or several with commas. They get every
    recorded number of each generation, and the losses by epoch."""

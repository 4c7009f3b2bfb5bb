"""Arguments of commands that are not settings: run folders do not store them."""

import dataclasses
from typing import Annotated, Literal

import tyro


@dataclasses.dataclass(frozen=True)
class RunArguments:
    """The run folder, and a file of settings."""

    out: str = ""
    """The run folder; a run that was started there is resumed."""
    settings_file: Annotated[str, tyro.conf.arg(name="config", metavar="FILE")] = ""
    """A config.json, or a run folder that contains one: its settings become the defaults of all
    other options. It may not name Python code; only the command line may."""


@dataclasses.dataclass(frozen=True)
class PlanArguments:
    """Planning a simulation without running it."""

    dry_run: bool = False
    """Print the memory, time and files that the simulation would need, and write nothing."""


@dataclasses.dataclass(frozen=True)
class MeasureArguments:
    """The metrics that `collapse-jax measure` adds to a run."""

    run: Annotated[str, tyro.conf.arg(metavar="RUN"), tyro.conf.Positional]
    """A run folder of simulate."""
    metrics: tuple[str, ...]
    """Names of the metrics to add, at the generations that the run has recorded."""


@dataclasses.dataclass(frozen=True)
class PlotArguments:
    """The run that `collapse-jax plot` draws."""

    run: Annotated[str, tyro.conf.arg(metavar="RUN"), tyro.conf.Positional]
    """A run folder."""


@dataclasses.dataclass(frozen=True)
class ReproduceArguments:
    """Which entries `collapse-jax reproduce` checks."""

    ids: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Ids of the entries to check; by default all entries."""
    paper: str = ""
    """Check only entries of papers whose arXiv number or name contains this text."""
    cost: str = ""
    """Check only entries of this cost: cpu, gpu or weights."""
    show: Annotated[bool, tyro.conf.arg(name="list")] = False
    """List the entries and check nothing."""


@dataclasses.dataclass(frozen=True)
class EvaluateArguments:
    """The text that `collapse-jax evaluate` scores, and the models that score it."""

    run: Annotated[str, tyro.conf.arg(metavar="RUN"), tyro.conf.Positional]
    """A run folder of lm."""
    corpus: str
    """The text to score: anything that lm accepts as --corpus. A single file is scored as a whole;
    of any other corpus, the test text is scored."""
    generation: str | tuple[str, ...] = "all"
    """Generations to score: numbers with commas, "last" for the newest on disk, "pretrained" for
    the model before any fit, or "all" for all generations on disk."""
    seed: int | tuple[int, ...] = ()
    """Numbers of the run's seeds, counted from 0; by default all seeds."""
    split: Literal["train", "valid", "test"] | None = None
    """The split of the corpus to score; a single file is then split as lm splits it."""
    block_length: int | None = None
    """Number of tokens per block; by default that of the run."""
    blocks: int = 0
    """Score only this number of blocks, from the start of the text; 0 is all."""
    context_length: int | None = None
    """Score the text as one stream instead of blocks, with a sliding window of this many tokens."""
    stride: int | None = None
    """Tokens by which the sliding window moves; each token is scored once, with at least
    context_length - stride tokens before it. By default half of context_length."""
    text_column: str | None = None
    """Column to read from parquet, JSON or a hub data set; by default "text"."""
    model: str | None = None
    """New path of the model that the run started from, if it has been moved."""
    tokenizer: str | None = None
    """New path of the tokenizer, if it has been moved."""


@dataclasses.dataclass(frozen=True)
class ExportArguments:
    """The model that `collapse-jax export` writes, and the folder to write."""

    run: Annotated[str, tyro.conf.arg(metavar="RUN"), tyro.conf.Positional]
    """A run folder of lm."""
    to: str
    """The folder to write, which must be new or empty."""
    generation: str = "last"
    """The generation to export: a number, "last" for the newest on disk, or "pretrained" for the
    model before any fit."""
    seed: int = 0
    """Number of the run's seed, counted from 0."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the weights; bfloat16 takes half the disk space."""
    model: str | None = None
    """New path of the model that the run started from, if it has been moved."""
    tokenizer: str | None = None
    """New path of the tokenizer, if it has been moved."""


@dataclasses.dataclass(frozen=True)
class CompareArguments:
    """The runs that `collapse-jax compare` compares."""

    runs: Annotated[tuple[str, ...], tyro.conf.arg(metavar="RUN"), tyro.conf.Positional]
    """Two or more run folders of lm."""
    out: str = "runs/compare"
    """Folder for the figure and the table."""


@dataclasses.dataclass(frozen=True)
class ProfileArguments:
    """The run that `collapse-jax profile` judges, and the metrics and thresholds that it uses."""

    runs: Annotated[tuple[str, ...], tyro.conf.arg(metavar="RUN"), tyro.conf.Positional]
    """A run folder of simulate, lm or cj.run; several runs with different sample sizes for the
    scaling law."""
    json: bool = False
    """Print all numbers as JSON instead of the table."""
    out: str = ""
    """Write profile.json, profile.txt and a figure into this folder. The run folders are not
    changed."""
    metrics: tuple[str, ...] = ()
    """ROLE=METRIC or ROLE=METRIC:SCALE to choose the recorded metric of a role. Roles are loss,
    diversity, modes, tails and hallucination."""
    truth: tuple[str, ...] = ()
    """METRIC=NUMBER: the value of a metric for the real distribution, used as the reference instead
    of generation 0."""
    at: tuple[str, ...] = ()
    """AXIS=VALUE to choose a point of a grid, at which all definitions except the scaling law are
    judged."""
    catastrophic: float | None = None
    """Threshold: factor by which the test loss must rise (default 2 for a perplexity, 10 for an
    error)."""
    increase: float | None = None
    """Threshold: factor from which on a change of the test loss counts as a rise (default 1.01)."""
    divergence: float | None = None
    """Threshold: factor of the test loss per doubling of the number of samplings that counts as
    growth (default 1.05)."""
    diversity: float | None = None
    """Threshold: share of the diversity of generation 0 that is left (default 0.5)."""
    scaling: float | None = None
    """Threshold: change of the exponent of the loss as a power of the sample size (default 0.1)."""
    modes: float | None = None
    """Threshold: share of the modes of generation 0 that is left (default 0.9), or their lost mass
    (default 0.05)."""
    tails: float | None = None
    """Threshold: share of the tails of generation 0 that is left (default 0.5), or their lost mass
    (default 0.05)."""
    hallucination: float | None = None
    """Threshold: probability mass where the real distribution has none, in excess of generation 0
    (default 0.01)."""


@dataclasses.dataclass(frozen=True)
class WarningArguments:
    """The metrics that `collapse-jax warning` watches, and the conditions of an alarm."""

    run: Annotated[str, tyro.conf.arg(metavar="RUN"), tyro.conf.Positional]
    """A run folder of simulate, lm or cj.run that stores every chain or seed."""
    loss: str
    """The metric that collapses, for example test_perplexity."""
    threshold: float
    """Value of the loss at which a chain counts as collapsed; it is crossed upwards if it is above
    the first losses."""
    steady: str = ""
    """A run folder of steady chains, which do not collapse, recorded at the same generations. By
    default the steady chains are those of RUN that do not cross the threshold."""
    relative: bool = False
    """Give the threshold in units of each chain's first loss."""
    metrics: str | tuple[str, ...] = ()
    """Names of the metrics to watch, with commas; by default all that are one number per
    generation."""
    indicators: str | tuple[str, ...] = ()
    """Indicators to compute, with commas: level, change, variance, autocorrelation. By default all
    except change; with --limits or --change only the level."""
    false_alarm_rate: float | None = None
    """Probability that a steady chain raises a (false) alarm at any time, 0.05 by default. Half of
    the steady chains set the limits, and the other half estimates the rate."""
    limits: str | tuple[str, ...] = ()
    """METRIC=NUMBER with commas: fixed limits of levels, instead of a false-alarm rate."""
    change: float | None = None
    """Share of its first value by which a metric must change, for example 0.1, instead of a
    false-alarm rate."""
    directions: str | tuple[str, ...] = ()
    """Direction of an alarm: rises, falls or either for all metrics, or METRIC=falls with commas;
    by default estimated from half of the chains."""
    by_generation: bool = False
    """Compare metrics with those of the steady chains at the same generation."""
    lead: int = 1
    """Smallest number of generations between an alarm and the collapse for the alarm to count."""
    window: int | None = None
    """Length of the window of variance and autocorrelation, in generations; by default a quarter of
    all generations."""
    set_size: int = 1
    """Watch sets of this many chains instead of single chains; the disagreement of a set is then an
    indicator too."""
    out: str = "runs/warning"
    """Folder for the table, the figure and warning.json."""


@dataclasses.dataclass(frozen=True)
class TrackArguments:
    """Experiment trackers, and a dry run."""

    dry_run: bool = False
    """Print the memory, time and disk that the run would take, estimated from a short piece of it,
    and write nothing."""
    track: str | tuple[str, ...] = ()
    """Send results to tensorboard, wandb or trackio, or to several of them with commas. A tracker
    receives every recorded number of each generation, and the losses by epoch."""

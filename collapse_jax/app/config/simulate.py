"""Settings of `collapse-jax simulate`."""

import dataclasses
import itertools
import math
from typing import ClassVar, Literal, Self

from collapse_jax.app.config import grown_axes
from collapse_jax.app.config.checks import LARGEST_COUNT, LARGEST_SEED, at_least, at_most
from collapse_jax.app.config.data import DataSettings
from collapse_jax.app.config.ecosystem import EcosystemSettings
from collapse_jax.app.config.simulate_axes import (
    ACCUMULATING,
    FIELDS_OF_FAMILIES,
    PROGRAM_AXES,
    VALUE_AXES,
    WORKFLOWS,
    check_axes,
    check_fields_of_families,
    check_grid,
    check_options,
    values_of_option,
)
from collapse_jax.app.config.verifier import PREFIX, VerifierSettings
from collapse_jax.errors import InputError, one_of

# Settings that a switch may change, beside the workflow, with their defaults.
_SWITCHED = {"alpha": 1.0, "beta": 0.0, "gamma": 0.0, "real_share": 0.0, "synthetic_ratio": 1.0}


@dataclasses.dataclass(frozen=True)
class SimulateConfig(DataSettings, EcosystemSettings, VerifierSettings):
    """Simulate thousands of chains of any family and compare them with theory where it is known.

    An option marked [,...] takes several values: a list with commas, 0:1:11 for evenly spaced
    values, or log:10:6000:50 for logarithmic spacing. The simulation then covers the grid of all
    combinations.
    """

    command: ClassVar[str] = "simulate"
    may_change: ClassVar[tuple[str, ...]] = ("generations", "chains", "chunk", "memory_limit")
    earlier: ClassVar[dict[str, str]] = {"streams": "common"}

    family: str = "gaussian"
    """The family of models, one that `collapse-jax families` lists. Families other than gaussian
    and categorical start from the model of their example."""
    options: tuple[str, ...] = ()
    """NAME=VALUE options of the family, as `collapse-jax families` lists them."""
    workflow: str | tuple[str, ...] = ""
    """replace, mix, accumulate, accumulate_subsample or keep_real; by default mix if shares are
    given, else replace."""
    alpha: float | tuple[float, ...] | None = None
    """With mix: the share of each training set that the newest model generates; by default 1 - beta
    - gamma."""
    beta: float | tuple[float, ...] = 0.0
    """With mix: the share taken from the previous training set."""
    gamma: float | tuple[float, ...] = 0.0
    """With mix: the share of fresh real data."""
    real_share: float | tuple[float, ...] = 0.0
    """With accumulate and accumulate_subsample: the share of each new batch that is fresh real
    data."""
    synthetic_ratio: float | tuple[float, ...] = 1.0
    """With keep_real: number of synthetic points per real point; all real points are kept."""
    temperature: float | tuple[float, ...] = 1.0
    """Sampling temperature, for families that have one: probabilities are raised to the power 1 /
    temperature and normalised. For a Gaussian it multiplies the variance."""
    grid: tuple[str, ...] = ()
    """Several values of a numeric option of the family, NAME=VALUE,VALUE or NAME=0:1:11; each
    option is an axis of the grid. If the family can trace the option, all values share one compiled
    program."""
    switch: str = ""
    """Change the workflow from a generation on, for example 50:gamma=0.1 or
    50:workflow=accumulate,real_share=0.3. Names are workflow, alpha, beta, gamma, real_share and
    synthetic_ratio; names that are left out have their defaults."""
    synthetic_weight: float | tuple[float, ...] = 1.0
    """Weight of a synthetic point in the fit, relative to a real point; 0 ignores synthetic
    points."""
    sample_size: int | tuple[int, ...] = 100
    """Number of points in each training set."""
    generations: int = 200
    """Number of the last generation; generation 0 is the model fitted to `sample_size` real
    points."""
    chains: int = 10_000
    """Number of independent chains, at each point of a grid."""
    dim: int | tuple[int, ...] = 1
    """For gaussian: number of dimensions."""
    ddof: int | tuple[int, ...] = 1
    """For gaussian, the covariance estimator: 1 is unbiased (the theorem), 0 is maximum likelihood
    (the released code)."""
    num_categories: int | tuple[int, ...] = 10
    """For categorical: number of categories, which are equally probable in the real
    distribution."""
    metrics: tuple[str, ...] = ()
    """Names of the metrics to record; by default those that the family's figure shows. Every family
    of points offers precision, recall, density, coverage, sliced_wasserstein and tail_share, which
    compare 1,000 points of the model with 1,000 real points, or with the held-out rows of
    --data."""
    record: str = "1"
    """Which generations to record: a stride, "log" for logarithmic spacing, or generation numbers
    with commas. Generation 0 and the last one are always recorded."""
    keep: Literal["chains", "summary"] = "chains"
    """What to record: every chain, or only the mean, standard deviation and quantiles over chains
    (always so on a grid)."""
    memory_limit: float = 8.0
    """Memory limit in GiB; a simulation that needs more is refused before it starts."""
    seed: int = 0
    """Seed of all random numbers."""
    streams: Literal["independent", "common"] | None = None
    """Random numbers of the grid points: independent (the default on a grid), or common to all
    points. independent: each point has random numbers that depend on its settings. common: all
    points have the same random numbers, so that they differ by their settings alone and their
    errors are correlated. The default is independent on a grid (a resumed grid keeps the choice
    that it began with) and common without a grid: two such simulations with the same seed share
    their random numbers."""
    chunk: int = 50
    """Recorded generations per compiled call."""

    def check(self) -> None:
        """Raises `InputError` for the first invalid setting."""
        for name in (*PROGRAM_AXES, *VALUE_AXES):
            if getattr(self, name) == ():
                raise InputError(f"{name} has no value; give at least one")
        at_least(
            *(self, 0, "generations", "seed", "beta", "gamma", "ddof", "synthetic_ratio"),
            "synthetic_weight",
        )
        at_least(self, 1, "sample_size", "chains", "dim", "num_categories", "chunk")
        at_most(self, LARGEST_SEED, "seed")
        at_most(self, LARGEST_COUNT, "sample_size", "generations", "chunk", "dim", "num_categories")
        if not (math.isfinite(self.memory_limit) and self.memory_limit > 0):
            raise InputError(
                f"memory_limit is {self.memory_limit}; it must be a positive number of GiB"
            )
        if self.streams is not None:
            one_of("streams", self.streams, ("independent", "common"))
        self.check_data()
        self.recorded()
        check_options(self)
        check_grid(self)
        self.check_ecosystem()
        self.check_verifier()
        check_fields_of_families(self)
        check_axes(self)
        for point in self.points():
            point.check_point()

    def grown_fields(self, saved: Self) -> tuple[str, ...]:
        """Axes, where these settings have all values of a grid that was begun, and others."""
        return grown_axes.FIELDS if grown_axes.grew(saved, self) else ()

    def resolved(self) -> Self:
        """Returns the settings with every field filled in that the family or other fields imply.

        A tuple of one value becomes that value.
        """
        from collapse_jax.app.laws import default_metrics  # here, for it imports jax

        mixed = self.alpha is not None or self.beta != 0.0 or self.gamma != 0.0
        given = {name: getattr(self, name) for name in (*PROGRAM_AXES, *VALUE_AXES)}
        given["exchange"] = self.exchanges()
        given["workflow"] = self.workflow or ("mix" if mixed else "replace")
        single = {
            name: values[0] if isinstance(values, tuple) and len(values) == 1 else values
            for name, values in given.items()
        }
        metrics = self.metrics or (() if self.has_ecosystem() else default_metrics(self.family))
        own = self.option_axes()
        given_once = tuple(f"{name}={texts[0]}" for name, texts in own.items() if len(texts) == 1)
        grid = tuple(entry for entry in self.grid if len(own[entry.partition("=")[0]]) > 1)
        options = (*self.options, *given_once)
        filled = dataclasses.replace(self, **single, metrics=metrics, grid=grid, options=options)
        is_grid = bool(filled.axes())
        streams = self.streams or ("independent" if is_grid else "common")
        filled = dataclasses.replace(filled, streams=streams)
        if is_grid:
            metrics = tuple(name for name in filled.metrics if self.metrics or name != "mean")
            return dataclasses.replace(filled, keep="summary", metrics=metrics)
        if filled.alpha is None:
            # Without axes these are numbers.
            left = round(1 - filled.beta - filled.gamma, 12)  # pyright: ignore[reportOperatorIssue]
            return dataclasses.replace(filled, alpha=left)
        return filled

    def resolve(self) -> "SimulateSettings":
        """Returns the settings of a simulation without a grid, each with a single value."""
        (settings,) = self.points()
        return settings

    def axes(self) -> dict[str, tuple]:
        """Name -> values of each setting that is given several."""
        given = {name: getattr(self, name) for name in (*PROGRAM_AXES, *VALUE_AXES)}
        return {
            name: values
            for name, values in given.items()
            if isinstance(values, tuple) and len(values) > 1
        } | {name: tuple(map(float, texts)) for name, texts in self.option_axes().items()}

    def option_axes(self) -> dict[str, tuple[str, ...]]:
        """Name -> values, as they are written, of each option of the family in `grid`."""
        entries = (entry.partition("=") for entry in self.grid)
        return {name: values_of_option(texts) for name, _, texts in entries}

    def points(self) -> list["SimulateSettings"]:
        """The settings at each point of the grid: the last of the `axes` varies fastest."""
        filled = self.resolved()
        axes = filled.axes()
        points = []
        for values in itertools.product(*axes.values()):
            at_point = dict(zip(axes, values, strict=True))
            own = [
                f"{name}={texts[axes[name].index(at_point.pop(name))]}"
                for name, texts in filled.option_axes().items()
            ]
            options = (*filled.options, *own)
            point = dataclasses.replace(filled, **at_point, grid=(), options=options).resolved()
            points.append(SimulateSettings(**vars(point)))
        return points

    def recorded(self) -> int | str | list[int]:
        """`record` as `simulate` takes it.

        Raises:
            InputError: if it is not a stride, "log" or generation numbers.
        """
        if self.record == "log":
            return self.record
        try:
            numbers = [int(number) for number in self.record.split(",")]
        except ValueError:
            numbers = [-1]
        if min(numbers) < 0 or (len(numbers) == 1 and numbers[0] < 1):
            raise InputError(
                f"record is {self.record!r}; it must be a stride of at least 1, 'log', or "
                "generation numbers with commas"
            )
        return numbers[0] if len(numbers) == 1 else numbers


@dataclasses.dataclass(frozen=True)
class SimulateSettings(SimulateConfig):
    """The settings of one simulation: every field is filled in, and has one value."""

    workflow: str = "replace"
    alpha: float = 1.0
    beta: float = 0.0
    gamma: float = 0.0
    real_share: float = 0.0
    synthetic_ratio: float = 1.0
    temperature: float = 1.0
    synthetic_weight: float = 1.0
    exchange: float | None = None
    sample_size: int = 100
    dim: int = 1
    ddof: int = 1
    num_categories: int = 10

    def stream_name(self) -> str:
        """Returns the name of this point among all grids, which selects its random numbers.

        The name contains every setting that changes the distribution of a chain, each number
        exactly, and nothing else: not the axes of the grid, nor the numbers of generations and
        chains.
        """
        of_family = [
            f"{name}={getattr(self, name)}"
            for name, family in FIELDS_OF_FAMILIES.items()
            if family == self.family
        ]
        # + 0.0 makes 0.0 of -0.0; a float is written exactly.
        alpha, beta, gamma = (float(s) + 0.0 for s in (self.alpha, self.beta, self.gamma))
        shares = f"{alpha!r} {beta!r} {gamma!r}"
        options = sorted(text for text in self.options if not text.startswith(PREFIX))
        law = f"{self.family!r} {options!r} {' '.join(of_family)}"
        # Settings of later versions, which name a point where they count.
        later = {"real_share": 0.0, "synthetic_ratio": 1.0, "temperature": 1.0}
        later["synthetic_weight"] = 1.0
        values = {name: float(getattr(self, name)) + 0.0 for name in later}
        more = [f" {name}={values[name]!r}" for name in later if values[name] != later[name]]
        more += [f" switch={self.switch!r}"] if self.switch else []
        if self.has_ecosystem():
            coupling = self.coupling or "ring"
            more.append(f" {self.ecosystem} models {coupling} exchange={self.exchange!r}")
        more += [f" verifier={self.verifier_in_words()}"] if self.verifier else []
        name = f"{law} {self.workflow} sample_size={self.sample_size} shares={shares}"
        return "".join([name, *more, self.data_name()])

    def after_switch(self) -> "tuple[int, SimulateSettings] | None":
        """(the first generation, the settings from there on); None without a switch.

        Raises:
            InputError: for a switch that cannot be read, or that leads to invalid settings.
        """
        if not self.switch:
            return None
        begin, _, rest = self.switch.partition(":")
        pairs = [pair.partition("=") for pair in rest.split(",")]
        given = {name: value for name, _, value in pairs}
        if len(given) < len(pairs):
            raise InputError(f"switch is {self.switch!r}, which gives a name twice; give it once")
        is_number = begin.isdecimal() and 2 <= int(begin) <= self.generations
        if not (is_number and given and given.keys() <= {"workflow", *_SWITCHED}):
            raise InputError(
                f"switch is {self.switch!r}; it must be GENERATION:NAME=VALUE,..., such as "
                f"50:gamma=0.1, with a generation from 2 to {self.generations} and the names "
                f"workflow, {', '.join(_SWITCHED)}"
            )
        shares = {"alpha", "beta", "gamma"} & given.keys()
        workflow = given.pop("workflow", "mix" if shares else "replace")
        try:
            values = dict(_SWITCHED) | {name: float(text) for name, text in given.items()}
            if workflow == "mix" and "alpha" not in given:
                values["alpha"] = round(1 - values["beta"] - values["gamma"], 12)
            later = dataclasses.replace(self, switch="", workflow=workflow, **values)
            later.check_point()
        except ValueError as error:  # InputError among them
            raise InputError(f"switch is {self.switch!r}: {error}") from None
        return int(begin), later

    def value_of(self, axis: str) -> "int | float | str":
        """Returns the value of an axis of a grid: a setting, or an option of the family."""
        options = dict(option.split("=", 1) for option in self.options)
        return float(options[axis]) if axis in options else getattr(self, axis)

    def check_point(self) -> None:
        """Raises what `SimulateConfig.check` raises, for one point of a grid."""
        self._check_memory()
        if self.workflow not in WORKFLOWS:
            raise InputError(
                f"workflow is {self.workflow!r}; it must be one of {', '.join(WORKFLOWS)}"
            )
        shares = (self.alpha, self.beta, self.gamma)
        for name in ("beta", "gamma", "alpha"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(
                    f"{name} is {getattr(self, name):g}; it must be in [0, 1], and "
                    "alpha + beta + gamma must be 1"
                )
        if abs(sum(shares) - 1) > 1e-6:
            terms = " + ".join(f"{share:g}" for share in shares)
            raise InputError(f"alpha + beta + gamma is {sum(shares):g} ({terms}); it must be 1")
        if self.workflow != "mix" and shares != (1.0, 0.0, 0.0):
            raise InputError(
                f"alpha, beta, gamma are {', '.join(f'{share:g}' for share in shares)} with "
                f"workflow {self.workflow}, which ignores them; give --workflow mix"
            )
        self._check_real_and_temperature()
        self._check_weight()
        self.after_switch()

    def _check_real_and_temperature(self):
        if not 0 <= self.real_share <= 1:
            raise InputError(f"real_share is {self.real_share:g}; it must be in [0, 1]")
        if self.real_share > 0 and self.workflow not in ACCUMULATING:
            raise InputError(
                f"real_share is {self.real_share:g} with workflow {self.workflow}, which ignores "
                "it; give --workflow accumulate or accumulate_subsample, or --gamma with mix"
            )
        if not math.isfinite(self.synthetic_ratio):
            raise InputError(f"synthetic_ratio is {self.synthetic_ratio}; it must be finite")
        if self.synthetic_ratio != 1 and self.workflow != "keep_real":
            raise InputError(
                f"synthetic_ratio is {self.synthetic_ratio:g} with workflow {self.workflow}, which "
                "ignores it; give --workflow keep_real"
            )
        if not 0 < self.temperature < math.inf:
            raise InputError(f"temperature is {self.temperature:g}; it must be finite and above 0")

    def _check_weight(self):
        if not math.isfinite(self.synthetic_weight):
            raise InputError(f"synthetic_weight is {self.synthetic_weight}; it must be finite")
        if self.synthetic_weight != 1 and self.workflow == "replace":
            raise InputError(
                f"synthetic_weight is {self.synthetic_weight:g} with workflow replace, which has "
                "only synthetic points; add real data, for example --gamma 0.5"
            )

    def _check_memory(self):
        """Refuses sizes that alone exceed the limit before anything is allocated."""
        bytes_of = {"dim": 8 * self.dim**2, "num_categories": 8 * self.num_categories}
        needs = {
            name: bytes_of[name] for name in bytes_of if FIELDS_OF_FAMILIES[name] == self.family
        }
        stride = self.recorded()
        if isinstance(stride, int) and self.keep == "chains":
            needs["generations"] = 8 * (self.generations // stride + 1)
        for name, needed in needs.items():
            if needed > self.memory_limit * 2**30:
                most = f"memory_limit is {self.memory_limit:g} GiB"
                raise InputError(
                    f"{name} is {getattr(self, name)}, which alone takes "
                    f"{needed / 2**30:.3g} GiB, and {most}; give less"
                )

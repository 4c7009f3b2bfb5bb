"""`cj.policy`: in which generations real data reduces the error most, by gradient descent."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from collapse_jax import errors
from collapse_jax.core.flows.planned import FLOWS, planned
from collapse_jax.core.process import generational_process
from collapse_jax.core.types import Estimator, Process, Source, Workflow
from collapse_jax.drivers.policy_search import Problem, constant, search
from collapse_jax.drivers.simulate import simulate
from collapse_jax.errors import InputError, numbers, one_key, one_of, whole

OBJECTIVES = ("final", "mean")
_MOST_GENERATIONS = 500


class PolicyCheck(NamedTuple):
    """A comparison of a policy with a simulation of the process.

    error: [T + 1], squared error of the model's mean, averaged over chains, divided by the variance
        of a real point.
    standard_error: [T + 1], the standard errors of `error`.
    expected: [T + 1], the expected values of `error`, from the recursion.
    """

    error: np.ndarray
    standard_error: np.ndarray
    expected: np.ndarray

    @property
    def z(self) -> np.ndarray:
        """[T + 1], differences from the expected values, in standard errors."""
        return (self.error - self.expected) / self.standard_error

    def __repr__(self) -> str:
        return (
            f"check of a policy: error {self.error[-1]:.4g} +- {self.standard_error[-1]:.2g} at "
            f"the end, {self.expected[-1]:.4g} expected; largest |z| {np.abs(self.z).max():.1f}"
        )


@dataclasses.dataclass(frozen=True)
class _Sizes:
    """generation -> points of its training set; equal tables are equal, and can be pickled."""

    table: tuple[int, ...]

    def __call__(self, generation: Any) -> jax.Array:
        table = np.array(self.table, np.int32)
        return jnp.asarray(table)[jnp.minimum(generation, len(table) - 1)]


class Policy(NamedTuple):
    """The numbers of real and synthetic points in each generation.

    real: int [T], for generations 1 to T.
    synthetic: int [T].
    errors: [T + 1], expected squared error of the fitted mean, divided by the variance of a real
        point.
    constant_errors: [T + 1], the same for the best policy that does not change over generations.
    first: number of real points in generation 0.
    workflow: "mix" or "accumulate".
    objective: "final", the last error, or "mean", the mean error of generations 1 to T.
    v2: a point of a model with error A has variance 1 + v2 * A.
    starts: start of the search -> the value that it reached, in whole points.
    """

    real: np.ndarray
    synthetic: np.ndarray
    errors: np.ndarray
    constant_errors: np.ndarray
    first: int
    workflow: str
    objective: str
    v2: float
    starts: dict[str, float]

    @property
    def sizes(self) -> np.ndarray:
        """Numbers of points in each training set, [T]."""
        return self.real + self.synthetic

    @property
    def shares(self) -> np.ndarray:
        """Shares of real points, [T]."""
        return self.real / self.sizes

    @property
    def value(self) -> float:
        """The minimised error."""
        return _value(self.errors, self.objective)

    @property
    def constant_value(self) -> float:
        """The same error for the best constant policy."""
        return _value(self.constant_errors, self.objective)

    def to_workflow(self) -> Workflow:
        """Returns the workflow of this policy; its process needs `to_sample_size`."""
        flow: Any = self.workflow
        return planned(self.real, workflow=flow)

    def to_sample_size(self) -> Callable[[Any], jax.Array]:
        """Returns generation -> points of its training set, for `cj.generational_process`."""
        return _Sizes((self.first, *map(int, self.sizes)))

    def to_real_share(self) -> Callable[[Any], jax.Array]:
        """Returns generation -> share of real points; 1 in generation 0."""
        table = np.concatenate([[1.0], self.shares])

        def real_share(generation):
            shares = jnp.asarray(table, jnp.result_type(float))
            return shares[jnp.minimum(generation, len(table) - 1)]

        return real_share

    def to_process(self, estimator: Estimator, source: Source) -> Process:
        """Returns the process of a family under this policy.

        Args:
            estimator: the family.
            source: the source of real data.
        """
        return generational_process(
            estimator,
            source,
            self.to_workflow(),
            sample_size=self.to_sample_size(),
            largest_sample_size=int(max(self.first, self.sizes.max())),
        )

    def to_rows(self) -> list[dict[str, float]]:
        """Returns a row for each generation (its points and error), for a table or data frame."""
        columns = {
            "generation": np.arange(len(self.errors)),
            "real": np.concatenate([[self.first], self.real]),
            "synthetic": np.concatenate([[0], self.synthetic]),
            "real_share": np.concatenate([[1.0], self.shares]),
            "error": self.errors,
            "error_of_best_constant": self.constant_errors,
        }
        values = zip(*(column.tolist() for column in columns.values()), strict=True)
        return [dict(zip(columns, row, strict=True)) for row in values]

    def check(
        self, key: jax.Array, estimator: Estimator, source: Source, *, chains: int = 10_000
    ) -> PolicyCheck:
        """Simulates the process and compares the errors of its mean with the expected errors.

        Args:
            key: one typed key.
            estimator: a one-dimensional family with the metrics mean and variance, whose variance
                depends on the error as in `v2`.
            source: a population of that family.
            chains: number of chains to average over.

        Raises:
            InputError: for a source that is not a one-dimensional population.
        """
        one_key("key", key)
        if source.params is None:
            raise InputError("source is a data set; it must be a population, whose mean is known")
        mean, variance = (
            np.asarray(estimator.metrics[name](source.params)) for name in ("mean", "variance")
        )
        if mean.shape != ():
            raise InputError(
                f"mean has shape {list(mean.shape)}; a check needs a one-dimensional family"
            )
        process = self.to_process(estimator, source)
        trace = simulate(
            process, key, generations=len(self.real), chains=chains, metrics="mean", progress=False
        )
        errors = (np.asarray(trace["mean"], float) - float(mean)) ** 2 / float(variance)
        deviation = errors.std(0, ddof=1) / np.sqrt(chains)
        return PolicyCheck(errors.mean(0), deviation, self.errors)

    def __repr__(self) -> str:
        gain = self.constant_value / self.value
        what = "error at the end" if self.objective == "final" else "mean error"
        return "\n".join(
            [
                f"policy of {len(self.real)} generations under {self.workflow}: "
                f"{int(self.real.sum()):,} real and {int(self.synthetic.sum()):,} synthetic points",
                f"  {what} {self.value:.4g}; best constant policy {self.constant_value:.4g} "
                f"({gain:.3g} times as much)",
                f"  real points: {_row(self.real)}",
                f"  of sets of:  {_row(self.sizes)}",
            ]
        )


def policy(
    generations: int,
    *,
    workflow: Literal["mix", "accumulate"] = "mix",
    real: int | None = None,
    sample_size: "int | ArrayLike | None" = None,
    budget: float | None = None,
    real_cost: float = 1.0,
    synthetic_cost: float | None = None,
    first: int | None = None,
    objective: Literal["final", "mean"] = "final",
    v2: float = 0.0,
    starts: int = 12,
    steps: int = 400,
) -> Policy:
    """Returns the numbers of real points per generation that minimise the error.

    The error is the expected squared error of a fitted mean. It is exact for `gaussian_mean` and
    for every family whose variance is described by `v2`, and a first-order approximation for any
    smooth fit. The search is gradient descent (Adam) from several starts, followed by moves of
    whole points until no move helps; nothing is random. Give either the sizes of all training sets,
    among which `real` points are distributed, or a `budget`, under which sizes are chosen too.

    Args:
        generations: T, the last generation; generation 0 costs nothing.
        workflow: "mix": each generation trains on its real points and on points of the newest
            model. "accumulate": it trains on these and on all earlier points.
        real: total number of real points in generations 1 to T.
        sample_size: number of points in each training set, an int or [T].
        budget: the largest total cost of all points of generations 1 to T.
        real_cost, synthetic_cost: cost of one point; synthetic_cost is needed with `budget`.
        first: real points of generation 0, by default the size of a set; needed with `budget`.
        objective: "final": the error of generation T. "mean": the mean over generations 1 to T.
        v2: a point of a model with error A has variance 1 + v2 * A, both in units of the
            population's variance: 0 for a known variance and for Poisson; -1 for a Gaussian with
            ddof = 0, Bernoulli and categories; 1 for an exponential.
        starts: number of random starts, in addition to a constant, an early and a late policy.
        steps: number of gradient steps.

    Raises:
        InputError: for an argument out of its range, more real points than the training sets have,
            a budget below one point per generation, or an option that would be ignored.

    References:
        Derived here (`theory.spending`).
    """
    goal = Problem(
        whole("generations", generations, 1, _MOST_GENERATIONS),
        one_of("workflow", workflow, FLOWS),
        one_of("objective", objective, OBJECTIVES),
        0,
        _checked_v2(v2),
    )
    costs = {"real_cost": real_cost, "synthetic_cost": synthetic_cost}
    given = {"real": real, "sample_size": sample_size}
    if budget is None:
        problem = _of_sizes(goal, real, sample_size, first, costs)
    else:
        problem = _of_cost(goal, budget, costs, first, given)
    return _searched(problem, whole("starts", starts, 0), whole("steps", steps, 1))


def _searched(problem, starts, steps):
    """The best policy that the search finds."""
    counts, values = search(problem, starts, steps)
    return Policy(
        counts[0].astype(np.int64),
        counts[1].astype(np.int64),
        problem.errors(counts),
        problem.errors(constant(problem)),
        problem.first,
        problem.workflow,
        problem.objective,
        problem.v2,
        values,
    )


def _checked_v2(v2):
    """v2, which must be at least -1, because a variance is not negative."""
    return errors.real("v2", v2, at_least=-1, must_be="a number of at least -1")


def _of_sizes(problem, spent, sample_size, first, costs):
    """The problem of distributing real points among training sets of given sizes."""
    for (name, value), left_out in zip(costs.items(), (1.0, None), strict=True):
        if value != left_out:
            raise InputError(f"{name} is {value!r} without budget, which ignores it; give a budget")
    if spent is None or sample_size is None:
        raise InputError(
            "give real and sample_size (the number of real points, and the sizes of the training "
            "sets), or budget, real_cost and synthetic_cost"
        )
    sizes = numbers("sample_size", sample_size)
    if sizes.ndim > 1 or (sizes.ndim == 1 and len(sizes) != problem.generations):
        raise InputError(
            f"sample_size has shape {list(sizes.shape)}; it must be a number, or "
            f"[{problem.generations}], one for each of generations 1 to {problem.generations}"
        )
    sizes = np.broadcast_to(sizes, problem.generations).copy()
    wrong = ~((sizes >= 1) & (sizes == np.floor(sizes)) & (sizes < 2**31))
    if wrong.any():
        place = int(np.argmax(wrong))
        raise InputError(
            f"sample_size of generation {place + 1} is {sizes[place]:g}; it must be a whole number "
            "of at least 1"
        )
    spent = whole("real", spent, 0)
    if spent > sizes.sum():
        raise InputError(
            f"real is {spent}, but the training sets have {sizes.sum():.0f} points in total; it "
            "must be at most that"
        )
    first = int(sizes[0]) if first is None else whole("first", first, 1)
    return problem._replace(real=spent, sizes=sizes, first=first)


def _of_cost(problem, budget, costs, first, given):
    """The problem of choosing both kinds of points under a cost."""
    for name, value in given.items():
        if value is not None:
            raise InputError(
                f"{name} is given with budget, which determines it; leave one of them out"
            )
    if costs["synthetic_cost"] is None or first is None:
        missing = "synthetic_cost" if costs["synthetic_cost"] is None else "first"
        raise InputError(f"{missing} is not given; with budget, give both synthetic_cost and first")
    costs = {name: errors.real(name, value, above=0) for name, value in costs.items()}
    problem = problem._replace(
        first=whole("first", first, 1), budget=errors.real("budget", budget, above=0), **costs
    )
    if problem.spare < 0:
        raise InputError(
            f"budget is {budget:g}, but {problem.generations} generations need one point each; it "
            f"must be at least {problem.generations * min(costs.values()):g}"
        )
    return problem


def _value(errors, objective):
    return float(errors[-1] if objective == "final" else errors[1:].mean())


def _row(values, most=24):
    """Numbers in a line; only the first and last if there are many."""
    texts = [f"{int(value)}" for value in values]
    if len(texts) > most:
        texts = [*texts[: most // 2], "...", *texts[-most // 2 :]]
    return " ".join(texts)

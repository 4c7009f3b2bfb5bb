"""When should real data be spent? `cj.policy` chooses, by gradient through the exact recursion."""

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
    """A policy beside a simulation of the real process.

    error: [T + 1], means over chains of the squared error of the model's mean, over the variance of
        a real point.
    standard_error: [T + 1], theirs.
    expected: [T + 1], by the recursion.
    """

    error: np.ndarray
    standard_error: np.ndarray
    expected: np.ndarray

    @property
    def z(self) -> np.ndarray:
        """[T + 1], distances from what was expected in standard errors."""
        return (self.error - self.expected) / self.standard_error

    def __repr__(self) -> str:
        return (
            f"check of a policy: error {self.error[-1]:.4g} +- {self.standard_error[-1]:.2g} at "
            f"the end, {self.expected[-1]:.4g} expected; largest |z| {np.abs(self.z).max():.1f}"
        )


@dataclasses.dataclass(frozen=True)
class _Sizes:
    """generation -> points of its set; equal tables are equal, and can be pickled."""

    table: tuple[int, ...]

    def __call__(self, generation: Any) -> jax.Array:
        table = np.array(self.table, np.int32)
        return jnp.asarray(table)[jnp.minimum(generation, len(table) - 1)]


class Policy(NamedTuple):
    """How many real and synthetic points each generation gets.

    real: int [T], for generations 1 to T.
    synthetic: int [T].
    errors: [T + 1], expected squared error of the fitted mean over the variance of a real point.
    constant_errors: [T + 1], those of the best policy that is the same in every generation.
    first: real points of generation 0.
    workflow: "mix" or "accumulate".
    objective: "final", the last error, or "mean", that of generations 1 to T.
    v2: a point of a model of error A has the variance 1 + v2 A.
    starts: where the search began -> the value that the gradient led to, in whole points.
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
        """Points of each set, [T]."""
        return self.real + self.synthetic

    @property
    def shares(self) -> np.ndarray:
        """Shares of real points, [T]."""
        return self.real / self.sizes

    @property
    def value(self) -> float:
        """What was minimised."""
        return _value(self.errors, self.objective)

    @property
    def constant_value(self) -> float:
        """The same of the best constant policy."""
        return _value(self.constant_errors, self.objective)

    def to_workflow(self) -> Workflow:
        """The workflow that spends so; its process needs `to_sample_size`."""
        flow: Any = self.workflow
        return planned(self.real, workflow=flow)

    def to_sample_size(self) -> Callable[[Any], jax.Array]:
        """The function generation -> points of its set, for `cj.generational_process`."""
        return _Sizes((self.first, *map(int, self.sizes)))

    def to_real_share(self) -> Callable[[Any], jax.Array]:
        """The function generation -> share of real points; 1 in generation 0."""
        table = np.concatenate([[1.0], self.shares])

        def real_share(generation):
            shares = jnp.asarray(table, jnp.result_type(float))
            return shares[jnp.minimum(generation, len(table) - 1)]

        return real_share

    def to_process(self, estimator: Estimator, source: Source) -> Process:
        """The process of a family that spends so.

        Args:
            estimator: the family.
            source: where real data comes from.
        """
        return generational_process(
            estimator,
            source,
            self.to_workflow(),
            sample_size=self.to_sample_size(),
            largest_sample_size=int(max(self.first, self.sizes.max())),
        )

    def to_rows(self) -> list[dict[str, float]]:
        """A row for each generation: what it gets, and its error, for a table or a data frame."""
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
        """Simulates the real process, and puts the errors of its mean beside the expected ones.

        Args:
            key: typed key.
            estimator: a family of one dimension with the metrics mean and variance, whose variance
                is as `v2` says.
            source: a population of that family.
            chains: to average over.

        Raises:
            InputError: for a source that is no population of one dimension.
        """
        one_key("key", key)
        if source.params is None:
            raise InputError("source is a data set; it must be a population, whose mean is known")
        mean, variance = (
            np.asarray(estimator.metrics[name](source.params)) for name in ("mean", "variance")
        )
        if mean.shape != ():
            raise InputError(
                f"mean has shape {list(mean.shape)}; a policy is checked in one dimension"
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
    """When real data should be spent: the numbers of real points that make the error smallest.

    The error is the expected squared error of a fitted mean. It is the exact one of `gaussian_mean`
    and of every family whose variance `v2` tells, and to first order that of any smooth fit. The
    search goes by gradient (Adam) through the recursion from several starts, and ends in whole
    points that no move improves. Nothing is random. Either the sizes of all sets are given, and
    `real` points are shared out among them; or sizes are chosen too, under a budget of cost.

    Args:
        generations: T, the last one; generation 0 costs nothing.
        workflow: "mix": each generation trains on its real points and on the newest model's.
            "accumulate": on all points so far, to which those are added.
        real: points to spend in generations 1 to T together; all are spent.
        sample_size: points of each set, a number or [T].
        budget: what all points of generations 1 to T may cost together.
        real_cost, synthetic_cost: of one point; the latter is needed with `budget`.
        first: real points of generation 0; by default the size of a set, and needed with `budget`.
        objective: "final": the error of generation T. "mean": the mean over generations 1 to T.
        v2: the variance of a model's point is 1 + v2 A at the error A, both over the population's:
            0 for a known variance, Poisson; -1 for a Gaussian of ddof = 0, Bernoulli, categories;
            1 for an exponential.
        starts: random ones, beside constant, early and late.
        steps: of the gradient.

    Raises:
        InputError: for an argument that is out of its range, more real points than the sets hold,
            a budget below one point a generation, or an option that would not count.

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
    """The best policy that is found."""
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
    """The coefficient, at least -1: a variance is not negative."""
    return errors.real("v2", v2, at_least=-1, must_be="a number of at least -1")


def _of_sizes(problem, spent, sample_size, first, costs):
    """The problem of sharing out real points among sets of given sizes."""
    for (name, value), left_out in zip(costs.items(), (1.0, None), strict=True):
        if value != left_out:
            raise InputError(f"{name} is {value!r} without budget; costs count with a budget")
    if spent is None or sample_size is None:
        raise InputError(
            "give real and sample_size (how many real points to share out, and the sizes of the "
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
            f"real is {spent}, and the sets of all generations hold {sizes.sum():.0f} points; it "
            "must be at most that"
        )
    first = int(sizes[0]) if first is None else whole("first", first, 1)
    return problem._replace(real=spent, sizes=sizes, first=first)


def _of_cost(problem, budget, costs, first, given):
    """The problem of choosing both kinds of points under a cost."""
    for name, value in given.items():
        if value is not None:
            raise InputError(
                f"{name} is given with budget, which chooses it; leave one of them out"
            )
    if costs["synthetic_cost"] is None or first is None:
        missing = "synthetic_cost" if costs["synthetic_cost"] is None else "first"
        raise InputError(
            f"{missing} is not given; with budget both synthetic_cost and first must be"
        )
    costs = {name: errors.real(name, value, above=0) for name, value in costs.items()}
    problem = problem._replace(
        first=whole("first", first, 1), budget=errors.real("budget", budget, above=0), **costs
    )
    if problem.spare < 0:
        raise InputError(
            f"budget is {budget:g}, and {problem.generations} generations need a point each: at "
            f"least {problem.generations * min(costs.values()):g}"
        )
    return problem


def _value(errors, objective):
    return float(errors[-1] if objective == "final" else errors[1:].mean())


def _row(values, most=24):
    """Numbers in a line; of many the first and the last."""
    texts = [f"{int(value)}" for value in values]
    if len(texts) > most:
        texts = [*texts[: most // 2], "...", *texts[-most // 2 :]]
    return " ".join(texts)

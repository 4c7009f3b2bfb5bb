r"""The edges of what a process may be asked for: no nan, no negative variance, probabilities
that sum to 1, or one line that refuses.

Every family and workflow, larger dimensions, and more examples of each law:

    python -m pytest -m slow tests/core/test_limits.py

A million generations (20,000 by default), some 6 minutes:

    COLLAPSE_JAX_LIMIT_GENERATIONS=1000000 python -m pytest -n 0 -m "slow or not slow" \
        tests/core/test_limits.py -k long_chains
"""

import functools
import os
import subprocess
import sys

import hypothesis.strategies as st
import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import collapse_jax as cj
from collapse_jax.core.process import process_grid
from collapse_jax.drivers.chunks import join_chunks
from collapse_jax.drivers.plan import Plan
from collapse_jax.drivers.simulate import simulate_chunks
from collapse_jax.errors import InputError
from collapse_jax.estimators.registry import families

pytestmark = pytest.mark.usefixtures("quick_compile")
GENERATIONS = int(os.environ.get("COLLAPSE_JAX_LIMIT_GENERATIONS", 20_000))
KEY = jax.random.key(7)
# Families whose data is drawn from its law, so that a generation costs the same for every sample
# size.
BY_LAW = (
    "gaussian",
    "gaussian_mean",
    "categorical",
    "bernoulli",
    "poisson",
    "exponential",
    "pareto",
    "uniform",
)
# They are trained, for seconds, and `drivers/test_contract.py` holds them against their edges.
NETWORKS = ("diffusion", "flow_matching", "normalizing_flow", "vae")
WITH_EXAMPLE = [
    name
    for name, family in families().items()
    if family.example is not None and name not in NETWORKS
]
MOST_POINTS = 40
SLOW_BY_LAW = [
    pytest.param(name, marks=pytest.mark.slow)
    for name in BY_LAW
    if name not in ("gaussian", "categorical", "pareto")
]
WORKFLOWS = {
    "replace": cj.workflows.replace(),
    "accumulate": cj.workflows.accumulate(),
    "accumulate_subsample": cj.workflows.accumulate_subsample(),
    "mix": cj.workflows.mix(0.5, 0.0, 0.5),
    "mix with earlier points": cj.workflows.mix(0.4, 0.3, 0.3),
}
NEVER_NEGATIVE = (
    "variance",
    "trace",
    "heterozygosity",
    "condition_number",
    "support",
    "rate",
    "missing_mass",
    "total_variation",
)
NEVER_NEGATIVE += (
    "squared_distance",
    "wasserstein2",
    "squared_wasserstein2",
    "kl_model_to_real",
    "kl_real_to_model",
    "absorbed",
)


def offered(process):
    return [name for name, function in process.metrics.items() if function is not None]


def assert_sound(trace, where=""):
    """Nothing is nan, nothing that cannot be negative is, and probabilities sum to 1 up to the
    rounding of their float type.
    """
    for name, values in trace.items():
        assert not np.isnan(values).any(), f"{where} {name} is nan"
        if name in NEVER_NEGATIVE:
            assert (values >= 0).all(), f"{where} {name} is {values.min()}"
        if name == "probabilities":
            rounding = np.sqrt(values.shape[-1]) * np.finfo(values.dtype).eps
            assert (values >= 0).all() and np.abs(
                values.astype(np.float64).sum(-1) - 1
            ).max() <= 4 * rounding, where


def simulated(process, generations=3, chains=2, metrics=None, **options):
    return cj.simulate(
        process,
        KEY,
        generations=generations,
        chains=chains,
        metrics=metrics or offered(process),
        **options,
    )


# Any sample size from 1 to 10^9.


def holds_points(name, workflow):
    """Whether single points are held, and not what is counted or summed of them."""
    return name not in BY_LAW or workflow in ("accumulate_subsample", "mix with earlier points")


@functools.cache
def grid_of(name, workflow):
    """The same process for all sample sizes; kept, so that it is compiled once."""
    estimator, params = families()[name].example()
    source = cj.sources.population(estimator, params)

    most = MOST_POINTS if holds_points(name, workflow) else None

    def at(settings):
        size = lambda generation: settings["sample_size"]  # noqa: E731
        return cj.generational_process(
            estimator, source, WORKFLOWS[workflow], sample_size=size, largest_sample_size=most
        )

    return process_grid(at, {"sample_size": 5})


def assert_sound_at_sizes(name, workflow, sizes):
    process, grid = grid_of(name, workflow), {"sample_size": np.array(sizes, np.int32)}
    plan = Plan(generations=3, chains=2, metrics=offered(process), settings=grid)
    chunks = simulate_chunks(process, KEY, plan)
    assert_sound(join_chunks(list(chunks)), f"{name}, {workflow}, sizes {sizes}:")


# Logarithmically: as many of a few points as of hundreds of millions.
SIZES = st.lists(
    st.floats(0, 9).map(lambda power: max(round(10**power), 1)), min_size=6, max_size=6
)


@pytest.mark.parametrize(
    "workflow",
    ["replace", *(pytest.param(name, marks=pytest.mark.slow) for name in ("mix", "accumulate"))],
)
@pytest.mark.parametrize("name", ["gaussian", "categorical", "pareto", *SLOW_BY_LAW])
def test_any_sample_size(name, workflow):
    # Counts of all generations together must fit 32 bits, which `test_pools_beyond_32_bits` is
    # about.
    most = 5 * 10**8 if workflow == "accumulate" else 10**9
    assert_sound_at_sizes(name, workflow, [1, 2, 3, 1000, most - 1, most])

    @settings(
        max_examples=5, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(SIZES)
    def any_sizes(sizes):
        assert_sound_at_sizes(name, workflow, [min(size, most) for size in sizes])

    any_sizes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "workflow"),
    [(name, flow) for name in WITH_EXAMPLE for flow in WORKFLOWS if holds_points(name, flow)],
)
def test_any_number_of_points(name, workflow):
    """Where points are held."""
    assert_sound_at_sizes(name, workflow, [1, 2, 3, MOST_POINTS])

    @settings(
        max_examples=5, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(st.lists(st.integers(1, MOST_POINTS), min_size=4, max_size=4))
    def any_sizes(sizes):
        assert_sound_at_sizes(name, workflow, sizes)

    any_sizes()


@pytest.mark.parametrize("name", ["categorical", "bernoulli"])
def test_pools_beyond_32_bits(name):
    """Counts are integers of 32 bits: what they cannot hold is refused before it overflows."""
    estimator, params = families()[name].example()
    process = cj.generational_process(
        estimator,
        cj.sources.population(estimator, params),
        cj.workflows.accumulate(),
        sample_size=10**9,
    )
    with pytest.raises(
        InputError,
        match="sample_size is 1000000000, and accumulate counts the points of 3 generations",
    ) as caught:
        simulated(process, generations=2)
    assert "\n" not in str(caught.value) and "at most 2147483647" in str(caught.value)
    assert_sound(simulated(process, generations=1))


def test_a_gaussian_pool_beyond_32_bits_keeps_to_its_law():
    """10^10 points in ten generations: the variance moves by the deviation of 10^9 draws, sqrt(2 /
    M) = 4.5e-5, and no more.
    """
    process = cj.generational_process(
        cj.estimators.gaussian(1),
        cj.sources.normal([0.0], [[1.0]]),
        cj.workflows.accumulate(),
        sample_size=10**9,
    )
    trace = simulated(process, generations=9, chains=16)
    assert_sound(trace)
    assert np.abs(trace["variance"] - 1).max() < 6 * np.sqrt(2e-9) + 10 * np.finfo(np.float32).eps


# One category, one sample, one chain.

FAST = ("gaussian", "categorical", "bernoulli", "exponential")
PAIRS = [
    pytest.param(
        name, workflow, marks=() if name in FAST and workflow == "replace" else pytest.mark.slow
    )
    for name in WITH_EXAMPLE
    for workflow in WORKFLOWS
]


@pytest.mark.parametrize(("name", "workflow"), PAIRS)
def test_one_sample_and_one_chain(name, workflow):
    """One point is too few for no family: the model that it gives has no variance, or what the
    family's prior leaves.
    """
    estimator, params = families()[name].example()
    process = cj.generational_process(
        estimator, cj.sources.population(estimator, params), WORKFLOWS[workflow], sample_size=1
    )
    assert_sound(simulated(process, generations=3, chains=1), f"{name}, {workflow}:")


@pytest.mark.parametrize("ddof", [0, 1])
def test_one_sample_has_no_variance(ddof):
    """M = 1: a covariance of 0 for either ddof, as documented, and -inf for its logarithm."""
    process = cj.generational_process(
        cj.estimators.gaussian(1, ddof),
        cj.sources.normal([0.0], [[1.0]]),
        cj.workflows.replace(),
        sample_size=1,
    )
    trace = simulated(process, metrics=("variance", "log_variance"))
    assert (trace["variance"] == 0).all() and (trace["log_variance"] == -np.inf).all()


@pytest.mark.parametrize("workflow", ["replace", "accumulate"])
def test_one_category(workflow):
    process = cj.generational_process(
        cj.estimators.categorical(1),
        cj.sources.categorical([1.0]),
        WORKFLOWS[workflow],
        sample_size=3,
    )
    trace = simulated(process)
    assert_sound(trace)
    assert (
        (trace["heterozygosity"] == 0).all()
        and (trace["entropy"] == 0).all()
        and (trace["absorbed"] == 1).all()
    )


# Many dimensions, many categories.


@pytest.mark.parametrize(
    ("dim", "size"),
    [(13, 5), *(pytest.param(*one, marks=pytest.mark.slow) for one in ((64, 100), (256, 300)))],
)
def test_many_dimensions(dim, size):
    process = cj.generational_process(
        cj.estimators.gaussian(dim),
        cj.sources.normal(np.zeros(dim), np.eye(dim)),
        cj.workflows.replace(),
        sample_size=size,
    )
    assert_sound(
        simulated(
            process, metrics=("variance", "log_variance", "trace", "log_determinant", "entropy")
        ),
        f"d = {dim}:",
    )


@pytest.mark.parametrize(
    "size",
    [pytest.param(1, marks=pytest.mark.slow), 1000, pytest.param(10**9, marks=pytest.mark.slow)],
)
def test_a_million_categories(size):
    count = 10**6
    process = cj.generational_process(
        cj.estimators.categorical(count),
        cj.sources.categorical(np.full(count, 1 / count)),
        cj.workflows.replace(),
        sample_size=size,
    )
    trace = simulated(
        process, generations=1, chains=1, metrics=("probabilities", "support", "heterozygosity")
    )
    assert_sound(trace, f"M = {size}:")
    assert (trace["support"] <= min(size, count)).all()


# Long chains.


@pytest.mark.parametrize(
    ("dim", "ddof"), [(1, 0), (1, 1), pytest.param(8, 1, marks=pytest.mark.slow)]
)
def test_long_chains_of_a_gaussian_keep_to_their_law(dim, ddof):
    """The log variance falls for ever, far below what any float can hold of the variance itself;
    its law at the end is known.

    In eight dimensions each direction falls at a rate of its own, so the condition number leaves
    all floats as well.
    """
    chains, size = 128, 10 * dim
    process = cj.generational_process(
        cj.estimators.gaussian(dim, ddof),
        cj.sources.normal(np.zeros(dim), np.eye(dim)),
        cj.workflows.replace(),
        sample_size=size,
    )
    metrics = ("variance", "log_variance", "mean", "log_condition_number")
    trace = simulated(process, GENERATIONS, chains, metrics, record=max(GENERATIONS // 4, 1))
    assert_sound(trace)
    last = trace["log_variance"][:, -1].astype(np.float64)
    exact = cj.theory.gaussian.expected_log_variance(GENERATIONS, size, ddof=ddof, dim=dim)
    spread = cj.theory.gaussian.log_variance_std(GENERATIONS, size, dim=dim)
    assert abs(last.mean() - exact) < 4 * spread / np.sqrt(chains)
    # The deviation over chains: a chi-square with 127 degrees of freedom, four of its own
    # deviations (sqrt(2 / 127)) either way.
    assert abs(last.var(ddof=1) / spread**2 - 1) < 4 * np.sqrt(2 / (chains - 1))


@pytest.mark.parametrize("categories", [pytest.param(2, marks=pytest.mark.slow), 50])
def test_long_chains_of_categories_stay_absorbed(categories):
    process = cj.generational_process(
        cj.estimators.categorical(categories),
        cj.sources.categorical(np.full(categories, 1 / categories)),
        cj.workflows.replace(),
        sample_size=20,
    )
    trace = simulated(
        process,
        GENERATIONS,
        32,
        ("probabilities", "absorbed", "support", "heterozygosity"),
        record="log",
    )
    assert_sound(trace)
    absorbed = trace["absorbed"] == 1
    assert (np.diff(absorbed.astype(int), axis=1) >= 0).all(), "an absorbed chain came back"
    assert absorbed[:, -1].all(), (
        "20,000 generations of 20 points absorb every chain but one in exp(-1000)"
    )
    assert (trace["probabilities"][:, -1].max(-1) == 1).all() and (
        trace["support"][:, -1] == 1
    ).all()
    # Which category it is never changes again.
    winner = trace["probabilities"].argmax(-1)
    assert all((row[here] == row[-1]).all() for row, here in zip(winner, absorbed, strict=True))


@pytest.mark.parametrize("workflow", [pytest.param("mix", marks=pytest.mark.slow), "accumulate"])
def test_long_chains_do_not_lose_probability(workflow):
    generations = GENERATIONS // 10
    process = cj.generational_process(
        cj.estimators.categorical(7),
        cj.sources.categorical(np.full(7, 1 / 7)),
        WORKFLOWS[workflow],
        sample_size=30,
    )
    assert_sound(
        simulated(process, generations, 8, ("probabilities", "heterozygosity"), record="log"),
        workflow,
    )


# float64.

IN_FLOAT64 = """
import runpy, sys
import numpy as np
import collapse_jax as cj
limits = runpy.run_path(sys.argv[1])
for name in ("gaussian", "categorical"):
    estimator, params = limits["families"]()[name].example()
    source = cj.sources.population(estimator, params)
    process = cj.generational_process(estimator, source, cj.workflows.replace(), sample_size=30)
    trace = limits["simulated"](process, 50)
    floats = {key: values.dtype for key, values in trace.items() if values.dtype.kind == "f"}
    assert set(floats.values()) == {np.dtype("float64")}, floats
    limits["assert_sound"](trace, name)
"""


def test_float64_by_a_switch():
    environment = os.environ | {"JAX_ENABLE_X64": "1"}
    done = subprocess.run(
        [sys.executable, "-c", IN_FLOAT64, __file__],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]

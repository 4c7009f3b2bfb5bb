"""The contract of estimators, for anyone's: `cj.check_estimator(factory)`."""

import functools
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from collapse_jax.core import points, workflows
from collapse_jax.core.process import generational_process
from collapse_jax.core.protocols import Params
from collapse_jax.core.types import Estimator
from collapse_jax.drivers import purity
from collapse_jax.drivers.run import run
from collapse_jax.drivers.simulate import simulate
from collapse_jax.errors import InputError, first_line, function, made_by, real
from collapse_jax.estimators import sources

KEY = jax.random.key(2024)
# Points of a small sample, of a large one, and how many of each are fitted.
_SMALL, _LARGE, _MANY, _FEW = 24, 4096, 400, 8
_WORKFLOWS = {
    "mix": functools.partial(workflows.mix, 0.5, 0.25, 0.25),
    "accumulate": workflows.accumulate,
    "accumulate_subsample": workflows.accumulate_subsample,
}


class Subject(NamedTuple):
    """What is checked: an estimator, and the parameters of one model of it."""

    estimator: Estimator
    params: Params


def check_estimator(
    factory: Callable[[], Estimator] | None,
    *,
    example: Callable[[], tuple[Estimator, Params]] | None = None,
    skip: tuple[str, ...] = (),
    only: tuple[str, ...] = (),
    rtol: float | None = None,
    verbose: bool = False,
) -> tuple[str, ...]:
    """Holds an estimator against the contract that our own families are held against.

    Families that fit on the host (traceable=False) are held against what needs no tracing.
    docs/contract.md says what each check asks: is_pure, compiles_once, vmaps, survives_collapse,
    recovers_known_parameters, statistics_add, draws_its_statistics, same_in_both_drivers,
    runs_under_mix, runs_under_accumulate, runs_under_accumulate_subsample.

    Args:
        factory: () -> Estimator.
        example: () -> (estimator, params), with known parameters. Without it the factory is called
            without arguments, and its parameters are those fitted to 1,000 standard normal
            numbers, so that its points must be [n].
        skip: names of checks that do not apply. A kernel density estimate, for one, does not
            recover its parameters.
        only: names of the checks to make; by default all.
        rtol: by how much metrics may differ between two programs that compute the same, relative
            to the larger of 1 and themselves; by default 1e-3. More is needed where rounding
            decides a fit, as on a flat likelihood.
        verbose: whether a line is printed for each check as it ends, with its seconds.

    Returns:
        The names of the checks that it passed.

    Raises:
        AssertionError: with one line for each check that fails.
        InputError: for an unknown check in `skip` or `only`, an rtol that is none, or a factory
            that gives no estimator.
    """
    skip, only = _known(skip, "skip"), _known(only, "only")
    tolerance = {} if rtol is None else {"tolerance": real("rtol", rtol, above=0)}
    if example is not None:
        subject = Subject(*example())
    else:
        made = function("factory", factory)()
        subject = _of_normal_numbers(made_by("factory()", made, Estimator, "cj.estimator"))
    if not subject.estimator.traceable:
        skip += NEED_TRACING
    checks = {
        name: functools.partial(check, **tolerance) if name in TOLERANT else check
        for name, check in CHECKS.items()
        if name not in skip and (not only or name in only)
    }
    return passed_checks("estimator", checks, subject, verbose=verbose)


def _known(names, argument):
    """Names of checks by their present names, or `InputError`."""
    given = (names,) if isinstance(names, str) else tuple(names)
    found = tuple(_OLD_NAMES.get(name, name) for name in given)
    check_names(found, CHECKS, argument)
    return found


def check_names(names: tuple[str, ...], known: Iterable[str], argument: str = "skip") -> None:
    """Raises `InputError` for the name of a check that does not exist."""
    for name in names:
        if name not in known:
            raise InputError(f"{argument} has {name!r}; it must be made of {', '.join(known)}")


def passed_checks(
    what: str, checks: Mapping[str, Callable], subject, *, verbose: bool = False
) -> tuple[str, ...]:
    """The names of all checks; raises `AssertionError` with one line for each that fails."""
    failed = []
    for name, check in checks.items():
        began, ending = time.perf_counter(), "passed"
        try:
            check(subject)
        except Exception as error:
            ending = f"{type(error).__name__}: {first_line(error)}"
            failed.append(f"{name}: {ending}")
        if verbose:
            print(f"{name}: {ending} ({time.perf_counter() - began:.1f} s)", flush=True)
    if failed:
        raise AssertionError(f"the {what} breaks its contract\n" + "\n".join(failed))
    return tuple(checks)


def _of_normal_numbers(estimator):
    x = jax.random.normal(KEY, (1000,))
    try:
        held = None if estimator.check is None else estimator.check(np.asarray(x))
        x = x if held is None else jnp.asarray(held)
        params, _ = _fit(estimator, KEY, None, x, jnp.ones(1000))
    except Exception as error:
        raise InputError(
            f"the estimator cannot be fitted to points [n] ({type(error).__name__}: "
            f"{first_line(error)}); pass example="
        ) from error
    return Subject(estimator, params)


def _fit(estimator, key, params, x, weight):
    data = estimator.summarise(x, weight)
    start = estimator.init(key, data) if params is None else params
    return estimator.fit(key, start, data)


def _process(subject, workflow):
    source = sources.population(*subject)
    return generational_process(subject.estimator, source, workflow, sample_size=_SMALL)


def _scalars(estimator, params):
    """Name -> value of the metrics that are single numbers."""
    found = {name: jnp.asarray(metric(params), float) for name, metric in estimator.metrics.items()}
    return {name: value for name, value in found.items() if value.ndim == 0}


def _assert_same(found, wanted, what, tolerance):
    for name in wanted:
        a, b = np.asarray(found[name], float), np.asarray(wanted[name], float)
        close = (
            np.isclose(a, b, rtol=tolerance, atol=tolerance)
            | (np.isnan(a) & np.isnan(b))
            | (a == b)
        )
        with np.errstate(all="ignore"):
            differences = np.abs(a - b) / np.maximum(np.abs(a), np.abs(b))
        apart = np.max(differences, initial=0, where=np.isfinite(differences))
        assert close.all(), (
            f"metric {name} is {a} {what} {b} (relative difference {apart:.2g}, allowed "
            f"{tolerance:g}; where rounding decides a fit, as on a flat likelihood, pass rtol=)"
        )


def _jit(estimator, function):
    return jax.jit(function) if estimator.traceable else function


def _is_pure(subject):
    """The same key gives the same numbers, another key others; nothing given is changed."""
    estimator, params = subject
    before = jax.tree.map(lambda leaf: np.array(leaf), params)
    one, again, other = (
        np.asarray(estimator.sample(key, params, _SMALL)) for key in (KEY, KEY, jax.random.key(7))
    )
    assert one.shape[0] == _SMALL, (
        f"sample(key, params, {_SMALL}) has shape {one.shape}; it must be [{_SMALL}, ...]"
    )
    assert np.array_equal(one, again), (
        "sample gives other points when called again with the same key: it must draw from that "
        "alone, and not from np.random"
    )
    assert not np.array_equal(one, other), "sample gives the same points for two keys"
    data = estimator.summarise(jnp.asarray(one), jnp.ones(_SMALL))
    programs = {
        "sample": lambda key: estimator.sample(key, params, _SMALL),
        "draw": estimator.draw and (lambda key: estimator.draw(key, params, _SMALL)),
        "fit": lambda key: estimator.fit(key, params, data)[0],
    }
    for name, program in programs.items():
        if program is not None and estimator.traceable:
            assert not purity.takes_from_outside(program, KEY), (
                f"{name} takes numbers from elsewhere than its key (np.random, random, time): a "
                "compiled program keeps the first ones for ever"
            )
    fits = [_fit(estimator, KEY, params, jnp.asarray(one), jnp.ones(_SMALL))[0] for _ in range(2)]
    for a, b in zip(*map(jax.tree.leaves, fits), strict=True):
        assert np.array_equal(a, b, equal_nan=True), (
            "fit gives other parameters when called again with the same arguments"
        )
    for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(params), strict=True):
        assert np.array_equal(a, b, equal_nan=True), (
            "sample or fit has changed the parameters that it was given"
        )


def _compiles_once(subject):
    """A fitted model has the structure, shapes and types of the one before."""
    process = _process(subject, workflows.replace())
    traced = []

    def step(key, state):
        traced.append(1)
        return process.step(key, state)[0]

    state = jax.jit(lambda key: process.init(key)[0])(KEY)
    compiled = jax.jit(step)
    for generation in range(3):
        state = compiled(jax.random.fold_in(KEY, generation), state)
    assert len(traced) == 1, (
        f"a step was compiled {len(traced)} times: fit must return parameters of the "
        "shapes and types that it is given"
    )


def _vmaps(subject, tolerance=1e-3):
    """Many at once are each alone."""
    estimator, params = subject

    def one(key):
        x = estimator.sample(key, params, _SMALL)
        return _scalars(estimator, _fit(estimator, key, params, x, jnp.ones(_SMALL))[0])

    keys = jax.random.split(KEY, 3)
    together, alone = jax.jit(jax.vmap(one))(keys), jax.jit(one)
    for position, key in enumerate(keys):
        _assert_same(
            {name: value[position] for name, value in together.items()},
            alone(key),
            "in a batch, and alone",
            tolerance,
        )


def _survives_collapse(subject):
    """One point, and many equal ones: no nan in parameters, metrics, or the next sample."""
    estimator, params = subject
    point = jnp.asarray(estimator.sample(KEY, params, 2))[:1]

    def collapsed(x, weight):
        fitted, _ = _fit(estimator, KEY, params, x, weight)
        again = _fit(
            estimator, KEY, fitted, estimator.sample(KEY, fitted, len(x)), jnp.ones(len(x))
        )[0]
        return [
            (model, _scalars(estimator, model), estimator.sample(KEY, model, 8))
            for model in (fitted, again)
        ]

    for what, count in (("one point", 1), ("many equal points", _SMALL)):
        x = jnp.repeat(point, _SMALL, axis=0)
        weight = (jnp.arange(_SMALL) < count).astype(float)
        for model, metrics, drawn in _jit(estimator, collapsed)(x, weight):
            for path, leaf in jax.tree_util.tree_leaves_with_path(model):
                assert not _has_nan(leaf), (
                    f"fitted to {what}, parameter {jax.tree_util.keystr(path)} is nan"
                )
            for name, value in metrics.items():
                assert not _has_nan(value), f"fitted to {what}, metric {name} is nan"
            assert not _has_nan(drawn), f"fitted to {what}, the model makes nan"


def _has_nan(leaf):
    leaf = np.asarray(leaf)
    return leaf.dtype.kind == "f" and np.isnan(leaf).any()


def _recovers_known_parameters(subject):
    """Fitted to large samples of a model, its metrics are that model's.

    Within 6 standard errors and 2%.
    """
    estimator, params = subject

    def one(key):
        return _scalars(
            estimator,
            _fit(estimator, key, params, estimator.sample(key, params, _LARGE), jnp.ones(_LARGE))[
                0
            ],
        )

    keys = jax.random.split(KEY, _FEW)
    found = (
        jax.jit(jax.vmap(one))(keys)
        if estimator.traceable
        else jax.tree.map(lambda *leaves: np.stack(leaves), *map(one, keys))
    )
    for name, true in _scalars(estimator, params).items():
        values, true = np.asarray(found[name], float), float(true)
        if not np.isfinite(true):
            continue
        mean, error = values.mean(), values.std(ddof=1) / np.sqrt(_FEW)
        allowed = 6 * error + 0.02 * max(abs(true), 1e-3)
        assert abs(mean - true) <= allowed, (
            f"metric {name} is {mean:.5g} when fitted to {_LARGE} points of a model where "
            f"it is {true:.5g}"
        )


def _statistics_add(subject, tolerance=1e-3):
    """Merged data of two samples is that of the pooled one; an empty slot changes nothing."""
    estimator, params = subject
    x = jnp.asarray(estimator.sample(KEY, params, _SMALL))
    half, ones = _SMALL // 3, jnp.ones(_SMALL)

    def fitted(data):
        return _scalars(estimator, estimator.fit(KEY, params, data)[0])

    def all_ways(x):
        pooled = estimator.summarise(x, ones)
        merged = estimator.merge(
            estimator.summarise(x[:half], ones[:half]), estimator.summarise(x[half:], ones[half:])
        )
        padded = points.Dataset(
            jnp.concatenate([x, x[:5][::-1]]), jnp.concatenate([ones, jnp.zeros(5)])
        )
        return [fitted(data) for data in (pooled, merged, estimator.summarise(*padded))]

    pooled, merged, padded = _jit(estimator, all_ways)(x)
    merging = "from merged data, and from that of the pooled sample"
    _assert_same(merged, pooled, merging, tolerance)
    _assert_same(padded, pooled, "with empty slots, and without", tolerance)


def _draws_its_statistics(subject):
    """`draw` has the law of the data of `sample`.

    By the metrics of what is fitted to either: Kolmogorov and Smirnov's p > 1e-5.
    """
    estimator, params = subject
    if estimator.draw is None:
        return

    def drawn(key):
        return _scalars(
            estimator, estimator.fit(key, params, estimator.draw(key, params, _SMALL))[0]
        )

    def summarised(key):
        return _scalars(
            estimator,
            _fit(estimator, key, params, estimator.sample(key, params, _SMALL), jnp.ones(_SMALL))[
                0
            ],
        )

    keys = jax.random.split(KEY, 2 * _MANY)
    one, other = jax.jit(jax.vmap(drawn))(keys[:_MANY]), jax.jit(jax.vmap(summarised))(keys[_MANY:])
    for name in one:
        a, b = (np.asarray(values[name], float) for values in (one, other))
        finite = [np.clip(values, -1e30, 1e30) for values in (a, b)]
        _, p = np.asarray(stats.ks_2samp(finite[0], finite[1]))
        assert p > 1e-5, (
            f"metric {name} has another law when fitted to drawn data than to samples (p = {p:.1g})"
        )


def _same_in_both_drivers(subject, tolerance=1e-3):
    """`simulate` and `run` give the same numbers."""
    estimator, params = subject
    process = _process(subject, workflows.replace())
    names = tuple(_scalars(estimator, params))
    with tempfile.TemporaryDirectory() as folder:
        theirs = run(process, KEY, generations=2, folder=folder, chains=1, metrics=names)
    _assert_same(
        simulate(process, KEY, generations=2, chains=1, metrics=names),
        theirs,
        "under simulate, and under run",
        tolerance,
    )


def _runs_under(make, subject):
    """Two chains of three generations hold no nan."""
    estimator, params = subject
    process = _process(subject, make())
    names = tuple(_scalars(estimator, params))
    trace = simulate(process, KEY, generations=3, chains=2, metrics=names)
    for name, values in trace.items():
        assert not _has_nan(values), f"metric {name} is nan under {process.workflow.name}"


# What version 0.1.0 called these checks.
_OLD_NAMES = {
    "evidence_adds": "statistics_add",
    "draws_its_evidence": "draws_its_statistics",
}
CHECKS = {
    "is_pure": _is_pure,
    "compiles_once": _compiles_once,
    "vmaps": _vmaps,
    "survives_collapse": _survives_collapse,
    "recovers_known_parameters": _recovers_known_parameters,
    "statistics_add": _statistics_add,
    "draws_its_statistics": _draws_its_statistics,
    "same_in_both_drivers": _same_in_both_drivers,
    **{
        f"runs_under_{name}": functools.partial(_runs_under, make)
        for name, make in _WORKFLOWS.items()
    },
}
# Checks that hold two programs against each other.
TOLERANT = ("vmaps", "statistics_add", "same_in_both_drivers")
NEED_TRACING = (
    "compiles_once",
    "vmaps",
    "draws_its_statistics",
    "same_in_both_drivers",
    *(f"runs_under_{name}" for name in _WORKFLOWS),
)

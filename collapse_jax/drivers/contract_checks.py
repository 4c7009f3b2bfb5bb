"""The checks of the contract of estimators, by name; each is a function of a `Subject`."""

import functools
import itertools
import operator
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from collapse_jax.core.types import Workflow
from collapse_jax.core.workflows import accumulate, accumulate_subsample, mix
from collapse_jax.drivers import purity
from collapse_jax.drivers.contract_subject import SMALL, Subject
from collapse_jax.drivers.run import Watcher, run
from collapse_jax.drivers.simulate import simulate
from collapse_jax.drivers.vmap_chains import vmap_chains

_SEED = 2024
KEY = jax.random.key(_SEED)
# Points of a large sample, and how many small and large ones are fitted.
_LARGE, _MANY, _FEW = 4096, 400, 8
# XLA without its costly passes, where a program runs once and nothing but nan is looked for.
_QUICK_TO_COMPILE: dict[str, str | bool | int | float] = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}
RUNS_UNDER = "runs_under_"
WORKFLOWS = {
    "mix": functools.partial(mix, 0.5, 0.25, 0.25),
    "accumulate": accumulate,
    "accumulate_subsample": accumulate_subsample,
}


def assert_same(
    found: Mapping[str, Any], wanted: Mapping[str, Any], what: str, tolerance: float
) -> None:
    """Raises `AssertionError` unless two sets of metrics are within a tolerance of each other."""
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


def _is_pure(subject):
    """The same key gives the same numbers, another key others; nothing given is changed."""
    estimator, params = subject
    before = jax.tree.map(lambda leaf: np.array(leaf), params)
    one, again, other = (
        np.asarray(estimator.sample(key, params, SMALL)) for key in (KEY, KEY, jax.random.key(7))
    )
    assert one.shape[0] == SMALL, (
        f"sample(key, params, {SMALL}) has shape {one.shape}; it must be [{SMALL}, ...]"
    )
    assert np.array_equal(one, again), (
        "sample returns other points when called again with the same key: it must take all random "
        "numbers from the key, and none from np.random"
    )
    assert not np.array_equal(one, other), "sample returns the same points for two keys"
    data = subject.summarise(jnp.asarray(one), jnp.ones(SMALL))
    programs = {
        "sample": lambda key: estimator.sample(key, params, SMALL),
        "draw": estimator.draw and (lambda key: estimator.draw(key, params, SMALL)),
        "fit": lambda key: estimator.fit(key, params, data)[0],
    }
    for name, program in programs.items():
        if program is not None and estimator.traceable:
            assert not purity.takes_from_outside(program, KEY), (
                f"{name} takes numbers from a source other than its key (np.random, random, time): "
                "a compiled program would always repeat the first ones"
            )
    fits = [subject.fit(KEY, params, data) for _ in range(2)]
    for a, b in zip(*map(jax.tree.leaves, fits), strict=True):
        assert np.array_equal(a, b, equal_nan=True), (
            "fit returns other parameters when called again with the same arguments"
        )
    for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(params), strict=True):
        assert np.array_equal(a, b, equal_nan=True), (
            "sample or fit has changed the parameters that it was given"
        )


def _compiles_once(subject):
    """A fitted model has the structure, shapes and types of the one before."""
    process = subject.replacing
    state = jax.eval_shape(lambda key: process.init(key)[0], KEY)
    for generation in (1, 2):
        later = jax.eval_shape(lambda key, state: process.step(key, state)[0], KEY, state)
        before, after = _types(state), _types(later)
        changed = {path for path, _ in before.items() ^ after.items()}
        path = min(changed, default="")
        assert not changed, (
            f"a step is compiled again in generation {generation + 1}: {path or 'state'} is "
            f"{before.get(path, 'absent')} in one generation and {after.get(path, 'absent')} "
            "in the next; fit must return parameters of the shapes and types that it receives"
        )
        state = later


def _types(state):
    """Path -> shape and type of each array of a state, by which JAX knows a compiled program."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(state)
    types = {
        jax.tree_util.keystr(path): f"{leaf.dtype.name}{list(leaf.shape)}"
        + (" (weakly typed)" if leaf.weak_type else "")
        for path, leaf in leaves
    }
    return types | {"": str(structure)}


def _vmaps(subject, tolerance=1e-3):
    """A batch gives the same numbers as separate calls."""

    def one(key):
        model = subject.fitted(key, subject.sample(key, subject.params, SMALL))
        return subject.scalars(model)

    keys = jax.random.split(KEY, 3)
    together = jax.jit(jax.vmap(one))(keys)
    for position, key in enumerate(keys):
        assert_same(
            {name: value[position] for name, value in together.items()},
            one(key),
            "in a batch, and alone",
            tolerance,
        )


def _survives_collapse(subject):
    """One point, and many equal ones: no nan in parameters, metrics, or the next sample."""
    point = jnp.asarray(subject.sample(KEY, subject.params, SMALL))[:1]
    for what, equal in (("one point", 1), ("many equal points", SMALL)):
        count = equal
        x = jnp.repeat(point, SMALL, axis=0)
        for again in range(2):
            call = _call_of(point, equal, again)
            weight = (jnp.arange(SMALL) < count).astype(float)
            model = subject.fitted(KEY, x, weight)
            x, count = subject.sample(KEY, model, SMALL), SMALL
            for path, leaf in jax.tree_util.tree_leaves_with_path(model):
                assert not _has_nan(leaf), (
                    f"fitted to {what}, parameter {jax.tree_util.keystr(path)} is nan: {call}"
                )
            for name, value in subject.scalars(model).items():
                assert not _has_nan(value), f"fitted to {what}, metric {name} is nan: {call}"
            assert not _has_nan(x), (
                f"fitted to {what}, the model samples nan: {call}; "
                f"estimator.sample(jax.random.key({_SEED}), model, {SMALL})"
            )


def _call_of(point, count, again):
    """What was fitted, and the line that fits it again, given the estimator and params."""
    value = np.asarray(point[0])
    shown = str(value.tolist()) if value.size <= 4 else f"a point of shape {list(value.shape)}"
    key = f"jax.random.key({_SEED})"
    line = (
        f"x = jnp.repeat(estimator.sample({key}, params, {SMALL})[:1], {SMALL}, axis=0); "
        f"weight = (jnp.arange({SMALL}) < {count}).astype(float)"
    )
    fit = f"model, _ = estimator.fit({key}, params, estimator.summarise(x, weight))"
    weights = "1 in all" if count == SMALL else f"1 in the first of {SMALL} slots, 0 in the others"
    what = f"x is {shown} in {SMALL} slots, weight is {weights}"
    if again:
        what = f"x is {SMALL} points of the model fitted before, weight is 1 in all"
        line += f"; {fit}; x = estimator.sample({key}, model, {SMALL}); weight = jnp.ones({SMALL})"
    return f"{what}; estimator and params are those of example(); {line}; {fit}"


def _has_nan(leaf):
    leaf = np.asarray(leaf)
    return leaf.dtype.kind == "f" and np.isnan(leaf).any()


def _recovers_known_parameters(subject):
    """Fitted to large samples of a model, its metrics are that model's.

    Within 6 standard errors and 2%.
    """
    keys = jax.random.split(KEY, _FEW)
    found = [
        subject.scalars(subject.fitted(key, subject.sample(key, subject.params, _LARGE)))
        for key in keys
    ]
    known = subject.scalars(subject.params)
    for name in subject.names:
        values, true = np.asarray([one[name] for one in found], float), float(known[name])
        if not np.isfinite(true):
            continue
        mean, error = values.mean(), values.std(ddof=1) / np.sqrt(_FEW)
        allowed = 6 * error + 0.02 * max(abs(true), 1e-3)
        assert abs(mean - true) <= allowed, (
            f"metric {name} is {mean:.5g} after a fit to {_LARGE} points of a model whose value "
            f"is {true:.5g}"
        )


def _statistics_add(subject, tolerance=1e-3):
    """Merged data of two samples is that of the pooled one; an empty slot changes nothing."""
    x, half = jnp.asarray(subject.sample(KEY, subject.params, SMALL)), SMALL // 3
    ones, merge = jnp.ones(SMALL), subject.compiled(subject.estimator.merge)
    merged = merge(
        subject.summarise(x[:half], ones[:half]), subject.summarise(x[half:], ones[half:])
    )
    padded = subject.summarise(
        jnp.concatenate([x, x[:5][::-1]]), jnp.concatenate([ones, jnp.zeros(5)])
    )
    pooled, merged, padded = (
        subject.scalars(subject.fit(KEY, subject.params, data))
        for data in (subject.summarise(x, ones), merged, padded)
    )
    merging = "from merged data, and from that of the pooled sample"
    assert_same(merged, pooled, merging, tolerance)
    assert_same(padded, pooled, "with empty slots, and without", tolerance)


def _draws_its_statistics(subject):
    """`draw` has the distribution of the data of `sample`.

    The metrics of models fitted to either are compared: Kolmogorov-Smirnov p > 1e-5.
    """
    estimator, params = subject
    if estimator.draw is None:
        return

    def summarised(key):
        return subject.summarise(subject.sample(key, params, SMALL), jnp.ones(SMALL))

    keys = jax.random.split(KEY, 2 * _MANY)
    one = subject.metrics_by_key(keys[:_MANY], lambda key: estimator.draw(key, params, SMALL))
    other = subject.metrics_by_key(keys[_MANY:], summarised)
    for name in one:
        a, b = (np.asarray(values[name], float) for values in (one, other))
        finite = [np.clip(values, -1e30, 1e30) for values in (a, b)]
        _, p = np.asarray(stats.ks_2samp(finite[0], finite[1]))
        assert p > 1e-5, (
            f"metric {name} has another distribution after fits to the data of draw than after "
            f"fits to samples (p = {p:.1g})"
        )


def _same_in_both_drivers(subject, tolerance=1e-3):
    """`simulate` and `run` give the same numbers."""
    process, names = subject.replacing, subject.names
    with tempfile.TemporaryDirectory() as folder:
        quiet = Watcher(end=lambda *_: None)
        theirs = run(process, KEY, generations=2, folder=folder, metrics=names, watcher=quiet)
    assert_same(
        simulate(process, KEY, generations=2, metrics=names, progress=False),
        theirs,
        "under simulate, and under run",
        tolerance,
    )


def runs_under(make: Callable[[], Workflow], subject: Subject) -> None:
    """Two chains of three generations hold no nan."""
    process = subject.process_under(make())

    def chain(key):
        def following(state, generation):
            state = process.step(jax.random.fold_in(key, generation), state)[0]
            return state, state.params

        first = process.init(jax.random.fold_in(key, 0), last_generation=3)[0]
        later = jax.lax.scan(following, first, jnp.arange(1, 4))[1]
        return first.params, later

    keys = jax.random.split(KEY, 2)
    program = jax.jit(vmap_chains(chain, (0,)), compiler_options=_QUICK_TO_COMPILE)
    first, later = program(keys)
    for number, generation in itertools.product(range(len(keys)), range(4)):
        place = (number, generation - 1) if generation else number
        model = jax.tree.map(operator.itemgetter(place), later if generation else first)
        where = f"is nan under {process.workflow.name}, in generation {generation}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(model):
            assert not _has_nan(leaf), f"parameter {jax.tree_util.keystr(path)} {where}"
        for name, value in subject.scalars(model).items():
            assert not _has_nan(value), f"metric {name} {where}"


CHECKS = {
    "is_pure": _is_pure,
    "compiles_once": _compiles_once,
    "vmaps": _vmaps,
    "survives_collapse": _survives_collapse,
    "recovers_known_parameters": _recovers_known_parameters,
    "statistics_add": _statistics_add,
    "draws_its_statistics": _draws_its_statistics,
    "same_in_both_drivers": _same_in_both_drivers,
    **{RUNS_UNDER + name: functools.partial(runs_under, make) for name, make in WORKFLOWS.items()},
}
# Checks that hold two programs against each other.
TOLERANT = ("vmaps", "statistics_add", "same_in_both_drivers")
NEED_TRACING = (
    "compiles_once",
    "vmaps",
    "draws_its_statistics",
    "same_in_both_drivers",
    *(RUNS_UNDER + name for name in WORKFLOWS),
)

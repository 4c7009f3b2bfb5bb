"""Derivatives through a process: right where there are any, else one line. (docs/gradients.md)"""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import collapse_jax as cj
from collapse_jax import estimators, sources, workflows
from collapse_jax.errors import InputError
from collapse_jax.estimators.bernoulli import BernoulliParams
from collapse_jax.estimators.gaussian import summarise
from collapse_jax.estimators.poisson import PoissonParams
from collapse_jax.estimators.registry import families
from collapse_jax.random.bits import split

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(3)
NORMAL = sources.normal([0.0], [[1.0]])


def walked(process, generations=2, metric="variance"):
    """A metric after some generations of one chain."""
    state, _ = process.init(KEY)
    keys = jax.random.split(KEY, generations)
    state, _ = jax.lax.scan(lambda state, key: (process.step(key, state)[0], None), state, keys)
    return jnp.sum(jnp.asarray(process.metrics[metric](state.params), float))


def gaussian_process(workflow=None, bias=1.0, source=NORMAL, size=20, by="law", ddof=1):
    family = estimators.gaussian(1, ddof, by=by, sampling_bias=bias)
    return cj.generational_process(
        family, source, workflow or workflows.replace(), sample_size=size
    )


def assert_derivative(function, at, step=1e-2, rtol=3e-3):
    """The derivative is that of central differences with one key; a single program gives both."""
    program = jax.jit(lambda x: jax.jvp(function, (x,), (jnp.ones(()),)))
    (low, _), (_, found), (high, _) = (program(jnp.float32(at + by)) for by in (-step, 0, step))
    difference = (high - low) / (2 * step)
    assert abs(float(difference)) > 1e-3
    np.testing.assert_allclose(found, difference, rtol=rtol)


FLOWS = {
    "replace": workflows.replace(),
    "accumulate": workflows.accumulate(),
    "mix": workflows.mix(0.7, 0.0, 0.3),
    "subsampled": workflows.mix(0.5, 0.3, 0.2),
}

FLOWS_SLOW = ("mix", "subsampled")


@pytest.mark.parametrize(
    "flow",
    ["replace", "accumulate", *(pytest.param(name, marks=pytest.mark.slow) for name in FLOWS_SLOW)],
)
def test_sampling_bias(flow):
    assert_derivative(lambda bias: walked(gaussian_process(FLOWS[flow], bias)), 0.9)


def test_temperature_of_points():
    assert_derivative(lambda bias: walked(gaussian_process(bias=bias, by="points")), 0.9)


def test_initial_parameters_of_a_gaussian():
    real = estimators.gaussian_params([0.0], [[1.0]])

    def after(log_scale):
        source = sources.population(estimators.gaussian(1), real._replace(log_scale=(log_scale,)))
        return walked(gaussian_process(source=source))

    assert_derivative(after, 0.1)


@pytest.mark.parametrize("name", ["exponential", "uniform", "linear_regression"])
def test_initial_parameters_of_families_without_counts(name):
    family, params = families()[name].example()
    leaves, tree = jax.tree.flatten(params)

    def after(factor):
        real = tree.unflatten([leaf * factor for leaf in leaves])
        process = cj.generational_process(
            family, sources.population(family, real), workflows.replace(), sample_size=20
        )
        return walked(process, 1)

    assert_derivative(after, 1.0)


@pytest.mark.parametrize("through", ["fit", pytest.param("process", marks=pytest.mark.slow)])
def test_the_prior_of_normal_inverse_gamma(through):
    """By each of its numbers: the variance after draws from a posterior depends on them all."""
    data = summarise(jnp.array([[0.2], [0.9], [-1.3]]), jnp.ones(3), 1)

    def after(prior):
        dim = 1 if through == "fit" else 2
        family = estimators.normal_inverse_gamma(dim, *prior)
        if through == "fit":
            return jnp.exp(2 * family.fit(KEY, None, data)[0].log_scale[0])
        source = sources.normal(np.zeros(dim), np.eye(dim))
        return walked(
            cj.generational_process(family, source, workflows.replace(), sample_size=6), 1
        )

    @jax.jit
    def program(prior):
        return jax.vmap(lambda tangent: jax.jvp(after, (prior,), (tangent,)))(jnp.eye(4))

    at, step = np.float32([0.7, 1.5, 2.2, 1.3]), 1e-2
    low, high = ([program(at + by * one)[0][0] for one in np.eye(4)] for by in (-step, step))
    difference = (np.array(high) - low) / (2 * step)
    assert np.abs(difference).min() > 1e-2
    np.testing.assert_allclose(program(at)[1], difference, rtol=3e-3)


def weighted_mix(gamma):
    """1 - gamma of the weight on the model's points and gamma on as many real ones."""

    def next_set(key, carry, supply, n):
        model_key, real_key = split(key)
        parts = [
            data._replace(count=share * data.count, divisor=share * data.divisor)
            for share, data in (
                (1 - gamma, supply.model(model_key, n)),
                (gamma, supply.real(real_key, n)),
            )
        ]
        return (), supply.merge(*parts)

    return cj.Workflow("weighted_mix", lambda supply, data: (), next_set)


def test_weights_are_differentiated_where_counts_are_not():
    assert_derivative(lambda gamma: walked(gaussian_process(weighted_mix(gamma)), 3), 0.3)


def population_of(name, params):
    family, _ = families()[name].example()
    source = sources.population(family, params)
    return cj.generational_process(family, source, workflows.replace(), sample_size=20)


def of_categories(p):
    real = estimators.categorical_params(jnp.stack([p, 0.7 - p, *jnp.full(4, 0.075)]))
    return population_of("categorical", real)


def of_tokens(p):
    family = cj.estimator(
        lambda key, params, data: (jnp.average(data.x, weights=data.weight), cj.FitInfo.exact()),
        lambda key, params, n: jax.random.bernoulli(key, params, (n,)).astype(jnp.int32),
    )
    real = sources.population(family, p)
    return cj.generational_process(family, real, workflows.replace(), sample_size=20)


def curated(wrapper):
    return lambda bias: gaussian_process(wrapper(workflows.replace()), bias)


def nucleus(p):
    family, real = families()["categorical"].example()
    return cj.generational_process(
        family, sources.population(family, family.nucleus(real, p)), FLOWS["replace"], sample_size=9
    )


def of_mixture(name, field, factor):
    family, real = families()[name].example()
    moved = real._replace(**{field: getattr(real, field) * factor})
    return cj.generational_process(
        family, sources.population(family, moved), workflows.replace(), sample_size=20
    )


NONE = {
    "alpha": (
        lambda a: gaussian_process(workflows.mix(a, 0.0, 1 - a)),
        "of mix have no derivative",
    ),
    "gamma": (
        lambda c: gaussian_process(workflows.mix(1 - c, 0.0, c)),
        "of mix have no derivative",
    ),
    "beta": (lambda b: gaussian_process(workflows.mix(1 - b, b, 0.0)), "of mix have no derivative"),
    "size": (lambda m: gaussian_process(size=lambda generation: 40 * m), "a sample size has no"),
    "categorical": (of_categories, "counts are whole numbers"),
    "bernoulli": (
        lambda p: population_of("bernoulli", BernoulliParams(1 - p, p)),
        "counts are whole numbers",
    ),
    "poisson": (lambda p: population_of("poisson", PoissonParams(p)), "counts are whole numbers"),
    "own tokens": (of_tokens, "which outcome is drawn"),
    "nucleus": (nucleus, "cut down to"),
    "best_of": (
        curated(cj.curation.best_of(2, lambda x: -(x[:, 0] ** 2))),
        "the choice of points by a curation",
    ),
    "verified": (
        curated(cj.curation.verified(lambda x: x[:, 0] > -1)),
        "the choice of points by a curation",
    ),
    "weights of gmm": (lambda p: of_mixture("gmm", "weights", p), "which outcome is drawn"),
    "means of gmm": (lambda p: of_mixture("gmm", "means", p), "which outcome is drawn"),
    "logistic": (
        lambda p: of_mixture("logistic_regression", "weights", p),
        "which outcome is drawn",
    ),
}


@pytest.mark.parametrize("name", NONE)
def test_what_has_no_derivative_says_so(name):
    """Each was 0 in silence, or an error of JAX about a primitive. Nothing is compiled here."""
    process_at, text = NONE[name]

    def differentiated(x):
        return jax.grad(lambda x: walked(process_at(x), 1, "mean"))(x)

    with pytest.raises(InputError, match=text) as caught:
        jax.eval_shape(differentiated, jnp.float32(0.3))
    assert "\n" not in str(caught.value)


def test_the_page_runs_as_printed():
    page = pathlib.Path(__file__).parents[2] / "docs" / "gradients.md"
    names = {}
    for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S):
        exec(compile(block, page.name, "exec"), names)
    keys = jax.random.split(KEY, 3)
    assert jax.eval_shape(names["slope"], jnp.float32(0.9), keys).shape == ()
    process = gaussian_process(names["weighted_mix"](0.3), ddof=0)
    assert jax.eval_shape(process.step, KEY, process.template(KEY))[0].generation.shape == ()


def test_a_scan_over_vmapped_chains_says_so_too():
    def mean_variance(gamma):
        process = gaussian_process(workflows.mix(1 - gamma, 0.0, gamma))

        def one_chain(key):
            state, _ = process.init(key)
            keys = jax.random.split(key, 2)
            state, _ = jax.lax.scan(lambda s, key: (process.step(key, s)[0], None), state, keys)
            return process.metrics["variance"](state.params)

        return jnp.mean(jax.vmap(one_chain)(jax.random.split(KEY, 3)))

    with pytest.raises(InputError, match="of mix have no derivative"):
        jax.eval_shape(jax.grad(jax.jit(mean_variance)), jnp.float32(0.3))


def test_moments_by_draws_of_integers_say_so():
    process = of_tokens(jnp.float32(0.3))
    with pytest.raises(InputError, match="which outcome is drawn"):
        jax.eval_shape(jax.grad(process.metrics["mean"]), jnp.float32(0.3))


def test_samples_of_labels_say_so():
    for name in ("categorical", "bernoulli"):
        family, params = families()[name].example()
        floats = jax.tree.map(lambda leaf: leaf.astype(jnp.result_type(leaf)), params)

        def mean(factor, family=family, params=floats):
            moved = jax.tree.map(
                lambda leaf: leaf * factor if leaf.dtype == jnp.float32 else leaf, params
            )
            return jnp.mean(family.sample(KEY, moved, 5).astype(float))

        with pytest.raises(InputError, match="which outcome is drawn"):
            jax.eval_shape(jax.grad(mean), jnp.float32(1))

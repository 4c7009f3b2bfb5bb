"""Diffusion, flow matching and normalizing flows: affine networks against `theory.denoising`,
densities against samples, and what is refused.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from collapse_jax.core import workflows
from collapse_jax.core.process import generational_process
from collapse_jax.core.types import Dataset
from collapse_jax.drivers.simulate import simulate
from collapse_jax.errors import InputError
from collapse_jax.estimators import sources
from collapse_jax.estimators.diffusion import diffusion
from collapse_jax.estimators.flow_matching import flow_matching
from collapse_jax.estimators.learned import random_output
from collapse_jax.estimators.normalizing_flow import normalizing_flow
from collapse_jax.models.densities.training import (
    Training,
    placed,
    standard_of,
    standardised,
    train,
)
from collapse_jax.theory import denoising

SLOW = pytest.mark.slow
KEY = jax.random.key(4)
CHAINS = 24
MIXING = np.array([[1.5, 0.6], [0.0, 0.5]])


def fitted(family, x, key=KEY, weight=None):
    data = Dataset(jnp.asarray(x, float), jnp.ones(len(x)) if weight is None else weight)
    return family.fit(key, family.init(key, data), data)[0]


@pytest.fixture(scope="module")
def chains():
    """Point sets [chains, 30, 2], and affine networks that one program fits to them."""
    x = np.random.default_rng(0).normal(size=(CHAINS, 30, 2)) @ MIXING + [0.4, -0.3]
    family = diffusion(
        2, levels=6, sampler="ddim", depth=0, steps=600, learning_rate=0.03, standardise=False
    )
    fit = jax.jit(jax.vmap(lambda key, x: fitted(family, x, key)))
    return x, fit(jax.random.split(KEY, CHAINS), jnp.asarray(x, jnp.float32))


@pytest.mark.parametrize(
    "sampler", ["ddim", "ancestral", pytest.param("ancestral_large", marks=SLOW)]
)
def test_affine_denoisers_are_those_of_least_squares(chains, sampler):
    """Mean and covariance of the law sampled, |z| < 4 over chains that each know their own law.

    What training leaves multiplies over the levels, so that a log variance errs by e and the
    variance by about e + e^2 / 2: the square of the relative error may be added.
    """
    x, networks = chains
    family = diffusion(2, levels=6, sampler=sampler, depth=0, standardise=False)
    measure = jax.jit(jax.vmap(lambda p: {name: of(p) for name, of in family.metrics.items()}))
    found = {name: np.asarray(value, float) for name, value in measure(networks).items()}
    laws = [
        denoising.sampled(
            one.mean(0), np.cov(one.T, ddof=0), 6, sampler=sampler, standardised=False
        )
        for one in x
    ]
    assert_near(found["mean"], np.array([law.mean for law in laws]))
    exact = np.array([np.trace(law.covariance) / 2 for law in laws])
    assert_near(found["variance"], exact)
    spread = np.array([np.linalg.slogdet(law.covariance)[1] / 2 for law in laws])
    assert_near(found["log_variance"], spread)
    # And no chain is far from its own, where the points' laws differ by far more.
    assert np.corrcoef(found["variance"], exact)[0, 1] > 0.98


def assert_near(found, exact):
    off = found - exact
    error = off.std(0, ddof=1) / np.sqrt(len(off))
    allowed = 4 * error + (off**2).mean(0) / np.maximum(np.abs(exact).mean(0), 1)
    assert (np.abs(off.mean(0)) < allowed).all(), (off.mean(0), allowed)
    assert (error < 0.02).all(), error  # so that the test can tell


def five_euler_steps():
    """Affine flow matching in one dimension, which keeps 60% of a variance."""
    return flow_matching(
        1, levels=5, solver="euler", depth=0, steps=150, batch_size=50, learning_rate=0.1
    )


@pytest.mark.parametrize("fresh", [0.0, 0.3])
def test_the_variance_over_generations_is_that_of_theory(fresh, trained, assert_mean):
    """200 chains of 20 points; here what is fresh is drawn by NumPy, as `mix` draws it."""
    rng, found = np.random.default_rng(1), []
    x = 1 + 2 * rng.normal(size=(200, 20, 1))
    for generation in range(4):
        mean, variance = trained(jax.random.key(generation), x)
        found.append(variance)
        made = mean[:, None, None] + np.sqrt(variance)[:, None, None] * rng.normal(size=x.shape)
        x = np.where(rng.random(x.shape) < fresh, 1 + 2 * rng.normal(size=x.shape), made)
    kept = denoising.kept_variance(5, sampler="euler")
    expected = denoising.expected_variance(np.arange(4), 20, kept=kept, variance=4.0, fresh=fresh)
    assert_mean(np.stack(found, 1), expected)
    assert kept < 0.62


@pytest.fixture(scope="module")
def trained():
    """(key, x [200, 20, 1]) -> (mean [200], variance [200]) of the models fitted to them."""
    family = five_euler_steps()

    def one(key, x):
        params = fitted(family, x, key)
        return family.metrics["mean"](params), family.metrics["variance"](params)

    program = jax.jit(jax.vmap(one))
    return lambda key, x: tuple(
        np.asarray(part, float)
        for part in program(jax.random.split(key, len(x)), jnp.asarray(x, jnp.float32))
    )


@pytest.mark.slow
@pytest.mark.parametrize("fresh", [0.0, 0.3])
def test_the_variance_under_simulate_is_that_of_theory(fresh, assert_mean):
    workflow = workflows.mix(1 - fresh, 0.0, fresh) if fresh else workflows.replace()
    source = sources.normal([1.0], [[4.0]])
    process = generational_process(five_euler_steps(), source, workflow, sample_size=20)
    trace = simulate(process, KEY, generations=3, chains=300, metrics=("variance",))
    kept = denoising.kept_variance(5, sampler="euler")
    expected = denoising.expected_variance(np.arange(4), 20, kept=kept, variance=4.0, fresh=fresh)
    assert_mean(trace["variance"], expected)


def of_a_line(name):
    """A family of points on a line, and a network at random, whose law is no normal one."""
    options = {"width": 8, "depth": 1}
    family = {
        "ddim": lambda: diffusion(1, levels=6, sampler="ddim", **options),
        "probability_flow": lambda: diffusion(1, levels=6, **options),
        "flow": lambda: flow_matching(1, levels=6, **options),
        "spline": lambda: normalizing_flow(1, layers=2, bins=5, **options),
        "affine": lambda: normalizing_flow(1, layers=2, transform="affine", **options),
    }[name]()
    params = random_output(family.init(KEY, None), 0.4)
    standard = params.standard._replace(mean=jnp.array([3.0]), scale=jnp.array([2.0]))
    return family, params._replace(standard=standard)


@pytest.mark.parametrize(
    "name",
    [
        *("probability_flow", "spline"),
        *(pytest.param(name, marks=SLOW) for name in ("ddim", "flow", "affine")),
    ],
)
def test_samples_have_their_density(name):
    """It integrates to 1, and Kolmogorov and Smirnov's test knows no difference of its law."""
    family, params = of_a_line(name)
    grid = np.linspace(-30, 36, 4001)
    density = np.exp(
        np.asarray(jax.jit(family.log_prob)(params, jnp.asarray(grid)[:, None]), float)
    )
    steps = np.diff(grid) * (density[1:] + density[:-1]) / 2
    assert steps.sum() == pytest.approx(1, abs=2e-4)
    x = np.asarray(jax.jit(family.sample, static_argnums=2)(KEY, params, 20_000), float)[:, 0]
    cumulated = np.append(0, np.cumsum(steps))
    law = stats.kstest(x, lambda value: np.interp(value, grid, cumulated))
    assert law.pvalue > 1e-4
    assert name == "affine" or stats.kstest((x - x.mean()) / x.std(), "norm").pvalue < 1e-6


@SLOW
@pytest.mark.parametrize("name", ["flow", "spline"])
def test_densities_in_the_plane_integrate_to_1(name):
    options = {"width": 8, "depth": 1}
    family = normalizing_flow(2, layers=3, bins=4, **options)
    if name == "flow":
        family = flow_matching(2, levels=5, solver="euler", **options)
    # Small enough for the flow that no step folds the plane, which has no inverse then.
    params = random_output(family.init(KEY, None), 0.15 if name == "flow" else 0.3)
    line = np.linspace(-9, 9, 90)
    grid = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)
    logs = np.asarray(jax.jit(family.log_prob)(params, jnp.asarray(grid)), float)
    assert np.exp(logs).sum() * (line[1] - line[0]) ** 2 == pytest.approx(1, abs=2e-3)
    # No product of two laws: coordinates depend on each other.
    table = np.exp(logs).reshape(90, 90)
    assert np.abs(table * table.sum() - np.outer(table.sum(1), table.sum(0))).max() > 1e-3


def test_densities_of_affine_denoisers_are_normal(chains):
    """SciPy's, at the law of the network's points, but for what training leaves; inf on what has no
    width.
    """
    family = diffusion(2, levels=6, sampler="ddim", depth=0, standardise=False)
    one = jax.tree.map(lambda leaf: leaf[0], chains[1])
    x = jnp.asarray(chains[0][0, :9], jnp.float32)
    law = denoising.sampled(
        chains[0][0].mean(0), np.cov(chains[0][0].T, ddof=0), 6, sampler="ddim", standardised=False
    )
    found = np.asarray(jax.jit(family.log_prob)(one, x), float)
    exact = stats.multivariate_normal(law.mean, law.covariance).logpdf(np.asarray(x))
    np.testing.assert_allclose(found, exact, atol=0.2)
    point = one._replace(standard=one.standard._replace(scale=jnp.array([0.0, 1.0])))
    at = jnp.array([[0.0, 1.0], [0.1, 1.0]])
    assert np.asarray(family.log_prob(point, at)).tolist() == [np.inf, -np.inf]


@SLOW
def test_a_flow_learns_what_no_gaussian_is():
    """Three blobs: nearer to held-out points than the Gaussian of their moments, by 0.3 nats."""
    rng = np.random.default_rng(2)
    places = np.array([[2.0, 0.0], [-1.0, 1.7], [-1.0, -1.7]])
    x, other = (places[rng.integers(3, size=400)] + 0.3 * rng.normal(size=(400, 2)) for _ in "ab")
    family = normalizing_flow(2, layers=3, width=16, steps=150, learning_rate=0.02)
    params = jax.jit(lambda key: fitted(family, x, key))(KEY)
    found = float(np.mean(jax.jit(family.log_prob)(params, jnp.asarray(other))))
    normal = stats.multivariate_normal(x.mean(0), np.cov(x.T)).logpdf(other).mean()
    assert found > normal + 0.3


def test_images_stay_images_and_a_previous_network_goes_on():
    """Small steps leave a network near the one before, which a fresh one is not."""
    images = np.random.default_rng(1).random((20, 4, 4))
    options = {"levels": 3, "solver": "euler", "width": 8, "depth": 1, "steps": 3}
    family = flow_matching((4, 4), start="previous", learning_rate=1e-6, batch_size=8, **options)
    before = jax.jit(lambda key: random_output(family.init(key, None)))(KEY)

    def fit_and_draw(key, params, data):
        params, info = family.fit(key, params, data)
        return params, info, family.sample(key, params, 50)

    data = Dataset(jnp.asarray(images, jnp.float32), jnp.ones(20))
    params, info, x = jax.jit(fit_and_draw)(KEY, before, data)
    for a, b in zip(*map(jax.tree.leaves, (params.network, before.network)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
    assert int(info.iterations) == 3 and bool(info.converged)
    deviation = np.sqrt(images.reshape(20, -1).var(0).mean())
    assert float(params.standard.scale) == pytest.approx(deviation, rel=1e-4)
    x = np.asarray(x)
    assert x.shape == (50, 4, 4) and x.min() == 0 and x.max() == 1
    assert set(family.metrics) == {"mean", "variance", "log_variance"}
    assert family.log_prob is None
    with pytest.raises(InputError, match="divide by 255"):
        family.check(images * 255)


def test_norms_of_gradients_are_those_of_a_parabola():
    """(p - 3)^2 from p = 0: a gradient of -6, and of -5.8 after Adam's first step of .1."""
    x, weight = jnp.full((4, 1), 3.0), jnp.ones(4)

    def loss(p, key, offset, batch):
        return jnp.mean((p - batch[:, 0]) ** 2)

    _, losses, norms = train(loss, jnp.zeros(()), KEY, x, weight, Training(2, 4, 0.1))
    np.testing.assert_allclose(norms, [6, 5.8], rtol=1e-5)
    np.testing.assert_allclose(losses, [9, 2.9**2], rtol=1e-5)


def test_points_without_weight_do_not_count():
    """Nor does what they hold; a weight of 3 is that of three equal points."""
    x = np.array([[0.0], [1.0], [5.0], [np.nan]])
    family = flow_matching(1, levels=4, depth=0, steps=5)
    params = fitted(family, x, weight=jnp.array([1.0, 3.0, 1.0, 0.0]))
    repeated = np.array([0, 1, 1, 1, 5.0])
    assert float(params.standard.mean[0]) == pytest.approx(repeated.mean())
    assert float(params.standard.scale[0]) == pytest.approx(repeated.std(), rel=1e-5)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


def test_coordinates_of_any_units_are_standardised():
    """Each by its own mean and deviation; one that does not vary, but for rounding, has scale 0."""
    x = np.random.default_rng(5).normal(size=(50, 4)) * [1e3, 1e-4, 1, 1] + [1e4, 0, -1, 7]
    x[:, 3] = 7.1
    standard = standard_of(jnp.asarray(x, jnp.float32), jnp.ones(50), each=True)
    np.testing.assert_allclose(standard.mean, x.mean(0), rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(standard.scale, [*x[:, :3].std(0), 0], rtol=1e-3)
    z = np.asarray(standardised(standard, jnp.asarray(x, jnp.float32)))
    np.testing.assert_allclose(z[:, :3].std(0), 1, rtol=1e-3)
    np.testing.assert_allclose(placed(standard, z), x, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: diffusion(0), "dim is 0; it must be a number of at least 1, or the shape"),
        (lambda: diffusion((28, 0)), "dim is 0"),
        (lambda: diffusion(2, levels=0), "levels is 0"),
        (lambda: diffusion(2, schedule="sine"), "schedule is 'sine'; .* cosine, linear"),
        (lambda: diffusion(2, sampler="heun"), "sampler is 'heun'; .* ancestral, ancestral_large"),
        (lambda: diffusion(2, depth=0, width=9), "width is 9 with depth 0, .* ignores it"),
        (lambda: diffusion((28, 28), depth=0), "depth is 0 with 784 coordinates"),
        (lambda: diffusion(2, steps=0), "steps is 0"),
        (lambda: diffusion(2, learning_rate=0), "learning_rate is 0"),
        (lambda: diffusion(2, start="warm"), "start is 'warm'; .* fresh, previous"),
        (lambda: diffusion(2, standardise=2), "standardise is 2"),
        (lambda: flow_matching(2, solver="rk4"), "solver is 'rk4'; .* heun, euler"),
        (lambda: flow_matching(2, batch_size=0), "batch_size is 0"),
        (lambda: normalizing_flow((2, 2)), r"dim is \(2, 2\)"),
        (lambda: normalizing_flow(2, layers=0), "layers is 0"),
        (lambda: normalizing_flow(2, bins=1), "bins is 1"),
        (
            lambda: normalizing_flow(2, transform="affine", bins=4),
            "bins is 4 with transform 'affine'",
        ),
        (lambda: normalizing_flow(2, depth=-1), "depth is -1"),
    ],
)
def test_what_means_nothing_is_refused(make, words):
    with pytest.raises(InputError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_densities_are_offered_where_they_are_exact():
    assert diffusion(2).log_prob and flow_matching(16).log_prob and normalizing_flow(99).log_prob
    assert diffusion(2, sampler="ancestral").log_prob is None
    assert flow_matching(17).log_prob is None

"""Gaussian mixtures: steps of EM by hand, fits beside scikit-learn, samples, distances."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats
from sklearn.mixture import GaussianMixture

import collapse_jax as cj
from collapse_jax.core.types import Dataset
from collapse_jax.errors import InputError
from collapse_jax.estimators.gmm import covariances as plain_covariances
from collapse_jax.estimators.gmm import example, gmm, gmm_params
from collapse_jax.estimators.gmm import log_squared_l2 as plain_log_squared_l2
from collapse_jax.estimators.gmm import sample as plain_sample
from collapse_jax.estimators.gmm import squared_l2 as plain_squared_l2
from collapse_jax.numerics import blocks
from collapse_jax.numerics.blocks import in_blocks
from collapse_jax.numerics.k_means import draw_point, k_means

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(0)
covariances, log_squared_l2, squared_l2 = map(
    jax.jit, (plain_covariances, plain_log_squared_l2, plain_squared_l2)
)
sample = jax.jit(plain_sample, static_argnums=2)
KINDS = ["full", "diagonal", "spherical"]
WEIGHTS = np.array([0.3, 0.7])


@functools.cache
def fitter(number, dim, kind="full", **options):
    return jax.jit(gmm(number, dim, kind, **options).fit)


def data_of(x, weight=None):
    return Dataset(
        jnp.asarray(x, jnp.float32),
        jnp.ones(len(x)) if weight is None else jnp.asarray(weight, jnp.float32),
    )


def blobs(dim, size=300, seed=0):
    """Two overlapping groups of points [size, dim]."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(size, dim)) @ (np.eye(dim) + 0.3 * rng.normal(size=(dim, dim)))
    x[: size // 3] = x[: size // 3] * 0.5 + 2
    return x


def start_of(kind, dim):
    means = np.stack([np.full(dim, 1.0), np.full(dim, -0.5)])
    spread = {
        "full": np.stack([np.eye(dim)] * 2),
        "diagonal": np.ones((2, dim)),
        "spherical": np.ones(2),
    }[kind]
    return gmm_params(WEIGHTS, means, spread), means


def by_hand(kind, x, weight, shares, means, covariance, floor):
    """One step of EM in NumPy float64.

    (weights, means, covariances [K, d, d], mean log-likelihood before the step).
    """
    densities = np.stack(
        [
            p * stats.multivariate_normal(m, c).pdf(x)
            for p, m, c in zip(shares, means, covariance, strict=True)
        ]
    )
    log_likelihood = weight @ np.log(densities.sum(0)) / weight.sum()
    taken = densities / densities.sum(0) * weight
    found = []
    for one in taken:
        mean = one @ x / one.sum()
        spread = ((x - mean).T * one) @ (x - mean) / one.sum() + floor * np.eye(x.shape[1])
        if kind != "full":
            spread = np.diag(
                np.diag(spread)
                if kind == "diagonal"
                else np.full(len(mean), np.trace(spread) / len(mean))
            )
        found.append((one.sum() / weight.sum(), mean, spread))
    return *(np.array(part) for part in zip(*found, strict=True)), log_likelihood


@pytest.mark.parametrize(
    ("kind", "dim"), [("full", 2), ("diagonal", 2), ("spherical", 2), ("full", 6)]
)
def test_a_step_is_that_of_a_hand_calculation(kind, dim):
    x = blobs(dim, 40)
    weight = np.ones(40)
    weight[3:7], weight[10] = 0, 2
    params, means = start_of(kind, dim)
    x_with_garbage = np.where(weight[:, None] > 0, x, 1e6)
    fitted, info = fitter(2, dim, kind, start="previous", steps=1, floor=0.01)(
        KEY, params, data_of(x_with_garbage, weight)
    )
    shares, centres, spreads, log_likelihood = by_hand(
        kind, x, weight, WEIGHTS, means, [np.eye(dim)] * 2, 0.01
    )
    np.testing.assert_allclose(fitted.weights, shares, rtol=1e-5)
    np.testing.assert_allclose(fitted.means, centres, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(covariances(fitted), spreads, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(info.loss, -log_likelihood, rtol=1e-5)
    assert info.iterations == 1 and not info.converged


@pytest.mark.parametrize(
    ("kind", "dim"), [("full", 2), ("diagonal", 2), ("spherical", 2), ("full", 6)]
)
def test_whole_fits_are_those_of_scikit_learn(kind, dim):
    params, means = start_of(kind, dim)
    precisions = (
        np.linalg.inv(np.stack([np.eye(dim)] * 2))
        if kind == "full"
        else np.ones((2, dim) if kind == "diagonal" else 2)
    )
    for seed in range(3):
        x = blobs(dim, seed=seed)
        options = {
            "weights_init": WEIGHTS,
            "means_init": means,
            "precisions_init": precisions,
            "tol": 1e-5,
            "max_iter": 500,
        }
        peer = GaussianMixture(
            2, covariance_type="diag" if kind == "diagonal" else kind, **options
        ).fit(x)
        fitted, info = fitter(2, dim, kind, start="previous")(KEY, params, data_of(x))
        assert info.converged and abs(int(info.iterations) - peer.n_iter_) <= 3
        ours = float(jnp.mean(gmm(2, dim).log_prob(fitted, jnp.asarray(x, jnp.float32))))
        np.testing.assert_allclose(ours, peer.score(x), rtol=1e-4)
        np.testing.assert_allclose(-info.loss, peer.lower_bound_, rtol=1e-4)


def test_tight_components_far_from_their_start_keep_their_digits():
    """Deviations of 0.003 at distance 2 from the first means: sums about those would lose them."""
    rng = np.random.default_rng(1)
    centres = np.array([[1.0, 1.0], [-1.0, 0.5]])
    x = (
        centres[rng.integers(0, 2, 400)] + 0.003 * rng.normal(size=(400, 2)) @ [[1, 0.8], [0, 0.6]]
    ).astype(np.float32)
    params = gmm_params([0.5, 0.5], [[3.0, 1.5], [-2.5, 0.5]], [np.eye(2)] * 2)
    fitted, info = fitter(2, 2, start="previous", floor=1e-9)(KEY, params, data_of(x))
    for k in range(2):
        own = x[np.abs(x - centres[k]).max(1) < 0.1].astype(np.float64)
        np.testing.assert_allclose(
            covariances(fitted)[k], np.cov(own.T, ddof=0) + 1e-9 * np.eye(2), rtol=1e-3, atol=1e-9
        )
    assert info.converged


@pytest.mark.parametrize("kind", KINDS)
def test_em_never_lowers_the_likelihood(kind):
    dim, number = 2, 3
    for seed in range(4):
        rng = np.random.default_rng(seed)
        x = data_of(blobs(dim, 60, seed))
        params = gmm_params(
            rng.dirichlet(np.ones(number)),
            rng.normal(size=(number, dim)),
            rng.uniform(0.2, 3, number),
        )
        spread = np.asarray(covariances(params))
        spread = (
            spread
            if kind == "full"
            else np.diagonal(spread, axis1=1, axis2=2)
            if kind == "diagonal"
            else spread[:, 0, 0]
        )
        params = gmm_params(params.weights, params.means, spread)
        losses = []
        for _ in range(12):
            params, info = fitter(number, dim, kind, start="previous", steps=1)(KEY, params, x)
            losses.append(float(info.loss))
        assert losses[-1] < losses[0] - 0.01 and np.max(np.diff(losses)) < 1e-5


def test_the_cap_on_steps_and_what_a_batch_gives():
    """Chains of a batch stop by themselves, each with the numbers that it has alone."""
    batch = jnp.stack([data_of(blobs(2, seed=seed)).x for seed in range(3)])
    keys = jax.random.split(KEY, 3)
    fit = gmm(2, 2, steps=40).fit
    together, info = jax.jit(jax.vmap(lambda key, x: fit(key, None, data_of(x))))(keys, batch)
    assert len(set(info.iterations.tolist())) > 1 and info.iterations.max() <= 40
    assert (info.converged | (info.iterations == 40)).all()
    for i in range(3):
        alone, alone_info = fitter(2, 2, steps=40)(keys[i], None, data_of(batch[i]))
        assert alone_info.iterations == info.iterations[i]
        jax.tree.map(
            lambda one, all_of_them, i=i: np.testing.assert_allclose(
                one, all_of_them[i], rtol=1e-4, atol=1e-5
            ),
            alone,
            together,
        )


def test_sums_over_blocks_of_points_are_sums(monkeypatch):
    params, _ = start_of("full", 2)
    x = data_of(blobs(2, 300))
    whole, _ = fitter(2, 2, start="previous")(KEY, params, x)
    monkeypatch.setattr(blocks, "_BLOCK", 64)
    parts, _ = jax.jit(gmm(2, 2, start="previous").fit)(KEY, params, x)
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4),
        whole,
        parts,
    )
    labels, _ = jax.jit(lambda: k_means(KEY, *in_blocks(*x), 2))()
    assert labels.shape == (5, 60) and 60 < np.sum(labels) < 240


@pytest.mark.parametrize("start", ["kmeans++", "previous"])
def test_collapsed_samples(start):
    """All points equal, one point, none, or fewer than components: finite parameters.

    The floor is the variance, and the weights sum to 1.
    """
    family = gmm(3, 2, start=start)
    params = jax.jit(family.init)(KEY, data_of(blobs(2)))

    @jax.jit
    def measured(fitted, x):
        metrics = {name: metric(fitted) for name, metric in family.metrics.items()}
        return (
            family.log_prob(fitted, x),
            family.sample(KEY, fitted, 5),
            metrics,
            log_squared_l2(fitted, params),
        )

    rng = np.random.default_rng(0)
    cases = {
        "equal": (np.full((9, 2), 0.7), np.ones(9)),
        "one": (rng.normal(size=(9, 2)), np.eye(9)[2]),
        "two": (rng.normal(size=(9, 2)), np.eye(9)[2] + np.eye(9)[5]),
        "none": (rng.normal(size=(9, 2)), np.zeros(9)),
    }
    for name, (x, weight) in cases.items():
        fitted, info = fitter(3, 2, start=start)(KEY, params, data_of(x, weight))
        logs, drawn, metrics, distance = measured(fitted, jnp.asarray(x, jnp.float32))
        for leaf in jax.tree.leaves((fitted, logs, drawn)):
            assert np.isfinite(leaf).all(), name
        assert not any(np.isnan(value).any() for value in metrics.values()) and not np.isnan(
            distance
        ), name
        np.testing.assert_allclose(fitted.weights.sum(), 1, rtol=1e-5)
        if name in ("equal", "one"):
            there = x[weight > 0][0]
            np.testing.assert_allclose(fitted.weights @ fitted.means, there, rtol=1e-5)
            np.testing.assert_allclose(metrics["variance"], 1e-6, rtol=1e-2)
        assert not np.isnan(info.loss)


def test_an_emptied_component_stays_where_it_is():
    params = gmm_params([0.5, 0.5], [[0.0, 0.0], [500.0, 0.0]], [np.eye(2)] * 2)
    fitted, _ = fitter(2, 2, start="previous")(
        KEY, params, data_of(np.random.default_rng(0).normal(size=(50, 2)))
    )
    np.testing.assert_allclose(fitted.weights, [1, 0], atol=1e-7)
    np.testing.assert_array_equal(fitted.means[1], [500, 0])
    np.testing.assert_allclose(covariances(fitted)[1], 1e-6 * np.eye(2), rtol=1e-4)


def test_k_means_draws_in_proportion_and_finds_groups(chi_square_p):
    chances = np.array([[0.0, 1, 4, 0, 2], [0, 0, 3, 5, 0]])
    x = jnp.arange(10.0).reshape(2, 5)[:, None]
    draw = jax.jit(
        jax.vmap(
            lambda i: draw_point(
                jnp.uint32(3), jnp.uint32(4), i, x, jnp.asarray(chances, jnp.float32)
            )
        )
    )
    drawn = np.asarray(draw(jnp.arange(6000)))[:, 0].astype(int)
    assert chi_square_p(np.bincount(drawn, minlength=10), chances.ravel() / chances.sum()) > 1e-4
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(4), [50, 20, 5, 80])
    points = np.array([[0, 0], [9, 0], [0, 9], [-9, -9.0]])[groups] + rng.normal(size=(155, 2))
    found = jax.jit(jax.vmap(lambda key: k_means(key, *in_blocks(*data_of(points)), 4)[0][0]))(
        jax.random.split(KEY, 12)
    )
    right = [
        len({(a, b) for a, b in zip(groups, labels.tolist(), strict=True)}) == 4
        for labels in np.asarray(found)
    ]
    assert np.mean(right) > 0.7


def test_fits_from_a_k_means_start_have_the_law_of_scikit_learn(assert_mean):
    """One blob fitted by two components ends in many places: steps, likelihoods of 80 samples."""
    x = np.random.default_rng(5).normal(size=(80, 200, 2)).astype(np.float32)
    fit = gmm(2, 2, steps=2000, tolerance=1e-4).fit
    _, info = jax.jit(jax.vmap(lambda key, one: fit(key, None, data_of(one))))(
        jax.random.split(KEY, 80), jnp.asarray(x)
    )
    peers = [
        GaussianMixture(2, tol=1e-4, max_iter=2000, random_state=seed).fit(one)
        for seed, one in enumerate(x)
    ]
    assert stats.ks_2samp(info.iterations, [peer.n_iter_ for peer in peers]).pvalue > 1e-4
    assert_mean(-np.asarray(info.loss) - [peer.lower_bound_ for peer in peers], 0.0)


class TestLawOfSamples:
    """40,000 points beside the exact law, with a rare component, or more than are compared."""

    @pytest.mark.parametrize("number", [1, 2, 9])
    def test_one_dimension(self, number):
        rng = np.random.default_rng(number)
        weights, means, scales = (
            rng.dirichlet(np.full(number, 0.5)),
            rng.normal(size=number) * 3,
            rng.uniform(0.05, 2, number),
        )
        params = gmm_params(weights, means[:, None], scales**2)
        x = np.asarray(sample(KEY, params, 40_000))[:, 0]
        assert (
            stats.kstest(
                x, lambda at: weights @ stats.norm.cdf((at - means[:, None]) / scales[:, None])
            ).pvalue
            > 1e-4
        )

    @pytest.mark.parametrize("dim", [2, 6])
    def test_components_of_more_dimensions(self, dim, chi_square_p):
        weights = np.array([0.001, 0.6, 0.399])
        means = np.array([60.0, -30, 0])[:, None] * np.ones(dim)
        roots = np.eye(dim) + np.tril(np.random.default_rng(0).normal(size=(3, dim, dim))) * 0.5
        x = np.asarray(
            sample(KEY, gmm_params(weights, means, roots @ roots.swapaxes(1, 2)), 40_000),
            np.float64,
        )
        component = np.abs(x[:, 0, None] - means[:, 0]).argmin(1)
        assert chi_square_p(np.bincount(component, minlength=3), weights) > 1e-4
        for k in (1, 2):
            whitened = np.linalg.solve(roots[k], (x[component == k] - means[k]).T)
            assert stats.kstest((whitened**2).sum(0), stats.chi2(dim).cdf).pvalue > 1e-4
            assert stats.kstest(whitened[-1], "norm").pvalue > 1e-4
        first, more = (
            sample(KEY, gmm_params(weights, means, np.ones(3)), 5),
            sample(KEY, gmm_params(weights, means, np.ones(3)), 9),
        )
        np.testing.assert_array_equal(first, more[:5])


def scipy_density(params, x):
    laws = [
        stats.multivariate_normal(m, c)
        for m, c in zip(np.asarray(params.means), np.asarray(covariances(params)), strict=True)
    ]
    return sum(float(weight) * law.pdf(x) for weight, law in zip(params.weights, laws, strict=True))


def test_log_prob_and_metrics():
    family, params = example()
    x = np.random.default_rng(0).normal(size=(20, 2)) * 3
    np.testing.assert_allclose(
        family.log_prob(params, jnp.asarray(x, jnp.float32)),
        np.log(scipy_density(params, x)),
        rtol=1e-5,
    )
    assert family.log_prob(params, jnp.array([[300.0, 0]]))[0] < -1000
    weights, means = np.array([0.3, 0.7]), np.array([[-2.0, 0.0], [1.0, 1.0]])
    spreads = np.array([[[0.5, 0.2], [0.2, 0.4]], [[1.0, -0.3], [-0.3, 0.6]]])
    mean = weights @ means
    whole = np.einsum(
        "k,kij->ij", weights, spreads + np.einsum("ki,kj->kij", means - mean, means - mean)
    )
    expected = {
        "mean": mean,
        "variance": np.trace(whole) / 2,
        "log_variance": np.linalg.slogdet(whole)[1] / 2,
        "component_deviations": np.sqrt([0.8, 0.45]),
        "smallest_weight": 0.3,
    }
    for name, value in expected.items():
        np.testing.assert_allclose(family.metrics[name](params), value, rtol=1e-5, err_msg=name)
    line = gmm_params([0.5, 0.5], [[1.0], [3.0]], [1.0, 4.0])
    assert family.metrics["mean"](line).shape == () and family.metrics["variance"](
        line
    ) == pytest.approx(3.5)


def test_squared_l2_is_the_integral():
    first, second = (
        gmm_params([p, 1 - p], [[a], [b]], [0.3, 1.4])
        for p, a, b in ((0.2, -1.0, 2.0), (0.9, 0.3, 1.0))
    )
    value, _ = integrate.quad(
        lambda at: (scipy_density(first, at) - scipy_density(second, at)) ** 2,
        -12,
        12,
        points=[-1, 0, 1, 2],
    )
    np.testing.assert_allclose(squared_l2(first, second), value, rtol=1e-4)
    np.testing.assert_allclose(log_squared_l2(second, first), np.log(value), atol=1e-4)
    # A plane, more than four dimensions, and a collapsed model, whose own norm is all there is: (4
    # pi v)^(-d / 2).
    _, plane = example()
    moved = plane._replace(means=plane.means + 0.5)
    grid = np.stack(np.meshgrid(np.linspace(-9, 9, 400), np.linspace(-9, 9, 400)), -1)
    cell = (18 / 399) ** 2
    value = ((scipy_density(plane, grid) - scipy_density(moved, grid)) ** 2).sum() * cell
    np.testing.assert_allclose(squared_l2(plane, moved), value, rtol=1e-4)
    for dim in (2, 6, 40):
        wide, tight = (
            gmm_params([1.0], np.zeros((1, dim)), [variance]) for variance in (1.0, 1e-6)
        )
        np.testing.assert_allclose(
            log_squared_l2(tight, wide), -dim / 2 * np.log(4 * np.pi * 1e-6), atol=1e-3
        )
    assert squared_l2(plane, plane) == 0 and log_squared_l2(plane, plane) == -np.inf


def test_monte_carlo_divergences():
    first, second = gmm_params([1.0], [[0.5, 0.0]], [1.0]), gmm_params([1.0], [[0.0, 0.0]], [2.0])
    forth, back = (
        jax.jit(gmm(1, 2).distances[name]) for name in ("kl_model_to_real", "kl_real_to_model")
    )
    # Closed form; its log ratio has deviation |z|^2 / 4 and 0.35 z of a standard normal z, together
    # below 0.6.
    assert forth(first, second) == pytest.approx(np.log(2) - 1 + 0.5 + 0.25 / 4, abs=4 * 0.6 / 64)
    np.testing.assert_allclose(back(second, first), forth(first, second), rtol=1e-5)
    assert forth(first, first) == 0


@pytest.mark.slow
def test_a_chain_from_generation_to_generation():
    """It drifts away from its first fit, also where points of the previous set come back."""
    source = cj.sources.normal([0.0, 0.0], np.eye(2))
    process = cj.generational_process(
        gmm(2, 2, steps=30),
        source,
        cj.workflows.mix(0.5, 0.2, 0.3),
        sample_size=30,
        remember_first=True,
    )
    trace = cj.simulate(
        process,
        KEY,
        generations=12,
        chains=6,
        metrics=("squared_l2_to_first", "variance"),
        record=[3, 12],
    )
    assert (trace["squared_l2_to_first"][:, 0] == 0).all()
    assert (trace["squared_l2_to_first"][:, 1:] > 0).all() and np.isfinite(trace["variance"]).all()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"num_components": 0}, "num_components is 0"),
        ({"dim": 2.0}, "dim is 2.0"),
        ({"covariance": "tied"}, "covariance is 'tied'"),
        ({"start": "random"}, "start is 'random'"),
        ({"steps": True}, "steps is True"),
        ({"tolerance": -1.0}, "tolerance is -1.0"),
        ({"floor": 0.0}, "floor is 0.0"),
    ],
)
def test_bad_options(options, word):
    with pytest.raises(InputError, match=word):
        gmm(**({"num_components": 2, "dim": 2} | options))


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (([0.5, 0.6], np.zeros((2, 2)), [1.0, 1.0]), "weights"),
        (([0.5, 0.5], np.zeros((3, 2)), [1.0, 1.0]), "means"),
        (([0.5, 0.5], np.zeros((2, 3)), np.ones((2, 2))), "covariances has shape"),
        (([0.5, 0.5], np.zeros((2, 3)), [1.0, 0.0]), "positive definite"),
        (([1.0], np.zeros((1, 2)), [[[1.0, 0.5], [0.2, 1.0]]]), "symmetric"),
    ],
)
def test_bad_params(arguments, word):
    with pytest.raises(InputError, match=word):
        gmm_params(*arguments)

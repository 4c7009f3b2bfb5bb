"""Densities of scikit-learn as host families, held against scikit-learn itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.neighbors import KernelDensity

import collapse_jax as cj
from collapse_jax.errors import InputError

KEY = jax.random.key(4)
X = np.random.default_rng(0).normal(size=(40, 2)) * [1, 3]
DATA = cj.Dataset(
    jnp.concatenate([jnp.asarray(X), jnp.full((3, 2), 99.0)]), jnp.array([1.0] * 40 + [0.0] * 3)
)
MODELS = {
    "mixture": GaussianMixture(3),
    "bayesian": BayesianGaussianMixture(n_components=3),
    "kernels": KernelDensity(bandwidth=0.3),
}


def words(key, use):
    return np.random.RandomState([*np.asarray(jax.random.key_data(key)).tolist(), use])


@pytest.mark.parametrize("name", MODELS)
def test_fit_density_and_sample_are_those_of_scikit_learn(name):
    model, family = MODELS[name], cj.from_sklearn(MODELS[name])
    start = family.init(KEY, DATA)
    params, info = family.fit(KEY, start, DATA)
    assert jax.tree.structure(start) == jax.tree.structure(params)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(params))
    theirs = type(model)(**model.get_params())
    if "random_state" in model.get_params():
        theirs.set_params(random_state=words(KEY, 1))
        theirs.fit(np.asarray(DATA.x[:40], float))
        assert float(info.loss) == pytest.approx(-theirs.lower_bound_, rel=1e-6)
        assert int(info.iterations) == theirs.n_iter_
        random = words(KEY, 2)
        points = theirs.set_params(random_state=random).sample(50)[0]
    else:
        theirs.fit(np.asarray(DATA.x[:40], float))
        random = words(KEY, 2)
        points = theirs.sample(50, random_state=random)
    np.testing.assert_allclose(family.log_prob(params, X), theirs.score_samples(X), rtol=1e-12)
    found = family.sample(KEY, params, 50)
    np.testing.assert_array_equal(found, random.permutation(points).astype(np.float32))
    assert not np.array_equal(found, family.sample(jax.random.key(5), params, 50))


def test_points_of_a_mixture_are_in_random_order():
    """The first half of two components far apart holds both."""
    family = cj.from_sklearn(GaussianMixture(2))
    x = jnp.concatenate([jnp.linspace(-101, -99, 20), jnp.linspace(99, 101, 20)])
    data = cj.Dataset(x, jnp.ones(40))
    params, _ = family.fit(KEY, family.init(KEY, data), data)
    found = family.sample(KEY, params, 200)
    assert found.shape == (200,)
    assert 20 < (found[:100] > 0).sum() < 80  # 4 sigma of 50 is 20, and a little more


@pytest.mark.parametrize("name", ["mixture", "kernels"])
def test_a_run_goes_on_where_it_stopped(name, tmp_path):
    process = cj.generational_process(
        cj.from_sklearn(MODELS[name]),
        cj.sources.dataset(X),
        cj.workflows.replace(),
        sample_size=20,
    )
    options = {"metrics": ("mean",)}
    whole = cj.run(process, KEY, generations=2, folder=tmp_path / "a", **options)
    cj.run(process, KEY, generations=1, folder=tmp_path / "b", **options)
    resumed = cj.run(process, KEY, generations=2, folder=tmp_path / "b", **options)
    for metric in whole:
        np.testing.assert_array_equal(whole[metric], resumed[metric])
    with pytest.raises(InputError, match=r"fits or samples on the host; use cj\.run"):
        cj.simulate(process, KEY, generations=2)


def test_it_keeps_the_contract():
    def example():
        family = cj.from_sklearn(GaussianMixture(1))
        data = cj.Dataset(jnp.asarray(X[:, 0]), jnp.ones(40))
        return family, family.fit(KEY, family.init(KEY, data), data)[0]

    # One point is refused in one line, by scikit-learn itself.
    passed = cj.check_estimator(None, example=example, skip="survives_collapse", verbose=False)
    assert passed == ("is_pure", "recovers_known_parameters", "statistics_add")
    family, params = example()
    equal, _ = family.fit(KEY, params, cj.Dataset(jnp.full(10, 2.0), jnp.ones(10)))
    assert family.metrics["mean"](equal) == pytest.approx(2, abs=1e-3)


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (GaussianMixture, r"must be an estimator of scikit-learn \(call the class"),
        (KMeans(2), "has no sample and no score_samples; it must be a density"),
        (GaussianMixture(2, random_state=3), "random_state of the model is 3; leave it out"),
        (KernelDensity(kernel="cosine"), "kernel of the model is 'cosine'"),
    ],
)
def test_bad_input(model, text):
    with pytest.raises(InputError, match=text):
        cj.from_sklearn(model)


def test_what_cannot_be_fitted_is_told_in_one_line():
    weighted = DATA._replace(weight=DATA.weight * 0.5)
    family = cj.from_sklearn(GaussianMixture(2))
    with pytest.raises(InputError, match=r"weight 0\.5, but GaussianMixture\(.*\) take"):
        family.fit(KEY, None, weighted)
    few = cj.Dataset(DATA.x[:1], jnp.ones(1))
    with pytest.raises(InputError, match=r"GaussianMixture\(n_components=2\) cannot be fitted"):
        family.fit(KEY, None, few)
    kernels = cj.from_sklearn(KernelDensity())
    params, _ = kernels.fit(KEY, None, weighted)
    theirs = KernelDensity().fit(np.asarray(DATA.x[:40], float))
    np.testing.assert_allclose(kernels.log_prob(params, X), theirs.score_samples(X), rtol=1e-9)

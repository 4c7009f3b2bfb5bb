"""The ancestry recursion against enumeration, simulation and published closed forms."""

import ast
import itertools
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from collapse_jax.theory import ancestry

MIXTURES = [(1.0, 0.0, 0.0), (0.5, 0.5, 0.0), (0.6, 0.2, 0.2), (0.0, 0.5, 0.5), (0.9, 0.0, 0.1)]


def z_scores(samples, expected):
    """[generations] z of the mean over chains (axis 1) of samples [generations, chains]."""
    return (samples.mean(1) - expected) / (samples.std(1, ddof=1) / np.sqrt(samples.shape[1]))


def diversity(labels):
    """[chains] P(two draws with replacement from a row of labels [chains, N] differ)."""
    return 1 - np.mean(labels[:, :, None] == labels[:, None, :], axis=(1, 2))


def simulate(rng, chains, generations, size, workflow, shares=(1, 0, 0), random_counts=True):
    """[generations, chains] diversity of the fitted sets.

    A point carries the number of its real ancestor.
    """
    rows = np.arange(chains)[:, None]
    data = np.tile(np.arange(size), (chains, 1))
    result = np.empty((generations, chains))
    for g in range(generations):
        fitted = data
        if workflow == "accumulate_subsample":
            fitted = np.take_along_axis(
                data, np.argsort(rng.random(data.shape), axis=1)[:, :size], axis=1
            )
        result[g] = diversity(fitted)
        new = fitted[rows, rng.integers(fitted.shape[1], size=(chains, size))]
        if workflow == "mix":
            if random_counts:
                origin = rng.choice(3, size=(chains, size), p=shares)
            else:
                origin = np.broadcast_to(
                    np.repeat([0, 1, 2], ancestry.fixed_mix_counts(size, *shares)), (chains, size)
                )
            kept = np.take_along_axis(data, np.argsort(rng.random(data.shape), axis=1), axis=1)
            real = np.arange(size) + (g + 1) * size
            new = np.select([origin == 0, origin == 1], [new, kept], real)
        data = np.concatenate([data, new], axis=1) if workflow.startswith("accumulate") else new
    return result


def enumerated_mix(size, steps, shares, counts=None):
    """Exact retention after `steps` mixes, by enumeration.

    Every choice of origins, model draws and kept points is listed.
    """
    sets = {tuple(range(size)): Fraction(1)}
    if counts is None:
        origins = {
            o: np.prod([shares[i] for i in o]) for o in itertools.product(range(3), repeat=size)
        }
    else:
        origins = {tuple(np.repeat([0, 1, 2], counts)): Fraction(1)}
    orders = list(itertools.permutations(range(size)))
    for step in range(steps):
        following = {}
        for points, weight in sets.items():
            for origin, share in origins.items():
                if share == 0:
                    continue
                for draws in itertools.product(range(size), repeat=size):
                    for order in orders:
                        new = tuple(
                            (points[draws[i]], points[order[i]], (step + 1) * size + i)[kind]
                            for i, kind in enumerate(origin)
                        )
                        chance = weight * share / size**size / len(orders)
                        following[new] = following.get(new, 0) + chance
        sets = following
    same = sum(w * Fraction(sum(a == b for a in s for b in s), size**2) for s, w in sets.items())
    return float(1 - same)


def test_mix_equals_exact_enumeration():
    shares = (Fraction(1, 2), Fraction(1, 3), Fraction(1, 6))
    floats = dict(zip(("alpha", "beta", "gamma"), map(float, shares), strict=True))
    for size, steps in ((2, 1), (2, 2), (3, 1)):
        exact = enumerated_mix(size, steps, shares)
        assert ancestry.retention(steps, size, workflow="mix", **floats) == pytest.approx(
            exact, rel=1e-12
        )


@pytest.mark.parametrize("counts", [(1, 1, 1), (1, 2, 0), (2, 1, 0), (0, 2, 1), (3, 0, 0)])
def test_mix_with_fixed_counts_equals_exact_enumeration(counts):
    shares = dict(zip(("alpha", "beta", "gamma"), np.array(counts) / 3, strict=True))
    assert ancestry.fixed_mix_counts(3, **shares) == counts
    exact = enumerated_mix(3, 1, None, counts)
    assert ancestry.retention(1, 3, workflow="mix", random_counts=False, **shares) == pytest.approx(
        exact, rel=1e-12
    )


@pytest.mark.parametrize("workflow", ["replace", "accumulate", "accumulate_subsample"])
def test_simulated_ancestors(workflow):
    samples = simulate(np.random.default_rng(1), 20_000, 6, 5, workflow)
    expected = ancestry.retention(np.arange(6), 5, workflow=workflow)
    assert samples[0] == pytest.approx(expected[0])
    assert np.max(np.abs(z_scores(samples[1:], expected[1:]))) < 4


@pytest.mark.parametrize("random_counts", [True, False])
@pytest.mark.parametrize("shares", MIXTURES)
def test_simulated_mixtures(shares, random_counts):
    samples = simulate(np.random.default_rng(2), 20_000, 7, 10, "mix", shares, random_counts)
    kwargs = dict(zip(("alpha", "beta", "gamma"), shares, strict=True), random_counts=random_counts)
    expected = ancestry.retention(np.arange(7), 10, workflow="mix", **kwargs)
    # some fixed counts, such as all points kept, leave no chance at all
    random = samples.std(1) > 1e-12
    np.testing.assert_allclose(samples.mean(1)[~random], expected[~random], rtol=1e-12)
    assert np.max(np.abs(z_scores(samples[random], expected[random])), initial=0) < 4


def test_fixed_counts_keep_less_than_random_ones():
    """Of 10 points half are kept: 5 * 4 / 90 of the pairs are old for fixed counts, else 1/4."""
    kwargs = {"workflow": "mix", "alpha": 0.5, "beta": 0.5}
    assert (
        ancestry.retention(30, 10, **kwargs)
        > ancestry.retention(30, 10, random_counts=False, **kwargs) + 0.005
    )


def test_heterozygosity_in_a_mix_is_retention_times_the_start():
    """The same number for real categories: M = 8, 4 categories, alpha .5, beta .3, gamma .2.

    |z| < 4.
    """
    rng = np.random.default_rng(3)
    start, size, chains = np.array([0.5, 0.3, 0.15, 0.05]), 8, 20_000
    data = rng.choice(4, size=(chains, size), p=start)
    samples = []
    for _ in range(6):
        samples.append(diversity(data))
        drawn = np.take_along_axis(data, rng.integers(size, size=data.shape), axis=1)
        origin, kept = rng.choice(3, size=data.shape, p=(0.5, 0.3, 0.2)), rng.permuted(data, axis=1)
        data = np.select(
            [origin == 0, origin == 1], [drawn, kept], rng.choice(4, size=data.shape, p=start)
        )
    expected = (1 - np.sum(start**2)) * ancestry.retention(
        np.arange(6), size, workflow="mix", alpha=0.5, beta=0.3, gamma=0.2
    )
    assert np.max(np.abs(z_scores(np.array(samples), expected))) < 4


def test_published_closed_forms_and_numbers():
    generation = np.arange(200)
    np.testing.assert_allclose(
        ancestry.retention(generation, 50), 0.98 ** (generation + 1), rtol=1e-12
    )
    product = np.cumprod(1 - 1 / ((generation + 1) ** 2 * 50.0))
    np.testing.assert_allclose(
        ancestry.retention(generation, 50, workflow="accumulate"), product, rtol=1e-12
    )
    for size, limit in ((5, 0.5347), (10, 0.7390), (100, 0.9710)):
        assert ancestry.retention(20_000, size, workflow="accumulate_subsample") == pytest.approx(
            limit, abs=6e-5
        )
    for size, gamma, limit in ((50, 0.02, 0.660), (50, 0.1, 0.903), (20, 0.05, 0.649)):
        value = ancestry.retention(5000, size, workflow="mix", alpha=1 - gamma, gamma=gamma)
        assert value == pytest.approx(limit, abs=6e-4)


@pytest.mark.parametrize("random_counts", [True, False])
def test_simulated_reuse_of_the_first_real_set(random_counts):
    """M = 10, gamma = .3, 7 generations, 2 * 10^4 chains; |z| < 4."""
    rng, size, chains = np.random.default_rng(5), 10, 20_000
    data, samples = np.tile(np.arange(size), (chains, 1)), []
    for _ in range(7):
        samples.append(diversity(data))
        drawn = np.take_along_axis(data, rng.integers(size, size=data.shape), axis=1)
        real = rng.permuted(np.tile(np.arange(size), (chains, 1)), axis=1)
        kept = (
            rng.random(data.shape) < 0.3
            if random_counts
            else np.broadcast_to(np.arange(size) < 3, data.shape)
        )
        data = np.where(kept, real, drawn)
    expected = ancestry.reused_real_retention(np.arange(7), size, 0.3, random_counts=random_counts)
    assert samples[0] == pytest.approx(expected[0])
    assert np.max(np.abs(z_scores(np.array(samples[1:]), expected[1:]))) < 4


def test_reuse_of_the_first_real_set_between_its_ends():
    generation = np.arange(30)
    np.testing.assert_allclose(
        ancestry.reused_real_retention(generation, 8, 0.0),
        ancestry.retention(generation, 8),
        rtol=1e-12,
    )
    np.testing.assert_allclose(
        ancestry.reused_real_retention(generation, 8, 1.0), 7 / 8, rtol=1e-12
    )
    fresh = ancestry.retention(generation, 8, workflow="mix", alpha=0.8, gamma=0.2)
    reused = ancestry.reused_real_retention(generation, 8, 0.2)
    assert np.all(reused[1:] < fresh[1:]) and np.all(
        reused[1:] > ancestry.retention(generation, 8)[1:]
    )
    assert np.all(ancestry.reused_real_retention([0, 5], 1, 0.5) == 0)
    for bad in ({"gamma": 1.2}, {"gamma": 0.1, "sample_size": 0}, {"gamma": 0.1, "generation": -1}):
        with pytest.raises(ValueError):
            ancestry.reused_real_retention(**{"generation": 1, "sample_size": 5} | bad)


def test_growing_replace_sets_keep_what_accumulation_keeps():
    generation = np.arange(50)
    growing = ancestry.retention(generation, 10 * (generation + 1) ** 2)
    np.testing.assert_allclose(
        growing, ancestry.retention(generation, 10, workflow="accumulate"), rtol=1e-12
    )


def test_edges():
    for workflow in ("replace", "accumulate", "accumulate_subsample"):
        assert np.all(ancestry.retention([0, 1, 7], 1, workflow=workflow) == 0)
    assert ancestry.retention(9, 1, workflow="mix", alpha=0.0, gamma=1.0, random_counts=False) == 0
    only_real = ancestry.retention(np.arange(4), 6, workflow="mix", alpha=0.0, gamma=1.0)
    np.testing.assert_allclose(only_real, 5 / 6)
    kept = ancestry.retention(np.arange(4), 6, workflow="mix", alpha=0.0, beta=1.0)
    np.testing.assert_allclose(kept, 5 / 6)
    assert ancestry.retention(np.zeros((2, 3), int), 6).shape == (2, 3)
    assert ancestry.pair_coalescence(1, 4) == pytest.approx(1 / 4)


@pytest.mark.parametrize(
    "counts", [(7, 0.5, 0.5, 0.0), (3, 0.0, 0.5, 0.5), (25, 0.0, 0.5, 0.5), (10, 0.9, 0.0, 0.1)]
)
def test_fixed_counts_sum_to_the_sample_size(counts):
    parts = ancestry.fixed_mix_counts(*counts)
    assert sum(parts) == counts[0] and min(parts) >= 0
    assert np.max(np.abs(np.array(parts) - counts[0] * np.array(counts[1:]))) <= 1


@pytest.mark.parametrize(
    "change",
    [
        {"generation": -1},
        {"generation": 1.5},
        {"sample_size": 0},
        {"sample_size": [5, 5]},
        {"sample_size": [5, 5, 5], "workflow": "accumulate"},
        {"workflow": "append"},
        {"gamma": 0.5},
        {"workflow": "mix", "alpha": 1.5, "beta": -0.5},
        {"alpha": 0.5, "beta": 0.5},
    ],
)
def test_bad_arguments_are_refused(change):
    arguments = {"generation": 2, "sample_size": 5} | change
    with pytest.raises(ValueError):
        ancestry.retention(arguments.pop("generation"), arguments.pop("sample_size"), **arguments)


@pytest.mark.parametrize(
    ("shares", "samplings", "published"),
    [
        ((1, 0, 0), 100, 0.098),
        ((0.5, 0.5, 0), 200, 0.271),
        ((0.9, 0, 0.1), 2000, 0.681),
        ((0.98, 0, 0.02), 2000, 0.498),
        ((0.5, 0.48, 0.02), 2000, 0.656),
    ],
)
def test_mixture_of_distributions_published_numbers(shares, samplings, published):
    start = 1 - np.sum(np.array([0.4, 0.25, 0.15, 0.1, 0.07, 0.03]) ** 2)
    shares = dict(zip(("alpha", "beta", "gamma"), shares, strict=True))
    value = ancestry.mixture_of_distributions_heterozygosity(
        samplings - 1, 50, population_heterozygosity=start, **shares
    )
    assert value == pytest.approx(published, abs=6e-4)


def test_mixture_of_distributions_simulated():
    """M = 12, (alpha, beta, gamma) = (.6, .3, .1), 5 generations, 5000 chains.

    |z| < 4 for mixture and model.
    """
    rng = np.random.default_rng(4)
    start = np.array([0.5, 0.3, 0.2])
    law = np.tile(start, (5000, 1))
    mixtures, models = [], []
    for _ in range(5):
        model = rng.multinomial(12, law) / 12
        law = 0.6 * model + 0.3 * law + 0.1 * start
        models.append(1 - np.sum(model**2, axis=1))
        mixtures.append(1 - np.sum(law**2, axis=1))
    for samples, of_model in ((mixtures, False), (models, True)):
        expected = ancestry.mixture_of_distributions_heterozygosity(
            np.arange(5),
            12,
            alpha=0.6,
            beta=0.3,
            gamma=0.1,
            population_heterozygosity=0.62,
            of_model=of_model,
        )
        assert np.max(np.abs(z_scores(np.array(samples), expected))) < 4


def test_theory_imports_only_numpy_scipy_and_itself():
    """A closed form that checks the code must not share code with it; types are no code."""
    allowed = ("numpy", "scipy", "collections", "itertools", "typing")
    for file in Path(ancestry.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                assert all(name.name.split(".")[0] in allowed for name in node.names), file.name
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 1 or (
                    node.level == 0 and node.module.split(".")[0] in allowed
                ), file.name


def test_simulated_real_points_that_are_all_kept():
    """5 real and 8 synthetic points, 7 generations, 2 * 10^4 chains; |z| < 4. Limits in between."""
    rng, chains, real, made = np.random.default_rng(6), 20_000, 5, 8
    kept = np.tile(np.arange(real), (chains, 1))
    data, samples = kept, []
    for _ in range(7):
        samples.append(diversity(data))
        drawn = np.take_along_axis(data, rng.integers(data.shape[1], size=(chains, made)), axis=1)
        data = np.concatenate([kept, drawn], axis=1)
    expected = ancestry.kept_real_retention(np.arange(7), real, made)
    assert samples[0] == pytest.approx(expected[0])
    assert np.max(np.abs(z_scores(np.array(samples[1:]), expected[1:]))) < 4


def test_real_points_that_are_all_kept_at_the_ends():
    generation = np.arange(200)
    np.testing.assert_allclose(ancestry.kept_real_retention(generation, 8, 0), 7 / 8, rtol=1e-12)
    for made in (1, 8, 10**6):
        assert np.all(ancestry.kept_real_retention(generation, 8, made) >= 1 - 3 / 17)
    assert ancestry.kept_real_retention(10**5, 8, 10**4) == pytest.approx(1 - 3 / 17, abs=1e-4)
    assert np.all(ancestry.kept_real_retention(generation, 1, 10) == 0)
    for bad in ({"real": 0}, {"synthetic": -1}, {"synthetic": 1.5}, {"generation": -1}):
        with pytest.raises(ValueError):
            ancestry.kept_real_retention(**{"generation": 1, "real": 5, "synthetic": 5} | bad)

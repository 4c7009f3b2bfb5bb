"""Genealogies, held against the recursions of `theory` and a plain rewrite in NumPy."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.core.ancestry.ancestor import METRICS
from collapse_jax.errors import InputError

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(41)
SIZE, LAST, CHAINS = 6, 8, 4_000
AT = np.arange(LAST + 1)


def scores(values, expected):
    """z scores of the means of values [chains, ...]; 0 where all chains are exactly there."""
    values = np.asarray(values, np.float64)
    error = values.std(0, ddof=1) / np.sqrt(len(values))
    off = np.where(np.abs(values.mean(0) - expected) < 1e-6, 0, values.mean(0) - expected)
    return np.divide(off, error, out=np.where(off == 0, 0, np.inf), where=error > 1e-7)


@functools.cache
def replaced():
    return cj.genealogy(
        cj.workflows.replace(), KEY, sample_size=SIZE, generations=LAST, chains=CHAINS
    )


def test_replace_has_the_ancestors_of_coalescent_theory():
    trace = replaced()
    assert set(trace) == set(METRICS)
    exact = {
        "identity": theory.ancestry.pair_coalescence(AT, SIZE),
        "diversity": theory.ancestry.retention(AT, SIZE),
        "living_ancestors": theory.lineages.expected_living_ancestors(AT, SIZE),
        "real_age": AT,
    }
    for name, expected in exact.items():
        assert np.abs(scores(trace[name], expected)).max() < 4, name
    assert (trace["reach"][:, :, 0] == 1).all()
    law = theory.lineages.living_ancestors_distribution(AT, SIZE)
    for g in (1, 4, LAST):
        of_law = np.bincount(trace["living_ancestors"][:, g], minlength=SIZE + 1)[1:] / CHAINS
        error = np.sqrt(law[g] * (1 - law[g]) / CHAINS)
        assert (np.abs(of_law - law[g]) < 4 * error + 1e-9).all()


def test_the_common_ancestor_has_its_exact_age():
    ages = replaced()["common_ancestor_age"]
    for g in (0, 1, 4, LAST):
        expected = theory.genealogy.common_ancestor_probability(AT, SIZE, generation=g)
        found = (ages[:, g, None] <= AT).mean(0)
        reached = np.where(AT <= g, expected, expected[g])
        error = np.sqrt(reached * (1 - reached) / CHAINS)
        assert (np.abs(found - reached) < 4 * error + 1e-9).all()
    # What all descend from is a real draw or newer exactly where one real draw is left.
    assert ((ages < np.inf) == (replaced()["living_ancestors"] == 1)).all()


def of_largest_family(size, last):
    """E[largest share] [last + 1] by the chain of all family sizes, M draws at a time."""
    from collections import Counter
    from math import factorial, prod

    law, expected = Counter({(1,) * size: 1.0}), []
    for _ in range(last + 1):
        expected.append(sum(p * max(sizes) / size for sizes, p in law.items()))
        following = Counter()
        for sizes, p in law.items():
            for counts in itertools.product(range(size + 1), repeat=len(sizes)):
                if sum(counts) == size:
                    ways = factorial(size) / prod(map(factorial, counts))
                    pairs = zip(sizes, counts, strict=True)
                    chance = ways * prod((s / size) ** c for s, c in pairs)
                    following[tuple(sorted(c for c in counts if c))] += p * chance
        law = following
    return np.array(expected)


def test_the_largest_family_by_the_chain_of_family_sizes():
    expected = of_largest_family(SIZE, 3)
    assert np.abs(scores(replaced()["largest_family"][:, :4], expected)).max() < 4


@pytest.mark.parametrize(
    ("workflow", "options"),
    [
        (cj.workflows.mix(0.5, 0.3, 0.2), {"alpha": 0.5, "beta": 0.3, "gamma": 0.2}),
        (cj.workflows.accumulate(), {}),
        (cj.workflows.accumulate_subsample(), {}),
    ],
    ids=["mix", "accumulate", "accumulate_subsample"],
)
def test_pairs_meet_as_the_recursion_says(workflow, options):
    names = ("identity", "diversity", "reach", "real_age", "living_ancestors")
    trace = cj.genealogy(
        workflow, KEY, sample_size=SIZE, generations=5, chains=3_000, metrics=names
    )
    at, name = AT[:6], workflow.name.partition("(")[0]
    pairs = theory.ancestry.pair_coalescence(at, SIZE, workflow=name, **options)
    left = theory.ancestry.retention(at, SIZE, workflow=name, **options)
    assert np.abs(scores(trace["identity"], pairs)).max() < 4
    assert np.abs(scores(trace["diversity"], left)).max() < 4
    share = {"workflow": name, "gamma": options.get("gamma", 0.0)}
    reach = theory.genealogy.expected_reach(5, **share)
    assert np.abs(scores(trace["reach"][:, 5], reach)).max() < 4
    assert (
        np.abs(scores(trace["real_age"], theory.genealogy.expected_real_age(at, **share))).max() < 4
    )
    if name == "accumulate":
        assert (trace["living_ancestors"] == SIZE).all()


def test_real_draws_left_where_fresh_ones_enter():
    trace = cj.genealogy(
        cj.workflows.mix(0.7, 0.0, 0.3),
        KEY,
        sample_size=SIZE,
        generations=5,
        chains=3_000,
        metrics="living_ancestors",
    )
    expected = theory.genealogy.expected_living_ancestors(AT[:6], SIZE, 0.3)
    assert np.abs(scores(trace["living_ancestors"], expected)).max() < 4


def test_rows_of_a_data_set_are_one_draw_whenever_they_enter():
    every = {"sample_size": 4, "generations": 3, "chains": 50}
    rows = cj.genealogy(cj.workflows.mix(0, 0, 1), KEY, data_set=4, **every)
    assert (rows["living_ancestors"] == 4).all() and (rows["identity"] == 0).all()
    assert (rows["real_age"] == 0).all() and np.isinf(rows["common_ancestor_age"]).all()
    kept = cj.genealogy(cj.workflows.keep_or_continue(0.5), KEY, data_set=4, **every)
    # Two of the four rows, and two copies: half of the set is of the newest real data.
    newest = kept["reach"][:, [1, 2, 3], [1, 2, 3]]
    assert (newest == 0.5).all() and (kept["living_ancestors"] >= 2).all()


def test_corners():
    one = cj.genealogy(cj.workflows.replace(), KEY, sample_size=1, generations=2, chains=3)
    assert (one["living_ancestors"] == 1).all() and (one["largest_family"] == 1).all()
    assert (one["identity"] == 1).all() and (one["diversity"] == 0).all()
    # The newest point is its own ancestor.
    assert (one["common_ancestor_age"] == 0).all()


def neutral():
    """A workflow of somebody: half of the set is the model's, half is the first set's."""

    def next_set(key, first, supply, n):
        model_key, own_key = jax.random.split(key)
        made = supply.model(model_key, n // 2)
        return first, supply.merge(made, supply.subsample(own_key, first, n - n // 2))

    return cj.Workflow("neutral", lambda supply, data: data, next_set)


def test_a_workflow_of_somebody_else():
    trace = cj.genealogy(
        neutral(), KEY, sample_size=SIZE, generations=4, chains=3_000, metrics=["diversity"]
    )
    expected = theory.ancestry.reused_real_retention(AT[:5], SIZE, 0.5, random_counts=False)
    assert np.abs(scores(trace["diversity"], expected)).max() < 4


def test_the_other_driver_and_more_chains_give_the_same(tmp_path):
    process = cj.genealogy_process(cj.workflows.replace(), sample_size=SIZE, generations=LAST)
    few = cj.run(
        process, KEY, folder=tmp_path, generations=2, chains=1, metrics=("identity", "reach")
    )
    for name in ("identity", "reach"):
        assert np.allclose(few[name], replaced()[name][:1, :3], atol=1e-6)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"metrics": ["livng_ancestors"]}, "living_ancestors"),
        ({"metrics": []}, "metrics is empty"),
        ({"generations": -1}, "generations is -1"),
        ({"data_set": 0}, "data_set is 0"),
        ({"data_set": 3}, "sample_size is 6, but the real data set has 3"),
        ({"sample_size": 0}, "sample_size is 0"),
        ({"chains": 0}, "chains is 0"),
        ({"workflow": "replace"}, "workflow is 'replace'"),
        ({"workflow": cj.curation.best_of(2, jnp.sum)(cj.workflows.replace())}, "best_of(2)"),
        ({"sample_size": 2_000, "generations": 2_000_000}, "at most 1073 points of each"),
    ],
)
def test_bad_input_is_one_line(change, word):
    given = {"workflow": cj.workflows.replace(), "sample_size": SIZE, "generations": 2} | change
    with pytest.raises(InputError) as caught:
        cj.genealogy(given.pop("workflow"), KEY, **given)
    assert word in str(caught.value) and "\n" not in str(caught.value)

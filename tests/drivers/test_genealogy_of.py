"""Labels beside the points of a family: the model stays as it is, and lineages are exact."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.core.ancestry.labelled import LabelledCounts
from collapse_jax.errors import InputError
from collapse_jax.numerics.choices import one_of_equals

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY, SIZE, LAST = jax.random.key(5), 6, 3
AT = np.arange(LAST + 1)
REAL = np.array([0.4, 0.3, 0.2, 0.1])
BLOCKS = np.random.default_rng(0).integers(0, 5, (6, 3))
MIX = {"workflow": "mix", "alpha": 0.5, "beta": 0.3, "gamma": 0.2}


def process(family, source, workflow):
    return cj.generational_process(family, source, workflow, sample_size=SIZE)


def categories(workflow):
    return process(cj.estimators.categorical(4), cj.sources.categorical(REAL), workflow)


CASES = {
    "categorical, mix": (lambda: categories(cj.workflows.mix(0.5, 0.3, 0.2)), MIX, "probabilities"),
    "categorical, subsample": (
        lambda: categories(cj.workflows.accumulate_subsample()),
        {"workflow": "accumulate_subsample"},
        "probabilities",
    ),
    "kde, mix": (
        lambda: process(
            cj.estimators.kde(2, 0.3),
            cj.sources.normal([0, 0], np.eye(2)),
            cj.workflows.mix(0.5, 0.3, 0.2),
        ),
        MIX,
        "mean",
    ),
    "unigram, replace": (
        lambda: process(
            cj.estimators.ngram(1, 5, 3), cj.sources.dataset(BLOCKS), cj.workflows.replace()
        ),
        {},
        "probabilities",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_model_is_as_without_labels_and_pairs_meet_exactly(name):
    make, options, metric = CASES[name]
    one, chains = make(), 1_500
    with_labels = cj.genealogy_of(
        one, KEY, generations=LAST, chains=chains, metrics=("identity", "reach", metric)
    )
    without = cj.simulate(one, KEY, generations=LAST, chains=chains, metrics=metric)
    assert np.array_equal(with_labels[metric], without[metric])
    expected = theory.ancestry.pair_coalescence(AT, SIZE, **options)
    if name.startswith("unigram"):
        # Each of the tokens is copied by itself, and two different ones begin in one block with the
        # chance of two of its three.
        tokens = BLOCKS.size
        pairs = theory.ancestry.pair_coalescence(AT, tokens)
        expected = pairs + (1 - pairs) * 2 / (tokens - 1)
    found = with_labels["identity"].astype(np.float64)
    error = np.maximum(found.std(0, ddof=1) / np.sqrt(chains), 1e-7)
    assert np.abs((found.mean(0) - expected) / error).max() < 4
    reach = with_labels["reach"][:, -1].mean(0)
    share = theory.genealogy.expected_reach(
        LAST, workflow=options.get("workflow", "replace"), gamma=options.get("gamma", 0.0)
    )
    assert np.abs(reach - share).max() < 4 * 0.5 / np.sqrt(chains)


def test_the_age_of_the_common_ancestor_is_that_of_copies():
    """As in `theory.genealogy` under replace, |z| < 4; what has one ancestor has one real draw."""
    trace = cj.genealogy_of(
        categories(cj.workflows.replace()),
        KEY,
        generations=8,
        chains=2_000,
        metrics=("common_ancestor_age", "living_ancestors"),
    )
    age, living = trace["common_ancestor_age"][:, -1], trace["living_ancestors"][:, -1]
    for most in (2, 5, 8):
        exact = float(theory.genealogy.common_ancestor_probability(most, SIZE, 8))
        error = np.sqrt(exact * (1 - exact) / len(age))
        assert abs((age <= most).mean() - exact) < 4 * error, most
    assert np.all(np.isfinite(age) == (living == 1))
    assert np.all(np.isinf(trace["common_ancestor_age"][:, 0]))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kde, mix", "categorical, mix"])
def test_real_points_that_enter_later_have_no_older_ancestor(name):
    """An ancestor of all is no older than the youngest real draw; the ages are those of labels."""
    made = CASES[name][0]()
    trace = cj.genealogy_of(
        made, KEY, generations=6, chains=500, metrics=("common_ancestor_age", "reach")
    )
    alone = cj.genealogy(
        cj.workflows.mix(0.5, 0.3, 0.2),
        KEY,
        sample_size=SIZE,
        generations=6,
        chains=4_000,
        metrics=("common_ancestor_age",),
    )
    age, reach = trace["common_ancestor_age"], trace["reach"]
    generation = np.arange(7)
    youngest = np.max(np.where(reach > 0, generation, -1), axis=-1)
    found = np.isfinite(age)
    assert np.all((generation - age)[found] >= youngest[found])
    shares = [np.isfinite(one[:, -1]).mean() for one in (age, alone["common_ancestor_age"])]
    error = np.sqrt(shares[1] * (1 - shares[1]) * (1 / 500 + 1 / 4_000))
    assert abs(shares[0] - shares[1]) < 4 * error


def after_choice(rewards, size):
    """E[identity] of generation 1 where the better of two candidates is taken, by all counts."""
    expected, number = 0.0, len(rewards)
    for counts in np.ndindex(*[size + 1] * number):
        if sum(counts) != size:
            continue
        share = np.array(counts) / size
        order = np.cumsum(share[np.argsort(rewards)])
        chosen = np.diff(np.concatenate([[0], order**2]))[np.argsort(np.argsort(rewards))]
        # A point of a category is a copy of any of the real draws that have it.
        same = sum(c**2 / n for c, n in zip(chosen, counts, strict=True) if n)
        expected += stats.multinomial.pmf(counts, size, REAL) * same
    return expected


def test_choices_by_what_points_hold_favour_the_families_of_the_best():
    rewards = np.array([0.0, 2.0, 1.0, 3.0])
    greatest = cj.curation.best_of(2, lambda x: jnp.asarray(rewards)[x], choice="greatest")
    one = categories(greatest(cj.workflows.replace()))
    trace = cj.genealogy_of(
        one, KEY, generations=1, chains=4_000, metrics=("identity", "probabilities")
    )
    without = cj.simulate(one, KEY, generations=1, chains=4_000, metrics="probabilities")
    assert np.array_equal(trace["probabilities"], without["probabilities"])
    found = trace["identity"][:, 1].astype(np.float64)
    error = found.std(ddof=1) / np.sqrt(len(found))
    assert abs(found.mean() - after_choice(rewards, SIZE)) < 4 * error
    # Without the choice two points meet in 1 of 6.
    assert found.mean() - 1 / SIZE > 4 * error


def test_a_trigram_and_a_metric_of_the_state():
    def generation(state):
        return state.generation + 0 * state.params.blocks

    one = process(
        cj.estimators.ngram(3, 5, 3), cj.sources.dataset(BLOCKS), cj.workflows.accumulate()
    )
    metrics = ("living_ancestors", "probabilities", generation)
    trace = cj.genealogy_of(one, KEY, generations=2, chains=5, metrics=metrics)
    without = cj.simulate(one, KEY, generations=2, chains=5, metrics="probabilities")
    assert np.array_equal(trace["probabilities"], without["probabilities"])
    assert (trace["generation"] == AT[:3]).all() and (trace["living_ancestors"] == 6).all()


def test_the_label_of_a_token_is_that_of_the_token_it_copies():
    family = cj.estimators.ngram(2, 5, 3)
    data = cj.Dataset(jnp.asarray(BLOCKS), jnp.array([1.0, 0, 1, 1, 0, 1]))
    model, _ = family.fit(KEY, None, data)
    tokens = family.sample(KEY, model, 40)
    place = family.copied(KEY, model, data, 40)
    assert np.array_equal(BLOCKS.ravel()[place], tokens)
    assert set(np.unique(place // 3)) <= {0, 2, 3, 5}
    # What is copied follows in the training set what it follows in the new block, unless nothing
    # ever follows that.
    followed = set(BLOCKS[[0, 2, 3, 5], :2].ravel().tolist())
    for block, places in zip(np.asarray(tokens), np.asarray(place), strict=True):
        for at in (1, 2):
            if block[at - 1] in followed:
                assert places[at] % 3 and BLOCKS.ravel()[places[at] - 1] == block[at - 1]


def test_a_copy_is_of_any_of_its_equals():
    values, weight = jnp.array([3, 1, 3, 2, 3, 1]), jnp.array([1.0, 1, 1, 1, 0, 1])
    wanted = jnp.concatenate([jnp.full(3_000, 3), jnp.array([1, 2])])
    slots = np.asarray(one_of_equals(KEY, values, weight, wanted))
    threes = np.bincount(slots[:3_000], minlength=6)
    assert threes[[0, 2]].sum() == 3_000 and abs(threes[0] - 1_500) < 4 * np.sqrt(750)
    assert slots[3_000] in (1, 5) and slots[3_001] == 3


def test_counts_of_a_data_set_know_its_rows():
    source = cj.sources.dataset(np.array([0, 0, 1, 1, 2, 3]))
    one = process(cj.estimators.categorical(4), source, cj.workflows.mix(0.5, 0.0, 0.5))
    metrics = ("living_ancestors", "identity", "probabilities")
    trace = cj.genealogy_of(one, KEY, generations=1, chains=2_000, metrics=metrics)
    without = cj.simulate(one, KEY, generations=1, chains=2_000, metrics="probabilities")
    assert np.array_equal(trace["probabilities"], without["probabilities"])
    assert (trace["living_ancestors"][:, 0] == 6).all() and (trace["identity"][:, 0] == 0).all()
    # Two points are of one row with 1/6 unless both are real.
    found = trace["identity"][:, 1].astype(np.float64)
    error = found.std(ddof=1) / np.sqrt(len(found))
    assert abs(found.mean() - 0.75 / 6) < 4 * error


def test_counts_and_the_things_counted_agree():
    seen = []

    def watch(state):
        seen.append(True)
        return jnp.asarray(0)

    trace = cj.genealogy_of(
        categories(cj.workflows.accumulate()),
        KEY,
        generations=2,
        chains=4,
        metrics=("living_ancestors", "support", watch),
    )
    assert seen and (trace["living_ancestors"] == SIZE).all()
    assert LabelledCounts._fields == ("counts", "things")


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (
            lambda: process(
                cj.estimators.gaussian(1), cj.sources.normal(0, 1), cj.workflows.replace()
            ),
            "not copies of single points",
        ),
        (
            lambda: process(
                cj.estimators.categorical(4, smoothing=1.0),
                cj.sources.categorical(REAL),
                cj.workflows.replace(),
            ),
            "without smoothing",
        ),
        (lambda: cj.workflows.replace(), "process is"),
        (
            lambda: cj.ecosystem(
                cj.estimators.categorical(4), cj.sources.categorical(REAL), np.eye(2), SIZE
            ),
            "whose lineages cannot be followed",
        ),
        (
            lambda: process(
                cj.estimators.ngram(2, 5, 3),
                cj.sources.dataset(BLOCKS),
                cj.workflows.keep_or_continue(0.5),
            ),
            "genealogy_of does not accept keep_or_continue(0.5)",
        ),
        (
            lambda: categories(cj.verifiers.centred(1.0)(cj.workflows.replace())),
            "give a curation that is not refitted",
        ),
    ],
    ids=["gaussian", "smoothed", "no process", "ecosystem", "continued", "verifier"],
)
def test_bad_input_is_one_line(make, word):
    with pytest.raises(InputError) as caught:
        cj.genealogy_of(make(), KEY, generations=1)
    assert word in str(caught.value) and "\n" not in str(caught.value)

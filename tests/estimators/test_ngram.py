"""n-grams against counts by plain Python and whole laws by enumeration: |z| < 4, p > 1e-4."""

import collections
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collapse_jax.core import points, workflows
from collapse_jax.core.process import generational_process
from collapse_jax.core.types import Dataset, State
from collapse_jax.drivers.plan import Plan
from collapse_jax.drivers.run import run
from collapse_jax.drivers.simulate import simulate, simulate_chunks
from collapse_jax.errors import InputError
from collapse_jax.estimators import sources
from collapse_jax.estimators.ngram import (
    example,
    log_prob,
    ngram,
    ngram_params,
    ngram_perplexity,
)
from collapse_jax.estimators.ngram.sampling import choice
from collapse_jax.theory import ancestry
from collapse_jax.theory import categorical as theory

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(3)


class Oracle:
    """The model of `ngram` by counting in dictionaries."""

    def __init__(self, blocks, order, size, smoothing=0.0):
        self.blocks, self.order, self.size, self.smoothing = (
            [tuple(int(t) for t in b) for b in blocks],
            order,
            size,
            smoothing,
        )
        # counts of what follows every end, of length 0 .. order - 1, of the contexts
        self.counts = collections.defaultdict(collections.Counter)
        for block in self.blocks:
            for place in range(order - 1, len(block)):
                for length in range(order):
                    self.counts[block[place - length : place]][block[place]] += 1
        self.starts = collections.Counter(block[: order - 1] for block in self.blocks)

    def probability(self, context, token):
        counts = self.counts.get(context, collections.Counter())
        if self.smoothing:
            return (counts[token] + self.smoothing) / (counts.total() + self.smoothing * self.size)
        while not counts:
            context = context[1:]
            counts = self.counts.get(context, collections.Counter())
        return counts[token] / counts.total()

    def given_start(self, block):
        block = tuple(int(t) for t in block)
        return float(
            np.prod(
                [
                    self.probability(block[i - self.order + 1 : i], block[i])
                    for i in range(self.order - 1, len(block))
                ]
            )
        )

    def law(self, length):
        """Of all blocks in lexicographic order."""
        everything = itertools.product(range(self.size), repeat=length)
        return np.array(
            [
                self.starts[b[: self.order - 1]] / len(self.blocks) * self.given_start(b)
                for b in everything
            ]
        )


def drawn(family, params, n):
    """x [n, block_length], compiled as a whole."""
    return jax.jit(lambda params: family.sample(KEY, params, n))(params)


def codes(x, size):
    return np.asarray(x) @ size ** np.arange(x.shape[1])[::-1]


# Three tokens, blocks of five, so that one program of an order serves them all; missing blocks are
# empty slots.
CORPORA = {
    # 2 only ends blocks: its bigram context is dead, and so are the trigram contexts (0, 2) and (1,
    # 2); models reach it before the end
    "dead ends": [[0, 1, 0, 0, 2], [1, 0, 0, 1, 2], [0, 0, 1, 1, 2], [1, 1, 0, 1, 0]],
    # (0, 2) is dead as a pair, 2 alone is not
    "dead pair": [[0, 1, 2, 0, 1], [1, 2, 0, 0, 2], [2, 0, 0, 0, 2], [0, 0, 0, 1, 1]],
    "one block": [[0, 1, 1, 2, 0]],
    "one successor each": [[0, 1, 2, 0, 1], [1, 2, 0, 1, 2]],
    "one token": [[1, 1, 1, 1, 1]],
}
SIZE, LENGTH, SLOTS = 3, 5, 4


@functools.cache
def sampler(order, smoothing):
    """blocks [SLOTS, LENGTH], weights, n -> (params, x [n, LENGTH]), compiled."""
    family = ngram(order, SIZE, LENGTH, smoothing)

    def fit_and_sample(blocks, weight):
        params, _ = family.fit(KEY, None, Dataset(blocks, weight))
        return params, family.sample(KEY, params, 20_000)

    return jax.jit(fit_and_sample)


def padded(blocks):
    """Blocks in SLOTS slots, an empty one first if any; empty slots hold another token."""
    missing = SLOTS - len(blocks)
    x = np.concatenate([np.full((missing, LENGTH), 2), blocks]).astype(np.int32)
    return jnp.asarray(x), jnp.asarray([0.0] * missing + [1.0] * len(blocks))


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("name", CORPORA)
def test_whole_blocks_have_their_law(name, order, smoothing, chi_square_p):
    _, x = sampler(order, smoothing)(*padded(CORPORA[name]))
    assert x.dtype == jnp.int32 and x.shape == (20_000, LENGTH)
    law = Oracle(CORPORA[name], order, SIZE, smoothing).law(LENGTH)
    np.testing.assert_allclose(law.sum(), 1)  # the oracle's own check
    assert chi_square_p(np.bincount(codes(x, SIZE), minlength=len(law)), law) > 1e-4


def test_another_order_is_found(chi_square_p):
    _, x = sampler(3, 0.3)(*padded(CORPORA["dead ends"]))
    assert (
        chi_square_p(
            np.bincount(codes(x, SIZE), minlength=SIZE**LENGTH),
            Oracle(CORPORA["dead ends"], 2, SIZE, 0.3).law(LENGTH),
        )
        < 1e-4
    )


@pytest.mark.parametrize(("smoothing", "order"), [(1e-30, 3), (1e20, 2)])
def test_tiny_and_huge_smoothing(smoothing, order, chi_square_p):
    """A tiny kappa: uniform only after what was never followed; a huge one: uniform."""
    blocks = CORPORA["dead ends"]
    _, x = sampler(order, smoothing)(*padded(blocks))
    law = Oracle(blocks, order, SIZE, smoothing).law(LENGTH)
    law = np.where(law < 1e-9, 0, law)
    assert chi_square_p(np.bincount(codes(x, SIZE), minlength=SIZE**LENGTH), law / law.sum()) > 1e-4


@pytest.mark.parametrize("order", [2, 3])
def test_pairs_and_triples_of_a_long_text(order, chi_square_p):
    rng = np.random.default_rng(0)
    blocks = np.minimum(rng.geometric(0.3, (40, 50)) + rng.integers(0, 2, (40, 1)), 9)
    x = np.asarray(drawn(ngram(order, 10, 50), ngram_params(order, 10, blocks), 2000))
    oracle = Oracle(blocks, order, 10)
    for context in [
        c for c, counts in oracle.counts.items() if len(c) == order - 1 and counts.total() > 20
    ][:30]:
        windows = np.lib.stride_tricks.sliding_window_view(x, order, axis=1).reshape(-1, order)
        after = windows[(windows[:, :-1] == context).all(1), -1]
        assert (
            chi_square_p(
                np.bincount(after, minlength=10),
                [oracle.probability(context, t) for t in range(10)],
            )
            > 1e-4
        )


@pytest.mark.parametrize(
    ("order", "smoothing"), [(1, 0.0), (2, 0.0), (3, 0.0), (1, 1e9), (2, 1e-9), (3, 0.5)]
)
def test_log_prob(order, smoothing):
    """Of seen and unseen text, contexts that were never seen included; and of one block alone."""
    rng = np.random.default_rng(order)
    blocks, held_out = (
        rng.choice(6, (5, 7), p=[0.4, 0.3, 0.1, 0.1, 0.1, 0]),
        rng.integers(0, 6, (40, 7)),
    )
    oracle, params = Oracle(blocks, order, 6, smoothing), ngram_params(order, 6, blocks, smoothing)
    scored = jax.jit(ngram(order, 6, 7, smoothing).log_prob)
    for text in (np.tile(blocks, (8, 1)), held_out):
        with np.errstate(divide="ignore"):
            expected = np.log([oracle.given_start(block) for block in text])
        np.testing.assert_allclose(
            scored(params, jnp.asarray(text, jnp.int32)), expected, rtol=2e-5, atol=2e-5
        )


def test_another_smoothing_can_score_than_writes():
    rng = np.random.default_rng(0)
    blocks, held_out = rng.integers(0, 5, (5, 7)), rng.integers(0, 6, (40, 6))
    expected = np.log([Oracle(blocks, 2, 6, 0.1).given_start(block) for block in held_out])
    params = ngram_params(2, 6, blocks)
    np.testing.assert_allclose(log_prob(params, jnp.asarray(held_out), 0.1), expected, rtol=1e-4)
    np.testing.assert_allclose(
        ngram_perplexity(held_out, 0.1)(State(0, params, ())),
        np.exp(-expected.sum() / (40 * 5)),
        rtol=1e-4,
    )


def test_a_choice_is_the_product_of_all_bits():
    rng = np.random.default_rng(1)
    high, low = (
        np.append(rng.integers(0, 2**32, 5000, dtype=np.uint32), [0, 2**32 - 1]).astype(np.uint32)
        for _ in range(2)
    )
    counts = np.append(rng.integers(1, 2**31, 5001), 2**31 - 1)
    expected = [
        ((int(h) << 32) + int(w)) * int(c) >> 64 for h, w, c in zip(high, low, counts, strict=True)
    ]
    np.testing.assert_array_equal(
        choice((jnp.asarray(high), jnp.asarray(low)), jnp.asarray(counts, jnp.int32)), expected
    )


@pytest.mark.parametrize("order", [1, 3])
def test_empty_slots_and_larger_vocabularies_change_nothing(order):
    """One key gives the same tokens whatever empty slots hold, and however tokens are named."""
    rng = np.random.default_rng(2)
    blocks = rng.integers(0, 5, (6, 8)).astype(np.int32)
    plain = drawn(ngram(order, 5, 8), ngram_params(order, 5, blocks), 50)
    mixed = Dataset(jnp.asarray(np.repeat(blocks, 2, 0)), jnp.tile(jnp.array([0.0, 1.0]), 6))
    roomy = ngram(order, 5, 8)
    mixed = points.reserve(mixed, 20)
    np.testing.assert_array_equal(drawn(roomy, jax.jit(roomy.fit)(KEY, None, mixed)[0], 50), plain)
    names = np.array([0, 7, 300, 66_000, 69_999], np.int32)
    renamed = drawn(ngram(order, 70_000, 8), ngram_params(order, 70_000, names[blocks]), 50)
    np.testing.assert_array_equal(renamed, names[np.asarray(plain)])


@pytest.mark.parametrize("order", [1, 3])
def test_more_blocks_do_not_change_the_first(order):
    family, params = (
        ngram(order, 5, 12, 0.1),
        ngram_params(order, 5, np.random.default_rng(0).integers(0, 5, (9, 12)), 0.1),
    )
    np.testing.assert_array_equal(drawn(family, params, 30)[:7], drawn(family, params, 7))


@pytest.mark.parametrize("order", [1, 2, 3])
def test_continued(order, chi_square_p):
    """The first three tokens after a given block have the model's law, dead ends included."""
    blocks = CORPORA["dead ends"]
    params, _ = sampler(order, 0.0)(*padded(blocks))
    oracle, continued = Oracle(blocks, order, SIZE), jax.jit(ngram(order, SIZE, LENGTH).continued)
    for prompt in ((0, 0, 1, 0, 0), (0, 1, 0, 0, 2)):
        x = continued(KEY, params, jnp.tile(jnp.array(prompt, jnp.int32), (5000, 1)))
        assert x.shape == (5000, LENGTH)
        keep = prompt[len(prompt) - order + 1 :]
        law = [
            oracle.given_start(keep + after) for after in itertools.product(range(SIZE), repeat=3)
        ]
        assert chi_square_p(np.bincount(codes(x[:, :3], SIZE), minlength=27), law) > 1e-4


@pytest.mark.parametrize("order", [1, 3])
def test_metrics_and_distances_are_those_of_plain_counting(order):
    rng = np.random.default_rng(5)
    real, made = rng.integers(0, 8, (5, 9)), rng.integers(2, 7, (4, 9))
    family = ngram(order, 9, 9)
    reference, params = ngram_params(order, 9, real), ngram_params(order, 9, made)
    shares, real_shares = (np.bincount(x.ravel(), minlength=9) / x.size for x in (made, real))
    seen = shares[shares > 0]
    index = np.arange(9)
    oracle, real_oracle = Oracle(made, order, 9), Oracle(real, order, 9)
    variance = shares @ (index - shares @ index) ** 2
    expected = {
        "probabilities": shares,
        "vocabulary": len(seen),
        "entropy": -np.sum(seen * np.log(seen)),
        "heterozygosity": 1 - shares @ shares,
        "mean": shares @ index,
        "variance": variance,
        "log_variance": np.log(variance),
        "distinct_ngrams": sum(
            len(counts) for context, counts in oracle.counts.items() if len(context) == order - 1
        ),
        "conditional_entropy": -np.mean(np.log([oracle.given_start(b) for b in made]))
        / (10 - order),
    }
    measured = jax.jit(
        lambda params: {name: metric(params) for name, metric in family.metrics.items()}
    )
    assert set(expected) == set(family.metrics)
    for name, value in measured(params).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, err_msg=name)
    with np.errstate(divide="ignore"):
        crossed = [
            -np.mean(np.log([o.given_start(b) for b in x])) / (10 - order)
            for o, x in ((real_oracle, made), (oracle, real))
        ]
    expected = {
        "surviving_vocabulary": np.sum((shares > 0) & (real_shares > 0)) / np.sum(real_shares > 0),
        "missing_mass": real_shares[shares == 0].sum(),
        "total_variation": np.abs(shares - real_shares).sum() / 2,
        "cross_entropy_model_to_real": crossed[0],
        "cross_entropy_real_to_model": crossed[1],
    }
    assert set(expected) == set(family.distances)
    compared = jax.jit(
        lambda params, reference: {
            name: distance(params, reference) for name, distance in family.distances.items()
        }
    )
    for name, value in compared(params, reference).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, err_msg=name)
    lone = ngram_params(order, 9, np.full((5, 9), 3))
    for values in (measured(ngram_params(order, 9, np.full((4, 9), 3))), compared(params, lone)):
        assert not any(np.isnan(value).any() for value in values.values())


def test_unigram_chains_are_the_categorical_chains(assert_mean, chi_square_p):
    """M tokens in blocks are M draws: heterozygosity and the law of one token's count."""
    blocks = np.repeat(np.arange(10), [6, 5, 4, 4, 3, 3, 2, 1, 1, 1]).reshape(5, 6)
    real = np.bincount(blocks.ravel()) / 30
    source = sources.population(ngram(1, 10, 4), ngram_params(1, 10, blocks))
    process = generational_process(ngram(1, 10, 4), source, workflows.replace(), sample_size=5)
    metrics = ("heterozygosity", "probabilities", "vocabulary", "missing_mass")
    trace = simulate(process, KEY, generations=15, chains=3000, metrics=metrics, record=5)
    assert_mean(
        trace["heterozygosity"],
        (1 - real @ real) * ancestry.retention(trace.generations, 20, workflow="replace"),
    )
    laws = np.array(
        [[theory.count_distribution(g, 20, p) for p in real] for g in trace.generations]
    )
    assert_mean(trace["vocabulary"], (1 - laws[..., 0]).sum(1))
    assert_mean(trace["missing_mass"], (laws[..., 0] * real).sum(1))
    for place in range(1, 4):
        counts = np.rint(trace["probabilities"][:, place, 2] * 20).astype(int)
        assert chi_square_p(np.bincount(counts, minlength=21), laws[place, 2]) > 1e-4


FLOWS = {
    "replace": workflows.replace(),
    "accumulate": workflows.accumulate(),
    "accumulate_subsample": workflows.accumulate_subsample(),
    "keep_or_continue": workflows.keep_or_continue(0.25),
}


@pytest.mark.parametrize("flow", FLOWS)
def test_every_workflow(flow):
    rng = np.random.default_rng(4)
    blocks = rng.integers(0, 30, (8, 10)).astype(np.int32)
    estimator = ngram(2 + (flow == "replace"), 30, 10)
    process = generational_process(
        estimator, sources.dataset(blocks), FLOWS[flow], sample_size=8, remember_first=True
    )
    metrics = ("vocabulary", "surviving_vocabulary_to_first")
    trace = simulate(process, KEY, generations=3, chains=2, metrics=metrics)
    assert (trace["surviving_vocabulary_to_first"][:, 0] == 1).all()
    lost = trace["surviving_vocabulary_to_first"][:, -1] < 1
    assert (~lost if flow == "accumulate" else lost).all()
    if flow == "replace":
        assert (np.diff(trace["vocabulary"], axis=1) <= 0).all()


@pytest.mark.slow
def test_both_drivers_agree(tmp_path):
    blocks = np.random.default_rng(4).integers(0, 30, (8, 10)).astype(np.int32)
    process = generational_process(
        ngram(3, 30, 10),
        sources.dataset(blocks),
        workflows.replace(),
        sample_size=8,
        remember_first=True,
    )
    metrics = (
        "vocabulary",
        "distinct_ngrams",
        "missing_mass_to_first",
        ngram_perplexity(blocks, 0.1),
    )
    trace = simulate(process, KEY, generations=2, metrics=metrics)
    ran = run(process, KEY, generations=2, folder=tmp_path / "run", metrics=metrics)
    for name in ("vocabulary", "distinct_ngrams", "missing_mass_to_first", "perplexity"):
        np.testing.assert_allclose(trace[name], ran[name], rtol=1e-5, err_msg=name)


def test_a_longer_run_goes_on_from_a_shorter_one():
    process = generational_process(
        ngram(2, 3, 4),
        sources.dataset(np.eye(5, 4, dtype=np.int32)),
        workflows.accumulate(),
        sample_size=5,
    )
    whole = simulate(
        process, KEY, generations=4, chains=2, metrics=("probabilities", "conditional_entropy")
    )
    *_, part = simulate_chunks(process, KEY, Plan(2, 2, ("probabilities",)))
    after = 2, part.copy_state()
    plan = Plan(4, 2, ("probabilities", "conditional_entropy"), after=after)
    *_, rest = simulate_chunks(process, KEY, plan)
    for name, values in rest.arrays.items():
        np.testing.assert_allclose(values[:, -1], whole[name][:, -1], rtol=1e-5)


def test_a_stream_never_writes_what_it_has_not_read():
    """One long stream, sampled, fitted and sampled again: nothing new appears."""
    stream = np.random.default_rng(0).integers(0, 40, (1, 300)).astype(np.int32)
    family, params = ngram(2, 50, 300), ngram_params(2, 50, stream)
    sample, fit = jax.jit(family.sample, static_argnums=2), jax.jit(family.fit)
    for generation in range(4):
        x = sample(jax.random.fold_in(KEY, generation), params, 1)
        allowed = set(zip(stream[0, :-1].tolist(), stream[0, 1:].tolist(), strict=True))
        drawn = set(zip(np.asarray(x)[0, :-1].tolist(), np.asarray(x)[0, 1:].tolist(), strict=True))
        dead = set(stream[0].tolist()) - set(stream[0, :-1].tolist())
        assert {pair for pair in drawn - allowed if pair[0] not in dead} == set()
        params, stream = fit(KEY, params, points.of_sample(x))[0], np.asarray(x)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"order": 0}, "order is 0"),
        ({"order": 4}, "order is 4"),
        ({"order": True}, "order is True"),
        ({"order": 2.0}, "order is 2.0"),
        ({"vocabulary_size": 0}, "vocabulary_size is 0"),
        ({"block_length": 1}, "block_length is 1.*at least 2"),
        ({"smoothing": -0.1}, "smoothing is -0.1"),
        ({"smoothing": float("nan")}, "smoothing is nan"),
    ],
)
def test_bad_input_is_named(given, named):
    with pytest.raises(InputError, match=named) as error:
        ngram(**{"order": 2, "vocabulary_size": 5, "block_length": 4} | given)
    assert "\n" not in str(error.value)


def test_bad_text_is_named():
    for bad in ([[0, 5]], [[-1, 0]], [0, 1], [[0.5, 1.0]], np.zeros((0, 3), int)):
        with pytest.raises(InputError, match="must be"):
            ngram_params(2, 5, bad)
    for bad in ([[-1, 0]], [0, 1], [[0.5, 1.0]]):
        with pytest.raises(InputError, match="held-out text"):
            ngram_perplexity(bad)
    with pytest.raises(InputError, match="held-out blocks have 2 tokens"):
        ngram_perplexity([[0, 1]])(State(0, ngram_params(3, 5, [[0, 1, 2]]), ()))
    with pytest.raises(InputError, match="block_length is 4"):
        ngram(2, 5, 4).fit(KEY, None, points.of_sample(jnp.zeros((3, 5), jnp.int32)))


def test_the_example_is_a_model_of_its_family():
    family, params = example()
    x = drawn(family, params, 30)
    assert x.shape == (30, 12) and np.isfinite(jax.jit(family.log_prob)(params, x)).all()

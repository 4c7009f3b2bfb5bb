"""Wrong arguments of the Python interface.

One line that names the argument, its value and what would be right.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import collapse_jax as cj
from collapse_jax.core.types import FitInfo
from collapse_jax.errors import InputError

KEY = jax.random.key(0)


def gaussian():
    """A process of the simplest kind."""
    return cj.generational_process(
        cj.estimators.gaussian(1),
        cj.sources.normal([0.0], [[1.0]]),
        cj.workflows.replace(),
        sample_size=5,
    )


def process(estimator=None, source=None, workflow=None, **options):
    parts = (
        estimator or cj.estimators.gaussian(1),
        source or cj.sources.normal([0.0], [[1.0]]),
        workflow or cj.workflows.replace(),
    )
    return cj.generational_process(*parts, **({"sample_size": 5} | options))


def simulate(**options):
    return cj.simulate(gaussian(), options.pop("key", KEY), **({"generations": 1} | options))


def run(**options):
    return cj.run(
        gaussian(), options.pop("key", KEY), **({"generations": 1, "folder": "run"} | options)
    )


def host():
    """An estimator that fits on the host."""
    fit = lambda key, params, data: (data.x.mean(), FitInfo.exact())  # noqa: E731
    return cj.estimator(
        fit,
        lambda key, params, n: jnp.full(n, params),
        init=lambda key, data: jnp.zeros(()),
        traceable=False,
    )


def infinite(**options):
    one = cj.estimators.gaussian(1)
    return cj.infinite_sample(
        one,
        one,
        cj.estimators.gaussian_params([0.0], [[1.0]]),
        **({"low": -5.0, "high": 5.0} | options),
    )


@functools.cache
def tiny():
    """The smallest OPT, with fresh parameters."""
    sizes = {
        "vocab_size": 11,
        "hidden_size": 4,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "ffn_dim": 8,
    }
    config = cj.lm.OPTConfig(max_position_embeddings=16, **sizes)
    return cj.lm.OPT(config), cj.lm.init_params(config, KEY)


def generate(prompts=((1, 2, 3),), decoder=None, new_tokens=2, **options):
    return cj.lm.generate(*tiny(), prompts, decoder or cj.lm.Greedy(), new_tokens, **options)


def blocks(values=((1, 2, 3, 4),) * 4):
    return np.asarray(values, np.int32)


def fine_tune(train=None, valid=None, **settings):
    settings = cj.lm.FineTune(**({"epochs": 1, "batch_size": 2} | settings))
    return cj.lm.fine_tune(
        *tiny(),
        blocks() if train is None else train,
        blocks() if valid is None else valid,
        settings,
        KEY,
    )


GAMMA = {"alpha": 0.5, "beta": 0.0, "gamma": 0.5}
WRONG = {
    "simulate": [
        (lambda: simulate(generations=-1), ["generations is -1"]),
        (lambda: simulate(generations=1.5), ["generations is 1.5", "integer"]),
        (lambda: simulate(generations=2**31), ["generations is 2147483648", "at most"]),
        (lambda: simulate(chains=0), ["chains is 0"]),
        (lambda: simulate(chains=None), ["chains is None"]),
        (lambda: simulate(chunk=0), ["chunk is 0"]),
        (lambda: simulate(metrics=("speed",)), ["'speed'", "variance"]),
        (lambda: simulate(metrics=("mean", "mean")), ["'mean'"]),
        (lambda: simulate(metrics=(5,)), ["5", "name"]),
        (lambda: simulate(metrics=5), ["metrics is 5"]),
        (lambda: simulate(record=0), ["record is 0"]),
        (lambda: simulate(record="lag"), ["record is 'lag'"]),
        (lambda: simulate(record=[0, 5]), ["record is [0, 5]", "0 to 1"]),
        (lambda: simulate(record=[0.5]), ["record is [0.5]"]),
        (lambda: simulate(record=1.5), ["record is 1.5"]),
        (lambda: simulate(record=["a"]), ["record is ['a']"]),
        (lambda: simulate(memory_limit=10), ["memory_limit is 10 bytes", "need about"]),
        (lambda: simulate(memory_limit="much"), ["memory_limit is 'much'"]),
        (lambda: simulate(key=0), ["key is 0", "jax.random.key"]),
        (lambda: simulate(key=jax.random.split(KEY)), ["key", "jax.random.key"]),
        (
            lambda: cj.simulate(
                process(host(), cj.sources.dataset(np.zeros(5))), KEY, generations=1
            ),
            ["use cj.run"],
        ),
        (
            lambda: cj.simulate("gaussian", KEY, generations=1),
            ["process is 'gaussian'", "generational_process"],
        ),
    ],
    "run": [
        (lambda: run(generations=-1), ["generations is -1"]),
        (lambda: run(generations=True), ["generations is True"]),
        (lambda: run(chains=0), ["chains is 0"]),
        (lambda: run(metrics=("speed",)), ["'speed'"]),
        (lambda: run(states="some"), ["states is 'some'", "'ends'"]),
        (lambda: run(key=5), ["key is 5", "jax.random.key"]),
        (lambda: run(folder=5), ["folder is 5"]),
        (lambda: run(folder=__file__), ["test_python.py', which is not a folder; give another"]),
        (lambda: cj.run(None, KEY, generations=1, folder="run"), ["process is None"]),
    ],
    "generational_process": [
        (lambda: process(sample_size=0), ["sample_size is 0"]),
        (lambda: process(sample_size=2.0), ["sample_size is 2.0", "integer"]),
        (lambda: process(sample_size="5"), ["sample_size is '5'"]),
        (lambda: process(sample_size=2**31), ["sample_size is 2147483648", "at most"]),
        (
            lambda: process(source=cj.sources.dataset(np.zeros((3, 1)))),
            ["sample_size is 5", "3 points"],
        ),
        (
            lambda: process(
                source=cj.sources.dataset(np.zeros((9, 1))), sample_size=lambda g: g + 1
            ),
            ["largest_sample_size"],
        ),
        (
            lambda: process(
                source=cj.sources.dataset(np.zeros((9, 1))),
                sample_size=lambda g: g + 1,
                largest_sample_size=0,
            ),
            ["largest_sample_size is 0"],
        ),
        (lambda: process(workflow=cj.workflows.keep_or_continue(0.5)), ["continue"]),
        (
            lambda: process(
                workflow=cj.curation.tempered(0.5)(cj.workflows.replace()), estimator=host()
            ),
            ["tempered"],
        ),
        (lambda: cj.generational_process(5, 5, 5, sample_size=5), ["estimator is 5"]),
        (
            lambda: cj.simulate(process(cj.estimators.gaussian(2)), KEY, generations=1),
            ["shapes", "dimensions"],
        ),
        (
            lambda: cj.simulate(
                process(source=cj.sources.dataset(np.zeros((9, 3)))), KEY, generations=1
            ),
            ["shape [3]", "[1]"],
        ),
        (lambda: process(source="normal"), ["source is 'normal'"]),
        (lambda: process(workflow="replace"), ["workflow is 'replace'", "cj.workflows"]),
        (
            lambda: process(workflow=cj.workflows.replace),
            ["workflow is <function replace", "cj.workflows"],
        ),
    ],
    "workflows": [
        (lambda: cj.workflows.mix(0.5, 0.2, 0.2), ["alpha + beta + gamma is 0.9"]),
        (lambda: cj.workflows.mix(-0.5, 0.5, 1.0), ["alpha is -0.5"]),
        (lambda: cj.workflows.mix(float("nan"), 0.5, 0.5), ["alpha is nan"]),
        (lambda: cj.workflows.mix("0.5", 0.5, 0.0), ["alpha is '0.5'"]),
        (lambda: cj.workflows.mix(None, 0.5, 0.6), ["beta + gamma is 1.1"]),
        (lambda: cj.workflows.keep_or_continue(1.5), ["gamma is 1.5"]),
        (lambda: cj.workflows.keep_or_continue(float("nan")), ["gamma is nan"]),
        (lambda: cj.workflows.keep_or_continue(0.7, beta=0.7), ["beta + gamma is 1.4"]),
        (lambda: cj.workflows.keep_or_continue(0.5, batch_size=0), ["batch_size is 0"]),
        (lambda: cj.workflows.keep_or_continue(0.5, batch_size=1.5), ["batch_size is 1.5"]),
    ],
    "sources": [
        (lambda: cj.sources.normal([0.0], [[-1.0]]), ["covariance"]),
        (lambda: cj.sources.normal([0.0, 0.0], [[1.0]]), ["covariance"]),
        (lambda: cj.sources.normal([0.0], [[float("nan")]]), ["covariance"]),
        (lambda: cj.sources.normal([float("inf")], [[1.0]]), ["mean"]),
        (lambda: cj.sources.normal(["a"], [[1.0]]), ["mean is ['a']"]),
        (lambda: cj.sources.normal([0.0, 0.0], [[1.0, 0.5], [0.0, 1.0]]), ["covariance"]),
        (lambda: cj.sources.normal([], np.zeros((0, 0))), ["mean"]),
        (lambda: cj.sources.categorical([0.5, 0.6]), ["[0.5, 0.6]", "sum to 1"]),
        (lambda: cj.sources.categorical([]), ["probabilities"]),
        (lambda: cj.sources.categorical([1.5, -0.5]), ["non-negative"]),
        (lambda: cj.sources.categorical([float("nan"), 1.0]), ["probabilities"]),
        (lambda: cj.sources.categorical("abc"), ["probabilities"]),
        (lambda: cj.sources.dataset([]), ["at least one point"]),
        (lambda: cj.sources.dataset(5.0), ["at least one point"]),
        (lambda: cj.sources.dataset([float("nan"), 1.0]), ["nan"]),
        (lambda: cj.sources.dataset("abc"), ["'abc'"]),
        (lambda: cj.sources.population("gaussian", ()), ["estimator is 'gaussian'"]),
    ],
    "curation": [
        (lambda: cj.curation.best_of(0, len), ["k is 0"]),
        (lambda: cj.curation.best_of(2.0, len), ["k is 2.0"]),
        (lambda: cj.curation.best_of(2, 5), ["reward is 5", "function"]),
        (lambda: cj.curation.best_of(2, len, choice="worst"), ["choice is 'worst'"]),
        (lambda: cj.curation.verified(5), ["accept is 5", "function"]),
        (lambda: cj.curation.verified(len, cap=0), ["cap is 0"]),
        (lambda: cj.curation.labelled_verifier(1.5, 0.5, len), ["phi is 1.5"]),
        (lambda: cj.curation.labelled_verifier(0.0, 0.0, len), ["phi and psi are 0"]),
        (lambda: cj.curation.labelled_verifier(0.5, float("nan"), len), ["psi is nan"]),
        (lambda: cj.curation.labelled_verifier(0.5, 0.5, None), ["correct is None", "function"]),
        (lambda: cj.curation.tempered(0), ["tau is 0"]),
        (lambda: cj.curation.tempered(float("inf")), ["tau is inf"]),
        (lambda: cj.curation.tempered("cold"), ["tau is 'cold'"]),
        (lambda: cj.curation.top_p(1.5), ["p is 1.5"]),
        (lambda: cj.curation.top_p(None), ["p is None"]),
        (lambda: cj.curation.detector(2, 0), ["true_positive is 2"]),
        (lambda: cj.curation.detector(0, "x"), ["false_positive is 'x'"]),
        (lambda: cj.curation.detector(1.0, 1.0)(cj.workflows.mix(**GAMMA)), ["no points pass"]),
    ],
    "estimators": [
        (lambda: cj.estimators.gaussian(0), ["dim is 0"]),
        (lambda: cj.estimators.gaussian(1.0), ["dim is 1.0"]),
        (lambda: cj.estimators.gaussian(1, ddof=2), ["ddof is 2"]),
        (lambda: cj.estimators.gaussian(1, by="hand"), ["by is 'hand'"]),
        (lambda: cj.estimators.gaussian(1, sampling_bias=0.0), ["sampling_bias is 0.0"]),
        (lambda: cj.estimators.gaussian(1, sampling_bias="x"), ["sampling_bias is 'x'"]),
        (lambda: cj.estimators.gaussian_params([0.0], [[0.0, 1.0]]), ["covariance"]),
        (lambda: cj.estimators.gaussian_mean(-1.0), ["covariance"]),
        (lambda: cj.estimators.gaussian_mean("x"), ["covariance is 'x'"]),
        (lambda: cj.estimators.gaussian_mean_params([float("nan")]), ["mean is [nan]"]),
        (lambda: cj.estimators.categorical(0), ["num_categories is 0"]),
        (lambda: cj.estimators.categorical(2, method="guess"), ["method is 'guess'"]),
        (lambda: cj.estimators.categorical(2, smoothing=-1), ["smoothing is -1"]),
        (lambda: cj.estimators.categorical_params([-0.5, 1.5]), ["probabilities"]),
        (lambda: cj.estimators.categorical_params([]), ["probabilities"]),
        (lambda: cj.estimators.bernoulli_params(1.5), ["probability is 1.5"]),
        (lambda: cj.estimators.bernoulli_params("x"), ["probability is 'x'"]),
        (lambda: cj.estimators.poisson_params(-1), ["rate is -1"]),
        (lambda: cj.estimators.poisson_params(float("inf")), ["rate is inf"]),
        (lambda: cj.estimators.exponential_params(0), ["mean is 0"]),
        (lambda: cj.estimators.pareto_params(0.0), ["shape is 0.0"]),
        (lambda: cj.estimators.uniform_params(-1.0), ["-1.0"]),
        (lambda: cj.estimators.gmm(0, 1), ["num_components is 0"]),
        (lambda: cj.estimators.gmm(2, 1, covariance="round"), ["covariance is 'round'"]),
        (lambda: cj.estimators.gmm(2, 1, start="cold"), ["start is 'cold'"]),
        (lambda: cj.estimators.gmm(2, 1, tolerance="x"), ["tolerance is 'x'"]),
        (
            lambda: cj.estimators.gmm_params([0.5, 0.6], np.zeros((2, 1)), np.ones((2, 1, 1))),
            ["weights"],
        ),
        (lambda: cj.estimators.kde(1, bandwidth=0), ["bandwidth is 0"]),
        (lambda: cj.estimators.kde(1, held_out=np.zeros(3)), ["held_out"]),
        (lambda: cj.estimators.linear_regression(0), ["dim is 0"]),
        (lambda: cj.estimators.regression_params([float("nan")]), ["nan"]),
        (lambda: cj.estimators.logistic_regression(0), ["dim is 0"]),
        (lambda: cj.estimators.logistic_regression(2, tolerance="x"), ["tolerance is 'x'"]),
        (lambda: cj.estimators.logistic_params([[1.0]]), ["weights"]),
        (lambda: cj.estimators.ngram(4, 5, 6), ["order is 4"]),
        (lambda: cj.estimators.ngram(2, 5, 1), ["block_length is 1"]),
        (lambda: cj.estimators.ngram(2, 5, 6, smoothing=float("nan")), ["smoothing is nan"]),
        (lambda: cj.estimators.ngram_params(2, 5, np.full((2, 6), 7)), ["vocabulary_size"]),
        (lambda: cj.estimators.ngram_perplexity(np.zeros(3)), ["held-out"]),
        (lambda: cj.estimators.vae(height=0), ["height is 0"]),
        (lambda: cj.estimators.vae(gives="noise"), ["gives is 'noise'"]),
        (lambda: cj.estimators.vae(probes=0), ["probes is 0"]),
        (
            lambda: cj.estimators.causal_lm(*tiny(), blocks(), blocks(), start="zero"),
            ["start is 'zero'"],
        ),
        (lambda: cj.estimators.causal_lm(*tiny(), blocks()[:0], blocks()), ["no prompts"]),
        (
            lambda: cj.estimators.causal_lm(*tiny(), np.zeros((2, 9), np.int32), blocks()),
            ["18 positions"],
        ),
    ],
    "estimator, register, check_estimator": [
        (lambda: cj.estimator(None, len), ["fit is None", "function"]),
        (lambda: cj.estimator(len, 5), ["sample is 5", "function"]),
        (lambda: cj.estimator(len, len, traceable=False), ["needs init"]),
        (lambda: cj.estimator(len, len, metrics={"mean": 5}), ["'mean'", "5", "function"]),
        (lambda: cj.estimator(len, len, chain_axis=3), ["chain_axis is 3"]),
        (lambda: cj.register("a b", len), ["name is 'a b'"]),
        (lambda: cj.register(5, len), ["name is 5"]),
        (lambda: cj.register("gaussian", len), ["taken"]),
        (lambda: cj.register("mine", 5), ["factory", "5"]),
        (lambda: cj.register("mine", len, example=5), ["example", "5"]),
        (lambda: cj.check_estimator(5), ["factory is 5"]),
        (lambda: cj.check_estimator(lambda: 5), ["factory() is 5", "cj.estimator"]),
        (lambda: cj.check_estimator(host, skip=("all",)), ["'all'"]),
        (lambda: cj.check_estimator(lambda: cj.estimators.gaussian(3)), ["example="]),
    ],
    "infinite_sample": [
        (lambda: infinite(low=5.0), ["low is 5 and high is 5"]),
        (lambda: infinite(high=float("inf")), ["high is inf"]),
        (lambda: infinite(nodes=1), ["nodes is 1"]),
        (lambda: infinite(low="a"), ["low is 'a'"]),
        (lambda: cj.infinite_sample(host(), host(), None, low=0.0, high=1.0), ["log_prob"]),
    ],
    "lm": [
        (lambda: cj.lm.load_corpus("nowhere"), ["corpus 'nowhere'"]),
        (lambda: cj.lm.load_tokenizer("no where"), ["tokenizer 'no where'"]),
        (lambda: cj.lm.load_opt("nowhere"), ["'nowhere'"]),
        (lambda: cj.lm.load_opt("owner/na me"), ["'owner/na me'"]),
        (lambda: cj.lm.load_opt(5), ["5"]),
        (lambda: cj.lm.save_opt("x", tiny()[0], {}), ["missing"]),
        (lambda: cj.lm.save_opt("x", *tiny(), dtype="int8"), ["dtype is 'int8'"]),
        (lambda: cj.lm.OPTConfig(vocab_size=0), ["vocab_size is 0"]),
        (lambda: cj.lm.OPTConfig(dropout=float("nan")), ["dropout is nan"]),
        (
            lambda: cj.lm.blocks_of(["a"], cj.lm.load_tokenizer("embedded"), 1),
            ["block_length is 1"],
        ),
        (lambda: generate(prompts=[[1.5]]), ["float"]),
        (lambda: generate(prompts=[[99]]), ["99"]),
        (lambda: generate(prompts=[[-1]]), ["-1"]),
        (lambda: generate(prompts=[1, 2]), ["prompts"]),
        (lambda: generate(new_tokens=0), ["new_tokens is 0"]),
        (lambda: generate(new_tokens=100), ["100 new", "max_position_embeddings 16"]),
        (lambda: generate(batch_size=0), ["batch_size 0"]),
        (lambda: generate(decoder=cj.lm.Sampling()), ["key"]),
        (lambda: generate(decoder=cj.lm.BeamSearch(num_beams=0)), ["num_beams is 0"]),
        (
            lambda: generate(decoder=cj.lm.BeamSearch(early_stopping="soon")),
            ["early_stopping is 'soon'"],
        ),
        (
            lambda: generate(decoder=cj.lm.Sampling(temperature=float("nan")), key=KEY),
            ["temperature is nan"],
        ),
        (lambda: generate(decoder=cj.lm.Sampling(top_k=-1), key=KEY), ["top_k is -1"]),
        (lambda: generate(decoder=cj.lm.Sampling(top_p=0.0), key=KEY), ["top_p is 0.0"]),
        (
            lambda: generate(decoder=cj.lm.Greedy(repetition_penalty=float("inf"))),
            ["repetition_penalty is inf"],
        ),
        (lambda: generate(decoder=cj.lm.Greedy(min_new_tokens=-1)), ["min_new_tokens is -1"]),
        (lambda: fine_tune(epochs=0), ["epochs is 0"]),
        (lambda: fine_tune(batch_size=0), ["batch_size is 0"]),
        (lambda: fine_tune(learning_rate=float("nan")), ["learning_rate is nan"]),
        (lambda: fine_tune(keep="first"), ["keep is 'first'"]),
        (lambda: fine_tune(train=blocks()[:0]), ["no"]),
        (lambda: fine_tune(train=np.full((2, 4), 99, np.int32)), ["99"]),
    ],
    "theory": [
        (lambda: cj.theory.gaussian.expected_variance(-1, 10, ddof=1), ["-1"]),
        (lambda: cj.theory.gaussian.expected_variance(1.5, 10, ddof=1), ["1.5"]),
        (lambda: cj.theory.gaussian.expected_variance(1, 0, ddof=1), ["0"]),
        (lambda: cj.theory.gaussian.expected_variance(1, 10, ddof=1, workflow="best"), ["'best'"]),
        (
            lambda: cj.theory.gaussian.log_variance_quantile(2.0, 1, 10, ddof=1),
            ["between 0 and 1", "2."],
        ),
        (lambda: cj.theory.categorical.expected_heterozygosity(1, 10, [0.5, 0.6]), ["sum to 1"]),
        (lambda: cj.theory.categorical.loss_probability(1, 10, 1.5), ["1.5"]),
        (lambda: cj.theory.categorical.transition_matrix(10**6), ["1000000"]),
        (
            lambda: cj.theory.ancestry.pair_coalescence(1, 10, workflow="mix", alpha=0.5),
            ["sum to 1"],
        ),
    ],
}
CASES = [(group, number) for group, cases in WRONG.items() for number in range(len(cases))]


@pytest.mark.parametrize(
    ("group", "number"),
    CASES,
    ids=[f"{group} {' '.join(WRONG[group][n][1])}"[:70] for group, n in CASES],
)
def test_a_wrong_argument(here, group, number):
    call, says = WRONG[group][number]
    with pytest.raises(ValueError if group == "theory" else InputError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text and all(word in text for word in says), text
    assert list(here.iterdir()) == []


def test_a_line_is_one_line_whatever_is_in_it():
    assert str(InputError("a\nb\r\nc")) == "a b c"
    assert len(str(InputError("x" * 10_000))) < 2100

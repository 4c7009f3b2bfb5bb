"""Workflows alone, against a supply that writes down what it is asked for; counts by chi-square (p
> 1e-4).
"""

import itertools

import jax
import numpy as np
import pytest
from scipy import stats

from collapse_jax.core import workflows
from collapse_jax.core.types import Supply
from collapse_jax.errors import InputError
from collapse_jax.theory import ancestry

KEY = jax.random.key(0)


class Recorder:
    """A supply whose data is a text of what was asked for; `asked` keeps (what, n, key)."""

    def __init__(self):
        self.asked = []

    def supply(self, previous_size=10):
        def ask(what):
            def give(key, *arguments):
                self.asked.append(
                    (what, arguments[-1], tuple(np.asarray(jax.random.key_data(key)).tolist()))
                )
                return (
                    f"{what}{int(arguments[-1])}"
                    if what != "of"
                    else f"{arguments[0]}/{int(arguments[-1])}"
                )

            return give

        return Supply(
            model=ask("model"),
            real=ask("real"),
            subsample=ask("of"),
            merge=lambda a, b: f"{a} + {b}",
            reserve=lambda data: f"<{data}>",
            append=lambda pool, data: f"{pool[:-1]}, {data}>",
            compact=lambda data: f"[{data}]",
            previous_size=previous_size,
        )


def two_generations(workflow, n=10):
    """The data of generations 1 and 2, and what was asked for."""
    recorder = Recorder()
    supply = recorder.supply(previous_size=n)
    carry = workflow.init(supply, "first")
    carry, one = workflow.next(jax.random.key(1), carry, supply, n)
    carry, two = workflow.next(jax.random.key(2), carry, supply, n)
    return one, two, recorder.asked


def test_replace():
    assert two_generations(workflows.replace())[:2] == ("model10", "model10")
    assert workflows.replace().init(None, "first") == ()


def test_accumulate():
    assert two_generations(workflows.accumulate())[:2] == (
        "<first, model10>",
        "<first, model10, model10>",
    )


def test_accumulate_subsample():
    one, two, asked = two_generations(workflows.accumulate_subsample())
    assert (one, two) == ("<first, model10>/10", "<first, model10, model10>/10")
    assert len({key for _, _, key in asked}) == 4


def test_mix_with_fixed_counts():
    workflow = workflows.mix(0.5, 0.3, 0.2, random_counts=False)
    one, two, asked = two_generations(workflow)
    assert one == "[model5 + first/3 + real2]"
    assert two == f"[model5 + {one}/3 + real2]"
    assert len({key for _, _, key in asked}) == 6, "every request has a key of its own"
    assert (
        two_generations(workflows.mix(0.9, 0.0, 0.1, random_counts=False))[:2]
        == ("[model9 + real1]",) * 2
    )
    assert two_generations(workflows.mix(1, 0, 0, random_counts=False))[0] == "[model10]"


def test_fixed_counts_are_the_rounded_shares():
    shares = [
        (0.5, 0.3, 0.2),
        (0.9, 0.0, 0.1),
        (1.0, 0.0, 0.0),
        (1 / 3, 1 / 3, 1 / 3),
        (0.05, 0.9, 0.05),
    ]
    for (alpha, beta, gamma), n in itertools.product(shares, (1, 2, 5, 10, 15, 99)):
        asked = {
            what: int(m)
            for what, m, _ in two_generations(
                workflows.mix(alpha, beta, gamma, random_counts=False), n
            )[2]
        }
        want = ancestry.fixed_mix_counts(n, alpha, beta, gamma)
        assert tuple(asked.get(what, 0) for what in ("model", "of", "real")) == want, (
            alpha,
            beta,
            gamma,
            n,
        )
        assert sum(asked.values()) == n
        traced = {
            what: int(m)
            for what, m, _ in two_generations(
                workflows.mix(alpha, beta, gamma, random_counts=False), np.int32(n)
            )[2]
        }
        assert traced == asked


def test_what_a_smaller_previous_set_cannot_give_the_model_makes():
    recorder = Recorder()
    workflow = workflows.mix(0.2, 0.6, 0.2, random_counts=False)
    carry = workflow.init(recorder.supply(), "first")
    workflow.next(jax.random.key(1), carry, recorder.supply(previous_size=4), 10)
    assert [(what, n) for what, n, _ in recorder.asked] == [("model", 4), ("of", 4), ("real", 2)]


def kept_and_continued(workflow, n, previous_size=0):
    """How many points of a set of n are kept real, continued, and taken from the previous set."""
    asked = {}

    def real_and_continued(key, kept, continued):
        asked.update(real=kept, continued=continued)
        return "real", "made"

    def subsample(key, data, m):
        asked.update(previous=m)
        return f"{data}/{m}"

    supply = Supply(
        None,
        None,
        lambda a, b: f"{a} + {b}",
        subsample,
        None,
        None,
        lambda data: data,
        previous_size,
    )
    carry, data = workflow.next(
        KEY,
        workflow.init(supply, "first"),
        supply._replace(real_and_continued=real_and_continued),
        n,
    )
    assert data == "made + real" + (f" + first/{asked['previous']}" if "previous" in asked else "")
    assert carry == (data if "previous" in asked else ())
    return asked["real"], asked["continued"], asked.get("previous", 0)


def test_keep_or_continue_keeps_whole_batches():
    """ceil(n gamma / batch) batches, by hand. 38,403 blocks in batches of 128: 30.002 batches'
    worth, so 31 of them.
    """
    cases = [
        (38_403, 0.1, 128, 31 * 128),
        (1280, 0.1, 128, 128),
        (1281, 0.1, 128, 256),
        (100, 0.07, 1, 7),
        (20, 0.5, 8, 16),
        (20, 0.9, 8, 20),
        (20, 1.0, 6, 20),
        (20, 0.0, 8, 0),
        (5, 0.01, 128, 5),
    ]
    for n, gamma, batch_size, kept in cases:
        assert kept_and_continued(workflows.keep_or_continue(gamma, batch_size=batch_size), n) == (
            kept,
            n - kept,
            0,
        )


def test_keep_or_continue_with_a_share_of_the_previous_set():
    workflow = workflows.keep_or_continue(0.25, beta=0.5, batch_size=4)
    assert kept_and_continued(workflow, 20, previous_size=20) == (8, 2, 10)
    assert kept_and_continued(workflow, 20, previous_size=3) == (8, 9, 3)
    assert kept_and_continued(
        workflows.keep_or_continue(0.3, beta=0.7, batch_size=20), 30, previous_size=30
    ) == (20, 0, 10)


@pytest.mark.parametrize(
    ("shares", "says"),
    [
        ({"gamma": 1.5}, "gamma is 1.5; it must be in [0, 1]"),
        ({"gamma": 0.5, "beta": -0.1}, "beta is -0.1; it must be in [0, 1]"),
        ({"gamma": 0.5, "beta": float("nan")}, "beta is nan; it must be in [0, 1]"),
        ({"gamma": 0.5, "beta": 0.6}, "beta + gamma is 1.1; it must be in [0, 1]"),
        ({"gamma": 0.5, "batch_size": 0}, "batch_size is 0; it must be an integer of at least 1"),
    ],
)
def test_keep_or_continue_refuses(shares, says):
    with pytest.raises(InputError) as error:
        workflows.keep_or_continue(**shares)
    assert str(error.value) == says


def test_random_counts_are_multinomial(chi_square_p):
    workflow = workflows.mix(0.5, 0.3, 0.2)

    @jax.jit
    @jax.vmap
    def counts(key):
        asked = {}
        supply = Supply(
            model=lambda key, n: asked.update(model=n),
            real=lambda key, n: asked.update(real=n),
            subsample=lambda key, data, n: asked.update(previous=n),
            merge=lambda a, b: None,
            reserve=None,
            append=None,
            compact=lambda data: data,
            previous_size=10,
        )
        workflow.next(key, None, supply, 10)
        return asked

    found = counts(jax.random.split(KEY, 10_000))
    assert (found["model"] + found["previous"] + found["real"] == 10).all()
    for name, share in (("model", 0.5), ("previous", 0.3), ("real", 0.2)):
        assert (
            chi_square_p(
                np.bincount(found[name], minlength=11), stats.binom.pmf(np.arange(11), 10, share)
            )
            > 1e-4
        )


def test_workflows_are_named_after_their_shares():
    assert workflows.mix(0.5, 0.25, 0.25).name == "mix(0.5, 0.25, 0.25)"
    assert workflows.keep_or_continue(0.5).name == "keep_or_continue(0.5)"


def test_the_share_that_is_wrong_is_named_first():
    """Not alpha, which nobody gave."""
    for name, value in (("gamma", -0.1), ("gamma", float("nan")), ("beta", 1.5)):
        with pytest.raises(InputError, match=rf"^{name} is {value}; it must be in \[0, 1\]"):
            workflows.mix(**{name: value})


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        ((-0.1, 0.6, 0.5), ["alpha", "-0.1"]),
        ((0.0, 1.5, -0.5), ["beta", "1.5"]),
        ((0.5, 0.5, float("nan")), ["gamma", "nan"]),
        ((0.5, 0.2, 0.2), ["alpha + beta + gamma", "0.9", "0.5", "0.2"]),
    ],
)
def test_bad_shares_are_named(shares, words):
    with pytest.raises(InputError) as error:
        workflows.mix(*shares)
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in words), str(error.value)

"""Deliberate breaks of the library.

The entries that are about what was broken fail, and the others do not.
"""

import pytest

import collapse_jax as cj
from collapse_jax.app.reproduce import decide, load_entries, own_folder
from collapse_jax.app.reproduce.judge import AGREES, FAILED

pytestmark = pytest.mark.usefixtures("quick_compile")
# Entries about a Gaussian, about counts, and about a family that is neither.
WATCHED = {"shum-thm31-W2": "gaussian", "wf-H": "counts", "exp-mle": "other"}


@pytest.fixture(scope="module")
def entries():
    return {one.id: one for one in load_entries(own_folder())}


def ddof_swapped(patch):
    gaussian = cj.estimators.gaussian
    patch.setattr(
        cj.estimators, "gaussian", lambda dim, ddof=1, **options: gaussian(dim, 1 - ddof, **options)
    )


def one_sample_too_few(patch):
    process = cj.generational_process

    def short(*arguments, sample_size, **options):
        return process(
            *arguments,
            sample_size=sample_size - 1 if isinstance(sample_size, int) else sample_size,
            **options,
        )

    patch.setattr(cj, "generational_process", short)


def narrow_sampler(patch):
    gaussian = cj.estimators.gaussian
    patch.setattr(
        cj.estimators,
        "gaussian",
        lambda *arguments, **options: gaussian(*arguments, sampling_bias=0.97, **options),
    )


def unfair_counts(patch):
    """A categorical sampler that favours its first category a little."""
    categorical = cj.estimators.categorical

    def unfair(*arguments, **options):
        fair = categorical(*arguments, **options)

        def draw(key, params, n):
            return fair.draw(key, fair.tempered(params, 0.98), n)

        return fair._replace(draw=draw)

    patch.setattr(cj.estimators, "categorical", unfair)


# What a break touches: kinds of entries, or all.
BREAKS = {
    ddof_swapped: ("gaussian",),
    one_sample_too_few: ("gaussian", "counts", "other"),
    narrow_sampler: ("gaussian",),
    unfair_counts: ("counts",),
}


def verdicts(entries, ids):
    return {id: decide(entries[id], 0, len(entries)).verdict for id in ids}


SLOW = (one_sample_too_few, narrow_sampler, unfair_counts)


@pytest.mark.slow
@pytest.mark.parametrize(
    "broken", [pytest.param(one, marks=pytest.mark.slow if one in SLOW else ()) for one in BREAKS]
)
def test_a_break_makes_the_right_entries_fail(entries, monkeypatch, broken):
    broken(monkeypatch)
    expected = {id for id, kind in WATCHED.items() if kind in BREAKS[broken]}
    found = verdicts(entries, WATCHED)
    assert {id for id, verdict in found.items() if verdict == FAILED} == expected
    assert {id for id, verdict in found.items() if verdict == AGREES} == set(WATCHED) - expected

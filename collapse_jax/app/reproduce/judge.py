"""From comparisons to verdicts, with one stated probability of a false alarm for the whole table."""

import hashlib
import time
from typing import NamedTuple

import numpy as np

from collapse_jax.app.reproduce.compare import Comparison
from collapse_jax.app.reproduce.entries import Entry, OutOfReach

# The probability that a correct library shows any failure at all in the whole table.
FALSE_ALARM = 0.01
AGREES, DISAGREES, DIFFERS, UNREACHABLE, FAILED = (
    "agrees",
    "disagrees",
    "differs by definition",
    "not reachable here",
    "FAILED",
)


class Result(NamedTuple):
    """What became of an entry. level: the p-value below which one of its comparisons fails. reason:
    in words, where there is one.
    """

    entry: Entry
    verdict: str
    comparisons: tuple[Comparison, ...]
    level: float
    reason: str
    seconds: float

    def headline(self) -> Comparison | None:
        """The comparison that decided: one that failed, else the one of lowest p-value, refuted
        ones last.
        """
        failed = [one for one in self.comparisons if not holds(one, self.level)]
        order = sorted(failed or self.comparisons, key=lambda one: (one.refuted, one.p_value))
        return order[0] if order else None


def holds(comparison: Comparison, level: float) -> bool:
    """Whether a comparison came out as it should; nan never does, not even where numbers are to be
    refuted.
    """
    if np.isnan(comparison.ours).any():
        return False
    return (comparison.p_value > level) != comparison.refuted


def key_of(entry: Entry, seed: int):
    """The key of an entry: by seed and id alone, so that its numbers do not depend on which others
    are asked for.
    """
    import jax

    return jax.random.fold_in(
        jax.random.key(seed), int.from_bytes(hashlib.sha256(entry.id.encode()).digest()[:4], "big")
    )


def decide(entry: Entry, seed: int, entries: int) -> Result:
    """Runs the check of an entry, one of `entries` in the whole registry, and judges it.

    Each entry fails by chance with a probability of at most FALSE_ALARM / entries, shared out
    evenly over its comparisons.
    """
    began = time.perf_counter()
    if entry.check is None:
        return Result(entry, UNREACHABLE, (), 0.0, entry.command, 0.0)
    try:
        found = entry.check(key_of(entry, seed))
    except OutOfReach as error:
        return Result(entry, UNREACHABLE, (), 0.0, str(error), time.perf_counter() - began)
    except Exception as error:
        words = f"{type(error).__name__}: {error}".partition("\n")[0]
        return Result(entry, FAILED, (), 0.0, words, time.perf_counter() - began)
    comparisons = (found,) if isinstance(found, Comparison) else tuple(found)
    level = FALSE_ALARM / entries / max(sum(not one.refuted for one in comparisons), 1)
    wrong = [one for one in comparisons if not holds(one, level)]
    seconds = time.perf_counter() - began
    if wrong or not comparisons:
        words = (
            "; ".join(f"{one.what}: p = {one.p_value:.2g} ({one.rule})" for one in wrong)
            or "nothing was compared"
        )
        return Result(entry, FAILED, comparisons, level, words, seconds)
    verdict = DISAGREES if entry.disagrees else DIFFERS if entry.differs else AGREES
    return Result(entry, verdict, comparisons, level, entry.disagrees or entry.differs, seconds)

"""From comparisons to verdicts, with one probability of a false alarm for the whole table."""

import hashlib
import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from collapse_jax.app.reproduce.compare import Comparison
from collapse_jax.app.reproduce.entries import Entry, OutOfReach

if TYPE_CHECKING:
    import jax

# The probability that a correct library shows any failure in the whole table.
FALSE_ALARM = 0.01
AGREES, DISAGREES, DIFFERS, UNREACHABLE, FAILED = (
    "agrees",
    "disagrees",
    "differs by definition",
    "not reachable here",
    "FAILED",
)


class Result(NamedTuple):
    """What became of an entry.

    entry: The entry.
    verdict: One of the five words above.
    comparisons: What its check returned.
    level: The p-value below which one of them fails.
    reason: Why, as a text; "" if nothing is to be said.
    seconds: How long the check took.
    """

    entry: Entry
    verdict: str
    comparisons: tuple[Comparison, ...]
    level: float
    reason: str
    seconds: float

    def headline(self) -> Comparison | None:
        """The comparison that decided: a failed one, else that of the lowest p-value.

        Refuted ones come last.
        """
        failed = [one for one in self.comparisons if not holds(one, self.level)]
        order = sorted(failed or self.comparisons, key=lambda one: (one.refuted, one.p_value))
        return order[0] if order else None


def holds(comparison: Comparison, level: float) -> bool:
    """Whether a comparison came out as it should; one with nan never does, not even a refuted one.

    Args:
        level: The p-value below which numbers disagree.
    """
    if np.isnan(comparison.ours).any():
        return False
    return (comparison.p_value > level) != comparison.refuted


def key_of(entry: Entry, seed: int) -> "jax.Array":
    """The key of an entry, by seed and id: no number depends on which others are checked."""
    import jax

    digest = hashlib.sha256(entry.id.encode()).digest()
    return jax.random.fold_in(jax.random.key(seed), int.from_bytes(digest[:4], "big"))


def decide(entry: Entry, seed: int, entries: int) -> Result:
    """Runs the check of an entry and judges it.

    The entry fails by chance with a probability of at most FALSE_ALARM / entries, shared evenly
    over its comparisons.

    Args:
        entry: The entry.
        seed: Of the table.
        entries: How many are judged in the whole registry.
    """
    began = time.perf_counter()
    if entry.check is None:
        return Result(entry, UNREACHABLE, (), 0.0, entry.command, 0.0)
    try:
        compared = entry.check(key_of(entry, seed))
    except OutOfReach as error:
        return Result(entry, UNREACHABLE, (), 0.0, str(error), time.perf_counter() - began)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        return Result(entry, FAILED, (), 0.0, reason, time.perf_counter() - began)
    comparisons = (compared,) if isinstance(compared, Comparison) else tuple(compared)
    level = FALSE_ALARM / entries / max(sum(not one.refuted for one in comparisons), 1)
    wrong = [one for one in comparisons if not holds(one, level)]
    seconds = time.perf_counter() - began
    if wrong or not comparisons:
        reasons = [f"{one.what}: p = {one.p_value:.2g} ({one.rule})" for one in wrong]
        reason = "; ".join(reasons) or "nothing was compared"
        return Result(entry, FAILED, comparisons, level, reason, seconds)
    verdict = DISAGREES if entry.disagrees else DIFFERS if entry.differs else AGREES
    return Result(entry, verdict, comparisons, level, entry.disagrees or entry.differs, seconds)

"""Where two definitions, or the mean and the typical chain, disagree about a run."""

from collections.abc import Iterator, Sequence

from collapse_jax.app.collapse_profile.findings import MET, NOT_MET
from collapse_jax.app.collapse_profile.result import Verdict, shown

# (met, not met, what is said of the two; an entry is left out where an earlier one of the same
# first definition says more).
_PAIRS = (
    ("diversity", "increase", "the diversity collapses while the test loss does not rise"),
    ("diversity", "catastrophic", "the diversity collapses without a catastrophic test loss"),
    ("modes", "increase", "modes disappear while the test loss does not rise"),
    ("modes", "diversity", "modes disappear while the diversity does not collapse"),
    ("tails", "increase", "tails disappear while the test loss does not rise"),
    ("tails", "diversity", "tails disappear while the diversity does not collapse"),
    ("hallucination", "increase", "mass lies outside the truth while the test loss does not rise"),
    ("hallucination", "diversity", "mass lies outside the truth while the diversity stays"),
    ("diversity", "hallucination", "the diversity collapses, and no mass lies outside the truth"),
    ("catastrophic", "divergence", "the test loss is catastrophic, and does not grow without end"),
    ("catastrophic", "diversity", "the test loss is catastrophic while the diversity stays"),
    ("increase", "divergence", "the test loss rises, and does not grow without bound"),
    ("increase", "diversity", "the test loss rises while the diversity does not collapse"),
    ("increase", "catastrophic", "the test loss rises, and is not catastrophic"),
)

# A factor of the test loss that a reader of its curve calls flat.
_NEARLY_FLAT = 1.1


def disagreements(verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    """Sentences on what disagrees: statistics of one definition, then definitions of the typical
    chain."""
    return (*_between_statistics(verdicts), *_between_definitions(verdicts))


def _between_statistics(verdicts) -> Iterator[str]:
    for verdict in verdicts:
        mean, median = verdict.mean, verdict.median
        if mean is None or median is None or {mean.verdict, median.verdict} != {MET, NOT_MET}:
            continue
        met, other = (mean, median) if mean.verdict == MET else (median, mean)
        who = {"mean": "the mean over chains", "median": "the typical chain"}
        yield (
            f"{verdict.title}: {who[met.statistic]} meets it ({shown(met.number)} {verdict.unit}), "
            f"{who[other.statistic]} does not ({shown(other.number)})"
        )
    by_key = {verdict.definition: verdict for verdict in verdicts}
    loss, shape = by_key["divergence"].mean, by_key["diversity"].median
    if loss and shape and loss.verdict == MET == shape.verdict:
        mean = by_key["diversity"].mean
        if mean is not None and mean.verdict != MET:
            yield (
                "the mean test loss grows without bound while the typical diversity goes to 0 "
                f"({shown(shape.number)} {by_key['diversity'].unit})"
            )


def _between_definitions(verdicts) -> Iterator[str]:
    """Of the typical chain: a definition that it meets beside one that it does not."""
    typical = {
        verdict.definition: (verdict.median or verdict.mean, verdict.unit)
        for verdict in verdicts
        if verdict.median or verdict.mean
    }
    said = set()
    for met, not_met, words in _PAIRS:
        if met not in typical or not_met not in typical or (met, _group(not_met)) in said:
            continue
        (one, unit), (other, its_unit) = typical[met], typical[not_met]
        if one.verdict == MET and other.verdict == NOT_MET:
            said.add((met, _group(not_met)))
            if not_met == "catastrophic" and other.number < _NEARLY_FLAT:
                words = words.replace(
                    "without a catastrophic test loss", "while the test loss is nearly flat"
                )
            numbers = f"{shown(one.number)} {unit}; {shown(other.number)} {its_unit}"
            yield f"{words} ({numbers})"


def _group(definition):
    return "loss" if definition in ("increase", "catastrophic") else definition

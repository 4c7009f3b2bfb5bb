"""Lead times, directions and rates with known answers, on plain arrays and on a chain's law."""

import math

import numpy as np
import pytest
from scipy import stats

import collapse_jax as cj
from collapse_jax.drivers.trace import Trace
from collapse_jax.drivers.warning.sets import DISAGREEMENT
from collapse_jax.errors import InputError
from collapse_jax.theory import gaussian, lead_times

RNG = np.random.default_rng(4)
CHAINS, LAST, AHEAD = 80, 60, 7


def steps(chains, at, noise):
    """A loss [chain, generation] that jumps from 0 to 10 at the generations `at`."""
    return 10.0 * (np.arange(LAST) >= at[:, None]) + noise * RNG.normal(size=(chains, LAST))


AT = RNG.integers(25, 50, CHAINS)
COLLAPSING = {
    "loss": steps(CHAINS, AT, 0.1),
    "ahead": -steps(CHAINS, AT - AHEAD, 0.1),
    "noise": RNG.normal(size=(CHAINS, LAST)),
}
STEADY = {name: RNG.normal(size=(CHAINS, LAST)) for name in COLLAPSING}
STEADY["loss"] *= 0.1
STEADY["ahead"] *= 0.1


def test_a_metric_that_goes_ahead_by_k_has_lead_k():
    found = cj.early_warning(COLLAPSING, STEADY, loss="loss", threshold=5.0, indicators="level")
    assert found.rises and (found.crossings == AT).all()
    ahead, loss, noise = found["ahead"], found["loss"], found["noise"]
    assert ahead.lead == (AHEAD,) * 3 and loss.lead == (0,) * 3
    assert ahead.direction == "falls" and ahead.curve.area.value == 1.0
    assert ahead.detected.share == 1 and loss.detected.share < 0.2
    # Ten generations ahead nothing is to be seen of it, five ahead everything.
    assert ahead.by_lead[5].value == 1.0
    for area in (ahead.by_lead[10], noise.curve.area, loss.curve.area):
        assert abs(area.value - 0.5) < 4 * area.error
    assert found.earliest()[0].metric == "ahead"
    assert noise.lead.value == -math.inf
    # Clopper and Pearson hold with 95%; at the level of |z| < 4 all three must.
    for alarm in found.alarms:
        law = stats.betabinom(40, 2, 41 - 2)
        assert alarm.promised == pytest.approx(2 / 41)
        z = (alarm.false_alarms.share - 2 / 41) / (law.std() / 40)
        assert abs(z) < 4 and alarm.false_alarms.chains == 40


def test_limits_and_changes_that_are_given():
    given = {"loss": 5.0, "ahead": -5.0}
    found = cj.early_warning(
        COLLAPSING, loss="loss", threshold=5.0, indicators="level", limits=given
    )
    assert [alarm.metric for alarm in found.alarms] == ["loss", "ahead"]
    assert (found["ahead"].leads == AHEAD).all() and (found["loss"].leads == 0).all()
    assert found["ahead"].direction == "falls" and math.isnan(found["ahead"].false_alarms.share)
    up = {name: 100 + values for name, values in COLLAPSING.items()}
    changed = cj.early_warning(
        up, loss="loss", threshold=1.05, relative=True, indicators="level", change=0.05
    )
    assert (changed["ahead"].leads == AHEAD).all() and (changed["loss"].leads == 0).all()
    assert changed["noise"].lead.value == -math.inf


def test_no_relative_change_of_a_first_value_0():
    """Of 0 every change is infinite, and of a metric that stays 0 there is none."""
    loss = np.tile([1.0, 1.0, 1.0, 2.0], (3, 1))
    run = {"loss": loss, "gain": loss - 1, "zero": 0 * loss, "flat": loss**0}
    found = cj.early_warning(run, loss="loss", threshold=1.5, relative=True, change=0.1)
    assert [alarm.metric for alarm in found.alarms] == ["loss", "flat"]
    # The loss itself rings in the generation of its crossing.
    assert found.notes() == [
        "not watched, first value 0: a relative change is undefined: gain, zero",
        "no metric gave a warning before the crossing",
    ]
    half = run | {"gain": np.array([[0.0, 1, 1, 1], [1, 1, 2, 2], [1, 1, 2, 2]])}
    found = cj.early_warning(half, loss="loss", threshold=1.5, relative=True, change=0.1)
    np.testing.assert_array_equal(found["gain"].leads, [np.nan, 1, 1])
    assert len(found.notes()) == 1
    with pytest.raises(InputError, match="first value of every metric is 0"):
        cj.early_warning({"loss": loss - 1}, loss="loss", threshold=0.5, change=0.1)


def test_lead_of_a_gaussian_chain_by_walds_identity():
    """E[lead] d = E[log variance at the alarm - at the crossing], d the drift: exact."""
    size, alarm, threshold, chains = 20, 0.8, 0.3, 4000
    steps = np.log(RNG.chisquare(size - 1, size=(chains, 400)) / (size - 1))
    variance = np.exp(np.cumsum(steps, axis=1))
    found = cj.early_warning(
        {"variance": variance}, loss="variance", threshold=threshold, indicators="level",
        limits={"variance": alarm},
    )  # fmt: skip
    assert not found.rises and np.isfinite(found.crossings).all()
    leads = found["variance"].leads
    at = found.crossings.astype(int)
    rows = np.arange(chains)
    fallen = np.log(variance[rows, (at - leads).astype(int)]) - np.log(variance[rows, at])
    drift = -float(gaussian.expected_log_variance(0, size, ddof=1))
    apart = leads * drift - fallen
    assert abs(apart.mean()) < 4 * apart.std() / math.sqrt(chains)
    # Both levels are overshot by the same law, but for the first steps from 1.
    mean, deviation = lead_times.log_variance_lead(size, alarm, threshold, ddof=1)
    assert leads.mean() == pytest.approx(mean, rel=0.05)
    assert leads.std() == pytest.approx(deviation, rel=0.1)


def test_lead_of_a_counted_chain_by_its_exact_law():
    size, chains = 30, 4000
    counts = RNG.binomial(size, 0.5, chains)
    shares = []
    for _ in range(500):
        shares.append(np.minimum(counts, size - counts) / size)
        counts = RNG.binomial(size, counts / size)
    found = cj.early_warning(
        {"minority": np.array(shares).T}, loss="minority", threshold=0.0, indicators="level",
        limits={"minority": 0.1 + 1e-9}, directions="falls",
    )  # fmt: skip
    mean, deviation = lead_times.fixation_lead(size, 0.5, 0.1)
    assert np.isfinite(found.crossings).all()
    z = (found["minority"].mean_lead.value - mean) / (deviation / math.sqrt(chains))
    assert abs(z) < 4
    assert found["minority"].leads.std() == pytest.approx(deviation, rel=0.1)


def test_critical_slowing_down_is_seen_by_its_indicators_alone():
    """An AR(1) whose coefficient goes from .3 to 1 has one law of levels: scaled to variance 1."""

    def walk(coefficients):
        values, x = [], RNG.normal(size=60)
        for phi in coefficients:
            x = phi * x + math.sqrt(1 - phi**2) * RNG.normal(size=60)
            values.append(x)
        return np.array(values).T

    crossed = np.where(np.arange(200) == 199, 1.0, 0.0) * np.ones((60, 1))
    rising, constant = walk(np.linspace(0.3, 0.99, 200)), walk(np.full(200, 0.3))
    found = cj.early_warning(
        {"loss": crossed, "x": rising}, {"loss": 0 * crossed, "x": constant}, loss="loss",
        threshold=0.5, metrics="x", false_alarm_rate=0.1, window=60,
    )  # fmt: skip
    slow, level = found["x", "autocorrelation"], found["x", "level"]
    assert slow.curve.area.value > 0.95 and slow.lead.low > 20
    assert slow.trend.value > slow.steady_trend.value + 0.3
    assert slow.trend_area.value > 0.9
    assert abs(level.curve.area.value - 0.5) < 0.3 and level.lead.value == -math.inf


def test_steady_chains_that_cross_are_no_steady_chains():
    mixed = {name: np.concatenate([COLLAPSING[name][:5], STEADY[name]]) for name in STEADY}
    found = cj.early_warning(COLLAPSING, mixed, loss="loss", threshold=5.0, indicators="level")
    assert (found.dropped, found.steady) == (5, CHAINS)
    own = cj.early_warning(mixed, loss="loss", threshold=5.0, indicators="level")
    assert own.steady == CHAINS and np.isfinite(own.crossings).sum() == 5
    with pytest.raises(InputError, match="all of whose 80 chains cross"):
        cj.early_warning(mixed, COLLAPSING, loss="loss", threshold=5.0)


def test_by_generation_sees_through_a_common_drift():
    drift = np.linspace(0, 50, LAST)
    runs = [{**run, "ahead": run["ahead"] + drift} for run in (COLLAPSING, STEADY)]
    plain, held = (
        cj.early_warning(
            *runs, loss="loss", threshold=5.0, indicators="level", metrics="ahead",
            directions="falls", by_generation=by,
        )["ahead"]
        for by in (False, True)
    )  # fmt: skip
    assert held.lead == (AHEAD,) * 3 and plain.lead.value == -math.inf


def test_a_limit_asks_for_levels_by_itself():
    found = cj.early_warning(COLLAPSING, loss="loss", threshold=5.0, limits={"ahead": -5.0})
    assert [alarm.indicator for alarm in found.alarms] == ["level"]
    lines = str(found).splitlines()
    assert lines[0] == "loss rises to 5 in 80 of 80 chains; 0 steady chains"
    assert len(lines) == 3 and lines[2].split()[:5] == ["level", "of", "ahead", "(falls)", "7"]


def test_a_window_counts_in_generations():
    every_fifth = [Trace(run, 5 * np.arange(LAST)) for run in (COLLAPSING, STEADY)]
    options = {"loss": "loss", "threshold": 5.0, "indicators": "variance", "metrics": "noise"}
    assert cj.early_warning(*every_fifth, **options, window=60).window == 60
    # A quarter of 60 records.
    assert cj.early_warning(*every_fifth, **options).window == 5 * 15


def test_a_metric_that_steady_chains_lack_never_rings():
    lacking = {**STEADY, "ahead": np.full_like(STEADY["ahead"], np.nan)}
    options = {"loss": "loss", "threshold": 5.0, "indicators": "level"}
    alarm = cj.early_warning(COLLAPSING, lacking, **options)["ahead"]
    assert math.isnan(alarm.limit) and alarm.lead.value == -math.inf
    assert alarm.false_alarms.share == 0


def test_limits_are_tested_on_other_chains():
    """Odd steady chains ring at every limit that even ones set."""
    odd = STEADY["noise"] + 100.0 * (np.arange(CHAINS) % 2)[:, None]
    options = {"loss": "loss", "threshold": 5.0, "indicators": "level", "directions": "rises"}
    alarm = cj.early_warning(COLLAPSING, {**STEADY, "noise": odd}, **options)["noise"]
    assert alarm.false_alarms[:1] == (1.0,) and alarm.limit < 10


def test_sets_of_chains_disagree():
    vectors = RNG.normal(size=(6, 4, 3))
    runs = {"loss": np.array([[0.0, 0, 0, 9]] * 6), "vector": vectors}
    found = cj.early_warning(
        runs, loss="loss", threshold=4.0, set_size=3, indicators="level",
        limits={DISAGREEMENT + "vector": 0.0}, directions="rises",
    )  # fmt: skip
    assert found.crossings.tolist() == [3, 3]
    assert found[DISAGREEMENT + "vector"].leads.tolist() == [3, 3]
    pairs = [np.sum((vectors[i] - vectors[j]) ** 2, -1) for i in range(3) for j in range(i)]
    from collapse_jax.drivers.warning.sets import disagreement

    np.testing.assert_allclose(disagreement(vectors[:3]) ** 2, np.mean(pairs, axis=0) / 2)


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("loss is 'los', .*did you mean 'loss'", {"loss": "los"}),
        ("threshold is 20, which no chain .* crosses by generation 59", {"threshold": 20}),
        ("indicators is 'levels'", {"indicators": "levels"}),
        ("false_alarm_rate is 0.01; 40 steady chains set the limits", {"false_alarm_rate": 0.01}),
        ("limits and change are given", {"limits": {"loss": 1}, "change": 0.1}),
        ("change is given, which applies only to the level", {"change": 0.1,
                                                            "indicators": "variance"}),
        ("window is 3; of 60 records", {"window": 3}),
        ("window is 9, which only the indicators", {"window": 9, "indicators": "level"}),
        ("directions names 'nose'.*did you mean 'noise'", {"directions": {"nose": "falls"}}),
        ("directions is 'down'; it must be one of rises, falls, either", {"directions": "down"}),
        ("set_size is 81; the dict has 80 chains", {"set_size": 81}),
        ("lead is 0", {"lead": 0}),
        ("lead is 60, but the chains have 59 generations", {"lead": 60}),
        ("relative is True, and loss of the dict begins at -", {"relative": True}),
        ("by_generation is True, which applies only", {"by_generation": True, "change": 1.0,
                                               "indicators": "level"}),
    ],
)  # fmt: skip
def test_wrong_options(line, options):
    with pytest.raises(InputError, match=line):
        cj.early_warning(COLLAPSING, STEADY, **{"loss": "loss", "threshold": 5.0, **options})


def test_runs_that_do_not_fit():
    with pytest.raises(InputError, match="steady is not given, and every chain crosses"):
        cj.early_warning(COLLAPSING, loss="loss", threshold=5.0)
    few = {name: values[:5] for name, values in STEADY.items()}
    options = {"false_alarm_rate": 0.4, "by_generation": True, "threshold": 5.0, "loss": "loss"}
    with pytest.raises(InputError, match=r"needs at least 6 steady chains .* there are 5"):
        cj.early_warning(COLLAPSING, few, **options)
    short = {name: values[:, :1] for name, values in STEADY.items()}
    with pytest.raises(InputError, match="recorded 1 of the same generations"):
        cj.early_warning(COLLAPSING, short, loss="loss", threshold=5.0)
    with pytest.raises(InputError, match="at which loss of the dict begins"):
        cj.early_warning({"loss": np.array([[1.0, 2.0]])}, loss="loss", threshold=1.0)


def test_metrics_that_are_not_watched_are_named():
    vectors = np.zeros((CHAINS, LAST, 2))
    runs = (
        {**COLLAPSING, "extra": COLLAPSING["noise"], "mean": vectors},
        {**STEADY, "mean": vectors},
    )
    options = {"loss": "loss", "threshold": 5.0, "indicators": "level"}
    found = cj.early_warning(*runs, **options)
    steady_lacks, arrays = "as the steady run did not record them", "as they are arrays"
    assert found.left_out == {"extra": steady_lacks, "mean": arrays}
    assert str(found).endswith(f"not watched, {steady_lacks}: extra\nnot watched, {arrays}: mean")
    assert not cj.early_warning(*runs, metrics=["noise"], **options).left_out


def test_a_metric_that_is_recorded_too_late_has_no_lead():
    late = np.array([[np.nan, np.nan, np.nan, 0, 9], [np.nan, 0, 9, 9, 9]])
    runs = {"loss": np.array([[0.0, 0, 1, 1, 1], [0, 0, 0, 0, 1]]), "late": late}
    options = {"limits": {"late": 5.0}, "directions": "rises", "indicators": "level"}
    alarm = cj.early_warning(runs, loss="loss", threshold=0.5, **options)["late"]
    np.testing.assert_array_equal(alarm.leads, [np.nan, 2])
    assert alarm.detected.chains == 1 and alarm.lead.value == 2

"""More generations, chains and metrics of a trace: what one longer call gives, bit for bit."""

import pickle

import jax
import numpy as np
import pytest

import collapse_jax as cj

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(3)


def process(size=6):
    return cj.generational_process(
        cj.estimators.exponential(),
        cj.sources.population(*cj.families()["exponential"].example()),
        cj.workflows.replace(),
        sample_size=size,
    )


PROCESS = process()
OPTIONS = {"metrics": ("mean",), "chunk": 3}


@pytest.fixture(scope="module")
def long():
    return cj.simulate(PROCESS, KEY, generations=9, chains=5, **OPTIONS)


@pytest.fixture(scope="module")
def short():
    return cj.simulate(PROCESS, KEY, generations=4, chains=3, **OPTIONS)


def assert_same(one, other):
    assert list(one) == list(other)
    np.testing.assert_array_equal(one.generations, other.generations)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def test_more_generations_and_chains(short, long):
    """In one step or several, of a process made anew, and where the states were not kept."""
    assert_same(cj.simulate(PROCESS, KEY, generations=9, chains=5, after=short, **OPTIONS), long)
    step = cj.simulate(process(), KEY, generations=6, after=short, chunk=3)
    assert step["mean"].shape == (3, 7)
    more = cj.simulate(PROCESS, KEY, generations=6, chains=5, after=step, chunk=3)
    assert_same(cj.simulate(PROCESS, KEY, generations=9, after=more, chunk=3), long)
    forgotten = cj.Trace(dict(short), short.generations, short.origin._replace(copy_state=None))
    assert_same(cj.simulate(PROCESS, KEY, generations=9, chains=5, after=forgotten), long)
    assert_same(cj.simulate(PROCESS, KEY, generations=4, after=short), short)


def test_a_metric_that_a_trace_does_not_hold(short):
    says = r"holds no metric 'maen' \(did you mean 'mean'\?\); it holds mean$"
    for kind in (KeyError, cj.InputError):
        with pytest.raises(kind, match=says):
            short["maen"]
    assert short.get("maen") is None and "maen" not in short and "mean" in short


def test_after_an_interrupt(long):
    def stop(generation):
        if generation > 2:
            raise KeyboardInterrupt

    with pytest.raises(cj.Interrupted) as stopped:
        cj.simulate(PROCESS, KEY, generations=9, chains=5, progress=stop, **OPTIONS)
    partial = stopped.value.trace
    assert 2 < partial.generations[-1] < 9
    assert_same(cj.simulate(PROCESS, KEY, generations=9, after=partial, chunk=3), long)


def test_what_was_recorded_stays(long):
    """A stride that the trace has is one longer call's; of "log" it keeps its own."""
    stride = cj.simulate(PROCESS, KEY, generations=4, chains=5, record=3, **OPTIONS)
    assert stride.generations.tolist() == [0, 3, 4]
    longer = cj.simulate(PROCESS, KEY, generations=9, record=3, after=stride, chunk=3)
    assert longer.generations.tolist() == [0, 3, 6, 9]
    np.testing.assert_array_equal(longer["mean"], long["mean"][:, ::3])
    logs = cj.simulate(PROCESS, KEY, generations=4, chains=5, record="log", **OPTIONS)
    logs = cj.simulate(PROCESS, KEY, generations=9, record="log", after=logs, chunk=3)
    np.testing.assert_array_equal(logs["mean"], long["mean"][:, logs.generations])
    with pytest.raises(cj.InputError, match="record asks for generation 1, which the trace"):
        cj.simulate(PROCESS, KEY, generations=9, after=stride)


def test_new_metrics_of_a_trace(short):
    """Those of the same chains, to the rounding of another program; the old ones stay."""
    both = cj.simulate(PROCESS, KEY, generations=4, chains=3, metrics=("mean", "rate"), chunk=3)
    more = cj.measure(short, ["rate", "mean"])
    assert list(more) == ["mean", "rate"] and cj.measure(more, "rate") is more
    np.testing.assert_array_equal(more["mean"], short["mean"])
    np.testing.assert_allclose(more["rate"], both["rate"], rtol=2e-5, atol=1e-6)
    longer = cj.simulate(PROCESS, KEY, generations=5, after=more, chunk=3)
    assert longer["rate"].shape == (3, 6) and np.isfinite(longer["rate"]).all()


def test_another_simulation_is_refused_in_one_line(short):
    def other(state):
        return state.params

    pickled = pickle.loads(pickle.dumps(short))
    np.testing.assert_array_equal(pickled["mean"], short["mean"])
    for change, says in (
        ({"process": process(7)}, "sample_size is 6 there, 7 here"),
        ({"key": jax.random.key(4)}, "the key is threefry2x32 [0, 3] there"),
        ({"metrics": ("rate",)}, "metrics are mean in the trace of after=, and rate here"),
        ({"generations": 2}, "generations is 2, but the trace of after= goes to 4"),
        ({"chains": 2}, "chains is 2, but the trace of after= has 3; give at least that"),
        ({"after": pickled}, "it was pickled, or does not come from cj.simulate"),
        ({"after": 3}, "after is 3; it must be what cj.simulate gives"),
        ({"chains": None}, "chains is None"),
    ):
        given = {"process": PROCESS, "key": KEY, "generations": 9, "after": short} | change
        with pytest.raises(cj.InputError) as caught:
            cj.simulate(given.pop("process"), given.pop("key"), **given)
        assert says in str(caught.value) and "\n" not in str(caught.value), caught.value
    for metrics, says in ((["speed"], "'speed'"), ([other, other], "needs a unique name")):
        with pytest.raises(cj.InputError, match=says):
            cj.measure(short, metrics)


def test_an_estimate(long):
    """Memory is what is counted before a run, records are what it returns."""
    found = cj.estimate(PROCESS, chains=5, generations=9, metrics=("mean",), chunk=3, seconds=0.0)
    assert found.recorded == 10 and found.records == long["mean"].nbytes
    assert found.memory > found.records and 0 <= found.compile_seconds <= found.seconds
    text = repr(found)
    assert text.startswith("exponential") and "5 chains, 9 generations" in text
    assert [line.split()[0] for line in text.splitlines()[1:]] == ["memory", "time", "records"]
    summary = cj.estimate(
        PROCESS, chains=5, generations=9, metrics=("mean",), chunk=3, keep="summary", seconds=0.0
    )
    assert summary.records == 10 * 8 * 7
    with pytest.raises(cj.InputError, match="keep is 'all'"):
        cj.estimate(PROCESS, chains=5, generations=9, keep="all")


def test_new_metrics_of_a_run_folder(tmp_path):
    """The states are on disk, the process is not."""
    folder = tmp_path / "run"
    cj.run(PROCESS, KEY, generations=1, chains=1, folder=folder, metrics=("mean",))
    with pytest.raises(cj.InputError, match="give the process= and key= of that run"):
        cj.measure(folder, ["rate"])
    with pytest.raises(cj.InputError, match="holds a run of another process"):
        cj.measure(folder, ["rate"], process=process(7), key=KEY)
    trace = cj.measure(folder, ["rate"], process=PROCESS, key=KEY)
    np.testing.assert_allclose(trace["rate"] * trace["mean"], 1, rtol=2e-5)
    with pytest.raises(cj.InputError, match="is not a run folder"):
        cj.measure(tmp_path / "none", ["rate"])


def summary_of(generations, **options):
    given = {"metrics": ("mean", "variance"), "chunk": 3, "quantiles": (0.1, 0.5)}
    return cj.simulate_summary(PROCESS, KEY, generations=generations, **given | options)


def assert_same_statistics(one, other):
    np.testing.assert_array_equal(one.generations, other.generations)
    for kind in ("mean", "std", "quantile"):
        assert getattr(one, kind).keys() == getattr(other, kind).keys()
        for name, values in getattr(one, kind).items():
            np.testing.assert_array_equal(values, getattr(other, kind)[name])


def test_more_generations_of_a_summary():
    """Bit for bit, in one step or several, and of chains whose states were not kept."""
    long, short = summary_of(9, chains=333), summary_of(4, chains=333)
    assert_same_statistics(summary_of(9, after=short), long)
    default = cj.simulate_summary(process(), KEY, generations=6, after=short, chunk=2)
    assert default.quantiles == (0.1, 0.5) and set(default.std) == {"mean", "variance"}
    assert_same_statistics(summary_of(9, after=default, chains=333), long)
    short.origin = short.origin._replace(copy_state=None)
    assert_same_statistics(summary_of(9, after=short), long)
    assert_same_statistics(summary_of(4, after=short), short)


def test_a_summary_goes_on_after_an_interrupt():
    def stop(generation):
        if generation > 5:
            raise KeyboardInterrupt

    first = summary_of(3, chains=7)
    with pytest.raises(cj.Interrupted, match=r"`summary` has .* up to generation 6") as stopped:
        summary_of(9, after=first, progress=stop)
    partial = stopped.value.summary
    assert partial.generations.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert_same_statistics(summary_of(9, after=partial), summary_of(9, chains=7))


def test_what_a_summary_does_not_go_on_to():
    short = summary_of(4, chains=7)
    copied = pickle.loads(pickle.dumps(short))
    assert_same_statistics(copied, short)
    for options, message in (
        ({"chains": 9}, "chains is 9, but the summary of after= has 7 chains.*chains=7"),
        ({"quantiles": (0.5,)}, r"quantiles is \(0.5,\), but the summary of after= has \(0.1, 0.5"),
        ({"metrics": ("mean",)}, "metrics are mean, variance in the summary of after=, and mean h"),
        ({"generations": 3}, "generations is 3, but the summary of after= goes to 4"),
        ({"after": copied}, "the summary of after= has no process"),
        ({"after": cj.simulate(PROCESS, KEY, generations=1)}, "what cj.simulate_summary gives"),
        ({"after": None}, "chains is not given"),
    ):
        given = {"generations": 9, "after": short} | options
        with pytest.raises(cj.InputError, match=message):
            summary_of(**given)
    with pytest.raises(cj.InputError, match=r"summary of after= is of another simulation \(.*size"):
        cj.simulate_summary(
            process(5), KEY, generations=9, after=short, metrics=("mean", "variance")
        )

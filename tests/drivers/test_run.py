"""The host driver: the numbers of `simulate`, files, going on, longer runs, and bad input."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collapse_jax.core import workflows
from collapse_jax.core.factory import estimator
from collapse_jax.core.process import generational_process
from collapse_jax.core.types import FitInfo
from collapse_jax.drivers.run import Watcher, run
from collapse_jax.drivers.simulate import simulate
from collapse_jax.errors import InputError
from collapse_jax.estimators import sources
from collapse_jax.estimators.categorical import categorical
from collapse_jax.estimators.gaussian import gaussian
from collapse_jax.runs.folder import RunFolder

KEY = jax.random.key(3)
METRICS = ("mean", "variance")
WORKFLOWS = {
    "replace": workflows.replace(),
    "accumulate": workflows.accumulate(),
    "accumulate_subsample": workflows.accumulate_subsample(),
    "mix": workflows.mix(0.5, 0.3, 0.2),
}


@functools.cache
def process_of(family, workflow, sample_size=6):
    made, source = {
        "gaussian": (gaussian(1), sources.normal([1.0], [[2.0]])),
        "categorical": (categorical(3), sources.categorical([0.5, 0.3, 0.2])),
    }[family]
    return generational_process(made, source, WORKFLOWS[workflow], sample_size=sample_size)


def assert_same(found, wanted, exact):
    for name in METRICS:
        if exact:
            np.testing.assert_array_equal(found[name], wanted[name])
        else:
            # `simulate` is one program of all chains; XLA fuses float32 operations differently in
            # it
            np.testing.assert_allclose(found[name], wanted[name], rtol=2e-5, atol=1e-6)


def assert_drivers_agree(process, folder, generations=3):
    found = run(process, KEY, generations=generations, chains=2, folder=folder, metrics=METRICS)
    wanted = simulate(process, KEY, generations=generations, chains=2, metrics=METRICS)
    assert found["mean"].shape == (2, generations + 1) == wanted["mean"].shape
    assert len(np.unique(found["mean"])) > generations
    assert_same(found, wanted, exact=False)


@pytest.mark.parametrize(
    ("family", "workflow"),
    [
        pytest.param(family, workflow, marks=() if place % 2 == number else pytest.mark.slow)
        for number, family in enumerate(("gaussian", "categorical"))
        for place, workflow in enumerate(WORKFLOWS)
    ],
)
def test_both_drivers_give_the_same_numbers(family, workflow, tmp_path):
    # 40 points: six in three categories give so few different means that two chains may well share
    # them
    assert_drivers_agree(process_of(family, workflow, sample_size=40), tmp_path)


@pytest.mark.parametrize("workflow", ["replace", "accumulate_subsample", "mix"])
def test_a_newcomer_in_both_drivers_on_a_fixed_set(workflow, laplace, tmp_path):
    real = np.random.default_rng(0).laplace(2.0, size=9).astype(np.float32)
    process = generational_process(
        laplace, sources.dataset(real), WORKFLOWS[workflow], sample_size=9
    )
    assert_drivers_agree(process, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    firsts = [row["mean"] for row in rows if row["generation"] == 0]
    # all nine rows in any order: one and the same first model
    assert np.ptp(firsts) < 1e-5
    assert (
        abs(firsts[0] - np.median(real))
        < 4 * np.sqrt(2) * np.mean(np.abs(real - np.median(real))) / 64
    )


@pytest.mark.parametrize("workflow", ["replace", "accumulate_subsample"])
def test_a_longer_run_in_the_same_folder_goes_on(workflow, tmp_path):
    process = process_of("gaussian", workflow)
    whole = run(process, KEY, generations=5, folder=tmp_path / "whole", metrics=METRICS)
    run(process, KEY, generations=2, folder=tmp_path / "parts", metrics=METRICS)
    began = []
    watcher = Watcher(begin=lambda chain, generation: began.append(generation))
    parts = run(
        process, KEY, generations=5, folder=tmp_path / "parts", metrics=METRICS, watcher=watcher
    )
    assert began == [3, 4, 5]
    assert_same(parts, whole, exact=True)


class Stopped(Exception):
    pass


def stop_at(chain, generation):
    def begin(*where):
        if where == (chain, generation):
            raise Stopped

    return Watcher(begin=begin)


def files_of(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    results = RunFolder(folder).results()
    return [
        {name: value for name, value in row.items() if name != "seconds"} for row in rows
    ], results


def test_a_stopped_run_goes_on_where_it_was(tmp_path):
    process = process_of("categorical", "mix")
    begun, ended, published = [], [], []

    def observe(first, state, info):
        assert first.generation == 0
        return {
            "distance": jnp.abs(state.params.probabilities - first.params.probabilities).sum(),
            "counts": info.data.counts,
        }

    arguments = {"generations": 3, "chains": 2, "metrics": METRICS, "observe": observe}
    whole = run(process, KEY, folder=tmp_path / "whole", **arguments)
    with pytest.raises(Stopped):
        run(process, KEY, folder=tmp_path / "parts", watcher=stop_at(1, 2), **arguments)
    watcher = Watcher(
        lambda *where: begun.append(where),
        lambda chain, generation, row: ended.append((chain, generation)),
    )
    publish = lambda chain, generation, arrays: published.append((chain, generation, set(arrays)))  # noqa: E731
    parts = run(
        process, KEY, folder=tmp_path / "parts", watcher=watcher, publish=publish, **arguments
    )
    assert begun == [(1, 2), (1, 3)]
    assert ended == [(chain, generation) for chain in range(2) for generation in range(4)]
    assert published == [(1, 2, {"counts"}), (1, 3, {"counts"})]
    assert_same(parts, whole, exact=True)
    rows, results = files_of(tmp_path / "parts")
    wanted_rows, wanted = files_of(tmp_path / "whole")
    assert rows == wanted_rows and [(row["chain"], row["generation"]) for row in rows] == ended
    assert results.equals(wanted) and results["counts"].shape == (2, 4, 3)
    np.testing.assert_array_equal(results["distance"][:, 0], 0)
    np.testing.assert_array_equal(results["counts"].sum("counts_0"), 6)


@pytest.mark.parametrize("lost", ["last row", "results.nc"])
def test_records_lost_after_the_last_save_are_written_again(lost, tmp_path):
    observe = lambda first, state, info: {"counts": info.data.counts}  # noqa: E731
    arguments = {"generations": 2, "folder": tmp_path, "metrics": METRICS, "observe": observe}
    process = process_of("categorical", "mix")
    run(process, KEY, **arguments)
    before = files_of(tmp_path)
    if lost == "results.nc":
        (tmp_path / "results.nc").unlink()
    else:
        rows = (tmp_path / "metrics.jsonl").read_text().splitlines(keepends=True)
        (tmp_path / "metrics.jsonl").write_text("".join(rows[:-1]))
    published, begun = [], []
    watcher = Watcher(begin=lambda *where: begun.append(where))
    run(
        process,
        KEY,
        publish=lambda chain, generation, arrays: published.append(generation),
        watcher=watcher,
        **arguments,
    )
    assert published == ([2] if lost == "last row" else [0, 1, 2]) and begun == []
    after = files_of(tmp_path)
    assert after[0] == before[0] and after[1].equals(before[1])


def test_a_shorter_request_gives_what_was_asked_for(tmp_path):
    process = process_of("categorical", "mix")
    long = run(process, KEY, generations=2, chains=2, folder=tmp_path, metrics=METRICS)
    short = run(process, KEY, generations=1, folder=tmp_path, metrics=METRICS)
    assert short["mean"].shape == (1, 2)
    np.testing.assert_array_equal(short["mean"], long["mean"][:1, :2])
    assert len(files_of(tmp_path)[0]) == 6, "the other records are kept"


def test_arrays_that_are_only_published_stay_out_of_the_results(tmp_path):
    seen = []
    found = run(
        process_of("categorical", "replace"),
        KEY,
        generations=1,
        folder=tmp_path,
        observe=lambda first, state, info: {
            "counts": info.data.counts,
            "total": info.data.counts.sum(),
        },
        publish=lambda chain, generation, arrays: seen.append(arrays["counts"].sum()),
        published_only=("counts",),
    )
    assert seen == [6, 6] and set(found) == {"total"}


def test_an_estimator_on_the_host_runs_and_goes_on(tmp_path):
    def fit(key, params, data):
        return np.asarray(np.mean(data.x), np.float32), FitInfo.exact()

    def sample(key, params, n):
        return params + np.asarray(jax.random.normal(key, (n,)))

    def mean(state):
        return state.params

    host = estimator(fit, sample, init=lambda key, data: np.zeros((), np.float32), traceable=False)
    process = generational_process(
        host, sources.dataset(np.arange(8.0)), workflows.accumulate_subsample(), sample_size=5
    )
    whole = run(process, KEY, generations=3, folder=tmp_path / "whole", metrics=mean)
    with pytest.raises(Stopped):
        run(
            process,
            KEY,
            generations=3,
            folder=tmp_path / "parts",
            metrics=mean,
            watcher=stop_at(0, 2),
        )
    parts = run(process, KEY, generations=3, folder=tmp_path / "parts", metrics=mean)
    np.testing.assert_array_equal(parts["mean"], whole["mean"])
    assert len(np.unique(whole["mean"])) == 4


def test_a_folder_of_another_family_is_refused(tmp_path):
    run(process_of("categorical", "replace"), KEY, generations=0, folder=tmp_path)
    with pytest.raises(
        InputError, match=r"the family is categorical\(.*\) there, gaussian\(.*\) here"
    ):
        run(process_of("gaussian", "replace"), KEY, generations=1, folder=tmp_path)
    # A folder of an older version does not say what it is made of; its states do.
    (tmp_path / "made_of.json").unlink()
    with pytest.raises(
        InputError,
        match=r"generation 0 has another structure; these differ: "
        r".*params\.categories.*params\.weights",
    ) as error:
        run(process_of("gaussian", "replace"), KEY, generations=1, folder=tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"generations": -1}, ["generations", "-1"]),
        ({"chains": 0}, ["chains", "0"]),
        ({"states": "newest"}, ["states", "'newest'", "'ends'"]),
        ({"metrics": ("support", "skewness")}, ["'skewness'", "heterozygosity"]),
    ],
)
def test_bad_input_is_named_before_any_work(change, words, tmp_path):
    with pytest.raises(InputError) as error:
        run(
            process_of("categorical", "replace"),
            KEY,
            **({"generations": 1, "folder": tmp_path / "new"} | change),
        )
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in words), str(error.value)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("stop", [(0, 1), (0, 3), (1, 2)])
@pytest.mark.slow
def test_states_of_the_ends_alone_are_enough_to_go_on(stop, tmp_path):
    process = process_of("categorical", "mix")
    whole = run(process, KEY, generations=4, chains=2, folder=tmp_path / "whole", metrics=METRICS)
    arguments = {"folder": tmp_path / "ends", "metrics": METRICS, "states": "ends"}
    with pytest.raises(Stopped):
        run(process, KEY, generations=3, chains=2, watcher=stop_at(*stop), **arguments)
    run(process, KEY, generations=3, chains=2, **arguments)
    begun = []
    watcher = Watcher(begin=lambda *where: begun.append(where))
    found = run(process, KEY, generations=4, chains=2, watcher=watcher, **arguments)
    assert begun == [(0, 4), (1, 4)]
    assert_same(found, whole, exact=True)
    kept = [
        [
            (tmp_path / "ends" / "checkpoints" / f"chain_{c}" / str(g) / "state").exists()
            for g in range(5)
        ]
        for c in range(2)
    ]
    assert kept == [[True, False, False, False, True]] * 2
    rows, results = files_of(tmp_path / "ends")
    wanted_rows, wanted = files_of(tmp_path / "whole")
    assert rows == wanted_rows and results.equals(wanted)

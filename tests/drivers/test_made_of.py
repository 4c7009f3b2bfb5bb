"""A run folder knows what it is made of: another process is refused, and the same one goes on."""

import functools
import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collapse_jax.core import curation, workflows
from collapse_jax.core.factory import estimator
from collapse_jax.core.process import generational_process
from collapse_jax.core.types import FitInfo
from collapse_jax.drivers.run import Watcher, run
from collapse_jax.errors import InputError
from collapse_jax.estimators import sources
from collapse_jax.estimators.gaussian import gaussian

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(3)
DATA = np.arange(8.0, dtype=np.float32)
SCALE = 1.0


def shift(x):
    return x * SCALE


def own(bias=0.0, by=lambda x: x, widths=(1, 2), numpy_bias=None):
    """A family of the user's: host functions, so that nothing is compiled."""

    def fit(key, params, data):
        """Any docstring."""
        added = 0.0 if numpy_bias is None else numpy_bias[0]
        return np.float32(by(np.mean(data.x)) + bias + sum(widths) + shift(1.0) + added), (
            FitInfo.exact()
        )

    def sample(key, params, n, spread=1.0):
        return params + np.asarray(jax.random.normal(key, (n,))) * np.float32(spread)

    def init(key, data):
        return np.zeros((), np.float32)

    return estimator(fit, sample, init=init, traceable=False)


def of(family=None, source=None, workflow=None, sample_size=4, **rest):
    return generational_process(
        family or own(),
        source or sources.dataset(DATA),
        workflow or workflows.replace(),
        sample_size=sample_size,
        **rest,
    )


def mean(state):
    return state.params


def greatest(x):
    return x.reshape(len(x))


def least(x):
    return -x.reshape(len(x))


def once(process, folder, **changes):
    said = []
    arguments = {"generations": 1, "key": KEY, "watcher": Watcher(say=said.append)} | changes
    trace = run(process, folder=folder, **arguments)
    assert said == []
    return trace


def contents_of(folder):
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path: path.read_bytes() for path in files}


def refused(process, folder, **changes):
    before = contents_of(folder)
    with pytest.raises(InputError) as error:
        once(process, folder, **changes)
    assert (
        contents_of(folder) == before
        and "\n" not in str(error.value)
        and str(folder) in str(error.value)
    )
    return str(error.value)


def best_of(reward):
    return curation.best_of(2, reward)(workflows.replace())


# name: (the process that made the folder, another one, words of the line that refuses it)
OTHERS = {
    "size": (of, lambda: of(sample_size=5), "sample_size is 4 there, 5 here in generation 0"),
    "schedule": (
        lambda: of(sample_size=lambda g: 4 + g),
        lambda: of(sample_size=lambda g: 4 + 2 * g),
        "sample_size is 5 there, 6 here in generation 1",
    ),
    "a number became a schedule": (
        of,
        lambda: of(sample_size=lambda g: 4 + g),
        "sample_size is 4 there, 5 here in generation 1",
    ),
    "family": (of, lambda: of(family=own(bias=1.0)), "the family has"),
    "default of an argument": (of, lambda: of(family=_with_default()), "the family has"),
    "code": (of, lambda: of(family=own(by=lambda x: x + 1)), "the family has"),
    "a tuple": (of, lambda: of(family=own(widths=(2, 3))), "the family has"),
    "a list": (
        lambda: of(family=own(widths=[1, 2])),
        lambda: of(family=own(widths=[1, 3])),
        "the family has another family.fit.fit.widths",
    ),
    "an array": (
        lambda: of(family=own(numpy_bias=np.zeros(1))),
        lambda: of(family=own(numpy_bias=np.ones(1))),
        "numpy_bias",
    ),
    "workflow": (
        of,
        lambda: of(workflow=workflows.accumulate_subsample()),
        "the workflow is replace there, accumulate_subsample here",
    ),
    "shares": (
        lambda: of(workflow=workflows.mix(0.5, 0.25, 0.25, random_counts=False)),
        lambda: of(workflow=workflows.mix(0.25, 0.25, 0.5, random_counts=False)),
        "the workflow is mix(0.5, 0.25, 0.25) there, mix(0.25, 0.25, 0.5) here",
    ),
    "data": (of, lambda: of(source=sources.dataset(DATA + 1)), "the real data has other values"),
    "one value": (
        of,
        lambda: of(source=sources.dataset(np.where(DATA == 7, 7.0000005, DATA))),
        "the real data has other values",
    ),
    "order of the data": (
        of,
        lambda: of(source=sources.dataset(DATA[::-1])),
        "the real data has other values",
    ),
    "more data": (
        of,
        lambda: of(source=sources.dataset(np.arange(9.0))),
        "the real data is a data set of 8 points there, a data set of 9 points here",
    ),
    "remember_first": (of, lambda: of(remember_first=True), "remember_first is False there, True"),
}


def _with_default():
    family = own()

    def sample(key, params, n, spread=2.0):
        return params + np.asarray(jax.random.normal(key, (n,))) * np.float32(spread)

    return family._replace(sample=sample)


@pytest.mark.parametrize("name", OTHERS)
def test_another_process_is_refused_and_named(name, tmp_path):
    made, other, words = OTHERS[name]
    first = once(made(), tmp_path, metrics=mean)
    assert words in refused(other(), tmp_path)
    # The same, made anew by the same code, and longer, goes on.
    longer = once(made(), tmp_path, metrics=mean, generations=2)
    np.testing.assert_array_equal(longer["mean"][:, :2], first["mean"])


def test_a_global_of_the_users_code_counts(tmp_path, monkeypatch):
    once(of(), tmp_path)
    monkeypatch.setattr(sys.modules[__name__], "SCALE", 2.0)
    assert "the family has" in refused(of(), tmp_path)


# Of a family that JAX compiles: name -> (made, another, words).
TRACED = {
    "mean": ({"source": sources.normal(0.0, 1.0)}, {"source": sources.normal(0.5, 1.0)}, "other v"),
    "ddof": ({"family": gaussian(1)}, {"family": gaussian(1, ddof=0)}, "ddof=1"),
    "reward": ({"workflow": best_of(greatest)}, {"workflow": best_of(least)}, "the workflow has"),
    "k": (
        {"workflow": best_of(greatest)},
        {"workflow": curation.best_of(3, greatest)(workflows.replace())},
        "the workflow",
    ),
}


@pytest.mark.parametrize("name", TRACED)
def test_another_process_of_a_compiled_family(name, tmp_path):
    base = {"family": gaussian(1), "source": sources.normal(0.0, 1.0)}
    made, other, words = TRACED[name]
    once(of(**base | made), tmp_path, generations=0)
    assert words in refused(of(**base | other), tmp_path, generations=0)
    once(of(**base | made), tmp_path, generations=0)


def test_a_schedule_is_its_values_up_to_where_both_know_them(tmp_path):
    once(of(sample_size=lambda g: 4 if g < 2 else 5), tmp_path, generations=2)
    once(of(sample_size=lambda g: [4, 4, 5, 6][int(g)]), tmp_path, generations=3)
    text = refused(of(sample_size=lambda g: 4 if g < 2 else 5), tmp_path, generations=3)
    assert "sample_size is 6 there, 5 here in generation 3" in text
    once(of(sample_size=4), tmp_path, generations=1)


def test_another_key_is_refused(tmp_path):
    once(of(), tmp_path)
    assert "the key is threefry2x32 [0, 3] there" in refused(of(), tmp_path, key=jax.random.key(4))
    other = jax.random.key(3, impl="rbg")
    assert "there, rbg [" in refused(of(), tmp_path, key=other)


ENVIRONMENTS = {
    "jax_enable_x64": True,
    "jax_threefry_partitionable": not jax.config.jax_threefry_partitionable,
    "jax_default_matmul_precision": "highest",
    "jax_default_prng_impl": "rbg",
    "jax_random_seed_offset": 5,
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_options_of_jax_that_change_numbers_are_refused(name, tmp_path):
    once(of(), tmp_path)
    before = getattr(jax.config, name)
    jax.config.update(name, ENVIRONMENTS[name])
    try:
        text = refused(of(), tmp_path)
    finally:
        jax.config.update(name, before)
    assert f"was made with {name} = {before!r}, and here it is {ENVIRONMENTS[name]!r}" in text
    once(of(), tmp_path)


def test_what_the_run_itself_changes_is_no_part_of_the_process(tmp_path):
    """A host family that keeps a list and an array of its own, in one session and in the next."""

    def made():
        calls, buffer = [], np.zeros(3)

        def fit(key, params, data):
            calls.append(len(calls))
            buffer[:] += 1
            return np.float32(np.mean(data.x)), FitInfo.exact()

        def sample(key, params, n):
            return params + np.asarray(jax.random.normal(key, (n,)))

        def init(key, data):
            return np.zeros((), np.float32)

        return of(family=estimator(fit, sample, init=init, traceable=False))

    process = made()
    once(process, tmp_path)
    once(process, tmp_path, generations=2)
    once(made(), tmp_path, generations=3)


def test_a_metric_under_the_name_of_another_is_refused(tmp_path):
    once(of(), tmp_path, metrics=mean)

    def other(state):
        return state.params + 1

    other.__name__ = "mean"
    assert "another function as metric 'mean'" in refused(of(), tmp_path, metrics=other)


def test_the_folder_of_a_command_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"command": "simulate"}')
    assert "contains the run of a command (config.json)" in refused(of(), tmp_path)


SESSION = """
import sys
sys.path[:0] = sys.argv[1:3]
import test_made_of as here
from collapse_jax.errors import InputError
for name in sys.argv[4:]:
    here.once(here.OTHERS[name][0](), here.pathlib.Path(sys.argv[3]) / name)
    try:
        here.once(here.OTHERS[name][1](), here.pathlib.Path(sys.argv[3]) / name)
    except InputError:
        continue
    print("taken", name)
print("done")
"""


def test_the_same_code_in_another_session_is_the_same_process(root, tmp_path):
    """With other hashes of text, and compiled anew without pytest's rewriting of asserts."""
    names = ["size", "code", "a list", "data"]
    here = str(pathlib.Path(__file__).parent)
    command = [sys.executable, "-c", SESSION, str(root), here, str(tmp_path), *names]
    for seed in ("1", "2"):
        done = subprocess.run(
            command,
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.stdout == "done\n", done.stdout + done.stderr


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"process": 3}',
        '{"process": {}}',
        '{"process": {"key": [], "sizes": [[]], "parts": null}}',
        "[" * 100_000,
        '{"process": ' + '{"a": ' * 9000 + "1" + "}" * 9001,
        '{"process": {"sizes": [1e400, [[0, NaN]]], "key": 1}}',
    ],
)
def test_an_edited_description_is_one_line(text, tmp_path):
    once(of(), tmp_path)
    (tmp_path / "made_of.json").write_text(text)
    assert "is damaged" in refused(of(), tmp_path)


def test_a_folder_without_a_description_goes_on_and_is_described(tmp_path):
    trace = once(of(), tmp_path, metrics=mean)
    (tmp_path / "made_of.json").unlink()
    said = []
    again = run(
        of(), KEY, generations=1, folder=tmp_path, metrics=mean, watcher=Watcher(say=said.append)
    )
    np.testing.assert_array_equal(again["mean"], trace["mean"])
    assert len(said) == 1 and "is described from now on" in said[0]
    assert "sample_size is 4 there, 5 here" in refused(of(sample_size=5), tmp_path)


# Metrics that are asked for later.


def square(state):
    return state.params**2


def pair(state):
    return jnp.stack([state.params, -state.params])


@pytest.mark.parametrize("states", ["all", "ends"])
def test_a_metric_asked_for_later_is_measured_of_the_saved_states(states, tmp_path):
    arguments = {"generations": 3, "chains": 2, "states": states}
    wanted = once(of(), tmp_path / "at once", metrics=(mean, square, pair), **arguments)
    once(of(), tmp_path / "later", metrics=mean, **arguments)
    found = once(of(), tmp_path / "later", metrics=(mean, square, pair), **arguments)
    for name in ("mean", "square", "pair"):
        assert not np.isnan(wanted[name]).any()
        np.testing.assert_array_equal(found[name], wanted[name])
    # They are kept: in the files, in a longer run that asks for others, and for the next call.
    rows = [
        json.loads(line) for line in (tmp_path / "later/metrics.jsonl").read_text().splitlines()
    ]
    assert [row["square"] for row in rows] == wanted["square"].ravel().tolist()
    begun = []
    watcher = Watcher(begin=lambda *place: begun.append(place))
    longer = run(
        of(),
        KEY,
        folder=tmp_path / "later",
        metrics=(square, pair),
        watcher=watcher,
        **arguments | {"generations": 4},
    )
    assert begun == [(0, 4), (1, 4)]
    np.testing.assert_array_equal(longer["pair"][:, :4], wanted["pair"])
    assert not np.isnan(longer["square"]).any()


@pytest.mark.parametrize("name", ["file", "allow_pickle", "a/b"])
def test_any_name_of_a_metric_asked_for_later(name, tmp_path):
    def metric(state):
        return state.params + 1

    metric.__name__ = name
    once(of(), tmp_path)
    found = once(of(), tmp_path, metrics=metric)
    np.testing.assert_array_equal(found[name], once(of(), tmp_path, metrics=metric)[name])
    assert not np.isnan(found[name]).any()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "bool", "complex64"])
def test_every_bit_of_an_array_counts(dtype):
    from collapse_jax.runs.contents import contents

    values = jnp.zeros(4, dtype)
    assert contents(values).fixed == contents(jnp.zeros(4, dtype)).fixed
    assert contents(values).fixed != contents(values.at[2].set(jnp.ones((), dtype))).fixed
    assert contents(values).fixed != contents(values.reshape(2, 2)).fixed
    assert "unread" not in contents([values, jnp.zeros((0, 3), dtype), values[0]]).fixed


def test_damaged_later_values_are_measured_again(tmp_path):
    once(of(), tmp_path, metrics=mean)
    wanted = once(of(), tmp_path, metrics=(mean, square))
    path = tmp_path / "checkpoints/chain_0/1/later.npz"
    path.write_bytes(path.read_bytes()[:-30])
    said = []
    found = run(
        of(), KEY, generations=1, folder=tmp_path, metrics=square, watcher=Watcher(say=said.append)
    )
    np.testing.assert_array_equal(found["square"], wanted["square"])
    assert said and all("is damaged" in line and "measured again" in line for line in said)


# What ends in the middle.


def test_a_generation_that_appears_between_two_looks_is_entered(tmp_path, monkeypatch):
    """As the thread of an interrupted save would end it after the records were listed."""
    process = of()
    wanted = once(process, tmp_path, metrics=mean, generations=2)
    place, aside = tmp_path / "checkpoints/chain_0/2", tmp_path / "aside"
    place.rename(aside)
    from collapse_jax.drivers.book import Book

    catch_up = Book.catch_up

    def then_it_ends(self):
        catch_up(self)
        aside.rename(place)

    monkeypatch.setattr(Book, "catch_up", then_it_ends)
    begun = []
    watcher = Watcher(begin=lambda *where: begun.append(where))
    found = run(process, KEY, generations=2, folder=tmp_path, metrics=mean, watcher=watcher)
    np.testing.assert_array_equal(found["mean"], wanted["mean"])
    assert begun == []


@pytest.mark.parametrize("call", range(1, 7))
def test_a_save_that_is_interrupted_ends_at_once(call, tmp_path, monkeypatch):
    """Nothing is written behind the back of the next call, which gives the same numbers."""
    from collapse_jax.runs import small_checkpoint

    wanted = once(of(), tmp_path / "whole", metrics=mean, generations=2)
    calls = []

    def interrupted(function):
        @functools.wraps(function)
        def stop(*arguments, **options):
            calls.append(function)
            if len(calls) == call:
                raise KeyboardInterrupt
            return function(*arguments, **options)

        return stop

    for name in ("save", "replace"):  # before anything is written, and when everything is
        function = getattr(small_checkpoint, name)
        monkeypatch.setattr(small_checkpoint, name, interrupted(function))
    with pytest.raises(KeyboardInterrupt):
        once(of(), tmp_path / "run", metrics=mean, generations=2)
    finished = sorted(path.name for path in (tmp_path / "run").rglob("chain_0/*"))
    monkeypatch.undo()
    assert sorted(path.name for path in (tmp_path / "run").rglob("chain_0/*")) == finished
    found = once(of(), tmp_path / "run", metrics=mean, generations=2)
    np.testing.assert_array_equal(found["mean"], wanted["mean"])


def test_a_folder_opened_with_settings_holds_data_sizes_and_key(tmp_path):
    """A command of the user's: its settings say the rest, and its code may be mended."""
    from collapse_jax.app.config import SimulateConfig
    from collapse_jax.runs.folder import RunFolder

    def opened():
        return RunFolder.open(tmp_path / "run", SimulateConfig())

    def again(process, **changes):
        return run(process, folder=opened(), **{"key": KEY, "generations": 1} | changes)

    again(of())
    again(of(family=own(by=lambda x: x + 1)), generations=2)
    for process, words in (
        (of(source=sources.dataset(DATA + 1)), "the real data has other values"),
        (of(sample_size=5), "sample_size is 4 there, 5 here"),
    ):
        with pytest.raises(InputError, match=words):
            again(process)
    with pytest.raises(InputError, match="the key is threefry2x32"):
        again(of(), key=jax.random.key(4))


@pytest.mark.parametrize("name", ["chain", "generation", "seconds"])
def test_the_names_of_every_record_are_no_metrics(name, tmp_path):
    def metric(state):
        return state.params

    metric.__name__ = name
    observe = lambda first, state, info: {name: 1.0}  # noqa: E731
    for options in ({"metrics": metric}, {"observe": observe}):
        with pytest.raises(
            InputError, match=f"'{name}' is the name of .*, and of a column that every record has"
        ):
            run(of(), KEY, generations=0, folder=tmp_path / "run", **options)


def test_what_was_not_observed_before_is_named(tmp_path):
    def observe(first, state, info):
        return {"distance": abs(float(state.params - first.params))}

    once(of(), tmp_path)
    said = []
    arguments = {"folder": tmp_path, "observe": observe, "watcher": Watcher(say=said.append)}
    found = run(of(), KEY, generations=3, **arguments)
    assert said == [
        "chain 0: distance was not observed before generation 2, and is nan in earlier generations"
    ]
    assert np.isnan(found["distance"]).tolist() == [[True, True, False, False]]
    run(of(), KEY, generations=4, **arguments)
    assert len(said) == 1


def test_nothing_is_named_of_a_run_that_observed_all_along(tmp_path):
    """Neither what is published alone, nor what no generation 0 has."""

    def observe(first, state, info):
        own = {} if int(state.generation) == 0 else {"from_1_on": 1.0}
        return own | {"tokens": np.zeros(3), "peak_mib": 2.0, "distance": 1.0}

    said = []
    arguments = {"folder": tmp_path, "observe": observe, "watcher": Watcher(say=said.append)}
    arguments["published_only"] = ("tokens", "peak_mib")
    for generations in range(4):
        run(of(), KEY, generations=generations, **arguments)
    assert said == []


def test_a_lost_environment_is_that_of_the_checkpoints(tmp_path):
    once(of(), tmp_path)
    (tmp_path / "environment.json").unlink()
    jax.config.update("jax_random_seed_offset", 3)
    try:
        assert "jax_random_seed_offset = 0, and here it is 3" in refused(of(), tmp_path)
    finally:
        jax.config.update("jax_random_seed_offset", 0)


def test_a_package_of_somebody_elses_counts_by_its_version(tmp_path, monkeypatch):
    """An installed one: its functions by name and version, not by code."""
    import importlib
    import importlib.metadata

    from collapse_jax.runs import contents

    (tmp_path / "site" / "their_package").mkdir(parents=True)
    file = tmp_path / "site" / "their_package" / "__init__.py"
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setattr(contents, "_places", lambda: (str(tmp_path / "site"),))
    monkeypatch.setattr(contents, "_distributions", lambda: {"their_package": ["their-package"]})
    version, there = importlib.metadata.version, {"their-package": "1.0"}
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: there.get(name) or version(name)
    )

    def process(code):
        file.write_text(code)
        sys.modules.pop("their_package", None)
        importlib.invalidate_caches()
        module = importlib.import_module("their_package")
        return of(family=own(by=module.centre))

    once(process("def centre(x):\n    return x\n"), tmp_path / "run")
    once(process("def centre(x):\n    return +x  # mended\n"), tmp_path / "run")
    there["their-package"] = "1.1"
    text = refused(process("def centre(x):\n    return x\n"), tmp_path / "run")
    assert "the package their-package has version 1.0 there, 1.1 here" in text
    sys.modules.pop("their_package", None)


@pytest.mark.parametrize("name", ["n" * 300, "a\0b"])
def test_a_folder_that_cannot_be_is_one_line(name, tmp_path):
    with pytest.raises(InputError) as error:
        run(of(), KEY, generations=0, folder=tmp_path / name)
    assert "folder is" in str(error.value)

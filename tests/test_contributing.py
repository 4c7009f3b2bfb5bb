"""The recipes of docs/contributing.md do what they say, run as printed."""

import functools
import re
import sys
import types

import chex
import jax
import numpy as np
import pytest

import collapse_jax as cj
from collapse_jax.app.cli import main
from collapse_jax.estimators import registry
from collapse_jax.runs.folder import RunFolder


@pytest.fixture(scope="module")
def recipes(root):
    """Title -> the Python of a recipe, block by block."""
    text = (root / "docs" / "contributing.md").read_text(encoding="utf-8")
    sections = re.split(r"^### (.*)$", text.partition("## Recipes")[2], flags=re.M)[1:]
    blocks = [re.findall(r"```python\n(.*?)```", section, re.S) for section in sections[1::2]]
    return dict(zip(sections[::2], blocks, strict=True))


@pytest.fixture(scope="module")
def run(recipes):
    """run(title): the names that the only block of a recipe leaves."""

    @functools.cache
    def names_of(title):
        (block,) = recipes[title]
        names = {}
        exec(compile(block, f"docs/contributing.md, {title}", "exec"), names)
        return names

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_REGISTERED", {})
        yield names_of


def chains_of(estimator, params, chains=500):
    """The scales of chains of three generations, [chain, generation]."""
    process = cj.generational_process(
        estimator, cj.sources.population(estimator, params), cj.workflows.replace(), sample_size=30
    )

    def scale(state):
        return state.params.scale

    return cj.simulate(process, jax.random.key(1), generations=2, chains=chains, metrics=scale)[
        "scale"
    ]


def test_there_are_six_recipes_with_code_and_one_of_a_release(recipes):
    assert [len(blocks) for blocks in recipes.values()] == [1, 1, 1, 1, 1, 3, 0]


def test_an_estimator_by_points_and_by_its_law(run, assert_mean):
    """Both pass the contract, are known by name, and have one law: E[scale^2] stays 1."""
    by_points, by_law = run("An estimator by points"), run("An estimator by its exact law")
    assert "rayleigh" in cj.families()
    assert by_points["rayleigh"]().draw is None and by_law["rayleigh"]().draw is not None
    for names in (by_points, by_law):
        assert_mean(chains_of(*names["example"]()) ** 2, 1.0)


def test_an_estimator_by_its_law_compiles_once_for_all_sizes(run):
    estimator, params = run("An estimator by its exact law")["example"]()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def count_of(key, n):
        return estimator.draw(key, params, n).count

    counts = [count_of(jax.random.key(n), n) for n in (1, 10, 1000)]
    np.testing.assert_array_equal(counts, [1, 10, 1000])


def test_a_workflow(run):
    names = run("A workflow")
    assert names["trace"]["variance"].shape == (200, 21)
    assert np.isfinite(names["trace"]["variance"]).all()
    # Half of the points are real: the variance stays of the size of 1.
    assert 0.5 < np.median(names["trace"]["variance"][:, -1]) < 1.5


def test_a_metric(run):
    trace = run("A metric")["trace"]
    np.testing.assert_allclose(trace["median"], trace["mean"] * np.log(2), rtol=1e-5)


def test_a_published_entry(recipes, tmp_path, capsys):
    (block,) = recipes["A published entry"]
    (tmp_path / "registry").mkdir()
    (tmp_path / "registry" / "author2026.py").write_text(block, encoding="utf-8")
    places = ["--registry", str(tmp_path / "registry"), "--out", str(tmp_path / "out")]
    main(["reproduce", "author-unbiased", *places])
    assert re.search("1 entr.*1 agrees", capsys.readouterr().out)


def test_a_command(recipes, tmp_path, capsys, monkeypatch):
    """The two files as modules, and the row in the table."""
    from collapse_jax.app.commands import COMMANDS, Command
    from collapse_jax.runs import settings

    monkeypatch.setattr(settings, "KINDS", dict(settings.KINDS))
    *files, row = recipes["A command"]
    modules = []
    for block in files:
        name = re.match(r"# (\S+)\.py\n", block)[1].replace("/", ".")
        module = types.ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        exec(compile(block, name, "exec"), vars(module))
        modules.append(module)
    command = eval(row, {"Command": Command, "ExpectConfig": modules[0].ExpectConfig})
    monkeypatch.setitem(COMMANDS, command.name, command)
    main(["expect", "--generations", "3", "--out", str(tmp_path / "run")])
    assert "log variance at generation 3: -0.0" in capsys.readouterr().out
    assert len(RunFolder(tmp_path / "run").rows()) == 4
    with pytest.raises(SystemExit):
        main(["expect", "--sample-size", "1"])
    assert "sample_size is 1" in capsys.readouterr().err

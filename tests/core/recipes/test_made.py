"""Equal settings are equal: families, sources, workflows, curations and processes of these."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import collapse_jax as cj
from tests.core.recipes import own_family

KEY = jax.random.key(3)
CURATION = cj.curation


def process(**changed):
    given = {
        "estimator": cj.estimators.gaussian(1, ddof=1),
        "source": cj.sources.normal(),
        "workflow": cj.workflows.mix(0.9, 0, 0.1),
        "sample_size": 100,
    } | changed
    return cj.generational_process(
        given.pop("estimator"), given.pop("source"), given.pop("workflow"), **given
    )


def test_equal_settings_are_equal_and_print_as_the_call():
    one, other = process(), process()
    assert one == other and hash(one) == hash(other) and not one != other
    assert {one: 1}[other] == 1
    text = "Process(gaussian(1, ddof=1), normal(0.0, 1.0), mix(0.9, 0.0, 0.1), sample_size=100)"
    assert repr(one) == text
    # Defaults count as if they were given, and numbers as Python compares them.
    assert process(estimator=cj.estimators.gaussian(dim=1), source=cj.sources.normal(0, 1)) == one


@pytest.mark.parametrize(
    "changed",
    [
        {"estimator": cj.estimators.gaussian(1, ddof=0)},
        {"source": cj.sources.normal(0.0, 2.0)},
        {"workflow": cj.workflows.mix(0.8, 0.0, 0.2)},
        {"sample_size": 101},
        {"sample_size": lambda generation: 100, "largest_sample_size": 100},
        {"remember_first": True},
    ],
)
def test_other_settings_are_not(changed):
    assert process(**changed) != process() and process() != process(**changed)


def test_functions_are_what_they_are_and_not_what_they_look_like():
    def sized(size):
        return process(sample_size=size, largest_sample_size=100)

    size = lambda generation: 100  # noqa: E731
    assert sized(size) == sized(size)
    assert sized(size) != sized(lambda generation: 100)


def test_arrays_count_by_their_content():
    data = np.arange(60.0).reshape(20, 3)
    kept = cj.sources.dataset(data)
    other = data.copy()
    other[7, 1] = np.nextafter(other[7, 1], 0)
    assert cj.sources.dataset(data.copy()) == kept and hash(cj.sources.dataset(data)) == hash(kept)
    assert cj.sources.dataset(other) != kept
    data[0] = -1.0  # whoever writes to an array changes nothing that was made of it
    assert cj.sources.dataset(data) != kept and float(kept.points[0, 0]) == 0.0
    assert cj.workflows.planned([1, 2]) == cj.workflows.planned([1, 2])
    assert cj.workflows.planned([1, 2]) != cj.workflows.planned([1, 3])
    share = jnp.float32(0.25)
    assert cj.workflows.mix(gamma=share) == cj.workflows.mix(gamma=jnp.float32(0.25))
    assert cj.workflows.mix(gamma=share) != cj.workflows.mix(gamma=0.25)


def test_what_is_replaced_makes_another_thing():
    family = cj.estimators.categorical(4)
    own = family._replace(fit=own_family.fit)
    assert own != family and own == family._replace(fit=own_family.fit)
    assert repr(own) == "categorical(4) with its own fit"
    assert family._replace() == family
    again = own._replace(sample=own_family.sample)
    assert repr(again) == "categorical(4) with its own fit, sample" and again != own
    changed = process()._replace(metrics={})
    assert changed != process() and repr(changed).endswith("with its own metrics")
    with pytest.raises(AttributeError, match=r"_replace\(fit=...\) makes another"):
        family.fit = own_family.fit


def test_workflows_of_ones_own_are_told_apart_by_their_functions():
    def begin(supply, data):
        return ()

    def following(key, carry, supply, n):
        return (), supply.model(key, n)

    one, other = (cj.Workflow("own", begin, following) for _ in range(2))
    assert one == other and hash(one) == hash(other)
    assert cj.Workflow("own", begin, lambda *given: following(*given)) != one


def test_copies_are_the_thing_itself():
    one = process()
    assert copy.deepcopy(one) is one and copy.copy(one) is one


def test_curations_and_workflows_print_as_they_are_written():
    flow = CURATION.verified(own_family.reward, cap=5)(cj.workflows.accumulate())
    assert repr(flow) == "verified(reward, cap=5)(accumulate())"
    assert flow != cj.workflows.accumulate()
    assert flow == CURATION.verified(own_family.reward, cap=5)(cj.workflows.accumulate())
    assert flow != CURATION.verified(own_family.reward, cap=6)(cj.workflows.accumulate())
    assert repr(CURATION.best_of(2, own_family.reward)) == "best_of(2, reward)"
    switched = cj.workflows.switch({0: cj.workflows.replace(), 50: cj.workflows.mix(0.9, 0, 0.1)})
    assert repr(switched) == "switch({0: replace(), 50: mix(0.9, 0.0, 0.1)})"
    assert repr(cj.verifiers.centred(1.5)) == "centred(1.5)"
    assert repr(own_family.process()) == (
        "Process(shifted, population(shifted, float32[]), "
        "best_of(2, reward)(mix(gamma=0.25)), sample_size=growing, largest_sample_size=20)"
    ).replace("float32[]", "0.5")


def test_what_is_made_inside_a_program_is_equal_to_nothing_else():
    made = []

    @jax.jit
    def program(gamma):
        made.append(cj.workflows.mix(gamma=gamma))
        made.append(cj.sources.normal())
        return gamma

    program(0.5)
    mix, source = made
    assert mix == mix and mix != cj.workflows.mix(gamma=0.5)
    assert source == source and source != cj.sources.normal()
    assert "traced" in repr(mix)


def test_states_print_in_one_line():
    state, info = process().init(KEY)
    assert repr(state).startswith("State(generation=0, params=GaussianParams(mean=(")
    assert repr(info).startswith("StepInfo(fit=FitInfo(converged=True, iterations=0, loss=nan")
    assert repr(cj.Dataset(jnp.zeros((3, 2)), jnp.ones(3))) == (
        "Dataset(x=float32[3, 2], weight=float32[3])"
    )
    seen = []
    jax.jit(lambda state: seen.append(repr(state)) or state.generation)(state)
    assert seen[0].startswith("State(generation=int32[], ")


def test_the_passage_of_the_docs_runs_as_it_is_printed(root, capsys):
    text = (root / "docs" / "contract.md").read_text(encoding="utf-8")
    section = text.split("## The same settings are the same process")[1]
    block = section.split("```python\n")[1].split("```")[0]
    names = {"__name__": "contract"}
    exec(compile(block, "contract.md", "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    assert f"`repr` gives `{printed[0]}`." in section
    assert len(printed) == 5

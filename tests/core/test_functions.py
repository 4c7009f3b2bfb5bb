"""Functions that people write: what is wrong with them is one line that names them, found while the
process is made, before anything is computed.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collapse_jax.core import curation, workflows
from collapse_jax.core.factory import estimator
from collapse_jax.core.functions import are_ours, described
from collapse_jax.core.process import generational_process
from collapse_jax.core.results import count, measured, numbers_of_points, same_structure
from collapse_jax.core.types import Compaction, Dataset, Estimator, FitInfo, Source, State, Workflow
from collapse_jax.errors import InputError
from collapse_jax.estimators import sources
from collapse_jax.estimators.categorical import categorical
from collapse_jax.estimators.gaussian import gaussian

KEY = jax.random.key(0)
DATA = sources.dataset(np.arange(9.0, dtype=np.float32))


def mean_fit(key, params, data):
    return data.x.mean(), FitInfo.exact()


def shifted(key, params, n):
    return params + jax.random.normal(key, (n,))


def made(workflow=None, **parts):
    """A process of a newcomer's family with some parts exchanged."""
    parts = {"fit": mean_fit, "sample": shifted} | parts
    family = estimator(parts.pop("fit"), parts.pop("sample"), **parts)
    return generational_process(family, DATA, workflow or workflows.replace(), sample_size=5)


def refused(make, *words):
    with pytest.raises(InputError) as caught:
        make()
    text = str(caught.value)
    assert "\n" not in text and all(word in text for word in words), text
    return text


HERE = "test_functions.py"
WRONG = {
    # what fit gives
    "no FitInfo": ({"fit": lambda key, params, data: data.x.mean()}, ["fit, ", HERE, "float32[]"]),
    "None for it": (
        {"fit": lambda key, params, data: (data.x.mean(), None)},
        ["a tuple of (float32[], None)", "cj.FitInfo.exact()"],
    ),
    "it alone": ({"fit": lambda key, params, data: FitInfo.exact()}, ["gave FitInfo"]),
    "a loss a point": (
        {"fit": lambda key, params, data: (data.x.mean(), FitInfo(True, 1, data.x))},
        ["FitInfo.loss of fit", "float32[5]", "one number"],
    ),
    "text as a parameter": (
        {"fit": lambda key, params, data: ({"a": "b"}, FitInfo.exact())},
        ["params['a'] of fit", "'b'", "numbers"],
    ),
    "if on traced numbers": (
        {"fit": lambda key, params, data: (1.0 if data.x.sum() > 0 else 0.0, FitInfo.exact())},
        ["fit, ", HERE, "traceable=False"],
    ),
    "a float of a traced number": (
        {"fit": lambda key, params, data: (float(data.x.mean()), FitInfo.exact())},
        ["fit, ", HERE, "jax.numpy"],
    ),
    # what fit and others take
    "fit(params, data)": (
        {"fit": lambda params, data: (data.x.mean(), FitInfo.exact())},
        ["fit is called with (key, params, data)", HERE, "(params, data)"],
    ),
    "sample(key, n)": ({"sample": lambda key, n: 0}, ["sample is called with (key, params, n)"]),
    "init(key)": ({"init": lambda key: 0}, ["init is called with (key, data)"]),
    "a metric of nothing": (
        {"metrics": {"speed": lambda: 0}},
        ["metric 'speed' is called with (params)"],
    ),
    "a distance of one": (
        {"distances": {"far": lambda params: 0}},
        ["distance 'far' is called with (params, reference)"],
    ),
    "a keyword that is needed": (
        {"sample": lambda key, params, n, *, scale: 0},
        ["sample is called with", "scale"],
    ),
    # what sample gives
    "too many points": (
        {"sample": lambda key, params, n: jax.random.normal(key, (n + 1,))},
        ["sample, ", HERE, "float32[6]", "[5, ...]"],
    ),
    "one number": ({"sample": lambda key, params, n: params}, ["sample, ", "float32[]"]),
    "a list": ({"sample": lambda key, params, n: [params] * n}, ["sample, ", "gave list"]),
    "nothing": ({"sample": lambda key, params, n: None}, ["sample, ", "gave None"]),
    "NumPy's numbers": (
        {"sample": lambda key, params, n: np.random.default_rng(0).normal(size=n)},
        ["NumPy array", "the same numbers for every key"],
    ),
    # what else a family can do
    "a log_prob a coordinate": (
        {"log_prob": lambda params, x: x[:, None]},
        ["log_prob, ", "float32[5, 1]", "[5]"],
    ),
    "a model of another shape": (
        {"tempered": lambda params, tau: (params, tau)},
        ["tempered, ", HERE, "a model"],
    ),
    "summarise without return": ({"summarise": lambda x, weight: None}, ["summarise, ", "None"]),
    "a merge to another type": ({"merge": lambda a, b: a.x}, ["merge, ", "Dataset"]),
    "a draw of other data": (
        {"draw": lambda key, params, n: Dataset(jnp.zeros(2), jnp.zeros(3))},
        ["draw, ", "[(2,), (3,)]", "[(5,), (5,)]"],
    ),
    # options of cj.estimator
    "init": ({"init": 3}, ["init is 3"]),
    "draw": ({"draw": 3}, ["draw is 3"]),
    "merge": ({"merge": 3}, ["merge is 3"]),
    "subsample": ({"subsample": 3}, ["subsample is 3"]),
    "summarise": ({"summarise": 3}, ["summarise is 3"]),
    "log_prob": ({"log_prob": 3}, ["log_prob is 3"]),
    "tempered": ({"tempered": 3}, ["tempered is 3"]),
    "nucleus": ({"nucleus": 3}, ["nucleus is 3"]),
    "continued": ({"continued": 3}, ["continued is 3"]),
    "traceable": ({"traceable": 3}, ["traceable is 3", "True, False"]),
    "lazy": ({"lazy": 3}, ["lazy is 3"]),
    "lazy without draw": ({"lazy": True}, ["lazy is True", "draw"]),
    "statistics": ({"statistics": 3}, ["statistics is 3"]),
    "name": ({"name": 3}, ["name is 3"]),
    "compaction": ({"compaction": 3}, ["compaction is 3"]),
    "half of one": ({"compaction": Compaction(3, 4)}, ["num_in_use of compaction is 3"]),
    "a list of metrics": ({"metrics": ["a"]}, ["metrics is ['a']", "dict"]),
    "metrics": ({"metrics": 3}, ["metrics is 3", "dict"]),
    "distances": ({"distances": [len]}, ["distances is", "dict"]),
    "a number for a name": ({"metrics": {3: len}}, ["metrics is", "a dict name -> function"]),
    "a distance that is none": ({"distances": {"far": 3}}, ["distance 'far' is 3"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_function_of_a_family(name):
    parts, words = WRONG[name]
    refused(lambda: made(**parts), *words)


def nothing(supply, data):
    return ()


def asking(n):
    return Workflow("asks", nothing, lambda key, carry, supply, size: ((), supply.model(key, n)))


def bad_shape(key, carry, supply, n):
    data = supply.model(key, n)
    return (), data._replace(weight=data.weight[:, None])


FLOWS = {
    "next": (Workflow("mine", nothing, 3), ["next of mine is 3", "function"]),
    "init": (Workflow("mine", 3, bad_shape), ["init of mine is 3", "function"]),
    "three arguments": (
        Workflow("mine", nothing, lambda key, carry, supply: 0),
        ["next of mine is called with (key, carry, supply, n)", HERE],
    ),
    "data alone": (
        Workflow("mine", nothing, lambda key, carry, supply, n: supply.model(key, n)),
        ["mine: next gave Dataset", "(carry, data)"],
    ),
    "weights of another shape": (
        Workflow("mine", nothing, bad_shape),
        ["next of mine, bad_shape", "x [5] with weight [5, 1]"],
    ),
    "0 points": (asking(0), ["asks: next asks for 0 points"]),
    "-1": (asking(-1), ["n of supply.model is -1"]),
    "a fraction": (asking(2.5), ["n of supply.model is 2.5", "whole number"]),
    "True": (asking(True), ["n of supply.model is True"]),
    "text": (asking("a"), ["n of supply.model is 'a'"]),
    "a traced fraction": (asking(jnp.float32(2.5)), ["n of supply.model is float32[]"]),
    "a filter": (Workflow("mine", nothing, bad_shape, (3,)), ["a filter of mine is 3"]),
    "what a filter gives": (
        Workflow("mine", nothing, bad_shape, (lambda family: 3,)),
        ["a filter of mine, ", "gave 3", "an estimator"],
    ),
}


@pytest.mark.parametrize("name", FLOWS)
def test_a_function_of_a_workflow(name):
    workflow, words = FLOWS[name]
    refused(lambda: made(workflow), *words)


def test_no_points_of_one_kind_are_fine():
    """What `mix` asks for where a share is 0, or the model makes none."""
    flow = workflows.mix(0.0, 0.0, 1.0, random_counts=False)
    made(flow, name="all real")
    assert count("n", np.int64(3)) == 3 and count("n", jnp.int32(2)) == 2


def test_a_replaced_function_is_looked_at_when_a_process_is_made():
    for part in ("fit", "sample", "init", "merge", "summarise"):
        family = gaussian(1)._replace(**{part: 3})
        source = sources.normal([0.0], [[1.0]])
        refused(
            lambda family=family, source=source: generational_process(
                family, source, workflows.replace(), sample_size=5
            ),
            f"{part} is 3",
        )


REWARDS = {
    "[n, 1]": (lambda x: x[:, None], ["float32[5, 1]", "[5]", "reshape"]),
    "one number": (lambda x: x.mean(), ["float32[]", "[5]"]),
    "True": (lambda x: True, ["gave True"]),
    "None": (lambda x: None, ["gave None"]),
    "text": (lambda x: "good", ["gave 'good'"]),
    "complex": (lambda x: x + 1j, ["complex64[5]"]),
    "if": (lambda x: x if x.mean() > 0 else -x, ["TracerBoolConversionError", "jnp.where"]),
    "NumPy": (lambda x: np.exp(x), ["TracerArrayConversionError", "jax.numpy"]),
    "two arguments": (lambda x, y: x, ["is called with (x)"]),
}
WRAPPERS = {
    "reward": functools.partial(curation.best_of, 2),
    "accept": curation.verified,
    "correct": functools.partial(curation.labelled_verifier, 0.9, 0.1),
}


@pytest.mark.parametrize("name", REWARDS)
@pytest.mark.parametrize("role", WRAPPERS)
def test_a_reward_or_verdict(role, name):
    function, words = REWARDS[name]
    refused(lambda: made(WRAPPERS[role](function)(workflows.replace())), role, HERE, *words)


def test_a_list_of_a_hosts_rewards_is_taken():
    """A reward of texts is made one by one."""
    x = np.array([3.0, -1.0])
    values = numbers_of_points("reward", lambda x: [float(abs(one)) for one in x], x)
    np.testing.assert_array_equal(values, [3, 1])


def test_points_of_a_host_may_be_texts():
    """Where nothing is traced, points are whatever the fit takes."""

    def fit(key, params, data):
        return {"length": np.mean([len(x) for x in data.x])}, FitInfo.exact()

    family = estimator(
        fit,
        lambda key, params, n: np.array(["ab"] * n),
        init=lambda key, data: {"length": 0.0},
        traceable=False,
    )
    source = cj_source(np.array(["a", "abc", "ab"]))
    process = generational_process(family, source, asking(2), sample_size=2)
    state, _ = process.init(KEY)
    assert float(state.params["length"]) == 2.0
    assert float(process.step(KEY, state)[0].params["length"]) == 2.0


def cj_source(x):
    """A source of fixed points, which a source may give and a model may not."""
    return Source(lambda key, n: x[:n], size=len(x))


def test_a_source_may_give_fixed_points():
    process = generational_process(
        made().estimator, cj_source(np.arange(5.0)), workflows.replace(), sample_size=5
    )
    assert jax.eval_shape(process.init, KEY)[0].params.shape == ()


def test_a_metric_of_the_wrong_arguments_or_result():
    state = State(jnp.int32(0), jnp.zeros(()), ())
    refused(lambda: measured("far", lambda: 0, state), "metric 'far' is called with (state)")
    refused(lambda: measured("far", lambda state: None, state), "metric 'far', ", "gave None")
    refused(lambda: measured("far", lambda state: "a", state), "gave 'a'", "number")
    assert measured("far", lambda state: state.params, state) is state.params


def test_ours_are_not_traced_twice():
    ours = gaussian(1), sources.normal([0.0], [[1.0]]), workflows.mix(0.5, 0.2, 0.3)
    assert are_ours(*ours) and not are_ours(made().estimator, *ours[1:])
    assert not are_ours(*ours[:2], curation.tempered(0.5)(ours[2]))
    assert not are_ours(*ours[:2], asking(3))
    assert are_ours(categorical(3), sources.categorical([0.5, 0.2, 0.3]), workflows.replace())
    assert isinstance(ours[0], Estimator)


def test_a_misspelt_part_of_an_estimator_is_proposed():
    with pytest.raises(TypeError, match=r"'metrcs' \(did you mean 'metrics'\?\)"):
        estimator(mean_fit, shifted, metrcs={})


def test_only_what_has_another_shape_is_to_be_reshaped():
    for reward, hint in ((lambda x: x + 1j, False), (lambda x: x[:, None], True)):
        with pytest.raises(InputError) as caught:
            numbers_of_points("reward", reward, jnp.zeros(3))
        assert ("reshape" in str(caught.value)) == hint


def test_a_state_keeps_its_shapes():
    state = State(jnp.int32(0), {"x": jnp.zeros(3)}, jnp.zeros(2))
    same_structure(state, state)
    refused(
        lambda: same_structure(state, state._replace(params={"x": jnp.zeros(4)})),
        "fit: the model has the arrays [float32[3]]",
        "[float32[4]]",
    )
    refused(lambda: same_structure(state, state._replace(carry=())), "the carry has", "[]")


def test_values_are_described_by_type_and_shape():
    assert described((jnp.zeros((2, 3)), None)) == "a tuple of (float32[2, 3], None)"
    assert described(FitInfo.exact()) == "FitInfo" and described([1]) == "list"

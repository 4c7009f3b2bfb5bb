"""Pickled as the call that made it: processes go to other Python processes, and give their bits."""

import multiprocessing
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import collapse_jax as cj
from collapse_jax.core.recipes import shared
from collapse_jax.estimators import FAMILIES
from tests.core.recipes import own_family

KEY = jax.random.key(5)
OPTIONS = {"generations": 2, "chains": 2, "metrics": "mean", "progress": False}
MIX, NORMAL = cj.workflows.mix(gamma=0.25), cj.sources.normal()
GAUSSIAN = cj.estimators.gaussian(1)


def again(made):
    return pickle.loads(pickle.dumps(made))


NETWORKS = {
    "vae": lambda: cj.estimators.vae(8, 8),
    "diffusion": lambda: cj.estimators.diffusion(2),
    "flow_matching": lambda: cj.estimators.flow_matching(2),
    "normalizing_flow": lambda: cj.estimators.normalizing_flow(2),
}


@pytest.mark.parametrize("name", [name for name, known in FAMILIES.items() if known.example])
def test_every_family_is_equal_to_itself_made_again(name):
    family = NETWORKS[name]() if name in NETWORKS else FAMILIES[name].example()[0]
    other = again(family)
    assert other is not family and other == family and hash(other) == hash(family)
    text = repr(family)
    assert repr(other) == text and text.startswith(f"{name}(") and len(text) < 300
    assert "\n" not in text and " at 0x" not in text


@pytest.mark.parametrize(
    "made",
    [
        NORMAL,
        cj.sources.categorical([0.5, 0.25, 0.25]),
        cj.sources.dataset(np.arange(6.0)[:, None]),
        cj.sources.dataset(np.arange(6), family=cj.estimators.categorical(6)),
        cj.workflows.replace(),
        cj.workflows.accumulate(0.5),
        cj.workflows.accumulate_subsample(random_counts=True),
        cj.workflows.keep_real(2.0),
        cj.workflows.keep_or_continue(0.5, batch_size=2),
        cj.workflows.planned([3, 2, 1], workflow="accumulate"),
        cj.workflows.switch({0: cj.workflows.replace(), 5: MIX}),
        cj.workflows.contaminated(MIX, 0.5, lag=2),
        cj.workflows.weighted(MIX, synthetic=0.5),
        cj.workflows.mix(gamma=own_family.reward),
        cj.curation.tempered(0.9),
        cj.curation.top_p(0.9)(MIX),
        cj.curation.detector(0.5, 0.1)(cj.curation.best_of(3, own_family.reward)(MIX)),
        cj.curation.labelled_verifier(0.9, 0.1, own_family.reward)(MIX),
        cj.verifiers.centred(1.5, refresh=0.5)(MIX),
        cj.verifiers.logistic()(MIX),
        cj.estimators.categorical(4)._replace(fit=own_family.fit),
        cj.Workflow("own", own_family.fit, own_family.sample),
        cj.ecosystem(GAUSSIAN, NORMAL, np.array([[0.5, 0.5], [0.5, 0.0]]), 10),
        cj.genealogy_process(cj.workflows.replace(), sample_size=5, generations=3),
        cj.policy(4, real=10, sample_size=20).to_process(GAUSSIAN, NORMAL),
        *cj.infinite_sample(
            cj.estimators.gaussian(1, ddof=0), GAUSSIAN, NORMAL.params, low=-5, high=5
        ),
    ],
    ids=repr,
)
def test_what_is_built_in_is_pickled(made):
    assert again(made) == made and hash(again(made)) == hash(made)
    assert repr(again(made)) == repr(made)


def test_a_pickled_process_gives_the_same_bits():
    process = own_family.process()
    pickled = pickle.dumps(process)
    shared._KNOWN.clear()  # as in a process of its own
    other = pickle.loads(pickled)
    assert other == process and other.init != process.init
    here, there = (np.asarray(one.init(KEY)[0].params) for one in (process, other))
    assert here.tobytes() == there.tobytes()


@pytest.mark.slow
def test_a_pickled_process_gives_the_same_bits_in_a_process_of_its_own():
    process = own_family.process()
    here = cj.simulate(process, KEY, **OPTIONS)["mean"]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.apply(simulated, (process,))
    assert there.tobytes() == here.tobytes() and here.shape == (2, 3)


def simulated(process):
    return np.asarray(cj.simulate(process, jax.random.key(5), **OPTIONS)["mean"])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (
            lambda: cj.generational_process(
                GAUSSIAN, NORMAL, MIX, sample_size=lambda g: 5, largest_sample_size=5
            ),
            r"sample_size of Process cannot be pickled: it is <lambda> \(line \d+ of "
            r"test_pickling.py\), and not at the top of a module; write it there with def",
        ),
        (lambda: cj.curation.best_of(2, lambda x: x[:, 0])(MIX), "^reward of best_of cannot"),
        (lambda: cj.estimator(lambda *a: a, own_family.sample), "^fit of estimator cannot"),
        (lambda: GAUSSIAN._replace(fit=lambda *a: a), "^fit of _replace cannot"),
        (lambda: cj.Workflow("own", own_family.fit, lambda *a: a), "^next of Workflow cannot"),
    ],
)
def test_what_cannot_be_pickled_is_named(make, says):
    with pytest.raises(pickle.PicklingError, match=says) as caught:
        pickle.dumps(make())
    assert "\n" not in str(caught.value)


def test_a_traced_setting_is_named():
    said = []

    @jax.jit
    def program(gamma):
        try:
            pickle.dumps(cj.workflows.mix(gamma=gamma))
        except pickle.PicklingError as error:
            said.append(str(error))
        return gamma

    program(0.5)
    assert said[0].startswith("gamma of mix is traced, and cannot be pickled; make it outside")


def test_picklers_that_take_any_function_are_let():
    cloudpickle = pytest.importorskip("joblib.externals.cloudpickle")
    flow = cj.curation.best_of(2, lambda x: x[:, 0])(MIX)
    assert repr(pickle.loads(cloudpickle.dumps(flow))) == "best_of(2, <lambda>)(mix(gamma=0.25))"


def test_another_type_of_floats_is_refused():
    pickled = pickle.dumps(NORMAL)
    with jax.enable_x64(True):
        with pytest.raises(cj.InputError, match="normal was pickled with jax_enable_x64=False"):
            pickle.loads(pickled)
        wide = pickle.dumps(cj.sources.normal())
        assert pickle.loads(wide).params.mean[0].dtype == jnp.float64
    with pytest.raises(cj.InputError, match="set JAX_ENABLE_X64=1 in the environment"):
        pickle.loads(wide)


def test_a_named_factory_keeps_its_call():
    one = own_family.shifted(2.0)
    assert one == own_family.shifted(by=2.0) != own_family.shifted()
    assert pickle.loads(pickle.dumps(one)) == one and repr(one) == "shifted(2.0)"

"""What is no key is refused in one line by every public function that takes one."""

import importlib
import inspect
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import collapse_jax as cj
from collapse_jax.errors import InputError
from collapse_jax.models.lm import FineTune, Sampling, pretrain

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(0)
NO_KEYS = {
    "a number": 0,
    "nothing": None,
    "an old one": jax.random.PRNGKey(0),
    "several": jax.random.split(KEY, 3),
}
POINTS = cj.Dataset(jnp.arange(5.0), jnp.ones(5))
BLOCKS = np.ones((2, 4), np.int32)
CONFIG = cj.lm.OPTConfig(50, 16, 1, 2, 16, 32)
LM = cj.lm.OPT(CONFIG)
VAE, TRAINING = cj.vae.VAE(8, 8, 2, 2), cj.vae.VAETraining(1, 2)
PRETRAIN = pretrain.Pretrain(2, 2, 1e-3, 0, 0.1, 0.0, 0.9, 0.9, 1.0)
IMAGES = jnp.zeros((2, 8, 8))
PROCESS = cj.generational_process(
    cj.estimators.gaussian(1), cj.sources.normal(0, 1), cj.workflows.replace(), sample_size=5
)


def ecosystem_of(coupling):
    return cj.ecosystem(cj.estimators.gaussian(1), cj.sources.normal(0, 1), coupling, 5)


COUNTS, THIRDS = jnp.array([2, 3]), jnp.array([1 / 3, 2 / 3])
# Name -> call with a key. No call gets as far as its parameters, so None stands for them.
CALLS = {
    "genealogy": lambda key: cj.genealogy(
        cj.workflows.replace(), key, sample_size=2, generations=1
    ),
    "genealogy_of": lambda key: cj.genealogy_of(PROCESS, key, generations=1),
    "hysteresis": lambda key: cj.hysteresis(
        lambda share: PROCESS, key, start=0, turn=1, metric="mean", sweeps=(2, 3, 4)
    ),
    "lm.fine_tune": lambda key: cj.lm.fine_tune(LM, {}, BLOCKS, BLOCKS, FineTune(), key),
    "lm.generate": lambda key: cj.lm.generate(LM, {}, BLOCKS, Sampling(), 2, key=key),
    "lm.init_params": lambda key: cj.lm.init_params(CONFIG, key),
    "measure": lambda key: cj.measure("run", ["mean"], process=PROCESS, key=key),
    "metrics.sliced_wasserstein": (
        lambda key: cj.metrics.sliced_wasserstein(THIRDS, THIRDS, key=key)
    ),
    "models.lm.pretrain.begin": lambda key: pretrain.begin(LM, PRETRAIN, key),
    "models.lm.pretrain.window_order": lambda key: pretrain.window_order(key, 3),
    "point_key": lambda key: cj.point_key(key, {"gamma": 0.1}),
    "points.subsample": lambda key: cj.points.subsample(key, POINTS, 2, 2),
    "random.binomial.binomial": lambda key: cj.random.binomial.binomial(key, 3, 0.5),
    "random.bits.fold_in": lambda key: cj.random.bits.fold_in(key, 1),
    "random.bits.is_threefry": lambda key: cj.random.bits.is_threefry(key),
    "random.bits.key_words": lambda key: cj.random.bits.key_words(key),
    "random.bits.packed": lambda key: cj.random.bits.packed(key),
    "random.bits.split": lambda key: cj.random.bits.split(key),
    "random.chi_square.chi_square": lambda key: cj.random.chi_square.chi_square(key, 3),
    "random.chi_square.dirichlet": lambda key: cj.random.chi_square.dirichlet(key, THIRDS),
    "random.chi_square.gamma": lambda key: cj.random.chi_square.gamma(key, 3),
    "random.chi_square.log_chi": lambda key: cj.random.chi_square.log_chi(key, 3),
    "random.chi_square.log_chi_square": lambda key: cj.random.chi_square.log_chi_square(key, 3),
    "random.chi_square.log_gamma": lambda key: cj.random.chi_square.log_gamma(key, 3),
    "random.chi_square.log_gamma_share": lambda key: cj.random.chi_square.log_gamma_share(key, 3),
    "random.distinct.distinct": lambda key: cj.random.distinct.distinct(key, 2, 9),
    "random.exponential.exponential_vector": (
        lambda key: cj.random.exponential.exponential_vector(key, 2)
    ),
    "random.exponential.log_mean_of_exponentials": (
        lambda key: cj.random.exponential.log_mean_of_exponentials(key, 2)
    ),
    "random.multinomial.multinomial": (
        lambda key: cj.random.multinomial.multinomial(key, 2, THIRDS)
    ),
    "random.multinomial.multinomial_of_categories": (
        lambda key: cj.random.multinomial.multinomial_of_categories(key, 2, THIRDS, COUNTS)
    ),
    "random.multinomial.multivariate_hypergeometric": (
        lambda key: cj.random.multinomial.multivariate_hypergeometric(key, COUNTS, 2)
    ),
    "random.normal.normal_array": lambda key: cj.random.normal.normal_array(key, (2,)),
    "random.normal.normal_vector": lambda key: cj.random.normal.normal_vector(key, 2),
    "random.normal.normals": lambda key: cj.random.normal.normals(key, 2),
    "random.poisson.average_of_poissons": (
        lambda key: cj.random.poisson.average_of_poissons(key, 2, 1.0)
    ),
    "random.poisson.poisson": lambda key: cj.random.poisson.poisson(key, 1.0),
    "random.wishart.wishart_factor": lambda key: cj.random.wishart.wishart_factor(key, 3, 2),
    "run": lambda key: cj.run(PROCESS, key, generations=1, folder="run"),
    "simulate": lambda key: cj.simulate(PROCESS, key, generations=1),
    "simulate_couplings": lambda key: cj.simulate_couplings(
        ecosystem_of, [[[1]]], key, generations=1
    ),
    "simulate_grid": lambda key: cj.simulate_grid(
        lambda gamma: PROCESS, {"gamma": [0.1]}, key, generations=1
    ),
    "simulate_summary": lambda key: cj.simulate_summary(PROCESS, key, generations=1, chains=2),
    "vae.elbo": lambda key: cj.vae.elbo(VAE, None, key, IMAGES),
    "vae.generate": lambda key: cj.vae.generate(VAE, None, key, 2),
    "vae.init_params": lambda key: cj.vae.init_params(VAE, key),
    "vae.train": lambda key: cj.vae.train(VAE, TRAINING, key, IMAGES, jnp.ones(2)),
}
SOURCES = {
    "few rows": cj.sources.dataset(np.arange(9.0)),
    "many rows": cj.sources.dataset(np.arange(9e3)),
    "an array of JAX": cj.sources.dataset(jnp.arange(9.0)),
    "categories": cj.sources.categorical([0.5, 0.5]),
}


def assert_refused(call, no_key):
    with pytest.raises(InputError, match=r"^key is [^\n]*; it must be one key") as caught:
        call(no_key)
    assert "\n" not in str(caught.value)


def public_functions():
    """Dotted names of what `collapse_jax` offers, and of all modules of `collapse_jax.random`."""
    found = {name: getattr(cj, name) for name in cj.__all__}
    modules = {name: part for name, part in found.items() if inspect.ismodule(part)}
    for part in pkgutil.iter_modules(cj.random.__path__):
        name = f"random.{part.name}"
        modules[name] = importlib.import_module(f"{cj.__name__}.{name}")
    modules["models.lm.pretrain"] = pretrain
    for name, module in modules.items():
        own = getattr(module, "__all__", None) or [
            own
            for own, value in vars(module).items()
            if own[0] != "_" and getattr(value, "__module__", "") == module.__name__
        ]
        found |= {f"{name}.{own_name}": getattr(module, own_name) for own_name in own}
    return {name: part for name, part in found.items() if inspect.isroutine(part)}


def test_every_public_function_that_takes_a_key_is_among_these():
    taking = {
        name
        for name, function in public_functions().items()
        if "key" in inspect.signature(function).parameters
    }
    assert taking - {"models.lm.pretrain.window_loss"} == set(CALLS)


@pytest.mark.parametrize("no_key", NO_KEYS.values(), ids=NO_KEYS)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_functions(call, no_key):
    if no_key is None and call is CALLS["lm.generate"]:
        pytest.skip("has a line of its own")
    if no_key is None and call in (CALLS["measure"], CALLS["metrics.sliced_wasserstein"]):
        pytest.skip("does without")
    assert_refused(call, no_key)


def test_a_key_without_its_process():
    with pytest.raises(InputError, match="key is given without process; a folder"):
        cj.measure("run", ["mean"], key=KEY)


@pytest.mark.parametrize("no_key", NO_KEYS.values(), ids=NO_KEYS)
def test_sources_and_processes(no_key):
    for source in SOURCES.values():
        assert_refused(lambda key, source=source: source.sample(key, 3), no_key)
    traced = jax.jit(lambda x: cj.sources.dataset(x).sample(no_key, 3))
    assert_refused(lambda _: traced(jnp.arange(9.0)), no_key)
    assert_refused(PROCESS.init, no_key)
    state, _ = PROCESS.init(KEY)
    assert_refused(lambda key: PROCESS.step(key, state), no_key)


@pytest.mark.parametrize("name", [name for name, family in cj.families().items() if family.example])
def test_families(name):
    """What draws; `fit` and `init` of most ignore their key."""
    family, params = cj.families()[name].example()
    x = family.sample(KEY, params, 8)
    data = family.summarise(x, jnp.ones(8))
    calls = [lambda key: family.sample(key, params, 8)]
    if family.draw is not None:
        calls += [lambda key: family.draw(key, params, 8)]
    if family.continued is not None:
        calls += [lambda key: family.continued(key, params, x)]
    if family.subsample is not None:
        calls += [lambda key: family.subsample(key, data, 2)]
    for call in calls:
        for no_key in NO_KEYS.values():
            assert_refused(call, no_key)

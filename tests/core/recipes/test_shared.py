"""The same settings compile once, and nothing that has changed is served from an old program."""

import gc
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import collapse_jax as cj
from collapse_jax.core.recipes import shared
from tests.core.recipes import own_family

KEY = jax.random.key(7)
OPTIONS = {"generations": 2, "chains": 2, "metrics": "variance", "progress": False}
_EVENTS = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, seconds, **labels: _EVENTS.append(event) if _COUNTS in event else None
)
_COUNTS = "jaxpr_trace_duration"
SIZE = 10


def traces(call):
    """How many functions JAX traces in a call."""
    before = len(_EVENTS)
    call()
    return len(_EVENTS) - before


def process(size=10, source=None, workflow=None, **options):
    return cj.generational_process(
        cj.estimators.gaussian(1),
        source or cj.sources.normal(),
        workflow or cj.workflows.mix(0.9, 0, 0.1),
        sample_size=size,
        **options,
    )


def variances(made):
    return np.asarray(cj.simulate(made, KEY, **OPTIONS)["variance"])


def test_the_same_settings_compile_once():
    one = process()
    assert traces(lambda: variances(one)) > 0
    other = process()
    assert other == one and traces(lambda: cj.simulate(other, KEY, **OPTIONS)) == 0
    one = other = None
    gc.collect()
    # The compiled program knows it still.
    last = process(workflow=cj.workflows.mix(alpha=0.9, gamma=0.1))
    assert traces(lambda: variances(last)) == 0
    assert traces(lambda: cj.simulate_summary(last, KEY, **OPTIONS)) > 0
    assert traces(lambda: cj.simulate_summary(process(), KEY, **OPTIONS)) == 0


def test_a_data_set_of_the_same_rows_compiles_once():
    rows = np.linspace(-1, 1, 30)
    first = variances(process(source=cj.sources.dataset(rows)))
    same = process(source=cj.sources.dataset(rows.copy()))
    assert traces(lambda: variances(same)) == 0
    rows[3] += 1
    assert (variances(process(source=cj.sources.dataset(rows))) != first).any()


def test_functions_that_read_another_number_make_another_program(monkeypatch):
    def sized():  # of a name of this module
        return process(lambda generation: SIZE, largest_sample_size=20)

    box = {"size": 10}
    cell = 10

    def of_a_container(generation):
        return box["size"]

    def of_a_cell(generation):
        return cell

    def of_a_global(generation):
        return SIZE

    small, large = variances(process(10)), variances(process(20))
    made = [
        process(size, largest_sample_size=20) for size in (of_a_container, of_a_cell, of_a_global)
    ]
    for one in made:
        np.testing.assert_allclose(variances(one), small, rtol=1e-5)
    box["size"] = cell = 20
    monkeypatch.setitem(globals(), "SIZE", 20)
    for one in made:  # the very process that was compiled before, and one like it
        np.testing.assert_allclose(variances(one), large, rtol=1e-5)
        np.testing.assert_allclose(
            variances(process(one.parts.sample_size, largest_sample_size=20)), large, rtol=1e-5
        )
    assert traces(lambda: variances(made[0])) == 0  # and that is compiled once
    assert sized() != sized()


def test_what_nobody_can_look_into_is_shared_with_nobody():
    class Sizes:
        """Whose state may change in any way."""

        size = 10

        def __call__(self, generation):
            return self.size

    sizes = Sizes()
    small = variances(process(sizes, largest_sample_size=20))
    Sizes.size = 20
    large = variances(process(sizes, largest_sample_size=20))
    np.testing.assert_allclose(large, variances(process(20)), rtol=1e-5)
    assert (small != large).any()
    assert shared.settings_of(sizes) is None
    assert shared.settings_of(np.zeros(2**18)) is None  # 2 MiB that somebody may write to
    assert shared.settings_of(lambda: sizes) is None
    assert shared.settings_of(lambda: own_family) is None
    assert shared.settings_of(own_family.growing) is not None


def test_a_function_that_knows_its_own_process_ends():
    def size(generation):
        return 5 if made else 6

    made = process(size, largest_sample_size=6)
    assert shared.settings_of(made) is None and hash(made) == hash(made)


def test_what_is_made_inside_a_program_is_shared_with_nobody():
    seen = []

    @jax.jit
    def mean_after(gamma):
        made = process(workflow=cj.workflows.mix(1 - gamma, 0.0, gamma))
        plain = process(15)
        seen.append((made.init.__self__.made_of, plain.init.__self__.made_of))
        return made.init(KEY)[0].params.mean[0]

    for gamma in (0.1, 0.4):
        assert np.isfinite(float(mean_after(gamma)))
    assert seen == [(None, None)]
    before = len(shared._KNOWN)
    outside = process(15)
    assert outside.init.__self__.made_of is not None and len(shared._KNOWN) == before + 1
    assert np.isfinite(variances(outside)).all()


def test_other_options_of_jax_are_other_programs():
    narrow = process(12)
    with jax.enable_x64(True):
        wide = process(12)
        assert wide != narrow and wide.init != narrow.init
        assert variances(wide).dtype == np.float64
    assert variances(narrow).dtype == np.float32


def test_no_process_is_kept_that_nobody_has():
    before = len(shared._KNOWN)
    made = [process(size) for size in range(30, 40)]
    assert len(shared._KNOWN) == before + 10
    del made
    gc.collect()
    assert len(shared._KNOWN) == before


def test_threads_that_make_the_same_process_get_equal_ones():
    made = []
    threads = [threading.Thread(target=lambda: made.append(process(41))) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(made) == 4 and len(set(made)) == 1


@pytest.mark.parametrize("size", [10, own_family.growing])
def test_what_is_shared_is_looked_at_all_the_same(size):
    """Errors of settings come again, as what raised them was never kept."""
    for _ in range(2):
        with pytest.raises(cj.InputError, match=r"sample_size|largest"):
            process(size, largest_sample_size=0) if callable(size) else process(0)


def test_ecosystems_compile_once():
    def made():
        coupling = np.array([[0.5, 0.5], [0.25, 0.5]])
        return cj.ecosystem(cj.estimators.gaussian(1), cj.sources.normal(), coupling, 10)

    one = made()
    assert traces(lambda: cj.simulate(one, KEY, **OPTIONS)) > 0
    assert made() == one and traces(lambda: cj.simulate(made(), KEY, **OPTIONS)) == 0


def test_a_metric_of_fits_compiles_once():
    options = OPTIONS | {"metrics": ["mean", cj.metrics.of_fit("iterations")]}
    one = process(17)
    assert traces(lambda: cj.simulate(one, KEY, **options)) > 0
    options = OPTIONS | {"metrics": ["mean", cj.metrics.of_fit("iterations")]}
    assert traces(lambda: cj.simulate(process(17), KEY, **options)) == 0
    assert jnp.isfinite(variances(one)).all()

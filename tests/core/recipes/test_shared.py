"""The same settings compile once, and nothing that has changed is served from an old program."""

import gc
import threading

import jax
import numpy as np
import pytest

import collapse_jax as cj
from collapse_jax.core.recipes import shared
from collapse_jax.drivers.fit_metrics import with_fit_metrics
from collapse_jax.metrics import resolve_metrics
from tests.core.recipes import own_family

KEY = jax.random.key(7)
OPTIONS = {"generations": 2, "chains": 2, "metrics": "mean", "progress": False}
pytestmark = pytest.mark.usefixtures("quick_compile")
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
        cj.estimators.gaussian_mean(),
        source or cj.sources.normal(),
        workflow or cj.workflows.mix(0.9, 0, 0.1),
        sample_size=size,
        **options,
    )


def means(made):
    return np.asarray(cj.simulate(made, KEY, **OPTIONS)["mean"])


def test_the_same_settings_compile_once():
    assert traces(lambda: means(process())) > 0
    other = process(workflow=cj.workflows.mix(alpha=0.9, gamma=0.1))
    assert other == process() and hash(other) == hash(process())
    assert traces(lambda: means(other)) == 0
    gc.collect()
    # Nobody has the process any more, but its compiled program.
    last = process()
    assert traces(lambda: cj.simulate_summary(last, KEY, **OPTIONS)) > 0
    assert traces(lambda: cj.simulate_summary(process(), KEY, **OPTIONS)) == 0


def test_data_sets_share_where_their_rows_are_the_same():
    rows = np.linspace(-1, 1, 30)
    first = process(source=cj.sources.dataset(rows))
    assert process(source=cj.sources.dataset(rows.copy())).init == first.init
    rows[3] = np.nextafter(rows[3], 1)
    other = process(source=cj.sources.dataset(rows))
    assert other.init != first.init and other != first


def test_functions_that_read_another_number_make_another_program(monkeypatch):
    box, cell = {"size": 10}, 10

    def of_a_container(generation):
        return box["size"]

    def of_a_cell(generation):
        return cell

    def of_a_global(generation):
        return SIZE

    def of_a_default(generation, size=(10,)):
        return size[0]

    sizes = (of_a_cell, of_a_container, of_a_global, of_a_default)
    made = [process(size, largest_sample_size=20) for size in sizes]
    before = means(made[0])
    inits = [shared.as_of_now(one).init for one in made]
    assert inits == [one.init for one in made]
    box["size"] = cell = 20
    of_a_default.__defaults__ = ((20,),)
    monkeypatch.setitem(globals(), "SIZE", 20)
    for one in made:  # the very process that was made before, and one like it
        now = shared.as_of_now(one).init
        assert now != one.init
        assert now == process(one.parts.sample_size, largest_sample_size=20).init
    after = means(made[0])
    assert (after != before).any()
    np.testing.assert_allclose(after, means(process(20)), rtol=1e-5)
    assert traces(lambda: means(made[0])) == 0  # and that is compiled once
    cell = 10
    assert (means(made[0]) == before).all()


def test_what_nobody_can_look_into_is_shared_with_nobody():
    class Sizes:
        """Whose state may change in any way."""

        def __call__(self, generation):
            return 10

    sizes = Sizes()
    small, large = (process(sizes, largest_sample_size=20) for _ in range(2))
    assert small == large and small.init != large.init
    assert shared.settings_of(sizes) is None
    assert shared.settings_of(np.zeros(2**18)) is None  # 2 MiB that somebody may write to
    assert shared.settings_of(lambda: sizes) is None
    assert shared.settings_of(lambda: own_family) is None
    assert shared.settings_of(own_family.growing) is not None

    def imports_a_module_of_the_user(generation):
        from tests.core.recipes import own_family as later

        return later.growing(generation)

    def imports_a_fixed_one(generation):
        import math

        return math.ceil(generation)

    assert shared.settings_of(imports_a_module_of_the_user) is None
    assert shared.settings_of(imports_a_fixed_one) is not None


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
    outside = process(15)
    assert outside.init.__self__.made_of is not None
    assert np.isfinite(float(jax.jit(lambda key: outside.init(key)[0].params.mean[0])(KEY)))


def test_other_options_of_jax_are_other_programs():
    narrow = process(12)
    jax.config.update("jax_enable_x64", True)
    try:
        wide = process(12)
        assert wide != narrow and wide.init != narrow.init
        assert wide.init(KEY)[0].params.mean[0].dtype == np.float64
    finally:
        jax.config.update("jax_enable_x64", False)
    assert process(12).init == narrow.init
    assert narrow.init(KEY)[0].params.mean[0].dtype == np.float32
    with jax.default_matmul_precision("highest"):
        assert process(12).init != narrow.init


def test_no_process_is_kept_that_nobody_has():
    gc.collect()
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


def test_bad_settings_are_refused_each_time():
    for _ in range(2):
        with pytest.raises(cj.InputError, match="sample_size is 0"):
            process(0)
        with pytest.raises(cj.InputError, match="largest_sample_size is 0"):
            process(own_family.growing, largest_sample_size=0)


def test_ecosystems_share():
    def made():
        coupling = np.array([[0.5, 0.5], [0.25, 0.5]])
        return cj.ecosystem(cj.estimators.gaussian_mean(), cj.sources.normal(), coupling, 10)

    one = made()
    assert made() == one and made().init == one.init and made().step == one.step
    assert made().metrics == one.metrics


def test_metrics_of_fits_share():
    inits = [
        with_fit_metrics(made, resolve_metrics(made.metrics, ["mean", of_fit])).init
        for made in (process(17), process(17))
        for of_fit in [cj.metrics.of_fit("iterations")]
    ]
    assert inits[0] == inits[1]

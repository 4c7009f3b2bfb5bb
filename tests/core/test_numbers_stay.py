"""Numbers that do not move: one table of the same runs with everything else changed.

Prints it, with the largest relative difference of each cell: python -m pytest -m slow
tests/core/test_numbers_stay.py -n 0 -s
(some 2 minutes of CPU time). The parts that the default tests hold: tests/drivers/test_simulate.py
(chunks, chains, generations, 8 devices, going on), tests/drivers/test_run.py (both drivers),
tests/models/lm/test_devices.py, tests/runs/test_distributed.py (2 processes).
"""

import pathlib
import runpy
import sys
import tempfile

import numpy as np
import pytest

FAMILIES = ("gaussian", "categorical", "kde with a buffer")
CHANGES = (
    "chunks of 2", "19 chains", "9 generations", "2 devices", "8 devices",
    "2 processes of 4 devices", "resumed after 2", "cj.run",
)  # fmt: skip
SUMMARY_CHANGES = ("chunks of 2", "2 devices", "8 devices", "2 processes of 4 devices")
MODEL_CHANGES = ("2 devices", "8 devices", "8 devices, cut parameters", "2 processes of 4 devices")
# Counts are equal bit for bit. Floats: another number of chains, devices or processes is another
# shape of the compiled program, and XLA then fuses float32 operations differently. The LM's: sums
# over a batch are taken in other orders, and Adam magnifies that.
TOLERANCE, MODEL_TOLERANCE = {"rtol": 2e-5, "atol": 1e-6}, {"rtol": 2e-4, "atol": 2e-5}
EXACT = ("support", "beams", "samples")


def processes():
    """Family -> (process, names of metrics)."""
    from collapse_jax.core import workflows
    from collapse_jax.core.process import generational_process
    from collapse_jax.estimators import sources
    from collapse_jax.estimators.categorical import categorical
    from collapse_jax.estimators.gaussian import gaussian
    from collapse_jax.estimators.registry import family

    estimator, params = family("kde").example()
    known = {
        "gaussian": (
            gaussian(2),
            sources.normal(np.zeros(2), np.eye(2)),
            workflows.replace(),
            ("mean", "log_variance"),
        ),
        "categorical": (
            categorical(30),
            sources.categorical(np.full(30, 1 / 30)),
            workflows.mix(0.8, 0.1, 0.1),
            ("support", "heterozygosity"),
        ),
        "kde with a buffer": (
            estimator,
            sources.population(estimator, params),
            workflows.accumulate_subsample(),
            ("mean", "variance"),
        ),
    }
    return {
        name: (generational_process(*one[:3], sample_size=12), one[3])
        for name, one in known.items()
    }


def found_alone():
    """(family, change) -> metric -> [13 chains, generations 0 to 6], all that one process of 8
    devices can tell.
    """
    import jax

    from collapse_jax.drivers.chunks import join_chunks
    from collapse_jax.drivers.plan import Plan
    from collapse_jax.drivers.run import run
    from collapse_jax.drivers.simulate import simulate, simulate_chunks

    key, found = jax.random.key(1), {}
    for family, (process, metrics) in processes().items():
        one = {"chains": 13, "generations": 6, "metrics": metrics, "devices": jax.devices()[:1]}
        found[family, "1 device"] = simulate(process, key, **one)
        found[family, "chunks of 2"] = simulate(process, key, **one | {"chunk": 2})
        found[family, "19 chains"] = simulate(process, key, **one | {"chains": 19})
        found[family, "9 generations"] = simulate(process, key, **one | {"generations": 9})
        for devices in (2, 8):
            found[family, f"{devices} devices"] = simulate(
                process, key, **one | {"devices": jax.devices()[:devices]}
            )
        plan = Plan(**one)
        first = list(simulate_chunks(process, key, plan._replace(generations=2)))
        plan = plan._replace(after=(2, first[-1].copy_state()))
        later = simulate_chunks(process, key, plan)
        found[family, "resumed after 2"] = join_chunks([*first, *later])
        with tempfile.TemporaryDirectory() as folder:
            found[family, "cj.run"] = run(
                process, key, generations=6, chains=3, metrics=metrics, folder=folder
            )
    found = {
        at: {name: values[:13, :7] for name, values in trace.items()} for at, trace in found.items()
    }
    for family, (process, metrics) in processes().items():
        one = {"metrics": metrics, "devices": jax.devices()[:1]}
        several = {f"{devices} devices": {"devices": jax.devices()[:devices]} for devices in (2, 8)}
        for change, changed in ({"1 device": {}, "chunks of 2": {"chunk": 2}} | several).items():
            found[f"{family}, summary", change] = summarised(process, **one | changed)
    return found


def summarised(process, **options):
    """Name -> mean, deviation or quantiles over 13 chains [7, ...]."""
    import jax

    from collapse_jax.drivers.simulate_summary import simulate_summary

    found = simulate_summary(process, jax.random.key(1), generations=6, chains=13, **options)
    return {
        f"{kind} {name}": values
        for kind in ("mean", "std", "quantile")
        for name, values in getattr(found, kind).items()
    }


def found_together():
    """The same of a job, on all its devices."""
    import jax

    from collapse_jax.drivers.simulate import simulate

    found, options = {}, {"chains": 13, "generations": 6}
    for family, (process, metrics) in processes().items():
        found[family, "2 processes of 4 devices"] = simulate(
            process, jax.random.key(1), **options, metrics=metrics
        )
        found[f"{family}, summary", "2 processes of 4 devices"] = summarised(
            process, metrics=metrics
        )
    return found


def found_of_model(changes):
    """("lm", change) -> name -> numbers of everything that the language model does, dropout and
    sampling included.
    """
    import jax

    from collapse_jax.runs.placement import Placement

    numbers = runpy.run_path(
        str(pathlib.Path(__file__).parents[1] / "models" / "lm" / "test_devices.py")
    )["numbers"]
    spreads = {
        "1 device": Placement(tuple(jax.devices()[:1])),
        "2 devices": Placement(tuple(jax.devices()[:2])),
        "8 devices": Placement(),
        "8 devices, cut parameters": Placement(shard=True),
        "2 processes of 4 devices": Placement(),
    }
    return {("lm", change): numbers(16, spreads[change])[0] for change in changes}


def work(out, *options):
    """What a process of a job does: its numbers, as a file."""
    import jax
    import tyro

    from collapse_jax.app.config import Devices
    from collapse_jax.runs import distributed

    jax.config.update("jax_default_matmul_precision", "highest")
    distributed.start(tyro.cli(Devices, args=options))
    if distributed.processes() > 1:
        found = found_together() | found_of_model(["2 processes of 4 devices"])
    else:
        found = found_alone() | found_of_model(["1 device", *MODEL_CHANGES[:3]])
    if distributed.is_first():
        np.savez(
            out,
            **{
                "|".join((*at, name)): values
                for at, one in found.items()
                for name, values in one.items()
            },
        )


@pytest.fixture(scope="module")
def table(tmp_path_factory, jobs):
    """(family, change) -> name -> numbers."""
    folder, found = tmp_path_factory.mktemp("numbers"), {}
    jobs.finished([__file__, str(folder / "alone.npz")], processes=1, devices=8, seconds=900)
    jobs.finished([__file__, str(folder / "together.npz")], processes=2, devices=4, seconds=900)
    for name in ("alone", "together"):
        with np.load(folder / f"{name}.npz") as file:
            for key, values in file.items():
                family, change, name = key.split("|")
                found.setdefault((family, change), {})[name] = values
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "change"),
    [
        *((family, change) for family in FAMILIES for change in CHANGES),
        *((f"{family}, summary", change) for family in FAMILIES for change in SUMMARY_CHANGES),
        *(("lm", change) for change in MODEL_CHANGES),
    ],
)
def test_numbers_stay(table, family, change):
    wanted, found = table[family, "1 device"], table[family, change]
    assert set(found) == set(wanted)
    worst = 0.0
    for name, values in wanted.items():
        values = values[: len(found[name])] if family in FAMILIES else values
        with np.errstate(divide="ignore", invalid="ignore"):
            worst = max(
                worst,
                float(
                    np.nanmax(
                        np.where(
                            values == found[name], 0, np.abs(found[name] - values) / np.abs(values)
                        )
                    )
                ),
            )
        if name in EXACT:
            np.testing.assert_array_equal(found[name], values, err_msg=name)
        else:
            np.testing.assert_allclose(
                found[name],
                values,
                **(MODEL_TOLERANCE if family == "lm" else TOLERANCE),
                err_msg=name,
            )
    print(f"| {family} | {change} | {'bit for bit' if worst == 0 else f'{worst:.1e}'} |")


if __name__ == "__main__":
    work(*sys.argv[1:])

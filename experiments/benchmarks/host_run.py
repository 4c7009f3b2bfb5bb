"""What a generation costs under `cj.run`: fitted, saved, recorded; then opened and read again.

    python experiments/benchmarks/host_run.py        30 seconds on 2 CPU cores

A Gaussian on the line, whose fit takes no time, and scikit-learn's mixture of eight. Columns are
milliseconds a generation: of wall time, of CPU time of all threads, and how much of the latter is
spent on saving (`Checkpoints.save`) and on the records (results.nc, metrics.jsonl, metrics.csv).
The last is what the same call takes again, when all is done.
"""

import contextlib
import dataclasses
import tempfile
import time
from unittest import mock

import tyro


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure."""

    generations: int = 200
    sample_size: int = 200


def families():
    """(name, its estimator, the shape of a point)."""
    from sklearn.mixture import GaussianMixture

    import collapse_jax as cj

    yield "gaussian", cj.estimators.gaussian(1)
    yield "GaussianMixture(8)", cj.from_sklearn(GaussianMixture(8))


@contextlib.contextmanager
def counting(owner, name, spent):
    """Adds to spent[name] what calls of a method take."""
    function = getattr(owner, name)

    def counted(*arguments, **options):
        began = time.process_time()
        try:
            return function(*arguments, **options)
        finally:
            spent[name] = spent.get(name, 0.0) + time.process_time() - began

    with mock.patch.object(owner, name, counted):
        yield


def measured(process, generations):
    """Milliseconds a generation: wall, CPU, saving, records, and again when all is done."""
    import jax

    import collapse_jax as cj
    from collapse_jax.drivers.book import Book
    from collapse_jax.runs.checkpoint import Checkpoints

    def run(folder, last):
        options = {"generations": last, "metrics": ("variance",)}
        watcher = cj.Watcher(end=lambda chain, generation, row: None)
        began = time.perf_counter(), time.process_time()
        cj.run(process, jax.random.key(0), folder=folder, watcher=watcher, **options)
        return time.perf_counter() - began[0], time.process_time() - began[1]

    spent = {}
    with tempfile.TemporaryDirectory() as folder:
        run(f"{folder}/compiles", 1)
        with counting(Checkpoints, "save", spent), counting(Book, "_write", spent):
            wall, cpu = run(f"{folder}/run", generations)
        _, again = run(f"{folder}/run", generations)
    seconds = (wall, cpu, spent["save"], spent["_write"], again)
    return [1e3 * each / (generations + 1) for each in seconds]


def main(settings: Settings) -> None:
    """Prints the table."""
    import jax

    import collapse_jax as cj

    real = jax.random.normal(jax.random.key(1), (2000, 1))
    print(f"{'ms a generation':20s}     wall      CPU   saving  records    again")
    for name, family in families():
        process = cj.generational_process(
            family,
            cj.sources.dataset(real),
            cj.workflows.replace(),
            sample_size=settings.sample_size,
        )
        columns = measured(process, settings.generations)
        print(f"{name:20s} " + " ".join(f"{column:8.1f}" for column in columns), flush=True)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))

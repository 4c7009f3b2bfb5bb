"""`collapse-jax simulate`: chains from settings to a run folder, resumed by saying the same again."""

import jax
import numpy as np

from collapse_jax import estimators, sources, workflows
from collapse_jax.chain_theory import expected_means, initial_probabilities
from collapse_jax.checkpoint import Checkpoints
from collapse_jax.config import SimulateConfig
from collapse_jax.drivers.simulate import Chunk, join_chunks, simulate_chunks
from collapse_jax.errors import InputError
from collapse_jax.metrics import resolve_metrics
from collapse_jax.process import generational_process
from collapse_jax.records import RunFolder
from collapse_jax.types import Process

_QUANTILES = {"q05": 0.05, "median": 0.5, "q95": 0.95}


def process_of(config: SimulateConfig) -> Process:
    """The generational process of the settings: a standard normal, or equally probable categories, as the real distribution."""
    if config.workflow == "mix":
        workflow = workflows.mix(config.alpha, config.beta, config.gamma)
    else:
        if (config.alpha, config.beta, config.gamma) != (1.0, 0.0, 0.0):
            shares = f"{config.alpha:g}, {config.beta:g}, {config.gamma:g}"
            raise InputError(f"alpha, beta, gamma are {shares} with workflow {config.workflow}, which ignores them; give --workflow mix")
        workflow = getattr(workflows, config.workflow)()
    if config.family == "gaussian":
        estimator, source = estimators.gaussian(config.dim, config.ddof), sources.normal(np.zeros(config.dim), np.eye(config.dim))
    else:
        estimator, source = estimators.categorical(config.num_categories), sources.categorical(initial_probabilities(config))
    return generational_process(estimator, source, workflow, sample_size=config.sample_size)


def run_simulate(config: SimulateConfig, out, console) -> RunFolder:
    """Runs (or resumes) the chains, writes the run folder, draws the figure, prints a table; the folder."""
    from collapse_jax.plots import draw_run

    config.check()
    config = config.resolved()
    process = process_of(config)
    resolve_metrics(process.estimator, config.metrics)
    folder = RunFolder(out)
    folder.check(config)
    if len(folder.rows()) > config.generations:
        console.print(f"all {config.generations + 1} generations of {folder.path} are done", highlight=False)
    else:
        folder = RunFolder.open(out, config)
        trace = _simulate_into(folder, config, process, console)
        folder.write_results(trace.to_xarray())
        folder.write_rows(summary_rows(trace))
    console.print(table_of(folder, config))
    for path in draw_run(folder):
        console.print(f"figure: {path}", highlight=False)
    return folder


def _simulate_into(folder, config, process, console):
    """The trace of all generations; the newest state and everything recorded so far are saved as each chunk ends."""
    from rich.progress import Progress

    key = jax.random.key(config.seed)
    checkpoints = Checkpoints(folder.checkpoints / "chains", keep=1)
    done = checkpoints.generations()
    chunks, after = [], None
    if done:
        record, arrays = checkpoints.restore_record(done[-1])
        chunks = [Chunk(np.array(record["generations"]), arrays, None)]
        after = done[-1], checkpoints.restore_state(done[-1], process.template(key, config.generations))
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("generations", total=config.generations, completed=done[-1] if done else 0)
        options = {"generations": config.generations, "chains": config.chains, "metrics": config.metrics, "chunk": config.chunk}
        for part in simulate_chunks(process, key, **options, after=after):
            chunks.append(part)
            trace = join_chunks(chunks)
            last = int(part.generations[-1])
            checkpoints.save(last, part.copy_state(), {"generations": trace.generations.tolist()}, dict(trace))
            progress.update(bar, completed=last)
    checkpoints.close()
    return trace


def summary_rows(trace) -> list[dict]:
    """One row a generation: mean, and 5, 50, 95 % quantiles over chains, of each scalar metric."""
    scalars = {name: values for name, values in trace.items() if values.ndim == 2}
    rows = []
    for position, generation in enumerate(trace.generations):
        row = {"generation": int(generation)}
        for name, values in scalars.items():
            column = values[:, position].astype(float)
            row[f"{name}_mean"] = float(column.mean())
            row |= {f"{name}_{label}": float(np.quantile(column, q)) for label, q in _QUANTILES.items()}
        rows.append(row)
    return rows


def table_of(folder: RunFolder, config: SimulateConfig):
    """A rich table of the last generation: what the chains did, what theory expects of their mean, and how far apart they are."""
    from rich.table import Table

    from collapse_jax.plots.chains import title

    results = folder.results()
    generation = int(results["generation"].values[-1])
    exact = expected_means(config, np.array([generation]))
    table = Table(
        "metric", "median", "5 to 95%", "mean", "exact mean", "z", title=f"{title(config)}, generation {generation}", title_justify="left"
    )
    for name in config.metrics:
        if results[name].ndim > 2:
            continue
        values = results[name].values[:, -1].astype(float)
        low, median, high = np.quantile(values, [0.05, 0.5, 0.95])
        known = name in exact and np.isfinite(exact[name][0])
        error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
        z = f"{(values.mean() - exact[name][0]) / error:+.2f}" if known and error > 0 else ""
        table.add_row(
            name, f"{median:.5g}", f"{low:.4g} to {high:.4g}", f"{values.mean():.5g}", f"{exact[name][0]:.5g}" if known else "", z
        )
    return table

"""Which real points precision, recall, density, coverage and sliced Wasserstein compare with."""

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.app.config.simulate import SimulateConfig
from collapse_jax.app.own_data.held import held
from collapse_jax.app.own_data.reading import own_data
from collapse_jax.core.types import Process
from collapse_jax.errors import InputError
from collapse_jax.metrics import quality
from collapse_jax.metrics.held_out import as_held

# Real points that a model's points are compared with.
MOST = 1000
# Neighbours of a point; there must be more points than these.
_NEIGHBOURS = 3
# What the key of the real points starts from: a model that is the real law must not draw the same.
_SEED = 1


def with_quality(process: Process, settings: SimulateConfig) -> Process:
    """The process, with those metrics of points that are asked for.

    Held-out rows are the real points where there are some: a model can copy the rows that it was
    fitted to, and would be called precise for that. Else they are draws of the real distribution,
    which of a file are its rows.
    """
    asked = [name for name in _asked(settings) if name not in process.metrics]
    if not asked:
        return process
    real = _held_out(settings) if settings.data and settings.held_out else None
    if real is None:
        source = process.parts.source
        real = source.sample(jax.random.key(_SEED), min(MOST, source.size or MOST))
    found = quality.against(jnp.asarray(real), process.estimator.sample, asked, k=_NEIGHBOURS)
    offered = {metric.name: metric.of_params for metric in found}
    return process._replace(metrics={**process.metrics, **offered})


def reference_in_words(settings: SimulateConfig) -> str:
    """Which points those are, as "15 held-out rows"; "" where no such metric is asked for."""
    if not _asked(settings):
        return ""
    if not settings.data:
        return f"{MOST:,} draws of the real distribution"
    data = own_data(settings)
    rows, kind = (data.test, "held-out") if settings.held_out else (data.train, "training")
    unit = "rows" if data.points.x.ndim < 2 or len(data.points.columns) > 1 else "points"
    some = "" if len(rows) <= MOST else f"{MOST:,} of the "
    return f"{some}{len(rows):,} {kind} {unit}"


def reference_line(settings: SimulateConfig) -> str:
    """A line on it for the screen; "" where no such metric is asked for."""
    names, words = _asked(settings), reference_in_words(settings)
    if not names:
        return ""
    line = f"{', '.join(names)}: drawn points are compared with {words}"
    if settings.held_out:
        return line
    return f"{line}, which a model can copy; --held-out 0.2 compares with others"


def check_reference(settings: SimulateConfig) -> None:
    """Raises `InputError` where too few rows are held out to compare with."""
    names, count = _asked(settings), len(own_data(settings).test)
    if names and settings.held_out and count <= _NEIGHBOURS:
        raise InputError(
            f"held_out is {settings.held_out:g}, which is {count} of the rows, and {names[0]} "
            f"compares with more than {_NEIGHBOURS}; hold out a larger share"
        )


def _asked(settings):
    return [name for name in settings.metrics if name in quality.NAMES]


def _held_out(settings):
    """Held-out rows [n, ...] as the family holds them, at most `MOST`."""
    data = own_data(settings)
    rows = data.test
    if len(rows) > MOST:
        order = jax.random.permutation(jax.random.key(_SEED), len(rows))
        rows = rows[np.sort(np.asarray(order[:MOST]))]
    return as_held(held(settings).estimator, data.points.x[rows])

"""Couplings of `collapse-jax simulate`, by name or file, and the exact means that they give."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.app.config.ecosystem import OF_MODEL, SHAPES
from collapse_jax.app.config.simulate import SimulateConfig, SimulateSettings
from collapse_jax.core.ecosystems.coupling import KnownSources, checked_coupling
from collapse_jax.errors import InputError, first_line
from collapse_jax.runs.made_of import expanded
from collapse_jax.theory import islands


def coupling_of(settings: SimulateConfig, exchange: Any) -> Any:
    """Returns the coupling of a file [K, K], or a named coupling as `KnownSources`.

    A share may be a number or traced; it is cast to the models' float type, so both give equal
    results.
    """
    if settings.coupling_file():
        return _of_file(settings)
    count = settings.ecosystem
    neighbours = _neighbours(settings.coupling or SHAPES[0], count)
    known = not isinstance(exchange, jax.Array)
    dtype = jnp.result_type(float)
    share = np.asarray(exchange, dtype) if known else jnp.asarray(exchange, dtype)
    # Whoever asks for a traced share gives one between 0 and 1 as the example.
    reads = neighbours.astype(bool) & (settings.exchange != 0)
    reads |= np.eye(count, dtype=bool) & (settings.exchange != 1)
    degree = neighbours.sum(1, keepdims=True).astype(dtype)
    weights = neighbours.astype(dtype) * (share / degree) + np.eye(count, dtype=dtype) * (1 - share)
    return KnownSources(weights, reads)


def real_rows(settings: SimulateConfig) -> list[str]:
    """Returns a line that names the rows of a coupling file that take real data, or no line."""
    if not settings.coupling_file():
        return []
    left = 1 - coupling_of(settings, None).sum(1)
    rows = np.flatnonzero(left > 1e-9)
    named = ", ".join(f"{left[row]:.3g} in row {row}" for row in rows[:8])
    more = f" and {len(rows) - 8} more rows" if len(rows) > 8 else ""
    file = settings.coupling_file()
    return (
        [f"{file}: the rest of rows that sum to less than 1 is real data: {named}{more}"]
        if len(rows)
        else []
    )


def exact_means(
    settings: SimulateSettings, real: Mapping[str, float], generation: Any
) -> dict[str, np.ndarray]:
    """Returns metric -> exact mean over chains [generations], by identity by descent.

    Args:
        settings: of an ecosystem under replace, or mix without previous sets.
        real: name of a diversity that `theory.islands` knows -> its value for the real
            distribution.
        generation: [generations].
    """
    coupling = coupling_of(settings, settings.exchange)
    coupling = coupling.weights if isinstance(coupling, KnownSources) else coupling
    # float32 shares sum to 1 within a rounding.
    coupling = np.asarray(coupling, np.float64)
    coupling = coupling / np.maximum(coupling.sum(1, keepdims=True), 1)
    if settings.workflow == "mix":
        coupling = coupling * settings.alpha
    of_models = islands.retention(generation, settings.sample_size, coupling)
    of_pool = islands.pooled_retention(generation, settings.sample_size, coupling)
    found = {}
    for name, value in real.items():
        within = of_models.mean(-1)
        parts = {"within": within, "pooled": of_pool, "between": of_pool - within}
        found |= {f"{part}_{name}": value * kept for part, kept in parts.items()}
        found |= {f"{name}{OF_MODEL}{k}": value * of_models[..., k] for k in range(len(coupling))}
    return found


def _neighbours(shape, count):
    """[K, K], 1 where the row reads the column; the diagonal is 0."""
    others = 1 - np.eye(count)
    if shape == "complete":
        return others
    if shape == "star":
        return others * ((np.arange(count) == 0)[:, None] | (np.arange(count) == 0)[None])
    apart = (np.arange(count)[:, None] - np.arange(count)) % count
    return others * ((apart == 1) | (apart == count - 1))


def _of_file(settings):
    file = settings.coupling_file()
    try:
        path = expanded(file)
        is_text = path.suffix.lower() == ".csv"
        if not path.stat().st_size:
            raise InputError("the file is empty; it must contain [K, K] shares")
        array = np.loadtxt(path, delimiter=",", ndmin=2) if is_text else np.load(path)
        coupling = checked_coupling(array)
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    except Exception as error:
        raise InputError(
            f"coupling is {file!r}, which cannot be read as numbers [K, K]: "
            f"{first_line(error, 200)}"
        ) from None
    if settings.ecosystem not in (0, len(coupling)):
        raise InputError(
            f"ecosystem is {settings.ecosystem}, but {file} contains [{len(coupling)}, "
            f"{len(coupling)}] shares; leave --ecosystem out, or give {len(coupling)}"
        )
    if len(coupling) < 2:
        raise InputError(f"{file} describes a single model; an ecosystem has at least 2")
    return coupling

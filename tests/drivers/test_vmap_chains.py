"""Chains at once or one after the other give the same numbers; many chains with LAPACK end."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collapse_jax.drivers import vmap_chains as module
from collapse_jax.drivers.vmap_chains import vmap_chains


def spectrum(matrix, shift):
    return {"values": jnp.linalg.eigvalsh(matrix @ matrix.T), "shifted": matrix[0] + shift["by"]}


@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("hangs", [False, True])
def test_it_is_vmap(monkeypatch, axis, hangs):
    monkeypatch.setattr(module, "_may_hang", lambda: hangs)
    rng = np.random.default_rng(0)
    matrices, shifts = rng.normal(size=(7, 3, 3)), rng.normal(size=7)
    found = vmap_chains(spectrum, (axis, 0), axis)(
        jnp.moveaxis(matrices, 0, axis), {"by": jnp.asarray(shifts)}
    )
    for i, (matrix, shift) in enumerate(zip(matrices, shifts, strict=True)):
        np.testing.assert_allclose(
            np.moveaxis(found["values"], axis, 0)[i],
            np.linalg.eigvalsh(matrix @ matrix.T),
            atol=1e-5,
        )
        np.testing.assert_allclose(
            np.moveaxis(found["shifted"], axis, 0)[i], matrix[0] + shift, rtol=1e-5
        )


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: jnp.linalg.cholesky(x), True),
        (lambda x: jax.jit(lambda y: jnp.linalg.slogdet(y)[1])(x), True),
        (lambda x: jax.lax.fori_loop(0, 3, lambda i, y: jnp.linalg.solve(y, x), x), True),
        (
            lambda x: jax.lax.cond(x[0, 0] > 0, lambda y: jnp.linalg.svd(y)[1], lambda y: y[0], x),
            True,
        ),
        (lambda x: jnp.exp(x @ x).sum(), False),
    ],
)
def test_lapack_is_found_wherever_it_is(function, expected):
    assert module._calls_lapack(function, (0,), (jnp.ones((5, 3, 3)),)) is expected


@pytest.mark.parametrize("version", ["0.10.2", "0.11.0", "0.11.1", "0.12.0.1", "1.0.0rc1"])
def test_versions(monkeypatch, version):
    monkeypatch.setattr(module.jaxlib.version, "__version__", version)
    assert module._may_hang() is (version in ("0.10.2", "0.11.0"))


_MANY = """
import jax, jax.numpy as jnp
import collapse_jax as cj

def largest(state):
    columns = jax.random.normal(jax.random.key(0), (40, 40)) * state.params.mean[0]
    log_det = jnp.linalg.slogdet(columns + jnp.eye(40))[1]
    return jnp.linalg.eigvalsh(columns @ columns.T)[-1] + log_det

source = cj.sources.normal([0.0], [[1.0]])
process = cj.generational_process(
    cj.estimators.gaussian(1), source, cj.workflows.replace(), sample_size=20
)
options = {"generations": 3, "chains": 2000, "metrics": (largest,)}
print(cj.simulate(process, jax.random.key(0), **options)["largest"].shape)
"""


@pytest.mark.slow
def test_many_chains_with_lapack_end(root):
    """Before jaxlib 0.11.1 this never ended when run by `vmap` on two cores."""
    done = subprocess.run(
        [sys.executable, "-c", _MANY], capture_output=True, text=True, timeout=240, cwd=root
    )
    assert done.stdout.strip() == "(2000, 4)", done.stderr[-2000:]

"""`collapse-jax simulate` with models that read each other, held by identity by descent."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from collapse_jax.app.commands.grid import programs
from collapse_jax.app.commands.simulate import run_simulate
from collapse_jax.app.config import SimulateConfig
from collapse_jax.app.couplings import coupling_of
from collapse_jax.app.laws import expected_means
from collapse_jax.core.ecosystems.coupling import rows_of
from collapse_jax.errors import InputError
from collapse_jax.theory import islands

pytestmark = pytest.mark.usefixtures("quick_compile")
STAR = SimulateConfig(
    family="categorical",
    num_categories=5,
    ecosystem=3,
    coupling="star",
    exchange=(0.3, 0.6),
    sample_size=12,
    generations=4,
    chains=1500,
    metrics=("within_heterozygosity", "heterozygosity_of_model_0", "heterozygosity_of_model_2"),
)


def run(config, out):
    with open(f"{out}.txt", "w", encoding="utf-8") as file:
        folder = run_simulate(config, out, Console(file=file, width=200))
    with open(f"{out}.txt", encoding="utf-8") as file:
        return folder, file.read()


def star(share):
    """Model 0 reads both others alike, and they read it."""
    return np.array(
        [[1 - share, share / 2, share / 2], [share, 1 - share, 0], [share, 0, 1 - share]]
    )


@pytest.mark.parametrize("shape", ["ring", "star", "complete"])
def test_shapes(shape):
    """Rows sum to 1; a traced share has the sources and the weights of a number."""
    config = dataclasses.replace(STAR, coupling=shape, ecosystem=4, exchange=0.3).resolve()
    known, traced = (coupling_of(config, share) for share in (0.3, jnp.float32(0.3)))
    others = {"ring": 2, "star": 1, "complete": 3}[shape]
    assert np.count_nonzero(known.weights[1]) == 1 + others
    np.testing.assert_allclose(known.weights.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(known.weights.diagonal(), 0.7, rtol=1e-6)
    for one, other in zip(rows_of(known), rows_of(traced), strict=True):
        assert one.sources == other.sources
        assert one.real is other.real is None
        np.testing.assert_array_equal(one.weights, other.weights)


def test_exact_means():
    """Of what loses 1 / M as copies do, and of nothing else."""
    config = dataclasses.replace(STAR, exchange=0.3, gamma=0.2)
    found = expected_means(config, np.array([3]))
    exact = 0.8 * islands.retention(3, 12, 0.8 * star(0.3))
    np.testing.assert_allclose(found["heterozygosity_of_model_2"], exact[2], rtol=1e-6)
    np.testing.assert_allclose(found["within_heterozygosity"], exact.mean(), rtol=1e-6)
    for change in (
        {"beta": 0.1},
        {"temperature": 2.0},
        {"family": "gaussian", "num_categories": 10},
    ):
        assert expected_means(dataclasses.replace(config, **change), np.array([3])) == {}


@pytest.mark.slow
def test_a_grid_over_the_exchange(tmp_path):
    """Means as the islands' recursion has them, |z| < 4; a point alone has the same numbers."""
    wide = dataclasses.replace(STAR, exchange=(0.0, 0.3, 0.6, 1.0))
    assert len(list(programs(wide.points()))) == 3
    assert len(list(programs(STAR.points()))) == 1
    results = run(STAR, tmp_path / "grid")[0].results()
    for share in STAR.axes()["exchange"]:
        exact = 0.8 * islands.retention(np.arange(5), 12, star(share))
        point = results.sel(exchange=share)
        for name, expected in {
            "within_heterozygosity": exact.mean(-1),
            "heterozygosity_of_model_0": exact[:, 0],
            "heterozygosity_of_model_2": exact[:, 2],
        }.items():
            error = point[f"{name}_std"] / np.sqrt(1500)
            assert np.all(np.abs(point[f"{name}_mean"] - expected) < 4 * error), (share, name)
    alone = dataclasses.replace(STAR, exchange=0.3, streams="independent")
    alone, said = run(alone, tmp_path / "alone")
    mean = alone.results()["heterozygosity_of_model_2"].astype(float).mean("chain")
    grid = results["heterozygosity_of_model_2_mean"].sel(exchange=0.3)
    np.testing.assert_allclose(mean, grid, rtol=1e-6)
    assert "3 models (star) that read 0.3 of each other" in said


@pytest.mark.slow
def test_a_coupling_from_a_file(tmp_path):
    """What rows lack to 1 is real; by default the pool's metrics and those of each model."""
    coupling = np.array([[0.5, 0.3], [0.1, 0.9]])
    np.savetxt(tmp_path / "c.csv", coupling, delimiter=",")
    config = dataclasses.replace(
        STAR, ecosystem=0, coupling=str(tmp_path / "c.csv"), exchange=None, metrics=()
    )
    folder, said = run(config, tmp_path / "run")
    results = folder.results()
    assert "0.2 in row 0" in said
    of_pool = [f"{of}_heterozygosity" for of in ("within", "pooled", "between")]
    assert set(results) == {*of_pool, *(f"heterozygosity_of_model_{k}" for k in (0, 1))}
    exact = 0.8 * islands.pooled_retention(4, 12, coupling)
    values = results["pooled_heterozygosity"].values[:, -1]
    assert abs(values.mean() - exact) < 4 * values.std() / np.sqrt(1500)
    row = next(line for line in said.splitlines() if "pooled_heterozygosity" in line)
    assert f"{exact:.5g}" in row
    np.savetxt(tmp_path / "c.csv", coupling.T, delimiter=",")
    with pytest.raises(InputError, match="coupling"):
        run(config, tmp_path / "run")


BAD = {
    "ecosystem is 1": {"ecosystem": 1},
    "exchange is 1.5; it must be in": {"exchange": 1.5},
    "exchange is 0.3 with a single model": {"ecosystem": 0, "coupling": "", "exchange": 0.3},
    r"coupling is 'rign'; it must be ring, star, complete.*did you mean 'ring'": {
        "coupling": "rign"
    },
    "which contains all shares; leave exchange out": {"coupling": "c.npy", "exchange": 0.3},
    "ecosystem is 0 with coupling star": {"ecosystem": 0},
    "more than once": {"exchange": (0.3, 0.3)},
}


@pytest.mark.parametrize("says", BAD)
def test_bad_settings_are_one_line(says):
    with pytest.raises(InputError, match=says) as error:
        dataclasses.replace(STAR, **BAD[says]).check()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0.5,0.6\n0,1\n", "row 0 of coupling sums to 1.1"),
        ("0.5,0.5,0\n0,1,0\n", r"coupling has shape \[2, 3\]"),
        ("0.5,-0.5\n0,1\n", r"coupling\[0, 1\] is -0.5"),
        ("0.5,x\n0,1\n", "cannot be read as numbers"),
        ("", "the file is empty"),
        ("1,0\n0,1\n", r"ecosystem is 3, but .* contains \[2, 2\]"),
        (None, "cannot be read as numbers"),
    ],
)
def test_bad_files_are_one_line(tmp_path, text, says):
    path = tmp_path / "c.csv"
    if text is not None:
        path.write_text(text)
    config = dataclasses.replace(STAR, coupling=str(path), exchange=None)
    with pytest.raises(InputError, match=says) as error:
        run(config, tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()

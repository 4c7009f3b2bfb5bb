"""`collapse-jax simulate` with models that read each other, held by identity by descent."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console
from scipy import special, stats

from collapse_jax.app.commands.grid import programs
from collapse_jax.app.commands.simulate import run_simulate
from collapse_jax.app.commands.simulation import process_of, with_metrics
from collapse_jax.app.config import SimulateConfig
from collapse_jax.app.couplings import coupling_of
from collapse_jax.app.laws import expected_means
from collapse_jax.app.own_data.filled import with_data
from collapse_jax.app.own_data.reading import own_data
from collapse_jax.core.ecosystems.coupling import rows_of
from collapse_jax.errors import InputError
from collapse_jax.estimators.gaussian import gaussian_params
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


@pytest.fixture(scope="module")
def plants(tmp_path_factory):
    """A file of 40 rows: species in words, and two columns of numbers."""
    r = np.random.default_rng(3)
    x = r.normal([12, 3], [2, 0.5], (40, 2)).round(3)
    kinds = np.array(["oak", "ash", "elm"])[r.choice(3, 40, p=[0.5, 0.3, 0.2])]
    path = tmp_path_factory.mktemp("plants") / "plants.csv"
    lines = [f"{kind},{a},{b}" for kind, (a, b) in zip(kinds, x, strict=True)]
    path.write_text("\n".join(["species,height,girth", *lines]) + "\n")
    return path


def of_plants(path, **settings):
    config = SimulateConfig(data=str(path), held_out=0.25, generations=2, chains=3, **settings)
    config.check()
    config = with_data(config)
    return with_metrics(config.resolved())


def test_scores_of_models_and_of_their_pool_are_scipys(plants):
    """The pool's is that of the mixture of all models, and not the mean of their scores."""
    config = of_plants(plants, columns=("height", "girth"), ecosystem=3, sample_size=20)
    names = [f"held_out_log_prob_of_model_{k}" for k in range(3)]
    assert config.metrics[-4:] == ("pooled_held_out_log_prob", *names)
    data, process = own_data(config), process_of(config.points()[0])
    assert (len(data.train), len(data.test)) == (30, 10)
    scored = [*config.metrics[-4:], "within_held_out_log_prob"]

    means = np.array([[12.0, 3.0], [11.0, 3.2], [13.0, 2.9]])
    covariances = np.array([[[4, 0.3], [0.3, 0.2]], [[2, 0], [0, 0.3]], [[5, -0.4], [-0.4, 0.3]]])
    models = map(gaussian_params, means, covariances)
    params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *models)
    found = jax.jit(lambda params: {name: process.metrics[name](params) for name in scored})(params)
    rows = data.points.x[data.test]
    each = np.stack(
        [
            stats.multivariate_normal(m, c).logpdf(rows)
            for m, c in zip(means, covariances, strict=True)
        ]
    )
    for k, name in enumerate(names):
        np.testing.assert_allclose(found[name], each[k].mean(), rtol=1e-4)
    np.testing.assert_allclose(found["within_held_out_log_prob"], each.mean(), rtol=1e-4)
    mixed = special.logsumexp(each, axis=0, b=1 / 3).mean()
    np.testing.assert_allclose(found["pooled_held_out_log_prob"], mixed, rtol=1e-4)
    assert mixed > each.mean() + 1e-3


@pytest.mark.slow
def test_rows_of_a_file_feed_every_model(plants, tmp_path):
    """A model of real data alone, of as many points as there are rows, has their law always."""
    np.savetxt(tmp_path / "c.csv", [[0.0, 0.0], [1.0, 0.0]], delimiter=",")
    metrics = ("probabilities", "pooled_probabilities", "held_out_log_prob_of_model_0")
    config = SimulateConfig(
        **{"family": "categorical", "data": str(plants), "columns": ("species",)},
        **{"held_out": 0.25, "coupling": str(tmp_path / "c.csv"), "sample_size": 30},
        **{"generations": 2, "chains": 4, "metrics": metrics},
    )
    results = run(config, tmp_path / "run")[0].results()
    data = own_data(with_data(config))
    law = np.bincount(data.points.x[data.train].astype(int).ravel(), minlength=3) / 30
    shares = results["probabilities"]
    assert list(shares["probabilities_1"].values) == ["ash", "elm", "oak"]
    assert list(results["pooled_probabilities_0"].values) == ["ash", "elm", "oak"]
    np.testing.assert_allclose(shares.values[:, :, 0], np.broadcast_to(law, (4, 3, 3)), rtol=1e-6)
    assert np.ptp(shares.values[:, 1, 1], axis=0).max() > 0  # which reads the other by draws
    np.testing.assert_allclose(
        results["pooled_probabilities"], shares.mean("probabilities_0"), rtol=1e-6
    )
    score = np.log(law)[data.points.x[data.test].astype(int).ravel()].mean()
    np.testing.assert_allclose(results["held_out_log_prob_of_model_0"], score, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            {"metrics": ("pooled_mean",)},
            "metric 'pooled_mean' is meaningless for this data: it uses the numbers",
        ),
        (
            {"metrics": ("mean_of_model_1",)},
            "metric 'mean_of_model_1' is meaningless for this data",
        ),
        (
            {"metrics": ("support_of_model_2",)},
            "metrics has support_of_model_2; there are 2 models, from 0 to 1",
        ),
        (
            {"metrics": ("pooled_held_out_log_prob",), "held_out": 0.0},
            "metric 'pooled_held_out_log_prob' is measured on held-out rows, but there are none",
        ),
    ],
)
def test_metrics_that_own_data_does_not_have_are_one_line(plants, tmp_path, settings, says):
    of_file = {"family": "categorical", "columns": ("species",), "held_out": 0.25}
    of_file |= {"ecosystem": 2, "sample_size": 10} | settings
    config = SimulateConfig(data=str(plants), **of_file)
    with pytest.raises(InputError, match=says):
        run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


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

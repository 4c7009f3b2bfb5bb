"""`simulate --data`: held-out scores against SciPy, what families take, and what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow
import pytest
from pyarrow import parquet
from rich.console import Console
from scipy import stats

from collapse_jax.app.commands.inputs import of_simulation
from collapse_jax.app.commands.simulate import run_simulate
from collapse_jax.app.commands.simulation import process_of
from collapse_jax.app.config import SimulateConfig
from collapse_jax.app.own_data.filled import in_words, with_data, with_scores
from collapse_jax.app.own_data.held import check_metrics, held
from collapse_jax.app.own_data.reading import entry, own_data
from collapse_jax.app.own_data.reference import reference_line
from collapse_jax.core.types import Dataset
from collapse_jax.errors import InputError
from collapse_jax.runs.folder import RunFolder

ROWS = 60


@pytest.fixture(scope="module")
def table():
    """Columns a, b, y (of a and b), bloom (0 or 1), count, kind (words) and token (0 to 3)."""
    r = np.random.default_rng(5)
    a, b = r.normal(3, 1, ROWS).round(3), r.normal(-1, 2, ROWS).round(3)
    y = (2 + 0.5 * a - b + r.normal(0, 0.3, ROWS)).round(3)
    bloom = (r.random(ROWS) < 1 / (1 + np.exp(3 - a))).astype(int)
    kind = np.array(["oak", "ash", "elm"])[r.choice(3, ROWS, p=[0.6, 0.3, 0.1])]
    return {
        **{"a": a, "b": b, "y": y, "bloom": bloom},
        **{"count": r.poisson(np.exp(0.3 * a)), "kind": kind, "token": r.integers(0, 4, ROWS)},
        "same": np.full(ROWS, 7),
    }


@pytest.fixture(scope="module")
def file(table, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "plants.csv"
    rows = [
        ",".join(table),
        *(",".join(map(str, row)) for row in zip(*table.values(), strict=True)),
    ]
    path.write_text("\n".join(rows) + "\n")
    return path


def settled(file, **settings):
    """The settings of a simulation of the file, as the command fills them."""
    given = SimulateConfig(data=str(file), held_out=0.25, generations=2, chains=2, **settings)
    given.check()
    config = with_data(given)
    return with_scores(given, config.resolved()).resolve()


def of_all_rows(settings, *names):
    """(the model of all training rows, its metrics, numbers of training and held-out rows)."""
    process, data = process_of(settings), own_data(settings)
    params = held(settings).source.params
    of = {name: np.asarray(process.metrics[name](params)) for name in names}
    return params, of, data.train, data.test


def test_gaussian_scores_are_scipys_on_rows_that_it_never_saw(file, table):
    settings = settled(file, columns=("a", "b"), sample_size=45)
    assert settings.dim == 2 and settings.metrics[-1] == "held_out_log_prob"
    _, of, train, test = of_all_rows(settings, "held_out_log_prob", "kl_model_to_real")
    x = np.column_stack([table["a"], table["b"]])
    assert len(test) == 15 and sorted([*train, *test]) == list(range(ROWS))
    assert (held(settings).source.points == x[train]).all()
    mean, covariance = x[train].mean(0), np.cov(x[train].T)
    expected = stats.multivariate_normal(mean, covariance).logpdf(x[test]).mean()
    assert of["held_out_log_prob"] == pytest.approx(expected, rel=2e-5)
    assert of["kl_model_to_real"] == pytest.approx(0, abs=1e-5)


def test_a_known_covariance_is_that_of_the_training_rows(file, table):
    """Of any number of columns, and said; one that is given is taken."""
    given = {"family": "gaussian_mean", "columns": ("a", "b"), "sample_size": 45}
    settings = settled(file, **given)
    _, of, train, test = of_all_rows(
        settings, "held_out_log_prob", "variance", "squared_wasserstein2"
    )
    x = np.column_stack([table["a"], table["b"]])
    known = np.cov(x[train].T)
    law = stats.multivariate_normal(x[train].mean(0), known)
    assert of["held_out_log_prob"] == pytest.approx(law.logpdf(x[test]).mean(), rel=2e-5)
    assert of["variance"] == pytest.approx(np.trace(known) / 2, rel=1e-5)
    assert of["squared_wasserstein2"] == pytest.approx(0, abs=1e-5)
    said = "knows the covariance: that of the 45 training rows; --options covariance="
    assert any(said in line for line in in_words(settings))
    one = {**given, "columns": ("a",)}
    said = f"training rows ({known[0, 0]:.6g}); --options covariance="
    assert any(said in line for line in in_words(settled(file, **one)))
    other = settled(file, **one, options=("covariance=4.0",))
    assert of_all_rows(other, "variance")[1]["variance"] == pytest.approx(4)
    assert not any("covariance" in line for line in in_words(other))


def test_held_out_rows_score_what_ties_columns_together(file, table):
    """Of a copula, whose values have no density: SciPy's, of the columns of numbers."""
    settings = settled(file, family="gaussian_copula", columns=("a", "y", "kind"), sample_size=45)
    assert settings.metrics[-1] == "held_out_copula_log_density"
    process, data = process_of(settings), own_data(settings)
    x, train, test = np.column_stack([table["a"], table["y"]]), data.train, data.test
    family = held(settings).estimator
    whole = Dataset(jnp.asarray(data.points.x[train]), jnp.ones(45))
    params, _ = family.fit(jax.random.key(0), None, whole)
    below, equal = (x[train] < x[test][:, None]).sum(1), (x[train] == x[test][:, None]).sum(1)
    share = (below + equal / 2) / 45
    z = stats.norm.ppf(np.clip(share, 0.5 / 46, 1 - 0.5 / 46))
    known = np.asarray(params.root @ params.root.T, float)[:2, :2]
    law = stats.multivariate_normal(cov=known)
    expected = (law.logpdf(z) - stats.norm.logpdf(z).sum(1)).mean()
    found = process.metrics["held_out_copula_log_density"](params)
    assert found == pytest.approx(expected, rel=1e-3) and abs(known[0, 1]) > 0.1


def test_a_split_is_of_its_own_seed(file):
    first = own_data(settled(file, columns=("a",), sample_size=10))
    seed = own_data(settled(file, columns=("a",), sample_size=10, seed=9))
    split = own_data(settled(file, columns=("a",), sample_size=10, split_seed=9))
    assert (first.test == seed.test).all() and (first.test != split.test).any()


def test_categories_keep_their_labels_and_their_law(file, table):
    settings = settled(file, family="categorical", columns=("kind",), sample_size=45)
    assert settings.num_categories == 3 and own_data(settings).points.labels == (
        *("ash", "elm", "oak"),
    )
    names = ("held_out_log_prob", "probabilities", "total_variation")
    params, of, train, test = of_all_rows(settings, *names)
    labels, counts = np.unique(table["kind"][train], return_counts=True)
    p = dict(zip(labels, counts / 45, strict=True))
    expected = np.mean([np.log(p[kind]) for kind in table["kind"][test]])
    assert of["held_out_log_prob"] == pytest.approx(expected, rel=1e-5)
    assert of["probabilities"] == pytest.approx(counts / 45)
    assert of["total_variation"] == pytest.approx(0, abs=1e-6)
    # What a model has lost has no probability.
    lost = params._replace(weights=params.weights.at[0].set(0))
    process = process_of(settings)
    assert process.metrics["held_out_log_prob"](lost) == -np.inf
    assert process.metrics["missing_mass"](lost) == pytest.approx(p["ash"], rel=1e-5)
    assert process.metrics["mean"] is None and process.metrics["wasserstein2"] is None


def test_smoothing_does_not_move_the_truth(file, table):
    config = SimulateConfig(
        data=str(file), family="categorical", columns=("kind",), held_out=0.25, sample_size=45
    )
    settings = with_data(config).resolve()
    _, counts = np.unique(table["kind"][own_data(settings).train], return_counts=True)
    traced = held(settings, {"smoothing": 0.5})
    assert "smoothing=0.5" in traced.estimator.name and traced.source.params is None
    assert np.asarray(held(settings).source.params.weights).tolist() == counts.tolist()


def test_regressions_have_an_intercept_the_data_s_noise_and_its_features(file, table):
    settings = settled(
        file, family="linear_regression", columns=("a", "b"), target="y", sample_size=45
    )
    names = ("held_out_log_prob", "held_out_squared_error")
    params, of, train, test = of_all_rows(settings, *names)
    features = np.column_stack([np.ones(ROWS), table["a"], table["b"]])
    weights, (rest,), *_ = np.linalg.lstsq(features[train], table["y"][train])
    noise = np.sqrt(rest / (45 - 3))
    assert settings.options == ("dim=3", f"noise={noise:.6g}")
    np.testing.assert_allclose(params.weights, weights, rtol=1e-3)
    errors = table["y"][test] - features[test] @ weights
    assert of["held_out_squared_error"] == pytest.approx(np.mean(errors**2), rel=1e-3)
    expected = stats.norm(0, noise).logpdf(errors).mean()
    assert of["held_out_log_prob"] == pytest.approx(expected, rel=1e-3)
    assert settings.metrics[-2:] == ("held_out_log_prob", "held_out_squared_error")
    # The excess risk is that of the data's features.
    moved = params._replace(weights=params.weights + np.array([0.5, -1.0, 2.0]))
    excess = np.mean((features[train] @ (np.asarray(moved.weights) - weights)) ** 2)
    process = process_of(settings)
    assert process.metrics["test_error"](moved) == pytest.approx(excess, rel=1e-3)
    # Later generations draw rows of features that are there.
    drawn = np.asarray(process.estimator.sample(jax.random.key(0), params, 200))[:, :3]
    known = {tuple(row) for row in features[train].astype(np.float32)}
    assert {tuple(row) for row in drawn} <= known and len(np.unique(drawn, axis=0)) > 30


def test_labels_of_other_regressions_are_scored_given_their_features(file, table):
    features = np.column_stack([np.ones(ROWS), table["a"]])
    for name, column in (("logistic_regression", "bloom"), ("poisson_regression", "count")):
        settings = settled(file, family=name, columns=("a",), target=column, sample_size=45)
        process, data = process_of(settings), own_data(settings)
        params = held(settings).source.params  # fitted to all training rows
        logit = features @ np.asarray(params.weights, float)
        label = table[column]
        if name == "logistic_regression":
            expected = stats.bernoulli(1 / (1 + np.exp(-logit))).logpmf(label)
            residual = label - 1 / (1 + np.exp(-logit))
        else:
            expected = stats.poisson(np.exp(logit)).logpmf(label)
            residual = label - np.exp(logit)
        score = process.metrics["held_out_log_prob"](params)
        assert score == pytest.approx(expected[data.test].mean(), rel=1e-4)
        # At the maximum of the likelihood the score equations hold.
        assert np.abs(features[data.train].T @ residual[data.train]).max() < 0.02
        assert process.metrics["excess_log_loss"] is None


def test_tokens_are_a_stream_or_rows_of_blocks(file, table):
    settings = settled(
        *(file,), family="ngram", columns=("token",), options=("order=1", "block_length=7"),
        sample_size=5,
    )  # fmt: skip
    data = own_data(settings)
    assert data.points.x.tolist() == table["token"][:56].reshape(8, 7).tolist()
    assert (len(data.train), len(data.test), data.points.left_out) == (6, 2, 4)
    assert "4 rows at the end left out, which do not fill a block" in "\n".join(in_words(settings))
    _, of, train, test = of_all_rows(settings, "held_out_log_prob")
    counts = np.bincount(data.points.x[train].ravel(), minlength=4)
    expected = np.log(counts / counts.sum())[data.points.x[test]].sum(1).mean()
    assert of["held_out_log_prob"] == pytest.approx(expected, rel=1e-5)
    blocks = settled(file, family="ngram", columns=("token", "bloom"), options=("order=2",))
    assert own_data(blocks).points.labels == ("0", "1", "2", "3")
    assert set(blocks.options) == {"order=2", "vocabulary_size=4", "block_length=2"}


REFUSED = {
    "words for numbers": (
        {"columns": ("kind",)},
        "column 'kind' contains words, such as .*gaussian takes",
    ),
    "fractions": ({"family": "categorical", "columns": ("a",)}, "row 1, column 'a' is .*whole num"),
    "two columns": ({"family": "categorical", "columns": ("kind", "token")}, "takes one column"),
    "other dim": ({"columns": ("a", "b"), "dim": 3}, "dim is 3, but .* has 2"),
    "other number": (
        {"family": "categorical", "columns": ("kind",), "num_categories": 4},
        "num_categories is 4, but .* has 3",
    ),
    "no target": ({"family": "linear_regression", "columns": ("a",)}, "give its name by --target"),
    "idle target": ({"columns": ("a",), "target": "y"}, "target is 'y' with family gaussian"),
    "idle intercept": ({"columns": ("a",), "intercept": False}, "intercept is False with family"),
    "design": (
        {"family": "linear_regression", "columns": ("a",), "target": "y", "options": ("design=1",)},
        "options give design",
    ),
    "no covariance": (
        {"family": "gaussian_mean", "columns": ("a", "same")},
        "column 'same' is constant in the 45 training rows, and gaussian_mean knows a covariance",
    ),
    "no length": ({"family": "ngram", "columns": ("token",), "options": ("order=1",)}, "block_len"),
    "below the support": ({"family": "exponential", "columns": ("b",)}, "row 3, column 'b' is -"),
    "no counts": ({"family": "poisson", "columns": ("a",)}, "row 1, column 'a' is "),
    "labels 0 and 1": (
        {"family": "logistic_regression", "columns": ("a",), "target": "token"},
        "row ., column 'token' is .*takes the labels 0 and 1",
    ),
    "word target": (
        {"family": "logistic_regression", "columns": ("a",), "target": "kind"},
        "column 'kind' contains words",
    ),
    "no scores": ({"family": "empirical", "columns": ("a",)}, "empirical has no probabilities"),
    "more than there is": ({"columns": ("a",), "sample_size": 46}, "has 45 points"),
    "numbers of labels": (
        {"family": "categorical", "columns": ("kind",), "metrics": ("mean",)},
        "metric 'mean' is meaningless for this data: it uses the numbers",
    ),
    "distances of labels": (
        {"family": "categorical", "columns": ("kind",), "metrics": ("sliced_wasserstein",)},
        "metric 'sliced_wasserstein' is meaningless for this data: it uses the numbers",
    ),
    "distances of mixed rows": (
        {
            **{"family": "gaussian_copula", "columns": ("a", "kind"), "held_out": 0.0},
            "metrics": ("precision",),
        },
        "metric 'precision' is meaningless for this data: it uses distances between",
    ),
    "too few to compare with": (
        {"columns": ("a",), "held_out": 0.05, "metrics": ("recall",)},
        "held_out is 0.05, which is 3 of the rows, and recall compares with more than 3",
    ),
    "scores of no rows": (
        {"columns": ("a",), "held_out": 0.0, "metrics": ("held_out_log_prob",)},
        "'held_out_log_prob' is measured on held-out rows, but there are none; give --held-out",
    ),
    "another law": (
        {
            **{"family": "poisson_regression", "columns": ("a",), "target": "count"},
            "metrics": ("excess_log_loss",),
        },
        "defined for features",
    ),
    "unknown column": ({"columns": ("c",)}, "there is no column 'c'"),
    "memory": ({"columns": ("a",), "memory_limit": 1e-8}, "memory_limit"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_one_line_before_any_work(file, tmp_path, case):
    settings, words = REFUSED[case]
    settings = {"held_out": 0.25, "sample_size": 20} | settings
    config = SimulateConfig(data=str(file), **settings)
    with pytest.raises(InputError, match=words) as raised:
        run_simulate(config, tmp_path / "run", Console(quiet=True))
    assert "\n" not in str(raised.value) and not (tmp_path / "run").exists()


def test_what_is_read_is_said_in_rows_and_its_words_are_kept(file, tmp_path):
    assert "45 rows to draw from" in next(in_words(settled(file, columns=("a",))))
    settings, contents = SimulateConfig(family="gaussian_copula", columns=("a", "kind")), []
    for other in ("oak", "oat"):  # the same numbers under another name
        path = tmp_path / f"{other}.csv"
        path.write_text(file.read_text().replace("oak", other))
        contents.append(entry(dataclasses.replace(settings, data=str(path)))["data"]["contents"])
    assert {name for name in contents[0] if contents[0][name] != contents[1][name]} == {
        "categories of 'kind'"
    }


def test_numbers_that_a_typed_file_keeps_as_text(tmp_path):
    """Of a CSV they would be numbers, so that a copula would have another model of them."""
    path = tmp_path / "typed.parquet"
    columns = {"a": [1.5, 2.5, 3.25], "s": ["1", "-2.5", "3e1"], "zip": ["01", "2", "3"]}
    parquet.write_table(pyarrow.table(columns), path)
    config = SimulateConfig(data=str(path), family="gaussian_copula", columns=("a", "zip"))
    assert own_data(config).points.more["categories"] == (None, ("01", "2", "3"))
    config = dataclasses.replace(config, columns=("a", "s"))
    with pytest.raises(InputError, match=r"'s' is of text, and all of it is numbers, as '-2\.5'"):
        own_data(config)
    own_data(dataclasses.replace(config, categories=("s",)))


def test_a_target_far_from_0_keeps_three_digits_of_its_noise(tmp_path):
    rows = [f"{a},{1e6 + a + (-1) ** a}" for a in range(1, 30)]
    (tmp_path / "far.csv").write_text("\n".join(["a,y", *rows]))
    given = {"data": str(tmp_path / "far.csv"), "family": "linear_regression", "target": "y"}
    config = SimulateConfig(**given, columns=("a",))
    with pytest.raises(
        InputError, match=r"column 'y' goes up to 1.*fewer than three digits of the"
    ):
        with_data(config)
    with_data(dataclasses.replace(config, options=("noise=0",)))


def test_settings_that_would_be_ignored():
    for settings, words in (
        ({"columns": ("a",)}, "columns is a without data; give --data FILE"),
        ({"held_out": 0.2}, "held_out is 0.2 without data"),
        ({"intercept": False}, "intercept is False without data"),
        ({"data": "x.csv", "split_seed": 3}, "no rows are held out"),
        ({"data": "x.csv", "held_out": 1.0}, "held_out is 1.0; it must be a share"),
        ({"data": "x.csv", "held_out": float("nan")}, "held_out is nan"),
    ):
        with pytest.raises(InputError, match=words):
            SimulateConfig(**settings).check()


def test_checks_of_all_metrics_pass_without_data():
    check_metrics(SimulateConfig(metrics=("mean",)))


def test_a_run_has_names_and_goes_on_with_the_same_data_alone(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = SimulateConfig(
        data=str(file), family="categorical", columns=("kind",), held_out=0.25, sample_size=30,
        generations=2, chains=4, metrics=("support", "probabilities"),
    )  # fmt: skip
    printed = tmp_path / "printed.txt"
    with open(printed, "w", encoding="utf-8") as out:
        folder = run_simulate(config, tmp_path / "run", Console(file=out, width=120))
    text = printed.read_text()
    assert "45 rows to draw from, 15 held out" in text and "probabilities ash" in text
    results = folder.results()
    assert results["probabilities_0"].values.tolist() == ["ash", "elm", "oak"]
    assert results.attrs["data_columns"] == "kind" and results.attrs["data_rows"] == ROWS
    total = results["probabilities"].sel(probabilities_0="oak").values
    assert ((total >= 0) & (total <= 1)).all() and total.shape == (4, 3)
    # The same content elsewhere is the same data.
    moved = tmp_path / "moved.csv"
    moved.write_bytes(file.read_bytes())
    longer = dataclasses.replace(config, data=str(moved))
    filled = with_data(longer)
    RunFolder(tmp_path / "run").check(filled.resolved(), of_simulation(filled))
    lines = file.read_text().split("\n")
    for place, text, words in (
        (7, lines[7].replace(lines[7].split(",")[5], "fir"), "column 'kind'"),
        (60, "", "number of rows"),
    ):
        moved.write_text("\n".join([*lines[:place], text, *lines[place + 1 :]]).replace("\n\n", ""))
        with pytest.raises(InputError, match=f"the data at .*moved.csv changed.*{words}"):
            run_simulate(longer, tmp_path / "run", Console(quiet=True))
    other = dataclasses.replace(longer, data=str(file), held_out=0.5)
    with pytest.raises(InputError, match=r"held_out: 0\.25 there, 0\.5 here"):
        run_simulate(other, tmp_path / "run", Console(quiet=True))


def test_points_are_compared_with_rows_that_no_model_saw(file, table):
    """Precision and recall by plain NumPy."""
    names = ("precision", "recall")
    settings = settled(file, columns=("a", "b"), sample_size=45, metrics=names)
    params, of, train, test = of_all_rows(settings, *names)
    drawn = np.asarray(held(settings).estimator.sample(jax.random.key(0), params, 1000), float)
    x = np.column_stack([table["a"], table["b"]])
    found = [of[name] for name in names]
    assert found == pytest.approx(precision_and_recall(drawn, x[test]), abs=2e-3)
    assert found != pytest.approx(precision_and_recall(drawn, x[train]), abs=2e-2)


def precision_and_recall(points, real, k=3):
    """Shares of the points, and of the real ones, in a ball of the other set."""

    def reach(x):
        return np.sort(np.linalg.norm(x[:, None] - x, axis=-1), axis=1)[:, k]

    apart = np.linalg.norm(points[:, None] - real, axis=-1)
    in_real, in_points = apart <= reach(real), apart <= reach(points)[:, None]
    return [in_real.any(1).mean(), in_points.any(0).mean()]


def test_results_say_which_rows_points_were_compared_with(file, table, tmp_path):
    """Also of `empirical`, which has no probabilities to score held-out rows by."""
    name = "sliced_wasserstein"
    config = SimulateConfig(
        data=str(file), family="empirical", columns=("a",), held_out=0.25, sample_size=30,
        generations=1, chains=2, metrics=(name,),
    )  # fmt: skip
    printed = tmp_path / "printed.txt"
    with open(printed, "w", encoding="utf-8") as out:
        folder = run_simulate(config, tmp_path / "run", Console(file=out, width=120))
    assert f"{name}: drawn points are compared with 15 held-out rows\n" in printed.read_text()
    assert folder.results()[name].attrs["reference"] == "15 held-out rows"
    settings = with_data(config).resolve()
    process = process_of(settings)
    params, test = held(settings).source.params, own_data(settings).test
    drawn = np.sort(np.asarray(process.estimator.sample(jax.random.key(0), params, 1000)).ravel())
    # 15 rows and 1,000 points have their quantiles on the thirds of thousandths.
    distance = np.repeat(drawn, 3) - np.repeat(np.sort(table["a"][test]), 200)
    expected = np.sqrt(np.mean(distance**2))
    assert process.metrics[name](params) == pytest.approx(expected, rel=1e-4)
    without = dataclasses.replace(config, held_out=0.0)
    assert "60 training rows, which a model can copy; --held-out" in reference_line(without)


@pytest.mark.slow
def test_a_grid_of_data_is_its_points_alone(file, tmp_path):
    config = SimulateConfig(
        data=str(file), columns=("a", "b"), held_out=0.25, sample_size=(20, 40), gamma=(0.0, 0.5),
        generations=2, chains=8,
    )  # fmt: skip
    results = run_simulate(config, tmp_path / "grid", Console(quiet=True)).results()
    assert "held_out_log_prob_mean" in results
    alone = dataclasses.replace(config, sample_size=20, gamma=0.5, streams="independent")
    one = run_simulate(alone, tmp_path / "one", Console(quiet=True)).results()
    point = results["held_out_log_prob_mean"].sel(sample_size=20, gamma=0.5).values
    np.testing.assert_allclose(one["held_out_log_prob"].mean("chain"), point, rtol=1e-4)

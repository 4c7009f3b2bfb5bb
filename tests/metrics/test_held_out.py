"""Scores of held-out rows: by blocks, of repeated rows, in `cj.simulate`; against SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import collapse_jax as cj
from collapse_jax.errors import InputError
from collapse_jax.metrics import resolve_metrics
from collapse_jax.metrics.held_out import held_out


def test_rows_in_blocks_are_scipys():
    x = np.random.default_rng(0).normal(1, 2, 1000).astype(np.float32)

    def log_prob(params, x):
        return jax.scipy.stats.norm.logpdf(x, params, 2.0)

    found = held_out(log_prob, x, "score").of_params(jnp.float32(0.5))
    assert found == pytest.approx(stats.norm(0.5, 2).logpdf(x).mean(), rel=1e-5)


def test_repeated_rows_are_scored_once_and_count_as_often():
    x = np.repeat([0, 2, 5], [4, 1, 300])
    seen = []

    def log_prob(params, x):
        seen.append(x.shape)
        return jnp.where(x == 5, -jnp.inf if params else -2.0, x * 1.0)

    score = held_out(log_prob, x, "score")
    assert score.of_params(False) == pytest.approx((2 - 600) / 305)
    assert score.of_params(True) == -np.inf and seen[0] == (3,)


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(InputError, match=r"empirical.* has no log_prob"):
        cj.metrics.held_out_log_prob(cj.estimators.empirical(), [1.0])
    with pytest.raises(InputError, match=r"the held-out rows: x\[1\] is 3; categorical\(3\) takes"):
        cj.metrics.held_out_log_prob(cj.estimators.categorical(3), [0, 3])
    with pytest.raises(InputError, match="there must be at least one row"):
        cj.metrics.held_out_log_prob(cj.estimators.categorical(3), [])


def test_a_table_is_data_and_names_what_is_recorded(tmp_path):
    (tmp_path / "a.csv").write_text("s\n" + "\n".join("xxxxxyyyzz"))
    data = cj.read_data(tmp_path / "a.csv")
    family = cj.estimators.categorical(3)
    source = cj.sources.dataset(data.codes, family=family)
    process = cj.generational_process(family, source, cj.workflows.replace(), sample_size=10)
    state = cj.State(0, source.params, ())
    metric = cj.metrics.held_out_log_prob(family, data.codes)
    (name, scored), *_ = resolve_metrics(process.metrics, [metric]).items()
    assert name == "held_out_log_prob"
    assert scored(state) == pytest.approx(-stats.entropy([0.5, 0.3, 0.2]), rel=1e-5)
    # The law of all rows is what distances are measured to.
    params = cj.estimators.categorical(3).fit(None, None, family.summarise(*_rows([0, 1])))[0]
    assert process.metrics["missing_mass"](params) == pytest.approx(0.2)
    trace = cj.Trace({"probabilities": np.ones((2, 1, 3))}, np.array([0]))
    results = data.labelled(trace.to_xarray())
    assert results["probabilities_0"].values.tolist() == ["x", "y", "z"]
    with pytest.raises(InputError, match=r"family is .*; it must"):
        cj.sources.dataset(data.codes, family="categorical")


def _rows(x):
    return jnp.array(x), jnp.ones(len(x))


def test_features_are_drawn_from_the_rows_of_a_design():
    design = np.array([[1.0, -1.0], [1.0, 0.5], [1.0, 3.0]])
    for family, params in (
        (cj.estimators.linear_regression, cj.estimators.regression_params([1.0, 0.5])),
        (cj.estimators.logistic_regression, cj.estimators.logistic_params([1.0, 0.5])),
        (cj.estimators.poisson_regression, cj.estimators.poisson_regression_params([1.0, 0.5])),
    ):
        estimator = family(2, design=design, resampled=True)
        x = np.asarray(estimator.sample(jax.random.key(3), params, 3000))
        rows = [int(np.sum((x[:, :2] == row).all(1))) for row in design.astype(np.float32)]
        assert sum(rows) == 3000 and stats.chisquare(rows).pvalue > 1e-4
        label = x[x[:, 1] == 3.0, 2]
        mean = {"linear": 2.5, "logistic": 1 / (1 + np.exp(-2.5)), "poisson": np.exp(2.5)}
        expected = mean[family.__name__.split("_")[0]]
        assert abs(label.mean() - expected) < 4 * label.std() / np.sqrt(len(label))
        with pytest.raises(InputError, match="resampled is True without a design"):
            family(2, resampled=True)

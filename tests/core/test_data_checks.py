"""Real points held against every family: what is refused, by one line, and what is taken as what.

Right values are NumPy's in float64.
"""

import decimal
import fractions
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import collapse_jax as cj
from collapse_jax import estimators
from collapse_jax.core import data_checks
from collapse_jax.core.types import FitInfo
from collapse_jax.errors import InputError

KEY = jax.random.key(0)
Z = np.random.default_rng(0).standard_normal(200)
E = cj.estimators
REALS = {
    "gaussian": E.gaussian(1),
    "gaussian_mean": E.gaussian_mean(1.0),
    "gmm": E.gmm(2, 1),
    "kde": E.kde(1),
}


def made(family, data, size=2, flow=None):
    source = data if isinstance(data, cj.Source) else cj.sources.dataset(data)
    return cj.generational_process(family, source, flow or cj.workflows.replace(), sample_size=size)


def refused(family, data, *words, size=2):
    with pytest.raises(InputError) as error:
        made(family, data, size)
    text = str(error.value)
    assert "\n" not in text and len(text) < 600
    assert all(word in text for word in words), text


LABELS = "labels 0, 1, 2, 3"
DISCRETE = [
    (E.categorical(4), [1, 2, 3, 4], ["x[3] is 4", LABELS, "start at 1: subtract 1"]),
    (E.categorical(4), [2, 4, 3, 4], ["x[1] is 4 (2 such values)", "subtract 1"]),
    (E.categorical(4), [0, -1, 2], ["x[1] is -1", LABELS]),
    (E.categorical(4), [0, 1.5, 2], ["x[1] is 1.5", LABELS]),
    (E.categorical(4), np.eye(4), ["shape [4]", "x.argmax(1)"]),
    (E.categorical(4), np.zeros((5, 2)), ["shape [2]", "shape []"]),
    (E.categorical(4), [0j, 1], ["x[0] is 0j", "complex"]),
    (E.categorical(100), [0, 100, 7], ["x[1] is 100", "labels 0 to 99"]),
    (E.categorical(4), np.array([0, 2**63], np.uint64), ["x[1] is 9223372036854775808"]),
    (E.bernoulli(), [0, 2], ["x[1] is 2", "0 and 1"]),
    (E.bernoulli(), [1, 2], ["x[1] is 2", "subtract 1"]),
    (E.bernoulli(), [-1, 1], ["x[0] is -1", "(x + 1) / 2"]),
    (E.bernoulli(), [0.5, 1], ["x[0] is 0.5"]),
    (E.poisson(), [1, -2, 3], ["x[1] is -2", "whole numbers from 0"]),
    (E.poisson(), [1.0, 2.5], ["x[1] is 2.5", "whole numbers"]),
    (E.poisson(), [2**31, 1], ["x[0] is 2147483648", "2147483647"]),
    (
        E.ngram(2, 10, 4),
        [[0, 1, 2, 19], [3, 4, 5, 9]],
        ["x[0, 3] is 19", "tokens 0 to 9", "block_length=4"],
    ),
    (E.ngram(2, 3, 4), [[1, 2, 3, 1]] * 2, ["x[0, 2] is 3", "tokens that start at 1: subtract 1"]),
    (E.ngram(2, 10, 4), [[0, 1, 2]] * 2, ["shape [3]", "shape [4]"]),
    (E.ngram(2, 10, 4), [0, 1, 2, 3], ["shape []", "shape [4]"]),
]


@pytest.mark.parametrize(("family", "data", "words"), DISCRETE)
def test_labels_counts_and_tokens_outside_are_named(family, data, words):
    refused(family, data, *words)


POSITIVE = [E.exponential(), E.uniform(), E.pareto(1.0), E.pareto(2.0)]


@pytest.mark.parametrize("family", POSITIVE, ids=lambda family: family.name)
def test_values_outside_of_a_support_are_named(family):
    least = {"pareto(minimum=1.0)": "at least 1", "pareto(minimum=2.0)": "at least 2"}
    refused(family, [3, -2, 4.0], "x[1] is -2.0", least.get(family.name, "at least 0"))
    refused(family, [3, 1e300], "x[1] is 1e+300", "float32")
    refused(family, np.ones((4, 2)) * 5, "shape [2]", "shape []")
    refused(family, [3j, 5], "x[0] is 3j", "complex")
    # Timestamps and large integers lose nothing that a mean, a maximum or a tail needs.
    for x in (1.7e9 + 10 * Z, 2**33 + np.arange(10), [3, 4, 5], np.full((4, 1), 7.5)):
        held = made(family, x).parts.source.sample(KEY, 2)
        assert held.shape == (2,) and held.dtype == jnp.float32


def test_numbers_too_near_0_or_a_minimum_are_named():
    for family in (E.exponential(), E.uniform()):
        refused(family, [1e-50, 2e-50], "1.5e-50", "float32", "multiply")
        made(family, [0.0, 0.0, 0.0])
    refused(E.pareto(1.0), 1 + 1e-9 * np.abs(Z), "minimum", "float32", "jax_enable_x64")
    made(E.pareto(0.1), [0.1, 0.1])
    with jax.enable_x64(True):
        process = made(E.pareto(1.0), 1 + 1e-9 * np.abs(Z), 200)
        shape = process.metrics["shape"](process.init(KEY)[0].params)
        np.testing.assert_allclose(shape, 1 / np.log1p(1e-9 * np.abs(Z)).mean(), rtol=1e-6)


STAMPS = {
    "timestamps": (1.7e9 + 10 * Z, "1700000000", "128 apart"),
    "a million and a little": (1e6 + 0.01 * Z, "mean 1000000", "0.0625 apart"),
    "integers beyond 32 bits": (2**33 + np.arange(1000), "mean 8589935092", "1024 apart"),
    "integers beyond 24 bits": (2**24 + np.arange(10), "mean 16777220", "2 apart"),
    "integers beyond float64": (2**62 + np.arange(9), "4.6116860", "apart"),
    "float32": (np.float32(1e6 + 0.1 * Z), "mean ", "0.0625 apart"),
}


@pytest.mark.parametrize("family", REALS.values(), ids=REALS)
def test_differences_that_float32_loses_are_refused(family):
    for x, mean, apart in STAMPS.values():
        refused(family, x, mean, apart, "subtract a constant", "jax_enable_x64")
    refused(family, [1e300, 1], "x[0, 0] is 1e+300", "float32")
    refused(family, np.zeros((4, 2)), "shape [2]", "shape [1]")
    refused(family, np.zeros((1, 5)), "shape [5]", "x.T")
    refused(family, Z + 0j, "(0.12573022", "complex")


def test_a_column_of_many_is_named():
    x = np.random.default_rng(1).standard_normal((50, 3))
    x[:, 1] += 1e7
    for family in (E.gaussian(3), E.kde(3), E.gmm(2, 3)):
        refused(family, x, "in coordinate 1", "1 apart")


def test_what_is_taken_keeps_three_digits():
    """The bound that is promised, at its edge and for spreads of all sizes."""
    rng = np.random.default_rng(2)
    for mean, deviation in [(1e5, 10), (2000, 0.2), (-3e4, 2), (1e-3, 1e-7), (1e30, 1e26)]:
        x = mean + deviation * rng.standard_normal(500)
        process = made(REALS["gaussian"], x, 500)
        params = process.init(KEY)[0].params
        found = float(np.exp(params.log_scale[0]))
        np.testing.assert_allclose(found, x.std(ddof=1), rtol=1e-3)
        assert abs(float(params.mean[0]) - x.mean()) < 2e-3 * x.std()
        # Eight times as far out half a rounding is .2% to .5% of the deviation.
        refused(REALS["gaussian"], mean * 8 + x - mean, "three digits")


def test_constants_have_no_differences_to_lose():
    for x in (np.full(5, 0.1), np.full(5, 1.7e9 + 1), [0.3, 0.1 + 0.2], [[7.0]] * 3):
        for family in (REALS["gaussian"], REALS["kde"]):
            made(family, x)


def test_wide_numbers_are_right_under_x64():
    with jax.enable_x64(True):
        for x in (2**33 + np.arange(1000), 1.7e9 + 10 * Z, 1e6 + 0.01 * Z):
            process = made(E.gaussian(1), x, len(x))
            params = process.init(KEY)[0].params
            assert float(process.metrics["mean"](params)) == pytest.approx(x.mean(), rel=1e-15)
            assert float(process.metrics["variance"](params)) == pytest.approx(
                x.astype(float).var(ddof=1), rel=1e-12
            )
        assert (2**33 + np.arange(1000)).mean() == 8589935091.5
        refused(E.gaussian(1), 2**62 + np.arange(9), "float64", "subtract a constant")
        # The remedy that messages name works for all of them: k-means mixed integers of two types.
        process = made(E.gmm(2, 1), 1.7e9 + 10 * Z, 200)
        assert jax.eval_shape(process.init, KEY)[0].params.means.dtype == jnp.float64


TAKEN = {
    "a list": [0, 1, 1, 3],
    "[n, 1]": np.array([[0], [1], [1], [3]]),
    "floats without a fraction": [0.0, 1.0, 1.0, 3.0],
    "uint8": np.array([0, 1, 1, 3], np.uint8),
    "int64": np.array([0, 1, 1, 3], np.int64),
    "float16": np.array([0, 1, 1, 3], np.float16),
    "bfloat16": jnp.array([0, 1, 1, 3], jnp.bfloat16),
    "long double": np.array([0, 1, 1, 3], np.longdouble),
    "objects": np.array([0, 1, True, 3.0], object),
    "Python's numbers": [fractions.Fraction(0), decimal.Decimal(1), 1, 3],
    "a mask that hides nothing": np.ma.masked_array([0, 1, 1, 3]),
    "an array of JAX": jnp.array([0, 1, 1, 3]),
    "a range of rows": ((0,), (1,), (1,), (3,)),
}
POINTS = [
    (E.categorical(4), (), jnp.int32),
    (E.poisson(), (), jnp.int32),
    (E.exponential(), (), jnp.float32),
    (E.uniform(), (), jnp.float32),
    (E.gaussian(1), (1,), jnp.float32),
    (E.gmm(2, 1), (1,), jnp.float32),
    (E.kde(1), (1,), jnp.float32),
    (E.gaussian_mean(1.0), (1,), jnp.float32),
]


@pytest.mark.parametrize("data", TAKEN.values(), ids=TAKEN)
def test_what_has_one_meaning_is_taken(data):
    for family, shape, dtype in POINTS:
        held = made(family, data).parts.source.sample.held
        assert held.shape == (4, *shape) and held.dtype == dtype
        np.testing.assert_array_equal(np.ravel(held), [0, 1, 1, 3])


def test_bools_are_0_and_1():
    for family, dtype in ((E.bernoulli(), jnp.int32), (E.gaussian(1), jnp.float32)):
        held = made(family, [True, False]).parts.source.sample.held
        assert held.dtype == dtype and held.ravel().tolist() == [1, 0]


def test_numbers_of_taken_data_are_numpys():
    x = np.array([3, 1, 4, 1, 5, 9, 2, 6])
    for data in (x, x.astype(float), x[:, None]):
        params = made(E.gaussian(1), data, 8).init(KEY)[0].params
        np.testing.assert_allclose(params.mean[0], x.mean(), rtol=1e-6)
        np.testing.assert_allclose(np.exp(2 * params.log_scale[0]), x.var(ddof=1), rtol=1e-6)
    process = made(E.kde(1), x, 8)
    assert float(process.metrics["mean"](process.init(KEY)[0].params)) == x.mean()
    process = made(E.categorical(10), x.astype(float)[:, None], 8)
    shares = process.metrics["probabilities"](process.init(KEY)[0].params)
    np.testing.assert_allclose(shares, np.bincount(x, minlength=10) / 8, rtol=1e-6)


ROWS = np.random.default_rng(3).standard_normal((50, 2))
LABEL = (ROWS[:, 0] + Z[:50] > 0).astype(float)
ONES = np.ones(50)
REGRESSIONS = {
    "linear": E.linear_regression(2),
    "minimum norm": E.linear_regression(2, method="minimum_norm"),
    "logistic": E.logistic_regression(2),
}


@pytest.mark.parametrize("family", REGRESSIONS.values(), ids=REGRESSIONS)
def test_rows_of_regressions(family):
    good = np.c_[ROWS, LABEL]
    for x in (good, good.astype(np.float32), np.c_[ONES, 20 + 5 * ROWS[:, 0], LABEL], good[:3]):
        assert made(family, x).parts.source.sample.held.shape == x.shape
    # Features that explain each other exactly are left out, as ever.
    made(family, np.c_[ROWS[:, 0], 2 * ROWS[:, 0], LABEL])
    made(family, np.c_[ROWS[:, 0], 0 * ONES, LABEL])
    refused(family, ROWS, "shape [2]", "2 features and a label", "shape [3]")
    refused(family, (ROWS, LABEL), "pair of arrays", "(50, 2) and (50,)", "column_stack")
    for year in (2000 + ROWS[:, 0], 1.7e9 + ROWS[:, 0]):
        refused(family, np.c_[ONES, year, LABEL], "nearly linearly dependent", "subtract its mean")
        made(family, np.c_[ONES, year - year.mean(), LABEL])
    refused(family, np.c_[1e25 * ROWS, LABEL], "squares of a feature", "scale")
    refused(family, np.c_[1e-25 * ROWS, LABEL], "squares of a feature", "scale")


def test_designs_are_held_as_data_are():
    year = np.c_[ONES, 2000 + ROWS[:, 0]]
    for family in (E.linear_regression, E.logistic_regression):
        with pytest.raises(InputError, match="design: the features are nearly linearly dependent"):
            family(2, design=year)
        family(2, design=year - [0, 2000])
        family(2, design=np.c_[ONES, ONES])


def test_labels_of_a_logistic_regression_are_0_and_1():
    family = REGRESSIONS["logistic"]
    refused(family, np.c_[ROWS, LABEL + 1], "is 2.0", "labels 0 and 1", "subtract 1")
    refused(family, np.c_[ROWS, 2 * LABEL - 1], "is -1.0", "(label + 1) / 2")
    refused(family, np.c_[ROWS, LABEL / 2], "is 0.5", "last column")
    made(REGRESSIONS["linear"], np.c_[ROWS, LABEL / 2])


def test_weights_of_features_that_are_taken_keep_three_digits():
    """Least squares in float64 (NumPy) at the edge of what float32 can tell apart."""
    rng = np.random.default_rng(4)
    far, x = 1, None
    while True:
        z = rng.standard_normal(400)
        x = np.c_[np.ones(400), far + z, 1 + 2 * z + rng.standard_normal(400)]
        try:
            process = made(E.linear_regression(2), x, 400)
        except InputError:
            break
        weights = process.init(KEY)[0].params.weights
        want = np.linalg.lstsq(x[:, :2], x[:, 2], rcond=None)[0]
        np.testing.assert_allclose(weights, want, rtol=2e-3)
        far *= 4
    assert far == 256


def test_images():
    family = E.vae(8, 8, capacity=2, latent=2, draws="finite")
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8), np.uint8)
    refused(family, images, "pixels from 0 to 1", "divide by 255")
    refused(family, images / 255 - 0.5, "pixels from 0 to 1")
    refused(family, np.zeros((5, 64)), "shape [64]", "shape [8, 8]")
    for x in (images / 255, images[..., None] // 128, images[:, None] / 255.0):
        held = made(family, x).parts.source.sample.held
        assert held.shape == (5, 8, 8) and held.dtype == jnp.float32


def test_numbers_that_are_none_and_no_numbers():
    pandas = pytest.importorskip("pandas")
    sparse = pytest.importorskip("scipy.sparse")
    for data, words in [
        ([1, np.nan, np.inf], ["x[1] is nan", "1 more"]),
        ([[1.0, -np.inf]], ["x[0, 1] is -inf"]),
        ([1, None, 3], ["x[1] is None"]),
        (["a", "b"], ["text", "return_inverse"]),
        (np.array(["a", 1], object), ["x[0] is 'a'", "return_inverse"]),
        ("data.csv", ["'data.csv'"]),
        ([[1, 2], [3]], ["ragged", "x[0] has shape (2,)", "x[1] (1,)"]),
        ([[[1], [2, 3]], [[1], [2]]], ["ragged", "x[0] has rows of different lengths"]),
        ([[1, 2], 3], ["ragged", "x[1] ()"]),
        ((x for x in range(3)), ["generator"]),
        ({"a": [1]}, ["dict"]),
        ([2**70, 1], ["cannot be held"]),
        (sparse.eye(3), ["toarray"]),
        (np.ma.masked_array([1.0, 2.0], [False, True]), ["x[1] is masked"]),
        (np.array(["2020-01-01"], "M8[D]"), ["dates", "subtract a start"]),
        (np.array([1], "m8[s]"), ["time spans", "timedelta64"]),
        (np.zeros(3, [("a", float), ("b", float)]), ["records"]),
        (pandas.Series(["a", "b"], dtype="category"), ["x[0] is 'a'"]),
        (pandas.array([1, None], dtype="Int64"), ["x[1] is"]),
        (pandas.DataFrame({"a": [1.0, 2.0], "b": ["u", "v"]}), ["x[0, 1] is 'u'"]),
        ([], ["shape (0,)"]),
        (5.0, ["at least one point"]),
        (np.array([1e4000], np.longdouble), ["x[0] is inf"]),
        (jax.random.split(KEY, 2), ["key"]),
    ]:
        with pytest.raises(InputError) as error:
            cj.sources.dataset(data)
        text = str(error.value)
        assert "\n" not in text and all(word in text for word in words), text
    frame = pandas.DataFrame({"a": Z, "b": Z**2})
    assert made(E.gaussian(2), frame).parts.source.sample.held.shape == (200, 2)


def newcomer(**options):
    def fit(key, params, data):
        return jnp.average(data.x, axis=0, weights=data.weight), FitInfo.exact()

    def sample(key, params, n):
        return jnp.broadcast_to(params, (n, *params.shape))

    return cj.estimator(fit, sample, **options)


def test_a_newcomers_family_gets_shape_type_finiteness_and_digits():
    refused(newcomer(), 1.7e9 + 10 * Z, "mean 1700000000", "128 apart", "`check` of its own")
    refused(newcomer(), [2**33, 1], "x[0] is 8589934592", "int32", "jax_enable_x64")
    refused(newcomer(), [1e39, 1], "x[0] is 1e+39", "float32")
    for x, dtype in [
        (Z, jnp.float32),
        ([1, 2], jnp.int32),
        (np.array([1, 2], np.uint8), jnp.uint8),
        ([True, False], jnp.bool_),
        (Z[:4].astype(np.float16), jnp.float16),
        (Z + 1j, jnp.complex64),
        (np.zeros((3, 2, 2)), jnp.float32),
    ]:
        assert made(newcomer(), x).parts.source.sample.held.dtype == dtype


def test_a_newcomers_own_check_refuses_and_shapes():
    def check(x):
        if x.min() <= 0:
            raise ValueError(f"x[{x.argmin()}] is {x.min()}; scales are above 0")
        return x[:, None]

    family = newcomer(check=check)
    assert family.check is check
    refused(family, [1.0, -3.0], "dataset: x[1] is -3.0; scales are above 0")
    assert family._replace(summarise=lambda x, weight: x).check is None
    assert family._replace(fit=lambda *_: None).check is check
    wide = newcomer(check=lambda x: None)
    assert made(wide, 1.7e9 + 10 * Z).parts.source.sample.held.dtype == jnp.float32


def test_every_family_of_the_package_has_a_check():
    for name, family in estimators.FAMILIES.items():
        if family.example is not None:
            assert family.example()[0].check is not None, name


def test_moments_are_exact_for_numbers_of_any_size():
    rng = np.random.default_rng(5)
    for x in (
        2**62 + rng.integers(0, 100, (70, 2)),
        np.array([[2**63], [2**63 + 9]], np.uint64),
        rng.standard_normal((3000, 700)),
        rng.integers(0, 9, (50, 1)).astype(np.uint8),
    ):
        exact = [
            [fractions.Fraction(int(v)) if x.dtype.kind in "iu" else v for v in c] for c in x.T
        ]
        largest, mean, size, deviation = data_checks.moments(x)
        centre = [sum(column) / len(column) for column in exact[:2]]
        for j, middle in enumerate(centre):
            spread = math.sqrt(sum((v - middle) ** 2 for v in exact[j]) / len(x))
            assert deviation[j] == pytest.approx(spread, rel=1e-12)
            assert mean[j] == pytest.approx(float(middle), rel=1e-15, abs=1e-15)
            assert largest[j] == max(abs(float(v)) for v in exact[j])
            assert size[j] == pytest.approx(float(sum(map(abs, exact[j])) / len(x)), rel=1e-12)

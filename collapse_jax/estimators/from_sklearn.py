"""Density models of scikit-learn as families that are fitted on the host, under `cj.run`."""

import dataclasses
import inspect
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.core.factory import estimator
from collapse_jax.core.recipes.made import noted, with_recipe
from collapse_jax.core.types import Dataset, Estimator, FitInfo
from collapse_jax.errors import InputError, first_line
from collapse_jax.metrics import OfDraws

# What tells the stream of a fit from that of a sample with the same key.
_FIT, _SAMPLE = 1, 2
_NEEDED = ("fit", "sample", "score_samples")
# How a fit went, and not what it gave; as long as the fit was.
_OF_THE_FIT = ("lower_bounds_",)


def from_sklearn(model: Any) -> Estimator:
    """Returns a density model of scikit-learn as an estimator that runs under `cj.run`.

    It accepts any scikit-learn estimator with `fit`, `sample` and `score_samples`, such as
    `GaussianMixture`, `BayesianGaussianMixture` and `KernelDensity`. Points are [n] or [n, d]. Each
    generation fits a new copy on the host. Its `random_state` is derived from the generation's key.
    The parameters are the arrays of a fit, in float64. If a fitted model contains other objects
    (the tree of a `KernelDensity`), the parameters are its training points, and the model is fitted
    to them again when it is needed. A mixture needs at least as many points as components, and at
    least two.

    Args:
        model: an unfitted estimator with its options, such as `GaussianMixture(8)`.

    Returns:
        An estimator with `log_prob`, and with the metrics `mean`, `variance` and `log_variance`
        from 4,096 draws with a fixed key.

    Raises:
        InputError: if scikit-learn is not installed, the model is not such an estimator, or its
            `random_state` is set, which would make every generation draw the same numbers.

    References:
        Pedregosa et al. 2011, "Scikit-learn: Machine Learning in Python".
    """
    made = _checked(model)
    family = _Family(made, " ".join(repr(made).split()))
    own = estimator(
        family.fit,
        family.sample,
        name=f"from_sklearn({family.name})",
        init=family.init,
        log_prob=family.log_prob,
        metrics={label: OfDraws(family.sample, moment) for label, moment in _MOMENTS.items()},
        traceable=False,
    )
    return with_recipe(own, of_options, (type(made), made.get_params(deep=False)))


def of_options(kind: type, options: dict) -> Estimator:
    """Returns `from_sklearn` of a class and its options; unpickling calls this."""
    return from_sklearn(kind(**options))


def _words(recipe):
    kind, options = recipe.args
    return f"from_sklearn({' '.join(repr(kind(**options)).split())})"


noted(of_options, words=_words)


def _checked(model) -> Any:
    """An unfitted copy of a density, or `InputError`."""
    try:
        from sklearn.base import BaseEstimator, clone
    except ImportError:
        raise InputError(
            'from_sklearn needs scikit-learn; install it by pip install "collapse-jax[toys]"'
        ) from None
    if not isinstance(model, BaseEstimator):
        called = " (call the class: GaussianMixture(8))" if inspect.isclass(model) else ""
        raise InputError(
            f"model is {model!r:.200}; it must be an estimator of scikit-learn{called}"
        )
    missing = [name for name in _NEEDED if not callable(getattr(model, name, None))]
    if missing:
        raise InputError(
            f"model is {model!r:.200}, which has no {' and no '.join(missing)}; it must be a "
            "density model, such as GaussianMixture or KernelDensity"
        )
    options = model.get_params()
    if options.get("random_state") is not None:
        raise InputError(
            f"random_state of the model is {options['random_state']!r}; leave it out: every "
            "generation of every chain draws from its own key"
        )
    if "kernel" in options and options["kernel"] not in ("gaussian", "tophat"):
        raise InputError(
            f"kernel of the model is {options['kernel']!r}; it must be 'gaussian' or 'tophat', the "
            "kernels from which scikit-learn can sample"
        )
    return clone(model)


@dataclasses.dataclass(frozen=True)
class _Family:
    """Parameters are {"model": name -> array, "shape": int [1 + axes], (-1, shape of a point)}.

    model: what each fit is a copy of.
    name: for messages.
    """

    model: Any
    name: str

    def init(self, key: jax.Array, data: Dataset) -> dict[str, Any]:
        """Returns parameters with the structure of a fit, after one step if steps are counted."""
        options = {name: 1 for name in ("max_iter", "n_init") if name in self.model.get_params()}
        return self._params(self._fitted(key, data, options), data)

    def fit(self, key: jax.Array, params: Any, data: Dataset) -> tuple[dict[str, Any], FitInfo]:
        """Fits a new copy; loss is the negative lower bound of the log-likelihood per point."""
        fitted = self._fitted(key, data, {})
        info = FitInfo(
            jnp.asarray(bool(getattr(fitted, "converged_", True))),
            jnp.asarray(int(getattr(fitted, "n_iter_", 0))),
            jnp.asarray(-float(getattr(fitted, "lower_bound_", jnp.nan))),
        )
        return self._params(fitted, data), info

    def sample(self, key: jax.Array, params: dict[str, Any], n: int) -> Any:
        """Points [n, ...] in random order."""
        random, fitted = _random(key, _SAMPLE), self._restored(params)
        if "random_state" in inspect.signature(fitted.sample).parameters:
            x = fitted.sample(n, random_state=random)
        else:
            x = fitted.set_params(random_state=random).sample(n)
        x = np.asarray(x[0] if isinstance(x, tuple) else x)
        # A mixture gives the points of one component after those of another.
        return random.permutation(x).reshape(params["shape"]).astype(_float_type())

    def log_prob(self, params: dict[str, Any], x: Any) -> Any:
        """Log-density [n] in nats at points x [n, ...]."""
        return self._restored(params).score_samples(_flat(x))

    def _fitted(self, key, data, options) -> Any:
        from sklearn.base import clone
        from sklearn.exceptions import ConvergenceWarning

        x, weight = _flat(data.x), np.asarray(data.weight, float)
        x, weight = x[weight > 0], weight[weight > 0]
        copy: Any = clone(self.model)
        copy.set_params(**options)
        if "random_state" in copy.get_params():
            copy.set_params(random_state=_random(key, _FIT))
        given = {}
        if np.any(weight != 1):
            if "sample_weight" not in inspect.signature(copy.fit).parameters:
                raise InputError(
                    f"a point has weight {weight[weight != 1][0]:g}, but {self.name} takes only "
                    "points of weight 1; choose a workflow without weights"
                )
            given = {"sample_weight": weight}
        try:
            with warnings.catch_warnings():  # FitInfo tells of it
                warnings.simplefilter("ignore", ConvergenceWarning)
                return copy.fit(x, **given)
        except ValueError as error:
            raise InputError(f"{self.name} cannot be fitted: {first_line(error)}") from error

    def _params(self, fitted, data):
        shape = np.asarray([-1, *np.shape(data.x)[1:]], np.int32)
        found = {
            name: value
            for name, value in vars(fitted).items()
            if name.endswith("_") and name[0] != "_" and name not in _OF_THE_FIT
        }
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(found)]
        if all(leaf.dtype.kind in "fiub" for leaf in leaves):
            return {"model": jax.tree.map(np.asarray, found), "shape": shape}
        weight = np.asarray(data.weight, float)
        points = {"x": _flat(data.x)[weight > 0], "weight": weight[weight > 0]}
        return {"model": points, "shape": shape}

    def _restored(self, params) -> Any:
        """The fitted model of parameters."""
        from sklearn.base import clone

        model = params["model"]
        if model.keys() == {"x", "weight"}:  # without randomness, so that any key does
            x, weight = np.asarray(model["x"]), np.asarray(model["weight"])
            return self._fitted(jax.random.key(0), Dataset(x, weight), {})  # pyright: ignore
        fitted: Any = clone(self.model)
        for name, value in model.items():
            setattr(fitted, name, jax.tree.map(np.asarray, value))
        return fitted


def _random(key, use):
    """A NumPy generator, seeded by a key and a use."""
    words = np.asarray(jax.random.key_data(key), np.uint32).ravel()
    return np.random.RandomState([*words.tolist(), use])


def _flat(x):
    x = np.asarray(x, float)
    return x.reshape(len(x), -1)


def _float_type():
    return jax.dtypes.canonicalize_dtype(float)


def _mean(x):
    return np.squeeze(np.mean(x, axis=0))


def _variance(x):
    return np.mean(np.var(x, axis=0, ddof=1))


def _log_variance(x):
    x = np.asarray(x, float)
    covariance = np.cov(x, rowvar=False).reshape(x.shape[1], x.shape[1])
    return np.linalg.slogdet(covariance)[1] / x.shape[1]


_MOMENTS = {"mean": _mean, "variance": _variance, "log_variance": _log_variance}

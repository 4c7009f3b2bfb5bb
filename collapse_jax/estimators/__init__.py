"""The families, one file each. `FAMILIES` names all of ours: adding one is a file and a line here."""

from collapse_jax.core.types import Family
from collapse_jax.estimators import bernoulli as _bernoulli
from collapse_jax.estimators import categorical as _categorical
from collapse_jax.estimators import exponential as _exponential
from collapse_jax.estimators import gaussian as _gaussian
from collapse_jax.estimators import gaussian_mean as _gaussian_mean
from collapse_jax.estimators import gmm as _gmm
from collapse_jax.estimators import kde as _kde
from collapse_jax.estimators import linear_regression as _linear_regression
from collapse_jax.estimators import logistic_regression as _logistic_regression
from collapse_jax.estimators import ngram as _ngram
from collapse_jax.estimators import pareto as _pareto
from collapse_jax.estimators import poisson as _poisson
from collapse_jax.estimators import uniform as _uniform
from collapse_jax.estimators import vae as _vae
from collapse_jax.estimators.causal_lm import causal_lm

FAMILIES = {
    "categorical": Family(_categorical.categorical, _categorical.example),
    "bernoulli": Family(_bernoulli.bernoulli, _bernoulli.example),
    "poisson": Family(_poisson.poisson, _poisson.example),
    "gaussian": Family(_gaussian.gaussian, _gaussian.example),
    "gaussian_mean": Family(_gaussian_mean.gaussian_mean, _gaussian_mean.example),
    "exponential": Family(_exponential.exponential, _exponential.example),
    "pareto": Family(_pareto.pareto, _pareto.example),
    "uniform": Family(_uniform.uniform, _uniform.example),
    "gmm": Family(_gmm.gmm, _gmm.example),
    "kde": Family(_kde.kde, _kde.example),
    "linear_regression": Family(_linear_regression.linear_regression, _linear_regression.example),
    "logistic_regression": Family(
        _logistic_regression.logistic_regression, _logistic_regression.example
    ),
    "ngram": Family(_ngram.ngram, _ngram.example),
    "vae": Family(_vae.vae, _vae.example),
    "causal_lm": Family(causal_lm),
}
categorical, categorical_params = _categorical.categorical, _categorical.categorical_params
bernoulli, bernoulli_params = _bernoulli.bernoulli, _bernoulli.bernoulli_params
poisson, poisson_params = _poisson.poisson, _poisson.poisson_params
gaussian, gaussian_params = _gaussian.gaussian, _gaussian.gaussian_params
gaussian_mean, gaussian_mean_params = (
    _gaussian_mean.gaussian_mean,
    _gaussian_mean.gaussian_mean_params,
)
exponential, exponential_params = _exponential.exponential, _exponential.exponential_params
pareto, pareto_params = _pareto.pareto, _pareto.pareto_params
uniform, uniform_params = _uniform.uniform, _uniform.uniform_params
gmm, gmm_params = _gmm.gmm, _gmm.gmm_params
kde = _kde.kde
linear_regression, regression_params = (
    _linear_regression.linear_regression,
    _linear_regression.regression_params,
)
logistic_regression, logistic_params = (
    _logistic_regression.logistic_regression,
    _logistic_regression.logistic_params,
)
ngram, ngram_params, ngram_perplexity = _ngram.ngram, _ngram.ngram_params, _ngram.perplexity
vae = _vae.vae

__all__ = [
    "FAMILIES",
    "bernoulli",
    "bernoulli_params",
    "categorical",
    "categorical_params",
    "causal_lm",
    "exponential",
    "exponential_params",
    "gaussian",
    "gaussian_mean",
    "gaussian_mean_params",
    "gaussian_params",
    "gmm",
    "gmm_params",
    "kde",
    "linear_regression",
    "logistic_params",
    "logistic_regression",
    "ngram",
    "ngram_params",
    "ngram_perplexity",
    "pareto",
    "pareto_params",
    "poisson",
    "poisson_params",
    "regression_params",
    "uniform",
    "uniform_params",
    "vae",
]

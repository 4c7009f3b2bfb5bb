"""Dey and Donoho 2024: in exponential families the variance grows at most by the factor pi^2/6.

If generated data is added to the real data.
"""

import warnings

import numpy as np

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import OutOfReach, Paper, compare, entry

PAPER = Paper(
    "2410.22812",
    "Dey and Donoho 2024",
    "Universality of the pi^2/6 Pathway in Avoiding Model Collapse",
)
FAMILIES = {"gaussian_mean": 0.0, "poisson": 2.0, "bernoulli": 0.3, "exponential": 1.0}


def squared_errors(key, name, workflow, size, at, chains):
    """Squared errors [chain, at] of the fitted mean of a one-parameter family."""
    estimator, mean = getattr(cj.estimators, name)(), FAMILIES[name]
    real = cj.sources.population(estimator, getattr(cj.estimators, f"{name}_params")(mean))
    process = cj.generational_process(estimator, real, workflow, sample_size=size)
    return (
        cj.simulate(
            process, key, generations=int(at[-1]), chains=chains, metrics="mean", record=at
        )["mean"]
        - mean
    ) ** 2


@entry(
    "dey-univ-families",
    claim="If all data is kept, the variance of a fitted mean is multiplied by the sum of 1/i^2, "
    "at most pi^2/6, in every exponential family.",
    status="published formula",
    setting="Gaussian mean, Poisson, Bernoulli, exponential; M = 50, generations 0 to 99, "
    "accumulate, 100,000 chains",
    oracle="the limit is the paper's; exact at M = 50: "
    "theory.exponential_families.expected_squared_mean_error, which differs from it by a share 1/M "
    "where the variance is a square of the mean (so an exponential ends above pi^2/6, a Bernoulli "
    "below)",
    y="variance over that of generation 0",
)
def families(key):
    at, found = np.array([0, 1, 9, 99]), []
    for name, mean in FAMILIES.items():
        quadratic = theory.exponential_families.QUADRATICS[name]
        exact = theory.exponential_families.expected_squared_mean_error(
            at, 50, mean, quadratic, workflow="accumulate"
        )
        errors = squared_errors(key, name, cj.workflows.accumulate(), 50, at, 100_000)
        found.append(compare.means(errors / exact[0], exact / exact[0], at=at, what=name))
        limit = theory.regression.variance_ratio(at)
        why = "variance that is a square of the mean"
        found.append(
            compare.equal(
                exact / exact[0],
                limit,
                limit / 50,
                why,
                at=at,
                what=f"{name}, exact by sum of 1/i^2",
            )
        )
    return found


@entry(
    "dey-univ-discard",
    claim="If data is discarded, the variance of a fitted mean is multiplied by the number of "
    "fits; if it is kept, by less than pi^2/6.",
    status="published formula",
    setting="Poisson and exponential, M = 50, generations 0 to 24, 100,000 chains",
    oracle="n after n fits to first order in 1/M (the paper's discard); exact: "
    "theory.exponential_families.expected_squared_mean_error, (1 + 1/M)^n for the exponential",
    y="variance over that of generation 0",
)
def discard(key):
    at, found = np.array([0, 1, 9, 24]), []
    for name in ("poisson", "exponential"):
        quadratic, mean = theory.exponential_families.QUADRATICS[name], FAMILIES[name]
        exact = theory.exponential_families.expected_squared_mean_error(at, 50, mean, quadratic)
        errors = squared_errors(key, name, cj.workflows.replace(), 50, at, 100_000)
        found.append(compare.means(errors / exact[0], exact / exact[0], at=at, what=name))
    # the Poisson's ratio is n itself
    found.append(
        compare.equal(found[0].expected, at + 1, 1e-9, "float64", at=at, what="poisson, exact by n")
    )
    return found


@entry(
    "dey-univ-logistic",
    claim="Logistic regression behaves like least squares: the variance is multiplied by n if "
    "data is discarded, and by less than pi^2/6 if all is kept.",
    status="published formula",
    setting="d = 2 features N(0, I), weights 0.5; replace: T = 2,000 rows, 1,000 chains; "
    "accumulate: T = 400 rows, 600 chains",
    oracle="theory.regression.variance_ratio (the paper's) times tr of the inverse information, "
    "theory.regression.logistic_squared_error, both for T -> infinity; tolerance for the "
    "next order: 5 d/T per fit, or for the first fit alone if all data is kept",
    y="T x squared error of the weights",
)
def logistic(key):
    estimator, weights = cj.estimators.logistic_regression(2), np.full(2, 0.5)
    real, found = cj.sources.population(estimator, cj.estimators.logistic_params(weights)), []
    first = theory.regression.logistic_squared_error(np.linalg.norm(weights), 2)
    for flow, size, chains, at in (
        ("replace", 2_000, 1_000, [0, 1, 4]),
        ("accumulate", 400, 600, [0, 1, 4, 9]),
    ):
        process = cj.generational_process(
            estimator, real, getattr(cj.workflows, flow)(), sample_size=size
        )
        errors = cj.simulate(
            process, key, generations=at[-1], chains=chains, metrics="squared_distance", record=at
        )["squared_distance"]
        exact = first * theory.regression.variance_ratio(np.array(at), workflow=flow)
        fits = np.array(at) + 1 if flow == "replace" else 1
        found.append(
            compare.means(
                size * errors,
                exact,
                at=at,
                what=flow,
                tolerance=exact * fits * 10 / size,
                why="terms of order d/T",
            )
        )
    return found


def breast_cancer():
    """Rows with a constant, train and test, their labels, and test losses of the authors' solver.

    The split is that of the released code. Features are in training deviations. The solver stops
    before it converges, where its loss depends on the rounding of the processor: a relative change
    of the features by 1e-15 moves it by 2%. So it is run on features that are changed that little.
    """
    try:
        from sklearn.datasets import load_breast_cancer
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import train_test_split
    except ImportError:
        raise OutOfReach("needs scikit-learn: pip install -e '.[toys]'") from None
    x, y = load_breast_cancer(return_X_y=True)
    train, test, train_labels, test_labels = train_test_split(
        x, y, test_size=0.3, random_state=123456
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fits = [
            LogisticRegression(C=np.inf, max_iter=500).fit(train * (1 + k * 1e-13), train_labels)
            for k in range(16)
        ]
    stopped = [log_loss(test_labels, fit.decision_function(test)) for fit in fits]
    rows = [
        np.c_[np.ones(len(part)), (part - train.mean(0)) / train.std(0)] for part in (train, test)
    ]
    return *rows, train_labels, test_labels, np.array(stopped)


def log_loss(labels, logits):
    """Mean log-loss [...] of labels [n] under logits [..., n].

    Probabilities come no closer to 0 and 1 than float64 tells apart.
    """
    likely = np.where(labels > 0.5, logits, -logits)
    return np.mean(np.minimum(np.logaddexp(0, -likely), -np.log(np.finfo(float).eps)), axis=-1)


@entry(
    "dey-uci",
    claim="Breast cancer data, logistic regression, discarded data: the test log-loss is .1019 "
    "at first, then 1.4755 for ever.",
    status="published number",
    setting="569 rows of 30 features, 70/30 split, no penalty, new labels on the same rows, 10 "
    "generations, 2 chains",
    oracle="the authors' logs; 1.4755 is 7 mistakes of 171 at the smallest probability of float64",
    y="test log-loss",
    disagrees="A plane separates the training rows, so no best fit exists, and the published "
    "first value is the point where the authors' solver stopped. The exact fit is "
    "separated and does not change from generation 0 on.",
)
def breast_cancer_frozen(key):
    train, test, labels, test_labels, stopped = breast_cancer()
    family = cj.estimators.logistic_regression(31, train)
    process = cj.generational_process(
        family,
        cj.sources.dataset(np.c_[train, labels]),
        cj.workflows.replace(),
        sample_size=len(train),
    )
    trace = cj.simulate(
        process, key, generations=10, chains=2, metrics=("separated", "weights"), record=[0, 1, 10]
    )
    weights, at = trace["weights"].astype(float), trace.generations
    made = np.einsum("cgd,nd->cgn", weights, train) > 0
    # the weights of ours stand for infinite ones in their direction
    losses = log_loss(test_labels, 1e6 * np.einsum("cgd,nd->cgn", weights, test))
    mistake = -np.log(np.finfo(float).eps) / len(test)
    return [
        compare.refuted(
            compare.equal(
                losses[:, 0].mean(), 0.1019, 0.002, "digits", at=[0], what="first test log-loss"
            )
        ),
        compare.estimates(
            stopped.mean(),
            stopped.std(ddof=1),
            0.1019,
            at=[0],
            what="raw features, 500 steps of L-BFGS, with features changed by 1e-13",
            rule="spread over 16 changes",
        ),
        compare.equal(7 * mistake, 1.4755, 5e-5, "digits", at=[2], what="log-loss of 7 mistakes"),
        compare.equal(
            trace["separated"].mean(0), np.ones(len(at)), 0, "", at=at, what="share separated"
        ),
        compare.equal(
            (made != labels).mean((0, 2)),
            np.zeros(len(at)),
            0,
            "",
            at=at,
            what="training labels that changed",
        ),
        compare.equal(
            losses.mean(0),
            losses[:, 0].mean(),
            1e-9,
            "float64",
            at=at,
            what="test log-loss, frozen",
        ),
    ]

"""collapse_jax: a laboratory for model collapse, in JAX. Names are loaded when they are first used."""

import importlib

_MODULES = ("curation", "estimators", "lm", "metrics", "plots", "points", "random", "sources", "theory", "vae", "workflows")
_NAMES = {
    "Dataset": "types",
    "Estimator": "types",
    "FitInfo": "types",
    "Process": "types",
    "Source": "types",
    "State": "types",
    "StepInfo": "types",
    "Workflow": "types",
    "InputError": "errors",
    "DivergenceError": "errors",
    "Trace": "trace",
    "RunFolder": "records",
    "Watcher": "drivers.run",
    "check_estimator": "contract",
    "estimator": "factory",
    "families": "registry",
    "generational_process": "process",
    "infinite_sample": "infinite",
    "register": "registry",
    "run": "drivers.run",
    "simulate": "drivers.simulate",
    "simulate_summary": "drivers.simulate_summary",
}
__all__ = [*_MODULES, *_NAMES]


def __getattr__(name):
    if name in _NAMES:
        value = getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    elif name in _MODULES:
        value = importlib.import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__():
    return sorted(__all__)

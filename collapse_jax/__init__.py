"""collapse_jax: a laboratory for model collapse, in JAX.

Names are loaded when they are first used, so that importing the package costs next to nothing.
"""

import importlib

_MODULES = {
    "curation": "core.curation",
    "estimators": "estimators",
    "lm": "models.lm",
    "metrics": "metrics",
    "plots": "app.plots",
    "points": "core.points",
    "random": "random",
    "sources": "estimators.sources",
    "theory": "theory",
    "vae": "models.vae",
    "verifiers": "estimators.verifiers",
    "workflows": "core.workflows",
}
_NAMES = {
    "Dataset": "core.types",
    "Estimator": "core.types",
    "Family": "core.types",
    "FitInfo": "core.types",
    "Process": "core.types",
    "Source": "core.types",
    "State": "core.types",
    "StepInfo": "core.types",
    "Workflow": "core.types",
    "InputError": "errors",
    "DivergenceError": "errors",
    "Interrupted": "drivers.interrupted",
    "Trace": "drivers.trace",
    "RunFolder": "app.run_folder",
    "Watcher": "drivers.run",
    "cache": "app.compilation",
    "check_estimator": "drivers.contract",
    "check_workflow": "drivers.workflow_contract",
    "early_warning": "drivers.warning.early_warning",
    "ecosystem": "core.ecosystems.ecosystem",
    "estimate": "drivers.estimate",
    "estimator": "core.factory",
    "families": "estimators.registry",
    "from_sklearn": "estimators.from_sklearn",
    "genealogy": "drivers.genealogy",
    "genealogy_of": "drivers.genealogy",
    "genealogy_process": "drivers.genealogy",
    "generational_process": "core.process",
    "hysteresis": "drivers.warning.hysteresis",
    "infinite_sample": "core.infinite",
    "load_generation": "app.generations",
    "measure": "app.measure",
    "named": "core.factory",
    "point_key": "drivers.streams",
    "policy": "drivers.policies",
    "profile": "app.collapse_profile.profile",
    "read_data": "core.tables.read",
    "register": "estimators.registry",
    "run": "drivers.run",
    "simulate": "drivers.simulate",
    "simulate_couplings": "drivers.couplings",
    "simulate_grid": "drivers.simulate_grid",
    "simulate_summary": "drivers.simulate_summary",
    "table": "app.table",
}
__all__ = [*_MODULES, *_NAMES]


def __getattr__(name):
    if name == "__version__":
        value = importlib.import_module("importlib.metadata").version("collapse-jax")
    elif name in _NAMES:
        value = getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    elif name in _MODULES:
        value = importlib.import_module(f"{__name__}.{_MODULES[name]}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__():
    return sorted(__all__)

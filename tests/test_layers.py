"""The floors of the package: a file imports only floors below its own. Parsed, not imported; and what importing costs."""

import ast
import pathlib
import subprocess
import sys

import pytest

# Every file of the top folder, and every folder, has one floor. A new file needs a line here.
FLOORS = {
    "errors": 0,
    "types": 0,
    "random": 1,
    "numerics": 2,
    "theory": 0,
    "trace": 0,
    "distributed": 0.3,
    "stopping": 0.6,
    "workbench": 1,
    "memory": 0,
    "checks": 1,
    "config": 1,
    "points": 1,
    "over_chains": 1,
    "metrics": 1,
    "checkpoint": 1,
    "workflows": 2,
    "curation": 2,
    "infinite": 2,
    "tiles": 2,
    "lm": 2,
    "vae": 1,
    "chain_theory": 2,
    "factory": 2,
    "process": 2,
    "records": 2,
    "estimators": 3,
    "drivers": 3,
    "sources": 4,
    "registry": 4,
    "plots": 4,
    "contract": 5,
    "reproduce": 5,
    "commands": 6,
    "cli": 7,
}
# Folders whose files may import each other. Those of `estimators` may not.
OPEN_FOLDERS = ("drivers", "lm", "vae", "theory", "metrics", "random", "plots", "commands", "config", "reproduce")
PACKAGE = pathlib.Path(__file__).parents[1] / "collapse_jax"
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def module_of(path):
    """collapse_jax/lm/opt.py -> ("lm", "opt"); a folder's __init__.py -> ("lm",)."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def imports_of(source, module, is_folder=False):
    """Dotted names that Python text imports, anywhere in it; those of the package as ("collapse_jax", unit, ...)."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = tuple(node.module.split(".")) if node.module else ()
            if node.level:
                here = ("collapse_jax", *module)
                base = here[: len(here) - node.level + is_folder] + base
            yield from ((*base, alias.name) for alias in node.names)


def faults(source, module, is_folder=False):
    """What the text of a file imports that its floor does not allow."""
    found = []
    for name in imports_of(source, module, is_folder):
        if name[0] == "orbax" and module != ("checkpoint",):
            found.append("orbax")
        if name[0] != "collapse_jax":
            continue
        unit = name[1] if len(name) > 1 else ""
        if unit == module[0]:
            allowed = unit in OPEN_FOLDERS or is_folder
        else:
            allowed = module[0] != "theory" and unit in FLOORS and FLOORS[unit] < FLOORS[module[0]]
        if not allowed:
            found.append(".".join(name))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_file_imports_only_floors_below_its_own(path):
    module = module_of(path)
    assert module[0] in FLOORS, f"{path.name} has no floor: add it to FLOORS"
    assert faults(path.read_text(encoding="utf-8"), module, path.name == "__init__.py") == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (("lm", "opt"), "from collapse_jax.estimators.gaussian import gaussian"),
        (("lm", "opt"), "def f():\n    import collapse_jax.process"),
        (("estimators", "gaussian"), "from collapse_jax.estimators.categorical import categorical"),
        (("estimators", "gaussian"), "from . import categorical"),
        (("estimators", "gaussian"), "from collapse_jax import sources"),
        (("theory", "gaussian"), "from collapse_jax.errors import InputError"),
        (("theory", "gaussian"), "from ..errors import InputError"),
        (("drivers", "run"), "from collapse_jax.estimators.gaussian import gaussian"),
        (("drivers", "run"), "from collapse_jax import gaussian"),
        (("drivers", "run"), "import collapse_jax"),
        (("points",), "import orbax.checkpoint as ocp"),
    ],
)
def test_forbidden_imports_are_found(module, source):
    assert len(faults(source, module)) == 1


def test_allowed_imports_are_allowed():
    assert faults("from .ancestry import as_generation", ("theory", "gaussian")) == []
    assert faults("from . import ancestry", ("theory",), is_folder=True) == []
    assert faults("import orbax.checkpoint\nfrom collapse_jax.types import State", ("checkpoint",)) == []


def run_python(*arguments):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=120)


def test_importing_the_package_imports_neither_jax_nor_numpy():
    done = run_python("-c", "import collapse_jax, sys; dir(collapse_jax); print({'jax', 'numpy', 'orbax', 'flax'} & set(sys.modules))")
    assert done.stdout.strip() == "set()", done.stdout + done.stderr


def test_help_does_not_import_jax():
    code = (
        "import sys\nfrom collapse_jax.cli import main\n"
        "try:\n    main(['--help'])\nfinally:\n    print('HEAVY', sorted({'jax', 'orbax', 'flax', 'transformers'} & set(sys.modules)))"
    )
    done = run_python("-c", code)
    assert done.returncode == 0, done.stderr
    assert "simulate" in done.stdout and "HEAVY []" in done.stdout, done.stdout[-300:]


def test_public_names_stay_functions_whatever_is_imported_first():
    """`cj.run` is the function, also after something imported the file drivers/run.py."""
    code = (
        "import collapse_jax.drivers.simulate, collapse_jax.drivers.run, collapse_jax.estimators, collapse_jax as cj\n"
        "print([name for name in cj.__all__ if name[0].islower() and name not in cj._MODULES and not callable(getattr(cj, name))])"
    )
    done = run_python("-c", code)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr

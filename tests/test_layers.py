"""The floors of the package: a file imports only floors below its own.

Parsed, not imported; and what importing costs.
"""

import ast
import pathlib
import subprocess
import sys

import pytest

# The entries of the package, floor by floor: an entry imports only floors below its own.
ROWS = (
    ("errors", "theory"),
    ("random", "metrics"),
    ("numerics",),
    ("core",),
    ("runs",),
    ("models",),
    ("estimators",),
    ("drivers",),
    ("app",),
)
FLOORS = {entry: floor for floor, row in enumerate(ROWS) for entry in row}
# Families know nothing of each other; these files beside them know the families.
BESIDE_THE_FAMILIES = ("sources", "registry", "verifiers")
# What several families share.
BENEATH_THE_FAMILIES = ("designs", "learned")
# Families that are others with a prior: the same samples and statistics, another fit.
WITH_A_PRIOR = {"dirichlet_multinomial": "categorical", "normal_inverse_gamma": "gaussian"}
# What is generic asks for a source, never for a family.
FAMILY_KNOWERS = ("estimators", "app")
PACKAGE = pathlib.Path(__file__).parents[1] / "collapse_jax"
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


KNOW_ORBAX = (("runs", "checkpoint"), ("runs", "small_checkpoint"))


def module_of(path):
    """collapse_jax/models/lm/opt.py -> ("lm", "opt"); a folder's __init__.py -> ("lm",)."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def imports_of(source, module, is_folder=False):
    """Dotted names that Python text imports, anywhere in it; those of the package as
    ("collapse_jax", unit, ...).
    """
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
        if name[0] == "orbax" and module not in KNOW_ORBAX:
            found.append("orbax")
        if name[0] != "collapse_jax":
            continue
        entry = name[1] if len(name) > 1 else ""
        if entry == module[0]:
            # A family of several files is a folder, whose files import each other.
            own = "".join(module[1:2])
            is_family = entry == "estimators" and own not in ("", *BESIDE_THE_FAMILIES)
            beneath = (own, *BENEATH_THE_FAMILIES, WITH_A_PRIOR.get(own))
            allowed = not is_family or "".join(name[2:3]) in beneath
        else:
            below = FLOORS.get(entry, len(ROWS)) < FLOORS[module[0]]
            named = (
                entry != "estimators" or module[0] in FAMILY_KNOWERS or name[2:3] == ("sources",)
            )
            allowed = module[0] != "theory" and below and named
        if not allowed:
            found.append(".".join(name))
    return found


def test_the_package_has_at_most_twelve_entries():
    entries = {path.stem for path in PACKAGE.iterdir() if path.name[0] not in "_."} - {"py"}
    assert entries == set(FLOORS) and len(entries) <= 12


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_file_imports_only_floors_below_its_own(path):
    module = module_of(path)
    assert module[0] in FLOORS, f"{path.name} has no floor: add it to FLOORS"
    assert faults(path.read_text(encoding="utf-8"), module, path.name == "__init__.py") == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (("models", "lm", "opt"), "from collapse_jax.estimators.gaussian import gaussian"),
        (("core", "points"), "def f():\n    import collapse_jax.runs.folder"),
        (("estimators", "gaussian"), "from collapse_jax.estimators.categorical import categorical"),
        (("estimators", "gaussian"), "from . import categorical"),
        (
            ("estimators", "gaussian", "family"),
            "from collapse_jax.estimators.categorical.family import categorical",
        ),
        (("estimators", "gaussian"), "from collapse_jax import sources"),
        (("theory", "gaussian"), "from collapse_jax.errors import InputError"),
        (("theory", "gaussian"), "from ..errors import InputError"),
        (("drivers", "run"), "from collapse_jax.estimators.gaussian import gaussian"),
        (("drivers", "run"), "from collapse_jax import gaussian"),
        (("drivers", "run"), "import collapse_jax"),
        (("core", "points"), "import orbax.checkpoint as ocp"),
    ],
)
def test_forbidden_imports_are_found(module, source):
    assert len(faults(source, module)) == 1


def test_allowed_imports_are_allowed():
    assert faults("from .ancestry import as_generation", ("theory", "gaussian")) == []
    assert faults("from . import ancestry", ("theory",), is_folder=True) == []
    assert (
        faults(
            "import orbax.checkpoint\nfrom collapse_jax.core.types import State",
            ("runs", "checkpoint"),
        )
        == []
    )


def run_python(*arguments):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=120)


def test_importing_the_package_imports_neither_jax_nor_numpy():
    done = run_python(
        "-c",
        "import collapse_jax, sys; dir(collapse_jax); print({'jax', 'numpy', 'orbax', "
        "'flax'} & set(sys.modules))",
    )
    assert done.stdout.strip() == "set()", done.stdout + done.stderr


def test_help_does_not_import_jax():
    code = (
        "import sys\nfrom collapse_jax.app.cli import main\n"
        "try:\n    main(['--help'])\nfinally:\n    print('HEAVY', sorted({'jax', 'orbax', "
        "'flax', 'transformers'} & set(sys.modules)))"
    )
    done = run_python("-c", code)
    assert done.returncode == 0, done.stderr
    assert "simulate" in done.stdout and "HEAVY []" in done.stdout, done.stdout[-300:]


def test_public_names_stay_functions_whatever_is_imported_first():
    """`cj.run` is the function, also after something imported the file drivers/run.py."""
    code = (
        "import collapse_jax.drivers.simulate, collapse_jax.drivers.run, "
        "collapse_jax.estimators, collapse_jax as cj\n"
        "print([name for name in cj.__all__ if name[0].islower() and name not in "
        "cj._MODULES and not callable(getattr(cj, name))])"
    )
    done = run_python("-c", code)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr

"""Every name that the package imports from itself is there, in imports inside functions too."""

import ast
import importlib.util
import pathlib

import pytest

import collapse_jax

PACKAGE = pathlib.Path(collapse_jax.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))


def _package_of(path):
    """The dotted name of the folder of a file, from which relative imports count."""
    return ".".join(path.relative_to(PACKAGE.parent).parts[:-1])


def missing(source, package="collapse_jax"):
    """(line, module, name) of what a text imports from the package and is not there."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ImportFrom):
            continue
        name = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
        if name.split(".")[0] != "collapse_jax":
            continue
        module = importlib.import_module(name)
        for alias in node.names:
            if alias.name != "*" and not hasattr(module, alias.name):
                try:
                    importlib.import_module(f"{name}.{alias.name}")
                except ModuleNotFoundError:
                    found.append((node.lineno, name, alias.name))
    return found


def test_every_name_imported_from_the_package_exists():
    found = {path: missing(path.read_text("utf-8"), _package_of(path)) for path in FILES}
    assert not {str(path): lines for path, lines in found.items() if lines}


@pytest.mark.parametrize(
    "source",
    [
        "def f():\n    from collapse_jax.errors import nothing",
        "from . import nothing",
        "from collapse_jax.app.commands.lm import nothing, memory_words",
    ],
)
def test_a_missing_name_is_found(source):
    assert [name for _, _, name in missing(source)] == ["nothing"]

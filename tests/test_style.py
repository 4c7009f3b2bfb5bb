"""What the code promises its readers: short functions, annotated arguments, no private words."""

import ast
import pathlib
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "collapse_jax"
FILES = sorted(PACKAGE.rglob("*.py"))
MOST_LINES = 60
# Words of version 0.1.0 that nobody else uses.
PRIVATE_WORDS = (
    "evidence", "relist", "relisted", "Lanes", "lanes", "Spread", "Workbench",
    "workbench", "over_chains", "_MENDED",
)  # fmt: skip


def functions_of(source):
    """Every function of a Python text, at any depth."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, kinds)]


def public_functions(source):
    """The public functions of a module and the public methods of its public classes."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name[0] != "_":
            yield node
        elif isinstance(node, ast.ClassDef) and node.name[0] != "_":
            methods = [part for part in node.body if isinstance(part, ast.FunctionDef)]
            yield from (method for method in methods if method.name[0] != "_")


def too_long(source):
    """Names of the functions that are longer than `MOST_LINES`."""
    return [
        function.name
        for function in functions_of(source)
        if function.end_lineno - function.lineno + 1 > MOST_LINES
    ]


def arguments_of(function):
    """Whether each argument is annotated; `self` and `cls` do not count."""
    given = function.args
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    return [arg.annotation is not None for arg in every if arg.arg not in ("self", "cls")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_function_is_longer_than_sixty_lines(path):
    assert too_long(path.read_text(encoding="utf-8")) == []


def test_long_functions_are_found():
    body = "\n".join(["    x = 1"] * MOST_LINES)
    assert too_long(f"def f():\n{body}") == ["f"]
    assert (
        too_long(f"class C:\n  def f(self):\n   def g():\n{body}".replace("    x", "     x")) != []
    )
    assert too_long("def f():\n    return 1") == []


def test_most_public_arguments_are_annotated():
    sources = [path.read_text(encoding="utf-8") for path in FILES]
    annotated = [
        one for source in sources for each in public_functions(source) for one in arguments_of(each)
    ]
    assert sum(annotated) / len(annotated) >= 0.7, f"{sum(annotated)} of {len(annotated)}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_private_words(path):
    words = set(re.findall(r"\w+", path.read_text(encoding="utf-8")))
    allowed = {"evidence"} if path.name == "factory.py" else set()  # what it renames
    assert words & set(PRIVATE_WORDS) <= allowed


def test_nothing_else_lies_at_the_top_or_names_a_machine(root):
    """What is tracked: the places of the design, and no path below a machine's own folders."""
    if not (root / ".git").exists() or shutil.which("git") is None:
        pytest.skip("no git checkout: what is tracked cannot be told")
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={root}", "ls-files", "-z"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    files = [pathlib.PurePosixPath(name) for name in listed.split("\0") if name]
    tops = {file.parts[0] for file in files if file.parts[0][0] != "."}
    assert tops == {
        *("CITATION.cff", "LICENSE", "README.md", "pyproject.toml"),
        *("collapse_jax", "docs", "experiments", "tests"),
    }
    texts = [file for file in files if file.suffix in (".py", ".md", ".toml", ".txt", ".sh", "")]
    folders = "|".join(("work", "root", r"home/\w+"))
    machine = re.compile(rf"[\"'\s(]/({folders})/")
    assert [
        str(file)
        for file in texts
        if (root / file).is_file() and machine.search((root / file).read_text("utf-8", "replace"))
    ] == []

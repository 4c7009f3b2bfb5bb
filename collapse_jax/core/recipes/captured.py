"""Keys of what may share a compiled program: settings, functions, and all that these read.

A function of the user's is a key by its identity and by everything that it reads from around it:
what it closes over, its defaults, and names of its module. What may change where nobody sees it
(an object with a state, an array of NumPy's above 1 MiB, a module of the user's) has no key, and
its program is shared with nobody. Nor has what is traced.
"""

import dis
import functools
import sys
import types
from collections.abc import Mapping, Set
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from collapse_jax.core.recipes.keys import (
    Bits,
    Recipe,
    Same,
    container_key,
    context,
    is_own,
    is_read_only,
    is_whole,
    recipe_of,
)

# Modules whose functions and classes stay as they are.
_FIXED = {"jax", "jaxlib", "numpy", "scipy", "optax", "flax", "ml_dtypes", "builtins"}
_FIXED |= set(sys.stdlib_module_names) | {__name__.partition(".")[0]}
# Bytes of an array, and items of a container, that are read at each look.
_LARGEST, _MOST_ITEMS = 2**20, 1000
# Recipes one in another.
_DEEPEST = 20


class Unknown(Exception):
    """A value that has no key."""


class Key:
    """What a program was made of.

    is_fixed: whether nothing in it can change, so that nobody needs to look again.
    """

    __slots__ = ("_hash", "_parts", "is_fixed")

    def __init__(self, parts: Any, is_fixed: bool):
        self._parts, self.is_fixed, self._hash = parts, is_fixed, hash(parts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and self._hash == other._hash and self._parts == other._parts

    def __hash__(self) -> int:
        return self._hash


def captured(*values: Any) -> Key | None:
    """The key of what a program is made of, as it is now; None where it is to be shared by nobody.

    Args:
        values: settings, functions, and what keeps a recipe.
    """
    reader = _Reader()
    try:
        parts = context(), tuple(map(reader.read, values))
        return Key(parts, reader.is_fixed)
    except Unknown:
        return None


class _Reader:
    """Reads values; every function is read once."""

    def __init__(self):
        self.is_fixed = True
        self._seen: set[int] = set()  # functions that were read
        self._depth = 0

    def read(self, value: Any) -> Any:
        """The key of a value."""
        recipe = recipe_of(value)
        if recipe is not None:
            return self._recipe(recipe)
        if isinstance(value, Tracer):
            raise Unknown
        if isinstance(value, bool | str | bytes | int | complex | types.NoneType | np.dtype):
            return type(value), value
        if isinstance(value, float):
            return type(value), value.hex()
        if isinstance(value, np.generic):
            return type(value), value.tobytes()
        if isinstance(value, np.ndarray | jax.Array):
            return self._array(value)
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, types.ModuleType):
            return self._of_fixed_module(value, value.__name__)
        function = self._function(value)
        if function is not None:
            return function
        return self._container(value)

    def _recipe(self, recipe: Recipe):
        """Of what has nothing that may change, the key is kept."""
        if not recipe.outside:
            raise Unknown
        known = recipe.__dict__.get("fixed_key")
        if known is not None:
            return known
        if self._depth == _DEEPEST:  # a function that reads what was made with it
            raise Unknown
        before, seen, self.is_fixed, self._seen = self.is_fixed, self._seen, True, set()
        self._depth += 1
        arguments = tuple(map(self.read, recipe.arguments.values()))
        key = Same(recipe.maker), recipe.context, arguments
        if self.is_fixed:
            recipe.__dict__["fixed_key"] = key
        self.is_fixed, self._seen = before and self.is_fixed, seen
        self._depth -= 1
        return key

    def _array(self, value):
        if not is_whole(value):
            raise Unknown
        if isinstance(value, np.ndarray) and not is_read_only(value):
            if value.nbytes > _LARGEST:
                raise Unknown
            self.is_fixed = False
            return Bits(value.copy())
        return Bits(value), getattr(value, "sharding", None)

    def _class(self, kind):
        is_record = issubclass(kind, tuple) and hasattr(kind, "_fields")
        if is_record or issubclass(kind, BaseException):
            own = [one for one in vars(kind).values() if isinstance(one, types.FunctionType)]
            own = [one for one in own if one.__module__ == kind.__module__]
            return Same(kind), tuple(map(self._python, own))
        return self._of_fixed_module(kind, kind.__module__)

    def _of_fixed_module(self, value, module):
        if (module or "").partition(".")[0] not in _FIXED:
            raise Unknown
        return Same(value)

    def _container(self, value):
        is_sized = isinstance(value, tuple | list | Mapping | Set)
        if is_sized and len(value) > _MOST_ITEMS:
            raise Unknown
        if is_sized and callable(value) and not is_own(type(value)):
            raise Unknown
        if isinstance(value, list | dict | set):
            self.is_fixed = False
        key = container_key(value, self.read)
        if key is None:
            raise Unknown
        return key

    def _function(self, value) -> Any:
        """The key of what can be called by its code; None for other objects."""
        if isinstance(value, types.FunctionType):
            return self._python(value)
        if isinstance(value, types.BuiltinFunctionType):
            owner = value.__self__
            if owner is not None and not isinstance(owner, types.ModuleType):
                raise Unknown
            return Same(value)
        if isinstance(value, np.ufunc):
            return Same(value)
        inner = getattr(value, "__wrapped__", None)  # of jax.jit, jax.custom_jvp ...
        if callable(value) and callable(inner):
            self._of_fixed_module(value, type(value).__module__)
            return Same(value), self.read(inner)
        return None

    def _python(self, function):
        if id(function) in self._seen:
            return Same(function)
        self._seen.add(id(function))
        around = [_contents(cell) for cell in function.__closure__ or ()]
        around += [function.__defaults__, *sorted((function.__kwdefaults__ or {}).items())]
        around.append(tuple(sorted(vars(function).items(), key=lambda item: item[0])))
        fixed = (function.__module__ or "").partition(".")[0] in _FIXED
        if not fixed:
            self.is_fixed = False
            known = function.__globals__
            read, imported = names_read(function.__code__)
            # What it imports when it is called is seen by nobody before; a relative name is "".
            if not {name.partition(".")[0] for name in imported} <= _FIXED:
                raise Unknown
            around += [(name, known[name]) for name in read if name in known]
        elif not is_own(function):
            return Same(function)
        around = tuple(map(self.read, around))
        return Same(function), Same(function.__code__), around


@functools.lru_cache(4096)
def names_read(code: types.CodeType) -> tuple[tuple[str, ...], frozenset[str]]:
    """Names that code, and the code in it, reads from its module; and modules that it imports."""
    names, imported = set(), set()
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            names.add(step.argval)
        elif step.opname == "IMPORT_NAME":
            imported.add(step.argval)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            read, more = names_read(constant)
            names.update(read)
            imported |= more
    return tuple(sorted(names)), frozenset(imported)


def _contents(cell) -> Any:
    """What a cell of a closure holds; its identity where it is empty."""
    try:
        return cell.cell_contents
    except ValueError:
        return ()

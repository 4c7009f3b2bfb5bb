"""A hash of what a function or any other value is made of, the same in every session.

A function of the user's is its bytecode, constants, defaults, and what it reads from around it. A
function of an installed package is its name, and what it was made with. Where its file lies, its
line numbers and its docstring do not count.
"""

import dataclasses
import dis
import enum
import functools
import hashlib
import importlib.metadata
import inspect
import operator
import sys
import sysconfig
import types
from collections.abc import Mapping, Set
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from collapse_jax.core.recipes.made import recorded_by

_OWN = "collapse_jax"
# Distributions of what numbers are computed with in any case; `environment.numbers` knows them.
_EVERYWHERE = {"jax", "jaxlib", "numpy", "scipy", "flax", "optax", "orbax", "etils"}
_PLAIN = (type(None), bool, int, float, complex, str, bytes, range, slice, type(...), np.dtype)
_READ_NAMES = ("LOAD_GLOBAL", "LOAD_NAME")
# Folders that were one file: run folders know what is in them by the name of the whole.
_WERE_ONE_FILE = (
    "collapse_jax.estimators.categorical",
    "collapse_jax.estimators.gaussian",
    "collapse_jax.estimators.ngram",
)


class Contents(NamedTuple):
    """What a value is made of.

    fixed: the hash of everything that cannot change by itself.
    changing: place -> hash of each list, dictionary, NumPy array or object in it, which the program
        may change as it goes.
    packages: distribution -> version of what comes from other people's packages.
    """

    fixed: str
    changing: dict[str, str]
    packages: dict[str, str]


def contents(value: Any, name: str = "", known: dict | None = None) -> Contents:
    """The contents of any value. All that cannot be looked at has one and the same contents.

    Args:
        value: Functions, arrays, containers and objects, one in another.
        name: What places are named after.
        known: Keeps hashes of JAX's arrays from call to call, so that large ones are read once.
    """
    reader = _Reader({} if known is None else known)
    try:
        fixed = reader.read(value, name)
    except Exception:  # objects of others may do anything when they are looked at
        return Contents("unread", {}, {})
    return Contents(fixed, reader.changing, reader.packages)


def arrays_in(function: Any, known: dict, depth: int = 5) -> list[str]:
    """Hashes of all arrays that a function closes over, sorted; in functions within it too.

    Args:
        function: Any.
        known: As for `contents`.
        depth: How many functions one in another are looked into.
    """
    points = getattr(function, "points", None)  # of a fixed data set
    found = [_array_once(points, known)] if isinstance(points, np.ndarray | jax.Array) else []
    for cell in getattr(function, "__closure__", None) or ():
        with_value = [] if _is_empty(cell) else [cell.cell_contents]
        for leaf in jax.tree.leaves(with_value):
            if isinstance(leaf, np.ndarray | jax.Array):
                found.append(_array_once(leaf, known))
            elif depth and isinstance(leaf, types.FunctionType):
                found += arrays_in(leaf, known, depth - 1)
    return sorted(found)


def _whole(module):
    """The module, or the folder that was one file and holds it."""
    return next((one for one in _WERE_ONE_FILE if module.startswith(f"{one}.")), module)


def _hash(*parts):
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        is_raw = isinstance(part, bytes | memoryview)
        data = part if is_raw else str(part).encode(errors="surrogatepass")
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def _array_once(value, known):
    """The hash of an array; of one that cannot change, from what is known."""
    if not isinstance(value, jax.Array):
        return _array(value)
    if id(value) not in known:
        known[id(value)] = (_array(value), value)  # with the array, which so keeps its id
    return known[id(value)][0]


def _array(value):
    """The hash of an array: type, shape and every bit."""
    if isinstance(value, Tracer):
        return _hash("tracer", value.shape, value.dtype)
    if isinstance(value, jax.Array):
        if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            return _hash("key", jax.random.key_impl(value), _array(jax.random.key_data(value)))
        if not value.is_fully_addressable:
            return _hash("shared", value.shape, value.dtype)
    value = np.asarray(value)
    raw = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
    return _hash("array", value.shape, value.dtype.str, value.dtype.name, raw.data)


class _Reader:
    """Reads one value; every object is read once."""

    def __init__(self, known):
        self.changing, self.packages, self._known = {}, {}, known
        # id -> (its hash, "" while it is being read; the object, which so keeps its id).
        self._seen: dict[int, tuple[str, Any]] = {}

    def read(self, value, place):
        """The hash of the fixed part of a value; the rest is entered under its place."""
        value = recorded_by(value)
        if isinstance(value, enum.Enum):
            return _hash("enum", type(value).__name__, value.name)
        if isinstance(value, _PLAIN):
            return _hash(type(value).__name__, repr(value))
        if isinstance(value, np.generic):
            return _hash("scalar", value.dtype.str, value.tobytes())
        if isinstance(value, tuple):
            return self._tuple(value, place)
        if isinstance(value, frozenset):
            return _hash("frozenset", *sorted(self.read(item, place) for item in value))
        if id(value) in self._seen:
            return self._seen[id(value)][0] or _hash("cycle")
        self._seen[id(value)] = ("", value)
        found = self._object(value, place)
        self._seen[id(value)] = (found, value)
        return found

    def _object(self, value, place):
        if isinstance(value, jax.Array):
            return _array_once(value, self._known)
        if isinstance(value, types.ModuleType):
            self._installed(value.__name__)
            return _hash("module", value.__name__)
        if isinstance(value, type):
            return self._class(value, place)
        function = self._function(value, place)
        if function is not None:
            return function
        return self._enter(value, place)

    def _enter(self, value, place):
        """Enters what may change; its type is fixed."""
        kind = self.read(type(value), place)
        own, held = [], self.changing
        self.changing = {}  # what lies in it counts as part of it
        if isinstance(value, np.ndarray) and value.dtype != object:
            own.append(_array(value))
        elif isinstance(value, np.random.Generator):
            own.append(repr(value.bit_generator.state))
        elif isinstance(value, Mapping):
            pairs = [(self.read(key, place), self.read(item, place)) for key, item in value.items()]
            own += [_hash(*pair) for pair in sorted(pairs)]
        elif isinstance(value, Set):
            own += sorted(self.read(item, place) for item in value)
        elif isinstance(value, list) and all(type(item) in _PLAIN for item in value):
            own.append(repr(value))
        elif isinstance(value, list | np.ndarray):
            own += [self.read(item, place) for item in list(value)]
        elif isinstance(value, bytearray | memoryview):
            own.append(bytes(value))
        elif (array := _as_array(value)) is not None:
            own.append(_array(array))
        else:
            own += [self.read(item, place) for item in _attributes(value)]
        inner, self.changing = self.changing, held
        name = place
        while name in self.changing:
            name += "'"
        self.changing[name] = _hash(kind, *own, *(inner[key] for key in sorted(inner)))
        return kind

    def _tuple(self, value, place):
        names = getattr(value, "_fields", range(len(value)))
        items = [
            self.read(item, f"{place}.{name}") for name, item in zip(names, value, strict=True)
        ]
        return _hash("tuple", type(value).__name__, *items)

    def _class(self, kind, place):
        if self._installed(kind.__module__):
            return _hash("class", _whole(kind.__module__), kind.__qualname__)
        own = [
            (name, self.read(item, f"{place}.{name}"))
            for name, item in sorted(vars(kind).items())
            if callable(getattr(item, "__func__", item)) or isinstance(item, (property, *_PLAIN))
            if name not in ("__doc__", "__module__", "__qualname__", "__firstlineno__", "__dict__")
        ]
        bases = [self.read(base, place) for base in kind.__bases__]
        return _hash("class", kind.__name__, *map(repr, own), *bases)

    def _function(self, value, place):
        """The hash of what can be called by its code; None for other objects."""
        if isinstance(value, functools.partial):
            parts = (value.func, value.args, *sorted(value.keywords.items()))
            return _hash("partial", *(self.read(part, place) for part in parts))
        if isinstance(value, types.MethodType):
            owner = self.read(value.__self__, f"{place}.self")
            return _hash("method", self.read(value.__func__, place), owner)
        if isinstance(value, staticmethod | classmethod):
            return self.read(value.__func__, place)
        if isinstance(value, property | functools.cached_property):
            parts = (getattr(value, name, None) for name in ("fget", "fset", "func"))
            return _hash("property", *(self.read(part, place) for part in parts))
        if isinstance(value, types.FunctionType):
            return self._python(value, place)
        if isinstance(value, types.CodeType):
            return self._code(value, place)
        wrapped = getattr(value, "__wrapped__", None)  # of jax.jit, functools.cache ...
        if callable(value) and callable(wrapped):
            return _hash("wrapper", type(value).__name__, self.read(wrapped, place))
        if isinstance(value, types.BuiltinFunctionType | np.ufunc | operator.itemgetter):
            return _hash("builtin", getattr(value, "__name__", repr(value)))
        return None

    def _python(self, function, place):
        code, name = function.__code__, f"{place}.{function.__name__}".strip(".")
        closure = zip(code.co_freevars, function.__closure__ or (), strict=False)
        around = [
            (free, self.read(cell.cell_contents, f"{name}.{free}"))
            for free, cell in closure
            if not _is_empty(cell)
        ]
        defaults = self.read((function.__defaults__, function.__kwdefaults__ or None), name)
        if self._installed(function.__module__):
            own = (_whole(function.__module__), function.__qualname__)
            return _hash("function", *own, defaults, *map(repr, around))
        own = self._code(code, name, function.__doc__)
        for wanted in sorted(_read_by(code) & function.__globals__.keys()):
            value = function.__globals__[wanted]
            around.append((wanted, self.read(value, f"{name}.{wanted}")))
            if isinstance(value, types.ModuleType) and not self._installed(value.__name__):
                # What is read of a module of the user's.
                for attribute in sorted(set(code.co_names) & vars(value).keys()):
                    item = self.read(vars(value)[attribute], f"{name}.{wanted}.{attribute}")
                    around.append((attribute, item))
        return _hash("function", own, defaults, *map(repr, around))

    def _code(self, code, place, doc=None):
        constants = list(code.co_consts)
        if constants and doc is not None and constants[0] == doc:
            constants[0] = None
        names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
        # Flags of the future features among them do not count, but generators do.
        shape = (code.co_argcount, code.co_kwonlyargcount, code.co_posonlyargcount, code.co_flags)
        return _hash(
            "code",
            code.co_code,
            repr(names),
            repr(shape),
            *(self.read(c, place) for c in constants),
        )

    def _installed(self, module):
        """Whether a module is part of an installed package; of others' the version is entered."""
        top = (module or "").partition(".")[0]
        if top in (_OWN, "builtins", "") or top in sys.stdlib_module_names:
            return top != ""
        places = _places()
        file = getattr(sys.modules.get(top), "__file__", None) or ""
        path = getattr(sys.modules.get(top), "__path__", None)
        file = file or next(iter(path or ()), "")
        if not file.startswith(places):
            return False
        if top not in _EVERYWHERE:
            for distribution in _distributions().get(top, ()):
                self.packages[distribution] = importlib.metadata.version(distribution)
        return True


@functools.cache
def _places():
    """Folders of installed packages."""
    return tuple({sysconfig.get_path(name) for name in ("purelib", "platlib")})


@functools.cache
def _distributions():
    return importlib.metadata.packages_distributions()


def _is_empty(cell):
    try:
        cell.cell_contents  # noqa: B018 (it raises)
    except ValueError:
        return True
    return False


def _as_array(value):
    """What an object of another array library holds; None for other objects."""
    if not hasattr(type(value), "__array__"):
        return None
    array = np.asarray(value)
    return None if array.dtype == object else array


def _read_by(code):
    """Names that code, and the code in it, reads from the module around it."""
    names = {step.argval for step in dis.get_instructions(code) if step.opname in _READ_NAMES}
    inner = (constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    return names.union(*map(_read_by, inner))


def _attributes(value):
    """(name, value) of what an object holds, without what it computes once and keeps."""
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value) if field.compare]
    else:
        slots = (vars(kind).get("__slots__", ()) for kind in type(value).__mro__)
        names = [name for names in slots for name in ([names] if isinstance(names, str) else names)]
        names += getattr(value, "__dict__", {})
    kept = {
        name
        for kind in type(value).__mro__
        for name, item in vars(kind).items()
        if isinstance(item, functools.cached_property)
    }
    absent = object()
    for name in sorted({name for name in names if isinstance(name, str)} - kept):
        item = inspect.getattr_static(value, name, absent)
        if item is not absent and not name.startswith("__"):
            yield name, getattr(value, name, None)

"""What a workflow needs, seen from what it asks of its supply while nothing is computed.

`init` and `next` are called once, abstractly, with a supply that remembers what it was asked for.
Data is a placeholder then, a `Dataset` of one slot where it is as large as one training set and of
two where it has space for the whole history. Workflows that look into their data get abstract data
of the family instead.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer

from collapse_jax.core.protocols import Data
from collapse_jax.core.results import count
from collapse_jax.core.sizes import Multiples
from collapse_jax.core.types import Dataset, Supply, Workflow
from collapse_jax.errors import InputError, first_line

# Points of the sets that a workflow is watched with where the size is not known.
SIZE_TO_WATCH = 100
_SET, _HISTORY = 1, 2
# Where the numbers of points begin among the arguments of what a supply is asked for.
_COUNTED = {"model": 1, "real": 1, "subsample": 2, "real_and_continued": 1, "model_of": 2}
# What a supply holds, beside the functions that it is asked by.
_VALUES = ("previous_size", "generation", "params")
_NOT_ABSTRACT = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)
# key -> (the first training set, the supply for the next one).
Start = Callable[[jax.Array], tuple[Data, Supply]]


class Needs(NamedTuple):
    """What a workflow asks for.

    asked: the names of the supply's functions that it calls.
    fits_history: whether models are fitted to the whole history, not to a set of one size.
    random_counts: whether it draws how many points come from where, so that these are traced.
    only_model: whether the next training set is what the newest model gives, and nothing else.
    multiples: how many points it holds together.
    fitted: points of the next training set, in multiples of the size that was asked for.
    """

    asked: frozenset[str]
    fits_history: bool
    random_counts: bool
    only_model: bool
    multiples: Multiples = Multiples()
    fitted: float = 1.0

    @property
    def earlier_points(self) -> bool:
        """Whether single points of earlier sets are used again."""
        return "subsample" in self.asked

    @property
    def weights(self) -> bool:
        """Whether some points count more in the fit than others."""
        return "weighed" in self.asked

    @property
    def whole_history(self) -> bool:
        """Whether its carry holds the data of every generation."""
        return bool({"reserve", "append"} & self.asked)

    @property
    def continuation(self) -> bool:
        """Whether the model goes on from real points, which needs sizes known before the run."""
        return "real_and_continued" in self.asked


def needs_of(workflow: Workflow, size: int, starts: Sequence[Start] = ()) -> Needs:
    """What a workflow asks for while it makes a training set of `size` points after another.

    Args:
        workflow: the workflow.
        size: points of each set.
        starts: first sets and supplies of the family itself, tried in turn for workflows that
            fail with placeholders.

    Raises:
        InputError: if it fails with all of them, or breaks what `Workflow` promises.
    """
    parts = getattr(workflow.next, "parts", None)
    if parts is not None:  # one of them is asked in each generation
        return _together([needs_of(part, size, starts) for part in parts])
    # Branches of `lax.cond` need a set and a history of one shape.
    placeholders = [(_placeholders(size, history), _SET) for history in (_HISTORY, _SET)]
    failures = []
    for start, slots in (*placeholders, *((start, size) for start in starts)):
        try:
            return _observed(workflow, size, start, slots)
        except InputError:
            raise
        except Exception as error:
            failures.append(error)
    failure = failures[len(placeholders)] if starts else failures[0]
    raise InputError(
        f"{workflow.name} fails when it is asked for a training set "
        f"({type(failure).__name__}: {first_line(failure)})"
    ) from failure


def guarded(supply: Supply, workflow: Workflow, needs: Needs) -> Supply:
    """The supply, with one line for what a workflow had not asked for in the first generation."""

    def refuse(name):
        def asked_late(*_):
            raise InputError(
                f"{workflow.name} asks its supply for `{name}` in a later generation and did not "
                "in the first; a workflow must ask for the same in every generation"
            )

        return asked_late

    late = {"real", "subsample", "reserve", "append", "real_and_continued", "model_of", "weighed"}
    late -= needs.asked
    return supply._replace(**{name: refuse(name) for name in late})


def _together(needs):
    """What workflows need of which each may be asked."""
    return Needs(
        asked=frozenset().union(*(one.asked for one in needs)),
        fits_history=any(one.fits_history for one in needs),
        random_counts=any(one.random_counts for one in needs),
        only_model=all(one.only_model for one in needs),
        multiples=Multiples(*map(max, zip(*(one.multiples for one in needs), strict=True))),
        fitted=max(one.fitted for one in needs),
    )


def _observed(workflow, size, start, slots):
    """The needs seen with one kind of data, whose sets have so many slots."""
    record = _Record(workflow.name, size)

    def two_sets(key, generation):
        first, supply = start(key)
        watched = record.watched(supply)
        record.hold(first, 1)
        carry = workflow.init(watched, first)
        record.end_init(carry)
        result = workflow.next(key, carry, watched._replace(generation=generation), size)
        record.end_next(result, type(first))
        return result[1]

    first = jax.random.key(0), jnp.ones((), jnp.int32)
    try:
        data = jax.eval_shape(two_sets, *first)
    except _NOT_ABSTRACT:  # a workflow for host families may look at what it draws
        record = _Record(workflow.name, size)
        data = two_sets(*first)
    largest = max((leaf.shape[0] for leaf in jax.tree.leaves(data) if leaf.ndim), default=0)
    return Needs(
        asked=frozenset(record.asked),
        fits_history="reserve" in record.asked and isinstance(data, Dataset) and largest > slots,
        random_counts=record.random_counts,
        only_model=record.only_model,
        multiples=record.multiples,
        fitted=record.fitted,
    )


def _placeholders(size, history) -> Start:
    """Data of no content; a history has `history` slots."""

    def start(key):
        def data(slots):
            return Dataset(jnp.zeros(slots), jnp.zeros(slots))

        supply = Supply(
            model=lambda key, n: data(_SET),
            real=lambda key, n: data(_SET),
            merge=lambda a, b: data(_SET),
            subsample=lambda key, pool, n: data(_SET),
            reserve=lambda data_: data(history),
            append=lambda pool, data_: data(history),
            compact=lambda data_: data(_SET),
            previous_size=size,
            real_and_continued=lambda key, n, m: (data(_SET), data(_SET)),
            params=jnp.zeros(1),
            model_of=lambda params, key, n: data(_SET),
            weighed=lambda data_, w: Dataset(data_.x, data_.weight * w),
        )
        return data(_SET), supply

    return start


class _Record:
    """What a supply was asked for, and whether the next set is the model's alone."""

    def __init__(self, name, size):
        self._name, self._begun, self._carries, self._of_model = name, False, False, []
        # (leaves, how many points they hold in multiples of a training set) of all that was given.
        self._size, self._held = size, []
        self._kept, self._pooled = 0.0, 0.0
        self._counts = []  # what `next` asked for
        self.asked: set[str] = set()
        self.multiples = Multiples()
        self.random_counts = self.only_model = False
        self.fitted = 1.0

    def watched(self, supply: Supply) -> Supply:
        """The supply, which records what it is asked for."""

        def watch(name):
            function = getattr(supply, name)

            def asked(*arguments):
                self._ask(name, arguments)
                result = function(*arguments)
                self._note_size(name, arguments, result)
                if name == "model" or (name == "compact" and self._is_of_model(arguments[0])):
                    self._of_model.append(result)
                return result

            return asked

        functions = [name for name in Supply._fields if name not in _VALUES]
        return supply._replace(**{name: watch(name) for name in functions})

    def end_init(self, carry):
        """Looks at the first carry."""
        self._begun, leaves = True, jax.tree.leaves(carry)
        self._kept = self._multiple(carry)
        self._carries = bool(leaves)
        if any(jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key) for leaf in leaves):
            raise InputError(
                f"{self._name}: the carry contains a random key; `next` gets one to use"
            )

    def end_next(self, result, kind):
        """Looks at what `next` gave."""
        if not isinstance(result, tuple) or len(result) != 2 or hasattr(result, "_fields"):
            raise InputError(
                f"{self._name}: next gave {type(result).__name__}; it must give (carry, data)"
            )
        if not isinstance(result[1], kind):
            raise InputError(
                f"{self._name}: next gave {type(result[1]).__name__} as the data of (carry, data); "
                "it must be what the supply gives"
            )
        counts = [n for n in self._counts if isinstance(n, int)]
        if not self._carries and counts and len(counts) == len(self._counts) and not any(counts):
            raise InputError(
                f"{self._name}: next asks for 0 points; a training set must have one at least"
            )
        self.only_model = not self._carries and self._is_of_model(result[1])
        self.fitted = self._multiple(result[1])
        growth = max(self._multiple(result[0]) - self._kept, 0)
        self.multiples = Multiples(self._kept, growth, max(self._pooled, self._kept))

    def _ask(self, name, arguments):
        self.asked.add(name)
        if not self._begun and name in ("model", "real_and_continued", "model_of"):
            raise InputError(f"{self._name}: init asks for `{name}` before there is a model")
        if name not in _COUNTED:
            return
        counts = [
            count(f"{self._name}: n of supply.{name}", n) for n in arguments[_COUNTED[name] :]
        ]
        self.random_counts |= any(isinstance(n, Tracer) for n in counts)
        self._counts += counts if self._begun else []

    def hold(self, data, multiple):
        """Notes how many points data holds, in multiples of the size of a training set."""
        self._held.append((jax.tree.leaves(data), multiple))
        self._pooled = max(self._pooled, multiple if self._begun else 0)

    def _note_size(self, name, arguments, result):
        if name == "real_and_continued":
            for part, n in zip(result, arguments[1:], strict=True):
                self.hold(part, self._share(n))
        elif name in ("merge", "append"):
            self.hold(result, sum(map(self._multiple, arguments)))
        elif name in ("reserve", "weighed"):
            self.hold(result, self._multiple(arguments[0]))
        elif name == "compact":  # a set whose counts are drawn is one set together
            self.hold(result, self._multiple(arguments[0]) or 1.0)
        else:
            self.hold(result, self._share(arguments[-1]))

    def _share(self, n):
        """A number of points in multiples; traced ones are parts of a training set, and 0."""
        return 0.0 if isinstance(n, Tracer) else float(n) / self._size

    def _multiple(self, data):
        """What is held in data, by the arrays of it that a supply gave; 1 of none that it did."""
        leaves = jax.tree.leaves(data)
        found = [
            multiple
            for own, multiple in self._held
            if own and all(any(leaf is array for leaf in leaves) for array in own)
        ]
        return max(found, default=0.0 if not leaves else 1.0)

    def _is_of_model(self, data):
        leaves = jax.tree.leaves(data)
        return any(
            len(leaves) == len(own) and all(a is b for a, b in zip(leaves, own, strict=True))
            for own in map(jax.tree.leaves, self._of_model)
        )

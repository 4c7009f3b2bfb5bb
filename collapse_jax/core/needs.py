"""What a workflow needs, seen from what it asks of its supply while nothing is computed.

One abstract call of `init` and `next` with a supply that takes notes. Data is a token, a `Dataset`
of one slot where it is as large as one training set, of two where it has space for the whole
history: a workflow passes data on and does not look into it.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer

from collapse_jax.core.types import Dataset, Supply, Workflow
from collapse_jax.errors import InputError, first_line

_SET, _HISTORY = 1, 2
_NOT_ABSTRACT = (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError)


class Needs(NamedTuple):
    """What a workflow asks for.

    asked: the names of the supply's functions that it calls.
    fits_history: whether models are fitted to the whole history, not to a set of one size.
    random_counts: whether it draws how many points come from where, so that these are traced.
    only_model: whether nothing but the newest model enters the next training set.
    """

    asked: frozenset[str]
    fits_history: bool
    random_counts: bool
    only_model: bool

    @property
    def earlier_points(self) -> bool:
        """Whether single points of earlier sets are used again."""
        return "subsample" in self.asked

    @property
    def whole_history(self) -> bool:
        """Whether its carry holds the data of every generation."""
        return bool({"reserve", "append"} & self.asked)

    @property
    def continuation(self) -> bool:
        """Whether the model goes on from real points, which needs sizes known before the run."""
        return "real_and_continued" in self.asked


def needs_of(workflow: Workflow, size: int) -> Needs:
    """What a workflow asks for while it makes a training set of `size` points after another."""
    notes = _Notes()

    def two_sets(key):
        supply = notes.supply(size)
        first = workflow.init(supply, _token(_SET))
        notes.begun = True
        notes.carries = bool(jax.tree.leaves(first))
        return workflow.next(key, first, supply, size)[1]

    key = jax.random.key(0)
    try:
        data = _abstract_or_not(two_sets, key)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{workflow.name} fails when it is asked for a training set ({type(error).__name__}: "
            f"{first_line(error)}); a workflow gets data from its supply, and passes it on"
        ) from error
    slots = {leaf.shape[:1] for leaf in jax.tree.leaves(data)}
    return Needs(
        asked=frozenset(notes.asked),
        fits_history=slots == {(_HISTORY,)},
        random_counts=notes.random_counts,
        only_model=not notes.carries and notes.asked_by_next <= {"model", "compact"},
    )


def guarded(supply: Supply, workflow: Workflow, needs: Needs) -> Supply:
    """The supply, with one line for what a workflow had not asked for when it was looked at."""

    def refuse(name):
        def asked_late(*_):
            raise InputError(
                f"{workflow.name} asks its supply for `{name}` in a later generation and did not "
                "in the first; a workflow must ask for the same in every generation"
            )

        return asked_late

    late = {"real", "subsample", "reserve", "append", "real_and_continued"} - needs.asked
    return supply._replace(**{name: refuse(name) for name in late})


def _abstract_or_not(function, key):
    try:
        return jax.eval_shape(function, key)
    except _NOT_ABSTRACT:  # a workflow for host families may look at what it draws
        return function(key)


def _token(slots):
    return Dataset(jnp.zeros(slots), jnp.zeros(slots))


class _Notes:
    """A supply that makes tokens, and what it was asked for."""

    def __init__(self):
        self.asked, self.asked_by_next = set(), set()
        self.begun = self.carries = self.random_counts = False

    def supply(self, size) -> Supply:
        return Supply(
            model=lambda key, n: self._note("model", _SET, n),
            real=lambda key, n: self._note("real", _SET, n),
            merge=lambda a, b: self._note("merge", _SET),
            subsample=lambda key, data, n: self._note("subsample", _SET, n),
            reserve=lambda data: self._note("reserve", _HISTORY),
            append=lambda pool, data: self._note("append", _HISTORY),
            compact=lambda data: self._note("compact", _SET),
            previous_size=size,
            real_and_continued=lambda key, n, m: (
                self._note("real_and_continued", _SET),
                _token(_SET),
            ),
        )

    def _note(self, name: str, slots: int, n: Any = 0):
        self.asked.add(name)
        if self.begun:
            self.asked_by_next.add(name)
        self.random_counts |= isinstance(n, Tracer)
        return _token(slots)

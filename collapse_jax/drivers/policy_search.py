"""The search for a spending of points: by gradient from several starts, then in whole points.

The gradient is that of the moment recursion (`numerics.recursions`); parameters have no bounds, and
every value of them meets the budget. What it finds is rounded to whole points and improved by
moving points between generations until no move helps.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from collapse_jax.numerics import recursions
from collapse_jax.theory import spending

_BISECTIONS = 60
# Passes over all moves of points; each takes the best one.
_PASSES = 400
# Starts whose policies are improved in whole points, the best ones.
_POLISHED = 6


class Problem(NamedTuple):
    """What is to be spent, and to what end.

    generations: T, the last one.
    workflow: "mix" or "accumulate".
    objective: "final" or "mean".
    first: real points of generation 0.
    v2: see `theory.weights`.
    real: points to spend where the sizes are given, else None.
    sizes: [T] of the sets where they are given, else None.
    budget, real_cost, synthetic_cost: what all later points may cost, and what one does, where
        sizes are chosen too.
    """

    generations: int
    workflow: str
    objective: str
    first: int
    v2: float
    real: int | None = None
    sizes: np.ndarray | None = None
    budget: float = 0.0
    real_cost: float = 1.0
    synthetic_cost: float = 1.0

    @property
    def costs(self) -> np.ndarray:
        """[2, 1], what a real and a synthetic point cost."""
        return np.array([[self.real_cost], [self.synthetic_cost]])

    @property
    def spare(self) -> float:
        """What is left of the budget once every generation has one point of the cheaper kind."""
        return self.budget - self.generations * float(self.costs.min())

    def least(self) -> np.ndarray:
        """[2, T], one point of the cheaper kind for every generation."""
        counts = np.zeros((2, self.generations))
        counts[int(np.argmin(self.costs))] = 1
        return counts

    def errors(self, counts: np.ndarray) -> np.ndarray:
        """[..., T + 1] of real and synthetic points [..., 2, T], by theory."""
        return spending.expected_squared_error(
            counts[..., 0, :],
            counts[..., 1, :],
            first=self.first,
            workflow=self.workflow,
            v2=self.v2,
        )

    def value(self, counts: np.ndarray) -> np.ndarray:
        """[...], what is minimised."""
        errors = self.errors(counts)
        return errors[..., -1] if self.objective == "final" else errors[..., 1:].mean(-1)


def search(problem: Problem, starts: int, steps: int) -> tuple[np.ndarray, dict[str, float]]:
    """(points [2, T] of the best policy, start -> the value that its gradient led to).

    Args:
        problem: what to spend.
        starts: random ones, beside constant, early, late.
        steps: of the gradient.
    """
    named = _starts(problem, starts)
    raw = np.stack(list(named.values()))
    found = [_whole(problem, _counts_of(problem, one)) for one in _descended(problem, raw, steps)]
    values = np.array([float(problem.value(counts)) for counts in found])
    polished = [_improved(problem, found[i]) for i in np.argsort(values, kind="stable")[:_POLISHED]]
    best = int(np.argmin([float(problem.value(counts)) for counts in polished]))
    return polished[best], dict(zip(named, values.tolist(), strict=True))


def constant(problem: Problem) -> np.ndarray:
    """Real and synthetic points [2, T] of the best constant policy.

    Where sizes are given its share of real points is the same in all generations, and their number
    is not rounded; where they are chosen both numbers are the same, and whole.
    """
    if problem.sizes is not None:
        assert problem.real is not None
        real = problem.sizes * (problem.real / problem.sizes.sum())
        return np.stack([real, problem.sizes - real])
    each = problem.budget / problem.generations + 1e-9
    real = np.unique(np.linspace(0, each // problem.real_cost, 20_001).astype(int))
    synthetic = (each - real * problem.real_cost) // problem.synthetic_cost
    counts = np.stack([real, synthetic], 1)[real + synthetic >= 1]
    counts = np.repeat(counts[:, :, None], problem.generations, 2).astype(float)
    return counts[int(np.argmin(problem.value(counts)))]


def _starts(problem, random):
    """Name -> parameters [T], or [2, T] where sizes are chosen."""
    last = problem.generations
    ramp = np.linspace(-4, 4, last) if last > 1 else np.zeros(1)
    shape = (last,) if problem.sizes is not None else (2, last)
    named = {"constant": np.zeros(shape), "early": -ramp, "late": ramp}
    if problem.sizes is None:
        named |= {name: np.stack([named[name], np.zeros(last)]) for name in ("early", "late")}
    # The same starts for ever: which policy is found depends on no key.
    generator = np.random.default_rng(0)
    named |= {f"random {i}": generator.normal(scale=2, size=shape) for i in range(random)}
    return named


def _counts_of(problem, raw):
    """Real and synthetic points [2, T] of parameters."""
    with jax.enable_x64(True):
        return np.asarray(_spent(_arrays(problem), jnp.asarray(raw), problem.sizes is not None))


def _arrays(problem) -> dict[str, Any]:
    """The numbers of a problem that a compiled program is given."""
    arrays: dict[str, Any] = {"first": float(problem.first), "v2": float(problem.v2)}
    if problem.sizes is not None:
        return arrays | {"sizes": problem.sizes.astype(float), "real": float(problem.real)}
    return arrays | {"costs": problem.costs, "spare": problem.spare, "least": problem.least()}


def _spent(arrays, raw, sized):
    """Real and synthetic points [2, T] of parameters without bounds; all meet the budget."""
    if not sized:
        shares = jax.nn.softmax(raw.ravel()).reshape(raw.shape)
        return arrays["least"] + arrays["spare"] * shares / arrays["costs"]
    sizes = arrays["sizes"]
    shift = _shift(raw, sizes, arrays["real"])
    real = sizes * jax.nn.sigmoid(raw + shift)
    return jnp.stack([real, sizes - real])


def _shift(raw, sizes, real):
    """The number that added to all parameters makes the real points add up."""

    def excess(shift):
        return jnp.sum(sizes * jax.nn.sigmoid(raw + shift)) - real

    def halve(_, ends):
        low, high = ends
        middle = (low + high) / 2
        above = excess(middle) > 0
        return jnp.where(above, low, middle), jnp.where(above, middle, high)

    fixed = jax.lax.stop_gradient(raw)
    widest = 40 + jnp.max(jnp.abs(fixed))
    low, high = jax.lax.fori_loop(0, _BISECTIONS, halve, (-widest, widest))
    middle = jax.lax.stop_gradient((low + high) / 2)
    # A step of Newton that changes nothing has the derivative of the root.
    share = jax.nn.sigmoid(fixed + middle)
    slope = jnp.sum(sizes * share * (1 - share))
    return middle - excess(middle) / jnp.maximum(slope, 1e-12)


def _descended(problem, raw, steps):
    """The parameters [starts, ...] after so many steps of Adam."""
    with jax.enable_x64(True):
        return np.asarray(
            _descend(
                _arrays(problem),
                jnp.asarray(raw, float),
                workflow=problem.workflow,
                final=problem.objective == "final",
                sized=problem.sizes is not None,
                steps=steps,
            )
        )


@functools.partial(jax.jit, static_argnames=("workflow", "final", "sized", "steps"))
def _descend(arrays, raw, *, workflow, final, sized, steps):
    def loss(one):
        real, synthetic = _spent(arrays, one, sized)
        errors = recursions.spending(
            real, synthetic, first=arrays["first"], workflow=workflow, v2=arrays["v2"]
        )
        # Its logarithm, whose steps do not depend on how large errors are.
        return jnp.log(errors[-1] if final else jnp.mean(errors[1:]))

    optimiser = optax.adam(optax.cosine_decay_schedule(0.3, steps))

    def descend(one):
        def step(carry, _):
            one, state = carry
            updates, state = optimiser.update(jax.grad(loss)(one), state)
            return (optax.apply_updates(one, updates), state), None

        return jax.lax.scan(step, (one, optimiser.init(one)), None, length=steps)[0][0]

    return jax.vmap(descend)(raw)


def _whole(problem, counts):
    """Whole points [2, T] next to given ones, within the budget."""
    low = np.floor(counts + 1e-9)
    if problem.sizes is not None:
        real, rest = low[0], counts[0] - low[0]
        missing = round(problem.real - real.sum())
        room = np.where(real < problem.sizes, rest, -1.0)
        real[np.argsort(-room, kind="stable")[:missing]] += 1
        return np.stack([real, problem.sizes - real])
    return _filled(problem, np.maximum(low, problem.least()))


def _filled(problem, counts):
    """The points, and those that the rest of the budget buys, each where it helps most."""
    counts = counts.copy()
    costs = np.broadcast_to(problem.costs, counts.shape)
    while True:
        left = problem.budget - float(np.sum(counts * costs))
        cells = np.argwhere(costs <= left + 1e-9)
        if not len(cells):
            return counts
        tried = np.repeat(counts[None], len(cells), 0)
        tried[np.arange(len(cells)), cells[:, 0], cells[:, 1]] += 1
        values = problem.value(tried)
        best = int(np.argmin(values))
        if values[best] >= problem.value(counts):
            return counts
        counts = tried[best]


def _improved(problem, counts):
    """The points after moves from one generation, or kind, to another, until none helps."""
    moves = _moves_of_real if problem.sizes is not None else _moves_of_cost
    largest = max(int(counts.max()), 1)
    steps = [2**power for power in range(int(math.log2(largest)), -1, -1)]
    best, before, passes = float(problem.value(counts)), math.inf, 0
    while best < before and passes < _PASSES:
        before = best
        for step in steps:
            moved = True
            while moved and passes < _PASSES:
                passes += 1
                tried = moves(problem, counts, step)
                if step == 1:
                    tried = np.concatenate([tried, *_small_moves(problem, counts)])
                values = problem.value(tried) if len(tried) else np.array([np.inf])
                place = int(np.argmin(values))
                moved = bool(values[place] < best * (1 - 1e-13))
                if moved:
                    counts, best = tried[place], float(values[place])
    return counts


def _small_moves(problem, counts):
    """Moves that are tried beside those of single points."""
    yield _turned(problem, counts)
    if problem.sizes is None:
        yield _exchanged(problem, counts)


def _exchanged(problem, counts):
    """[moves, 2, T] with a small change in each of two generations that the budget allows."""
    last, costs = problem.generations, problem.costs.ravel()
    worth = max(int(costs[0] / costs[1]), 1), max(int(costs[1] / costs[0]), 1)
    # (real, synthetic) points more: one of a kind, or one for another, or for what it is worth.
    changes = {(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (1, -1), (-1, 1)}
    changes |= {(1, -worth[0]), (-1, worth[0]), (-worth[1], 1), (worth[1], -1)}
    local = np.array(
        [[np.eye(last)[g] * n, np.eye(last)[g] * m] for g in range(last) for n, m in changes]
    )
    prices = np.einsum("cka,k->c", local, costs)
    left = problem.budget - float(np.sum(counts * problem.costs))
    one, other = np.nonzero(prices[:, None] + prices[None, :] <= left + 1e-9)
    ordered = one < other
    tried = counts + local[one[ordered]] + local[other[ordered]]
    return tried[(tried >= 0).all((1, 2)) & (tried.sum(1) >= 1).all(1)]


def _turned(problem, counts):
    """[moves, 2, T] with what one generation gets moved to another place in the order."""
    last = problem.generations
    orders = [
        np.insert(np.delete(np.arange(last), source), target, source)
        for source in range(last)
        for target in range(last)
        if source != target
    ]
    if not orders:
        return np.zeros((0, *counts.shape))
    tried = np.moveaxis(counts[:, np.array(orders)], 0, 1)
    if problem.sizes is None:
        return tried
    real = tried[:, 0]
    fits = (real <= problem.sizes).all(1)
    return np.stack([real, problem.sizes - real], 1)[fits]


def _moves_of_real(problem, counts, step):
    """[moves, 2, T] with `step` real points of one generation in another one."""
    real, sizes = counts[0], problem.sizes
    sources, targets = np.nonzero((real >= step)[:, None] & (real + step <= sizes)[None, :])
    apart = sources != targets
    tried = np.repeat(real[None], int(apart.sum()), 0)
    rows = np.arange(len(tried))
    tried[rows, sources[apart]] -= step
    tried[rows, targets[apart]] += step
    return np.stack([tried, sizes - tried], 1)


def _moves_of_cost(problem, counts, step):
    """[moves, 2, T] with `step` points of one cell sold, and others bought for what is left."""
    flat, costs = counts.ravel(), np.broadcast_to(problem.costs, counts.shape).ravel()
    left = problem.budget - float(flat @ costs)
    sold, bought = np.nonzero((flat >= step)[:, None] & np.ones((1, len(flat)), bool))
    apart = sold != bought
    sold, bought = sold[apart], bought[apart]
    number = np.floor((left + step * costs[sold]) / costs[bought] + 1e-9)
    tried = np.repeat(flat[None], len(sold), 0)
    rows = np.arange(len(tried))
    tried[rows, sold] -= step
    tried[rows, bought] += number
    tried = tried.reshape(-1, *counts.shape)
    return tried[(tried.sum(1) >= 1).all(1)]

"""Effects and interactions, by hand and of made-up cells whose parts are known."""

import itertools

import numpy as np
import pytest

from collapse_jax.metrics.factorial import effects


def test_two_factors_by_hand():
    found = effects([[1.0, 3.0], [4.0, 11.0]], ("a", "b"))
    assert found == {
        (): 1.0,
        ("a",): (4 + 11) / 2 - (1 + 3) / 2,
        ("b",): (3 + 11) / 2 - (1 + 4) / 2,
        ("a", "b"): (11 - 4) - (3 - 1),
    }


def test_parts_that_are_known():
    """With factors at -1/2 and 1/2 a polynomial's coefficients are its effects and interactions.

    This holds at every generation.
    """
    rng = np.random.default_rng(1)
    sets = [chosen for size in range(4) for chosen in itertools.combinations(range(3), size)]
    coefficients = {chosen: rng.standard_normal(5) for chosen in sets}
    cells = np.zeros((2, 2, 2, 5))
    for cell in itertools.product((0, 1), repeat=3):
        cells[cell] = sum(
            value * np.prod([cell[axis] - 0.5 for axis in chosen])
            for chosen, value in coefficients.items()
        )
    found = effects(cells, "abc")
    for chosen in sets[1:]:
        np.testing.assert_allclose(
            found[tuple("abc"[axis] for axis in chosen)], coefficients[chosen], rtol=1e-10
        )
    np.testing.assert_array_equal(found[()], cells[0, 0, 0])


def test_what_has_not_two_levels():
    with pytest.raises(ValueError, match="must have length 2"):
        effects(np.zeros((2, 3)), "ab")

"""The checks of arguments: what they return, what they refuse, and the one line that they say."""

import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collapse_jax.errors import (
    DamagedError,
    InputError,
    defined_at,
    did_you_mean,
    first_line,
    function,
    made_by,
    number,
    numbers,
    one_key,
    one_of,
    real,
    size_words,
    visible,
    whole,
)

INF, NAN = float("inf"), float("nan")


def refusal(check, *args, **options):
    with pytest.raises(InputError) as caught:
        check("x", *args, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    "check, args, options, expected",
    [
        (number, (2,), {}, 2.0),
        (number, (INF,), {}, INF),
        (number, (jnp.float32(0.5),), {}, 0.5),
        (whole, (3, 3), {}, 3),
        (whole, (np.int32(7), 1, 7), {}, 7),
        (real, (-5,), {}, -5.0),
        (real, (0,), {"at_least": 0}, 0.0),
        (real, (1,), {"above": 0, "at_most": 1}, 1.0),
        (real, (np.float32(0.5),), {"above": 0, "below": 1}, 0.5),
        (real, (jnp.float32(0.5),), {"at_least": 0.5, "below": 1}, 0.5),
        (real, (INF,), {"at_least": 0, "finite": False}, INF),
        (one_of, ("b", ["a", "b"]), {}, "b"),
        (one_of, (np.str_("b"), {"a": 1, "b": 2}), {}, "b"),
        (one_of, ("never", (True, False, "never")), {}, "never"),
        (one_of, (1, (0, 1)), {}, 1),
        (function, (len,), {}, len),
        (made_by, ("text", str, "repr"), {}, "text"),
    ],
)
def test_a_check_returns_the_value(check, args, options, expected):
    result = check("x", *args, **options)
    assert result == expected and type(result) is type(expected)


@pytest.mark.parametrize(
    "check, args, options, text",
    [
        (number, ("1",), {}, "x is '1'; it must be a number"),
        (number, (b"1",), {}, "x is b'1'; it must be a number"),
        (number, (None,), {}, "x is None; it must be a number"),
        (number, (10**400,), {}, f"x is {'1' + '0' * 199} ...; it must be a number"),
        (numbers, ("1",), {}, "x is '1'; it must be a number or an array of numbers"),
        (
            numbers,
            ([[1], [1, 2]],),
            {},
            "x is [[1], [1, 2]]; it must be a number or an array of numbers",
        ),
        (numbers, ([None],), {}, "x is [None]; it must be a number or an array of numbers"),
        (whole, (2, 3), {}, "x is 2; it must be an integer of at least 3"),
        (whole, (True, 1), {}, "x is True; it must be an integer of at least 1"),
        (whole, (2.0, 1), {}, "x is 2.0; it must be an integer of at least 1"),
        (whole, ("2", 1), {}, "x is '2'; it must be an integer of at least 1"),
        (whole, (np.int64(-1), 0), {}, "x is -1; it must be an integer of at least 0"),
        (whole, (9, 1, 8), {}, "x is 9; it must be at most 8"),
        (whole, (0, 1), {"must_be": "odd"}, "x is 0; it must be odd"),
        (whole, (9, 1, 8), {"must_be": "odd"}, "x is 9; it must be odd"),
        (real, (INF,), {}, "x is inf; it must be finite"),
        (real, (NAN,), {"finite": False}, "x is nan; it must be a number"),
        (real, (True,), {"at_least": 0}, "x is True; it must be finite and at least 0"),
        (real, ("1",), {"above": 0}, "x is '1'; it must be finite and above 0"),
        (real, (None,), {"at_least": 0, "finite": False}, "x is None; it must be at least 0"),
        (real, (0,), {"above": 0}, "x is 0; it must be finite and above 0"),
        (real, (INF,), {"above": 0}, "x is inf; it must be finite and above 0"),
        (real, (NAN,), {"above": 0, "at_most": 1}, "x is nan; it must be in (0, 1]"),
        (real, (0.0,), {"above": 0, "at_most": 1}, "x is 0.0; it must be in (0, 1]"),
        (real, (np.float64(1.5),), {"at_least": 0, "at_most": 1}, "x is 1.5; it must be in [0, 1]"),
        (real, (1,), {"at_least": 0, "below": 1}, "x is 1; it must be in [0, 1)"),
        (real, (-0.1,), {"at_least": 0, "below": 1}, "x is -0.1; it must be in [0, 1)"),
        (real, (2,), {"at_most": 1}, "x is 2; it must be finite and at most 1"),
        (real, (1,), {"below": 1, "finite": False}, "x is 1; it must be below 1"),
        (real, (0,), {"above": 0, "must_be": "a variance"}, "x is 0; it must be a variance"),
        (one_of, ("c", ["a", "b"]), {}, "x is 'c'; it must be one of a, b"),
        (one_of, (["a"], ["a", "b"]), {}, "x is ['a']; it must be one of a, b"),
        (one_of, (1, (True, "never")), {}, "x is 1; it must be one of True, never"),
        (one_of, (2, (0, 1)), {"must_be": "0 or 1"}, "x is 2; it must be 0 or 1"),
        (one_of, (np.ones(2), ("a",)), {}, "x is array([1., 1.]); it must be one of a"),
        (function, (3,), {}, "x is 3; it must be a function"),
        (made_by, (3, str, "repr"), {}, "x is 3; it must be what repr gives"),
    ],
)
def test_a_refusal_names_the_value_and_what_would_be_right(check, args, options, text):
    assert refusal(check, *args, **options) == text


def test_numbers_become_a_float64_array():
    result = numbers("x", [[1, True], [2.5, 3]])
    assert result.dtype == np.float64 and result.tolist() == [[1, 1], [2.5, 3]]


def test_a_refusal_is_one_line_of_bounded_length():
    assert str(InputError("a\nb")) == "a b"
    assert len(refusal(number, "y" * 10_000)) < 300
    long = str(InputError("a" * 5000 + "z"))
    assert len(long) == 2005 and " ... " in long and long.endswith("z")


@pytest.mark.parametrize(
    "text, shown",
    [
        ("plain, naïve ☃ 模型 $x$ a_b", "plain, naïve ☃ 模型 $x$ a_b"),
        ("no\u00a0break", "no\u00a0break"),
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("\x00\x08\r\t\x7f", r"\x00\x08\r\t\x7f"),
        ("\x9b2J", r"\x9b2J"),  # C1: one character starts the same sequence
        ("a\nb\x0bc\u2028d\u2029e\x85f", r"a\nb\x0bc\u2028d\u2029e\x85f"),
        ("\u202egnp.exe\u2066\u200e\ufeff", r"\u202egnp.exe\u2066\u200e\ufeff"),
        ("\udc80 \U000e0041", r"\udc80 \U000e0041"),  # undecodable bytes of a path, a tag
        ("क्\u200dष 👩\u200d🔬", "क्\u200dष 👩\u200d🔬"),  # a script and emoji need their joiner
    ],
)
def test_what_steers_a_terminal_is_written_as_its_escape(text, shown):
    assert visible(text) == shown and visible(shown) == shown
    assert visible(text, keep=text) == text
    shown.encode()  # no surrogate is left


def test_an_error_shows_what_a_name_holds():
    line = str(InputError("folder 'a\x1b[2J\u202eb' is odd\nreally"))
    assert line == r"folder 'a\x1b[2J\u202eb' is odd really"
    assert str(DamagedError("checkpoint \x1b[2J")) == r"checkpoint \x1b[2J"


@pytest.mark.parametrize(
    "error, most, line",
    [
        (ValueError("one\ntwo"), None, "one"),
        (ValueError("\n  one\ntwo"), None, "one"),
        (ValueError("one"), 2, "on"),
        (OSError(), None, "OSError"),
        (OSError(" \n"), 200, "OSError"),
        (ValueError("a\x1b[2Jb"), None, r"a\x1b[2Jb"),
    ],
)
def test_first_line(error, most, line):
    assert first_line(error, most) == line


@pytest.mark.parametrize(
    "size, words",
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1 KiB"),
        (1.5 * 2**20, "1.5 MiB"),
        (239 * 2**20, "239 MiB"),
        (2**30, "1 GiB"),
        (13.34 * 2**30, "13.3 GiB"),
        (2**50, "1048576 GiB"),
    ],
)
def test_size_words(size, words):
    assert size_words(size) == words


def test_the_module_imports_neither_numpy_nor_jax():
    code = "import sys, collapse_jax.errors; print(sorted({'jax', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (3, ["x is 3"]),
        (None, ["x is None"]),
        (np.int64(3), ["3"]),
        (np.array([0, 0], np.uint32), ["array([0, 0], dtype=uint32)"]),
        (jax.random.PRNGKey(0), ["Array([0, 0], dtype=uint32)", "wrap_key_data"]),
        (jax.random.split(jax.random.key(0), 3), ["keys of shape [3]", "jax.vmap"]),
        (jax.random.split(jax.random.key(0), 1), ["keys of shape [1]"]),
    ],
)
def test_what_is_no_key(value, words):
    text = refusal(one_key, value)
    assert "one key, such as jax.random.key(0)" in text and "\n" not in text
    assert all(word in text for word in words), text


def test_a_key_of_any_implementation_is_one():
    for implementation in ("threefry2x32", "rbg", "unsafe_rbg"):
        key = jax.random.key(0, impl=implementation)
        assert one_key("key", key) is key
    keys = jax.random.split(jax.random.key(0), 2)
    jax.eval_shape(jax.vmap(lambda key: jax.random.bits(one_key("key", key))), keys)


class Callable:
    def __call__(self):
        pass

    def method(self):
        pass


def test_a_function_is_named_with_its_place():
    def inner():
        pass

    line = inner.__code__.co_firstlineno
    for one in (inner, functools.partial(inner), jax.jit(inner)):
        assert defined_at(one) == f"inner (line {line} of test_errors.py)"
    assert defined_at(len) == "len" and defined_at(jnp.array).startswith("array (line ")
    assert defined_at(Callable().method).startswith("Callable.method (line ")
    assert defined_at(Callable()).startswith("Callable (line ")
    assert defined_at(lambda: 0).startswith("<lambda> (line ")


def test_the_nearest_name_is_proposed():
    assert did_you_mean("bandwith", ["dim", "bandwidth"]) == " (did you mean 'bandwidth'?)"
    assert did_you_mean("xyz", ["dim"]) == "" == did_you_mean("dim", [])
    assert did_you_mean(3, ["3d"]) in ("", " (did you mean '3d'?)")

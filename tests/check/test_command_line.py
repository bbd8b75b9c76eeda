"""The command line: where values lie, which dtype they have, and what the exit status says."""

import jax.numpy as jnp
import pytest

from vjpcheck.__main__ import arguments, main

FUNCTIONS = """
import jax
import jax.numpy as jnp

def ruled(f, backward):
    g = jax.custom_vjp(f)
    g.defvjp(lambda *a: (f(*a), a), backward)
    return g

log = ruled(lambda x: jnp.log(x), lambda a, dy: (dy / a[0],))
wrong = ruled(lambda x: jnp.log(x), lambda a, dy: (2 * dy / a[0],))
rounded = ruled(lambda x: jnp.round(x), lambda a, dy: (dy,))
unchanged = lambda x: x

def wide(x):
    assert x.dtype == jnp.float64, x.dtype
    return x**2

half = ruled(lambda x: x**2, lambda a, dy: (2 * a[0] * dy,))
"""


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "functions.py"
    path.write_text(FUNCTIONS)
    return lambda name: f"{path}:{name}"


@pytest.mark.parametrize(
    ("name", "drawn", "status"),
    [
        ("log", "f32[6]:positive", 0),
        ("wrong", "f32[6]:unit", 1),
        ("missing", "f32[6]", 3),
        ("log", "f32[6]:negative", 3),
        ("rounded", "f32[6]", 4),
        ("wide", "f64[3]", 0),
        ("half", "f16[4]", 0),
    ],
)
def test_the_status_says_what_was_found(mine, name, drawn, status, capsys):
    assert main([mine(name), drawn, "--level", "quick"]) == status
    given = capsys.readouterr()
    assert bool(given.err) == (status == 3)
    if status == 4:
        assert "INCONCLUSIVE" in given.out and "flat in" in given.out


def test_a_command_line_that_does_not_read_as_one(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--level", "slow"])
    assert left.value.code == 2
    capsys.readouterr()


def test_a_surrogate_and_a_reference_are_functions_too(mine, capsys):
    quick = ["--level", "quick"]
    assert main([mine("rounded"), "f32[6]", "--surrogate", mine("unchanged"), *quick]) == 0
    assert main([mine("log"), "f32[6]:positive", "--reference", mine("unchanged"), *quick]) == 1
    assert "forward differs" in capsys.readouterr().out


def test_values_lie_where_they_are_said_to():
    positive, unit, rising, plain = arguments("f32[50]:positive, f16[50]:unit, f32[3,8]:sorted, f32[50]")
    assert jnp.all(positive > 0) and jnp.all((unit > 0) & (unit < 1)) and unit.dtype == jnp.float16
    assert jnp.all(jnp.diff(rising, axis=-1) >= 0) and jnp.any(plain < 0)
    with pytest.raises(ValueError, match="positive, unit, sorted"):
        arguments("f32[3]:cold")

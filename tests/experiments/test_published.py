"""The registry of published results.

Whole, documented, and found where an installed package has it.
"""

import re

import jax
import numpy as np
import pytest

import collapse_jax as cj
from collapse_jax.app.reproduce import load_entries, own_folder
from collapse_jax.app.reproduce.judge import DISAGREES
from collapse_jax.drivers.plan import recorded_generations


@pytest.fixture(scope="module")
def entries():
    return load_entries(own_folder())


def test_there_are_sixty_and_more_that_this_machine_can_check(entries):
    assert sum(one.check is not None for one in entries) >= 60


def test_every_entry_is_said_in_full(entries):
    for one in entries:
        assert re.fullmatch(r"[a-z0-9]+(-[a-zA-Z0-9]+)*", one.id), one.id
        assert one.claim.endswith(".") and 20 < len(one.claim) < 260, one.id
        assert one.setting and one.oracle, one.id
        assert re.fullmatch(r"(\d{4}\.\d{4,5})?", one.paper.arxiv), one.paper
        assert one.paper.name and one.paper.title, one.id
        assert (one.check is None) == bool(one.command), one.id
        assert (one.cost == "cpu") or one.check is None, one.id
        assert not (one.differs and one.disagrees), one.id


def test_the_documented_table_has_every_entry(entries, root):
    table = (root / "docs" / "reproduced" / "README.md").read_text()
    rows = dict(re.findall(r"^\| `([^`]+)` \|.*\| ([^|]+) \|[^|]*\|$", table, re.M))
    assert set(rows) == {one.id for one in entries}
    assert not [id for id, verdict in rows.items() if verdict.startswith("FAILED")]
    assert {id for id, verdict in rows.items() if verdict.startswith(DISAGREES)} == {
        one.id for one in entries if one.disagrees
    }
    page = (root / "docs" / "reproduced" / "index.html").read_text()
    for one in entries:
        assert f"<tr id='{one.id}'>" in page
        assert (root / "docs" / "reproduced" / "figures" / f"{one.id}.png").is_file() == (
            one.check is not None
        ), one.id


@pytest.fixture
def keys(monkeypatch):
    """The keys of the simulations that an entry asks for, which are not run."""
    seen, rng = [], np.random.default_rng(0)

    class Anything(dict):
        def __missing__(self, name):
            return rng.random(self.shape)

    def simulate(process, key, *, generations, chains, record=1, **options):
        seen.append(key)
        made = Anything()
        made.shape = (chains, len(recorded_generations(generations, record)))
        return made

    monkeypatch.setattr(cj, "simulate", simulate, raising=False)
    return seen


def words(key):
    return tuple(np.asarray(jax.random.key_data(key)).tolist())


@pytest.mark.parametrize(
    ("id", "simulations"),
    [("dohm-ridge-proportional", 2), ("kaz-linreg-subsample", 3), ("ngram-order", 3)],
)
def test_samples_that_are_compared_as_independent_have_keys_of_their_own(
    entries, keys, id, simulations
):
    (check,) = (one.check for one in entries if one.id == id)
    check(jax.random.key(0))
    assert len(keys) == simulations == len(set(map(words, keys)))


def test_no_key_of_a_simulation_is_that_of_a_chain_of_another(entries, keys):
    (check,) = (one.check for one in entries if one.id == "shum-thm31-schedule")
    check(jax.random.key(0))
    first, second = keys
    chains = jax.vmap(jax.random.fold_in, (None, 0))(first, np.arange(20_000))
    of_chains = np.asarray(jax.random.key_data(chains))
    assert not (of_chains == np.asarray(jax.random.key_data(second))).all(1).any()

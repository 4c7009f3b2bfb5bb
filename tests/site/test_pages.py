"""The Python of the README and of the pages is run as it is printed, page by page."""

import pathlib
import re

import numpy as np
import pytest
from scipy import stats

from collapse_jax.estimators import registry

ROOT = pathlib.Path(__file__).parents[2]
# Other pages show lines without what stands before them, or have tests of their own:
# contributing, after-a-run, policies, gradients, the tutorials.
PAGES = (
    "start", "chains", "curation", "schedules", "ecosystems", "genealogy", "verifiers", "weights",
    "presets",
)  # fmt: skip


def _run(page: pathlib.Path) -> list[dict]:
    """Runs the blocks of a page one after another; the names that there were after each."""
    names, after = {}, []
    for block in re.findall(
        r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S
    ):
        exec(compile(block, page.name, "exec"), names)
        after.append(dict(names))
    return after


def test_readme(monkeypatch):
    """The newcomer's family is held against the contract, which raises if it is broken."""
    monkeypatch.setattr(registry, "_REGISTERED", {})
    gaussian, newcomer = _run(ROOT / "README.md")
    for names, shape in ((gaussian, (10_000, 201)), (newcomer, (1_000, 51))):
        for array in names["trace"].values():
            assert array.shape == shape
            assert np.isfinite(array).all()


@pytest.mark.thorough
@pytest.mark.parametrize("page", PAGES)
def test_page(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert _run(ROOT / "docs" / f"{page}.md")


def test_a_family_by_hand():
    """The fit is that of NumPy, and the process's own."""
    text = (ROOT / "docs" / "contract.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^## A family by hand.*?^```python\n(.*?)^```", text, re.M | re.S)
    names = {}
    exec(compile(block, "contract.md", "exec"), names)
    x, family, params = (names[name] for name in ("x", "family", "params"))
    found = [float(family.metrics[name](params)) for name in ("mean", "variance")]
    np.testing.assert_allclose(found, [x.mean(), x.var(ddof=1)], rtol=1e-5)
    normal = stats.norm(found[0], found[1] ** 0.5)
    expected = normal.logpdf(np.asarray(names["points"])[:, 0])
    np.testing.assert_allclose(names["score"], expected, rtol=1e-4)
    assert isinstance(names["data"], family.statistics.kind)


def test_readme_is_a_door():
    assert (ROOT / "README.md").stat().st_size < 7_500


def test_the_citation_names_the_version():
    """It stands in two files, of which pyproject.toml rules."""
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text("utf-8"), re.M)
    assert version is not None
    assert f"\nversion: {version[1]}\n" in (ROOT / "CITATION.cff").read_text("utf-8")

"""What the vocabulary looks like when it is printed: one short line, and no addresses."""

import numpy as np
import pytest

from collapse_jax.core import workflows
from collapse_jax.core.process import generational_process
from collapse_jax.core.types import Family
from collapse_jax.estimators import FAMILIES, sources
from collapse_jax.estimators.gaussian import gaussian

NORMAL = sources.normal([0.0], [[1.0]])
PROCESS = generational_process(gaussian(1), NORMAL, workflows.replace(), sample_size=5)


@pytest.mark.parametrize(
    ("one", "text"),
    [
        (NORMAL, "normal([0.0], [[1.0]])"),
        (NORMAL._replace(sample=NORMAL.sample), "normal([0.0], [[1.0]]) with its own sample"),
        (sources.dataset(np.zeros(1234)), "dataset(float64[1234])"),
        (Family(gaussian), "family of gaussian, with none"),
        (
            Family(gaussian, tuple, "Gaussian", ("mean",)),
            "family 'Gaussian' of gaussian, with example, mean",
        ),
        (PROCESS.layout, "layout of a process's states"),
    ],
)
def test_the_text_of_one(one, text):
    assert repr(one) == text


def test_print_tells_more_of_a_source():
    assert str(NORMAL) == "source: a population, GaussianParams known"
    assert str(NORMAL._replace(sample=NORMAL.sample)) == "source: a population"
    assert str(sources.dataset(np.zeros(1234))) == "source: a data set of 1,234 points"


def test_the_parts_of_a_process():
    text = repr(PROCESS.parts)
    assert text.startswith("parts: gaussian(dim=1, ") and text.endswith("sample size 5")
    assert "source: a population" in text and "workflow replace" in text


def test_no_text_holds_an_address():
    for one in (PROCESS, PROCESS.parts, PROCESS.layout, NORMAL, *FAMILIES.values()):
        assert " at 0x" not in repr(one) and len(repr(one)) < 400

"""The experiment on the three sources of error.

What its cells are, exactly, and a tiny run with all its files.
"""

import importlib

import numpy as np
import pytest

from collapse_jax.errors import InputError
from collapse_jax.theory import mixture_projection

pytestmark = pytest.mark.usefixtures("quick_compile")
SMALL = {
    "sample_size": 20,
    "generations": 3,
    "chains": 3,
    "vae_images": 20,
    "vae_epochs": (2, 1),
    "vae_generations": 1,
    "vae_chains": 2,
    "vae_capacity": 1,
    "vae_truth_epochs": 4,
}


@pytest.fixture
def script(monkeypatch, root):
    monkeypatch.syspath_prepend(root / "experiments")
    return importlib.import_module("error_sources")


@pytest.fixture
def small(script, tmp_path):
    return script.Settings(**SMALL, out=str(tmp_path))


def test_all_off_is_no_error(script, small):
    for family in ("gaussian", "gmm"):
        assert np.abs(script.density_cell(family, (0, 0, 0), small)[script.KL]).max() < 1e-6, family


@pytest.mark.parametrize("family", ["gaussian", "gmm"])
def test_expressivity_errs_in_the_first_generation_only(script, small, family):
    """Shumailov et al. 2024, both families: KL(gen n) = KL(gen 1) to 1e-6, here counted from 0."""
    kl = script.density_cell(family, (0, 1, 0), small)[script.KL][0]
    assert kl[0] > 0.01
    np.testing.assert_allclose(kl[1:], kl[0], atol=1e-6)


def test_gradient_steps_of_the_gaussian(script, small):
    """Without sampling error each generation is so many steps towards the one before.

    They begin at one start; written out in float64.

    With the truth outside the family the same path costs the distance to the projection more, in
    every generation.
    """
    inside, outside = (
        script.density_cell("gaussian", (0, off, 1), small)[script.KL][0] for off in (0, 1)
    )
    mean, variance = 0.0, 1.0
    for generation in range(4):
        place, log_scale = script.STARTS["gaussian"][0], np.log(script.STARTS["gaussian"][1])
        for _ in range(script.GRADIENT_STEPS):
            precision = np.exp(-2 * log_scale)
            slopes = (place - mean) * precision, 1 - (variance + (place - mean) ** 2) * precision
            place, log_scale = (
                place - script.STEP_SIZE * slopes[0],
                log_scale - script.STEP_SIZE * slopes[1],
            )
        mean, variance = place, np.exp(2 * log_scale)
        own, rest = mixture_projection.kl_to_gaussian(script.TRUTHS["gaussian"][1], mean, variance)
        np.testing.assert_allclose(
            [inside[generation], outside[generation]], [rest, own + rest], rtol=1e-4
        )


def test_the_truths_of_the_gaussian_have_the_same_moments(script):
    np.testing.assert_allclose(
        *(mixture_projection.moments(truth) for truth in script.TRUTHS["gaussian"]), atol=1e-12
    )


@pytest.mark.slow
def test_a_vae_of_one_latent_on_a_truth_of_four(script, small, monkeypatch):
    """By streams: the truth's decoder is of another size than the network.

    One step of training is far from that.
    """
    monkeypatch.setattr(script, "HELD_OUT", 40)
    monkeypatch.setattr(script, "PROBES", 20)
    found = script.vae_cell(script.vae_truth(small), (0, 1, 1), small)
    assert found[script.BOUND].shape == found[script.DEVIATION].shape == (2, 2)
    assert (found[script.BOUND] > 3).all() and (found[script.DEVIATION] > 0).all()


def test_a_tiny_run(script, small, tmp_path, monkeypatch, capsys):
    """Figure, table and all numbers; the cells are made up, for the time they take."""
    rng = np.random.default_rng(0)
    monkeypatch.setattr(script, "vae_truth", lambda settings: None)
    monkeypatch.setattr(
        script,
        "vae_cell",
        lambda *_: {script.BOUND: rng.random((2, 2)), script.DEVIATION: rng.random((2, 2))},
    )
    monkeypatch.setattr(
        script,
        "density_cell",
        lambda family, cell, settings: {script.KL: rng.random((3 if cell[0] else 1, 4))},
    )
    script.main(small)
    assert (tmp_path / "figures" / "error_sources.png").stat().st_size > 20_000
    lines = (tmp_path / "cells.csv").read_text().splitlines()
    assert len(lines) == 1 + 2 * (4 * 3 + 4 * 1) * 4 + 2 * 8 * 4
    said = capsys.readouterr().out
    assert "statistical x approximation" in said and "statistical + approximation" in said


def test_bad_settings(script):
    with pytest.raises(InputError, match="families is 'gausian'"):
        script.Settings(families="gausian").check()
    with pytest.raises(InputError, match="chains is 0"):
        script.Settings(chains=0).check()

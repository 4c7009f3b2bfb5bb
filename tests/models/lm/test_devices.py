"""A batch spread over 8 devices gives the numbers of one."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collapse_jax.models.lm.decode import BeamSearch, Sampling, generate
from collapse_jax.models.lm.finetune import FineTune, fine_tune
from collapse_jax.models.lm.opt import OPT, OPTConfig, init_params
from collapse_jax.models.lm.score import mean_loss
from collapse_jax.runs.distributed import to_host
from collapse_jax.runs.placement import Placement
from collapse_jax.runs.session import Session

CONFIG = OPTConfig(
    vocab_size=29,
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=2,
    ffn_dim=16,
    max_position_embeddings=16,
    dropout=0.1,
    init_std=0.3,
)
MODEL = OPT(CONFIG)
BLOCKS = np.random.default_rng(0).integers(3, 29, (21, 8))


def arrays(params):
    """Named leaves but for the key biases: softmax does not see them, so their gradient is rounding
    error, which Adam blows up.
    """
    named = {
        jax.tree_util.keystr(path): to_host(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    return {name: leaf for name, leaf in named.items() if "k_proj']['bias" not in name}


def numbers(batch_size, placement=Placement()):
    """All that the language model does, with batches of this size (the last of them partial)."""
    params, session = init_params(CONFIG, jax.random.key(0)), Session(placement)
    fitted, result = fine_tune(
        MODEL,
        params,
        BLOCKS,
        BLOCKS[:5],
        FineTune(2, batch_size, 1e-2),
        jax.random.key(1),
        session=session,
    )
    options = {"key": jax.random.key(2), "batch_size": batch_size, "session": session}
    found = {
        "train": result.train_loss,
        "valid": result.valid_loss,
        "beams": generate(MODEL, params, BLOCKS, BeamSearch(2), 4, **options),
        "samples": generate(MODEL, params, BLOCKS, Sampling(), 4, **options),
        "copies": generate(
            *(MODEL, params, [row[i % 3 :] for i, row in enumerate(BLOCKS)], Sampling(), 4),
            **options | {"num_return_sequences": 4, "stop": [[5], [7, 8]]},
        ),
        "losses": mean_loss(MODEL, fitted, BLOCKS, batch_size=batch_size, session=session),
    }
    return found | arrays(fitted), fitted


def on_eight(out):
    """Runs in a process with 8 devices: batches that divide, then one that does not, from
    parameters that lie on all.
    """
    placement = Placement()
    assert (
        len(jax.devices()) == 8
        and placement.devices_for(16) == 8
        and placement.devices_for(12) == 1
    )
    rows = placement.place(jnp.arange(32).reshape(2, 16), 16, 1)
    assert sorted(shard.index[1].start for shard in rows.addressable_shards) == list(
        range(0, 16, 2)
    )
    found, fitted = numbers(16)
    assert all(
        len(leaf.devices()) == 8 and leaf.is_fully_replicated for leaf in jax.tree.leaves(fitted)
    )
    alone, _ = fine_tune(
        MODEL, fitted, BLOCKS[:12], BLOCKS[:5], FineTune(1, 12, 1e-2), jax.random.key(1)
    )
    assert all(len(leaf.devices()) == 1 for leaf in jax.tree.leaves(alone))
    cut, fitted_cut = numbers(16, Placement(shard=True))
    assert_cut(fitted_cut)
    found |= {f"cut {name}": value for name, value in cut.items()}
    np.savez(out, **found, alone=mean_loss(MODEL, fitted, BLOCKS, batch_size=12))


def assert_cut(params):
    """Each device holds an eighth of every parameter that has an axis which 8 divides, and the
    others whole.
    """
    for leaf in jax.tree.leaves(params):
        shares = {shard.data.size for shard in leaf.addressable_shards}
        assert shares == {
            leaf.size // 8 if any(size % 8 == 0 for size in leaf.shape) else leaf.size
        }


@pytest.mark.slow
def test_eight_devices_give_the_numbers_of_one(tmp_path):
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "JAX_PLATFORMS": "cpu",
    }
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path / "found.npz")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    if len(jax.devices()) > 1 or jax.devices()[0].platform != "cpu":
        pytest.skip("the comparison needs one CPU device in this process")
    wanted, _ = numbers(16)
    with np.load(tmp_path / "found.npz") as found:
        np.testing.assert_allclose(found["alone"], wanted["losses"], rtol=1e-4)
        for name, value in wanted.items():
            if name in ("beams", "samples", "copies"):
                np.testing.assert_array_equal(found[name], value)
                np.testing.assert_array_equal(found[f"cut {name}"], value)
            else:
                np.testing.assert_allclose(found[name], value, rtol=2e-4, atol=2e-5, err_msg=name)
                np.testing.assert_allclose(
                    found[f"cut {name}"], value, rtol=2e-4, atol=2e-5, err_msg=name
                )


if __name__ == "__main__":
    jax.config.update("jax_default_matmul_precision", "highest")
    on_eight(sys.argv[1])

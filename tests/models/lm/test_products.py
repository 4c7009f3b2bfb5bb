"""Products in bfloat16 beside NumPy: rounded factors, float32 sums, and the same of gradients."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from collapse_jax.models.lm.products import product_in, rounded_product
from collapse_jax.models.lm.score import batch_loss
from collapse_jax.models.lm.switches import TransformerConfig
from collapse_jax.models.lm.transformer import Transformer, init_params

# Every product of the models: subscripts and sizes.
FORMS = {
    "aby,yz->abz": dict(a=2, b=3, y=16, z=24),  # nn.Dense
    "bpw,vw->bpv": dict(b=2, p=3, w=16, v=40),  # head
    "bpv,vw->bpw": dict(b=2, p=3, w=16, v=40),  # gradient of the hidden states
    "bpv,bpw->vw": dict(b=2, p=3, w=16, v=40),  # gradient of the embedding
    "bhqd,bhkd->bhqk": dict(b=2, h=3, q=5, k=7, d=8),  # attention's scores
    "bhqk,bhkd->bhqd": dict(b=2, h=3, q=5, k=7, d=8),  # attention's values
}


def arrays(subscripts):
    sizes, source = FORMS[subscripts], np.random.default_rng(0)
    parts = subscripts.replace("->", ",").split(",")
    return [
        source.normal(size=[sizes[letter] for letter in part]).astype(np.float32) for part in parts
    ]


def rounded(array):
    """To the nearest bfloat16, ties to even, as float64."""
    return np.asarray(array).astype(ml_dtypes.bfloat16).astype(np.float64)


@pytest.mark.parametrize("subscripts", FORMS)
def test_factors_are_rounded_and_sums_are_not(subscripts):
    """Forward and both gradients against float64 sums of rounded factors; the gradient comes in
    from a factor that is no bfloat16. The float32 left factor gets a float32 gradient.
    """
    left, right, incoming = arrays(subscripts)
    factors, result = subscripts.split("->")
    first, second = factors.split(",")

    @jax.jit
    def made(left, right, incoming):
        value, back = jax.vjp(lambda *both: rounded_product(subscripts, *both), left, right)
        # Transposed: XLA once turned such a product of bfloat16 into one that it cannot do.
        return value.T, [array.T for array in back(incoming)]

    value, gradients = made(left, right.astype(ml_dtypes.bfloat16), incoming)
    left, right, incoming = map(rounded, (left, right, incoming))
    wanted = np.einsum(subscripts, left, right)
    assert value.dtype == jnp.float32 and gradients[0].dtype == jnp.float32
    assert gradients[1].dtype == jnp.bfloat16
    np.testing.assert_allclose(value.T, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    to_left = np.einsum(f"{result},{second}->{first}", incoming, right)
    np.testing.assert_allclose(gradients[0].T, to_left, rtol=0, atol=1e-5 * np.abs(to_left).max())
    to_right = np.einsum(f"{result},{first}->{second}", incoming, left)
    np.testing.assert_allclose(
        gradients[1].T.astype(np.float32), to_right, rtol=2**-8, atol=1e-5 * np.abs(to_right).max()
    )


def test_float32_is_the_einsum_of_jax_at_its_highest_precision():
    left, right, _ = arrays("bpw,vw->bpv")
    ours = jax.make_jaxpr(lambda *both: product_in("float32")("bpw,vw->bpv", *both))(left, right)
    (equation,) = [one for one in ours.jaxpr.eqns if one.primitive.name == "dot_general"]
    assert equation.params["precision"] == (jax.lax.Precision.HIGHEST,) * 2


def test_the_gradient_of_a_model_is_near_that_of_float32():
    """Every parameter of a gated model with rotary positions, own head and shared keys: within some
    roundings of bfloat16 (2^-8), and float32 itself, not float32 that was rounded on the way.
    """
    config = TransformerConfig(
        family="llama",
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=4,
        ffn_dim=32,
        max_position_embeddings=16,
        embed_size=16,
        norm="rms",
        positions="rotary",
        activation="silu",
        gated=True,
        tied=False,
        init_std=0.3,
    )
    tokens = np.random.default_rng(0).integers(0, 50, (4, 12)).astype(np.int32)
    params = init_params(Transformer(config), jax.random.key(0))

    def gradient(dtype):
        model = Transformer(config, dtype)
        loss = jax.jit(jax.grad(lambda params: batch_loss(model, params, tokens, jnp.ones(4))))
        return jax.tree.leaves_with_path(loss(params))

    for (path, exact), (_, near) in zip(gradient("float32"), gradient("bfloat16"), strict=True):
        name = jax.tree_util.keystr(path)
        assert near.dtype == jnp.float32, name
        # A bias of keys changes no weight of attention: its gradient is zero up to rounding.
        if "k_proj']['bias" in name and np.linalg.norm(exact) < 1e-6:
            continue
        assert np.linalg.norm(near - exact) < 0.03 * np.linalg.norm(exact), name
        if near.ndim == 2:
            assert (near != near.astype(jnp.bfloat16)).mean() > 0.5, name

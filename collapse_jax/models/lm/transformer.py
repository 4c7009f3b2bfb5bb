"""A decoder-only transformer in Flax linen; `TransformerConfig` says which one.

The caller hands in how each layer attends, and so owns the cache: training, scoring and every
decoder work for all families at once.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from collapse_jax.errors import InputError, one_key
from collapse_jax.models.lm import products, rotary
from collapse_jax.models.lm.switches import TransformerConfig

NEGATIVE = jnp.finfo(jnp.float32).min
# Of all that is no factor of a product.
_EXACT = "float32"
_ACTIVATIONS = {
    "relu": nn.relu,
    "gelu": functools.partial(nn.gelu, approximate=False),
    "gelu_tanh": functools.partial(nn.gelu, approximate=True),
    "silu": nn.silu,
}


class KeyValue(NamedTuple):
    """Keys (already turned, where positions are rotary) and values of one layer, by heads."""

    key: Float[Array, "batch key_heads positions head_dim"]
    value: Float[Array, "batch key_heads positions head_dim"]


# (queries [batch, key_heads, queries, head_dim], their own keys and values) -> mixed values of the
# shape of the queries. Query heads that share one key head follow each other along `queries`: all
# positions of the first, then all of the second. The caller chooses it, and owns the cache.
Attend = Callable[[jax.Array, KeyValue], jax.Array]


def capped(scores: jax.Array, cap: float | None) -> jax.Array:
    """cap * tanh(scores / cap), or the scores themselves."""
    return scores if cap is None else cap * jnp.tanh(scores / cap)


def for_heads(mask: jax.Array, config: TransformerConfig) -> jax.Array:
    """A mask [..., queries, keys], repeated for the query heads that share a head of keys."""
    shared = config.queries_per_key
    return mask if shared == 1 else jnp.concatenate([mask] * shared, axis=-2)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x**2) + epsilon) * (offset + scale), over the last axis."""

    epsilon: float
    offset: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """In float32."""
        scale = self.param("scale", nn.initializers.constant(1 - self.offset), x.shape[-1:])
        x = x.astype(jnp.float32)
        x = x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + self.epsilon)
        return x * (self.offset + scale)


class SelfAttention(nn.Module):
    """Multi-head attention; the caller passes the function that attends."""

    config: TransformerConfig
    dtype: str

    def setup(self):
        config = self.config
        queries = config.num_attention_heads * config.head_dim
        keys = config.num_key_value_heads * config.head_dim
        dense = functools.partial(_dense, config, dtype=self.dtype)
        self.q_proj = dense(queries, use_bias=config.qkv_bias)
        self.k_proj = dense(keys, use_bias=config.qkv_bias)
        self.v_proj = dense(keys, use_bias=config.qkv_bias)
        self.out_proj = dense(config.hidden_size, use_bias=config.out_bias)
        if config.query_key_norm:
            self.q_norm, self.k_norm = _norm(config), _norm(config)

    def __call__(
        self, x: Float[Array, "batch positions hidden_size"], attend: Attend, cos_sin: Any
    ) -> tuple[Float[Array, "batch positions hidden_size"], KeyValue]:
        """The mixed values, and the keys and values of x."""
        config = self.config
        scale = config.head_dim**-0.5 if config.query_scale is None else config.query_scale
        if config.query_key_norm or cos_sin is not None:
            query, key = self._heads(self.q_proj(x)), self._heads(self.k_proj(x))
            if config.query_key_norm:
                query, key = self.q_norm(query), self.k_norm(key)
            if cos_sin is not None:
                query, key = rotary.turned(query, cos_sin), rotary.turned(key, cos_sin)
            query = query * scale
        else:
            query, key = self._heads(self.q_proj(x) * scale), self._heads(self.k_proj(x))
        query, key, value = (
            array.astype(self.dtype) for array in (query, key, self._heads(self.v_proj(x)))
        )
        own = KeyValue(key, value)
        mixed = self._mixed(attend, query, own)
        return self.out_proj(mixed.swapaxes(1, 2).reshape(*x.shape[:2], -1)), own

    def _heads(self, x):
        """[batch, positions, heads * head_dim] -> [batch, heads, positions, head_dim]."""
        return x.reshape(*x.shape[:2], -1, self.config.head_dim).swapaxes(1, 2)

    def _mixed(self, attend, query, own):
        """What `attend` mixes, [batch, heads, positions, head_dim]."""
        if self.config.queries_per_key == 1:
            return attend(query, own)
        batch, _, positions, width = query.shape
        by_key_head = query.reshape(batch, self.config.num_key_value_heads, -1, width)
        return attend(by_key_head, own).reshape(batch, -1, positions, width)


class Layer(nn.Module):
    """Attention and MLP, each added to x."""

    config: TransformerConfig
    dtype: str

    def setup(self):
        config = self.config
        norm = functools.partial(_norm, config)
        dense = functools.partial(_dense, config, dtype=self.dtype, use_bias=config.ffn_bias)
        self.self_attn = SelfAttention(config, self.dtype)
        self.self_attn_layer_norm = norm()
        self.fc1 = dense(config.ffn_dim)
        if config.gated:
            self.gate = dense(config.ffn_dim)
        self.fc2 = dense(config.hidden_size)
        self.final_layer_norm = norm()
        if config.norm_place == "around":
            self.self_attn_post_norm, self.final_post_norm = norm(), norm()
        self.drop = nn.Dropout(config.dropout)

    def __call__(
        self,
        x: Float[Array, "batch positions hidden_size"],
        attend: Attend,
        cos_sin: Any,
        deterministic: bool,
    ) -> tuple[Float[Array, "batch positions hidden_size"], KeyValue]:
        """The new x, and the layer's keys and values."""
        config, drop = self.config, functools.partial(self.drop, deterministic=deterministic)
        before = config.norm_place != "after"
        mixed, own = self.self_attn(self.self_attn_layer_norm(x) if before else x, attend, cos_sin)
        if config.norm_place == "around":
            mixed = self.self_attn_post_norm(mixed)
        if config.parallel:
            return x + drop(mixed) + drop(self._feed_forward(self.final_layer_norm(x))), own
        x = x + drop(mixed)
        if not before:
            x = self.self_attn_layer_norm(x)
        hidden = self._feed_forward(self.final_layer_norm(x) if before else x)
        if config.norm_place == "around":
            hidden = self.final_post_norm(hidden)
        x = x + drop(hidden)
        return (x if before else self.final_layer_norm(x)), own

    def _feed_forward(self, x):
        # What enters an activation is most of what is kept for the gradient: therefore rounded.
        activation = _ACTIVATIONS[self.config.activation]
        if self.config.gated:
            gated = activation(self.gate(x).astype(self.dtype))
            return self.fc2(gated * self.fc1(x).astype(self.dtype))
        return self.fc2(activation(self.fc1(x).astype(self.dtype)))


class Transformer(nn.Module):
    """The causal language model; `model.apply({"params": params}, tokens)` gives logits.

    Parameters are a plain dict: `embed_tokens`, `embed_positions`, `layers_0` ... ,
    `final_layer_norm`, `lm_head`, those that the switches call for.

    dtype: "float32", or "bfloat16" for the factors of all products, those of the gradient too.
        Parameters, embeddings, the residual stream, norms, softmax, logits and losses stay float32,
        and so do the sums of all products.
    """

    config: Any
    dtype: str = "float32"

    def setup(self):
        config = self.switches
        embed = functools.partial(
            nn.Embed, dtype=_EXACT, embedding_init=nn.initializers.normal(config.init_std)
        )
        self.embed_tokens = embed(config.vocab_size, config.embed_size)
        if config.positions == "learned":
            positions = config.max_position_embeddings + config.position_offset
            self.embed_positions = embed(positions, config.hidden_size)
        if config.embed_size != config.hidden_size:
            dense = functools.partial(_dense, config, dtype=self.dtype, use_bias=False)
            self.project_in, self.project_out = dense(config.hidden_size), dense(config.embed_size)
        self.layers = [Layer(config, self.dtype) for _ in range(config.num_hidden_layers)]
        if config.final_norm:
            self.final_layer_norm = _norm(config)
        if not config.tied:
            self.lm_head = embed(config.vocab_size, config.embed_size)
        self.embed_drop = nn.Dropout(config.embed_dropout)

    @property
    def switches(self) -> TransformerConfig:
        """The sizes and switches of this model."""
        return self.config.switches

    @property
    def label(self) -> str:
        """What the model is called in names: its family, OPT in capitals as it always was."""
        kind = self.switches.family
        return "OPT" if kind == "opt" else kind

    @property
    def precision(self) -> jax.lax.Precision | None:
        """Of all products: float32 means float32, on a GPU too."""
        return products.precision_of(self.dtype)

    def __call__(
        self,
        tokens: Int[Array, "batch positions"],
        attention_mask: Int[Array, "batch positions"] | None = None,
        deterministic: bool = True,
    ) -> Float[Array, "batch positions vocabulary"]:
        """Logits (float32) of tokens.

        Args:
            tokens: int32 ids. Inside `jax.jit`, where a value cannot be refused, an id outside the
                vocabulary makes all logits of its sequence nan.
            attention_mask: 0 where padded (on the left), else 1; positions count from the first
                token that is not padding.
            deterministic: False applies dropout and needs a "dropout" rng.

        Raises:
            InputError: If there are more tokens than positions; outside `jax.jit` also if an id is
                outside the vocabulary, or the mask has other numbers than 0 and 1.
        """
        return self.head(self.hidden(tokens, attention_mask, deterministic)[0])

    def hidden(
        self,
        tokens: Int[Array, "batch positions"],
        attention_mask: Int[Array, "batch positions"] | None = None,
        deterministic: bool = True,
    ) -> tuple[Float[Array, "batch positions embed_size"], list[KeyValue]]:
        """Final hidden states, and each layer's keys and values."""
        _check_tokens(self.switches, tokens, attention_mask)
        length = tokens.shape[1]
        allowed = jnp.tril(jnp.ones((length, length), bool))[None, None]
        if attention_mask is None:
            positions = jnp.arange(length)[None]
        else:
            is_text = jnp.asarray(attention_mask).astype(bool)
            allowed = allowed & is_text[:, None, None, :]
            positions = jnp.cumsum(is_text, axis=1) * is_text - 1
        attends = [
            self._attend_to_all(allowed, layer, deterministic) for layer in range(len(self.layers))
        ]
        return self._run(self._embedded(tokens), positions, attends, deterministic)

    def _attend_to_all(self, allowed, layer, deterministic):
        """How a layer attends where all positions [.., length, length] are at hand."""
        config, rate = self.switches, self.switches.attention_dropout
        window, length = config.window(layer), allowed.shape[-1]
        if window is not None and window < length:
            allowed = allowed & ~jnp.tril(jnp.ones((length, length), bool), -window)
        allowed, product = for_heads(allowed, config), products.product_in(self.dtype)

        def attend(query, own):
            scores = capped(product("bhqd,bhkd->bhqk", query, own.key), config.attention_cap)
            weights = jax.nn.softmax(jnp.where(allowed, scores, NEGATIVE)).astype(query.dtype)
            if rate and not deterministic:
                keep = jax.random.bernoulli(self.make_rng("dropout"), 1 - rate, weights.shape)
                weights = jnp.where(keep, weights / (1 - rate), 0)
            return product("bhqk,bhkd->bhqd", weights, own.value).astype(query.dtype)

        return attend

    def extend(
        self,
        tokens: Int[Array, "batch queries"],
        position: Any,
        attend_by_layer: Sequence[Attend],
    ) -> tuple[Float[Array, "batch queries embed_size"], list[KeyValue]]:
        """Hidden states of tokens that all stand at one position: a step of decoding.

        Args:
            tokens: int32 ids.
            position: int [], their common position; or [batch], that of each sequence.
            attend_by_layer: How each layer attends; its cache belongs to the decoder.
        """
        position = jnp.asarray(position)
        position = position[:, None] if position.ndim else jnp.full((1, 1), position)
        return self._run(self._embedded(tokens), position, attend_by_layer, True)

    def head(self, hidden: Float[Array, "... embed_size"]) -> Float[Array, "... vocabulary"]:
        """Logits (float32) of hidden states."""
        matrix = (self.embed_tokens if self.switches.tied else self.lm_head).embedding
        outer = "abcdefgh"[: hidden.ndim - 1]
        logits = products.product_in(self.dtype)(f"{outer}w,vw->{outer}v", hidden, matrix)
        return capped(logits, self.switches.logit_cap)

    def head_matrix(self, params: dict) -> Float[Array, "vocabulary embed_size"]:
        """The matrix of `head` among the parameters: the embedding, where the two are tied."""
        return params["embed_tokens" if self.switches.tied else "lm_head"]["embedding"]

    def _embedded(self, tokens):
        """Embeddings of ids; nan outside the vocabulary, where an id below 0 would count back."""
        tokens = jnp.asarray(tokens)
        if jnp.issubdtype(tokens.dtype, jnp.integer):
            tokens = tokens.astype(jnp.promote_types(tokens.dtype, jnp.int32))
            tokens = jnp.where(tokens < 0, self.switches.vocab_size, tokens)
        return self.embed_tokens(tokens)

    def _run(self, x, positions, attend_by_layer, deterministic):
        config = self.switches
        if config.embed_scale != 1:
            x = x * jnp.asarray(config.embed_scale, x.dtype)
        if config.embed_size != config.hidden_size:
            x = self.project_in(x)
        turns = {}
        if config.positions == "learned":
            places = positions + config.position_offset
            # Padding stands before position 0.
            places = places if config.position_offset else jnp.maximum(places, 0)
            x = x + self.embed_positions(places)
        else:
            used = {config.rotary_of(i) for i in range(config.num_hidden_layers)}
            turns = {one: rotary.angles(one, config.head_dim, positions) for one in used}
        x = self.embed_drop(x.astype(jnp.float32), deterministic=deterministic)
        caches = []
        for i, (layer, attend) in enumerate(zip(self.layers, attend_by_layer, strict=True)):
            after, own = layer(x, attend, turns.get(config.rotary_of(i)), deterministic)
            if config.layerdrop and not deterministic:
                kept = jax.random.bernoulli(self.make_rng("dropout"), 1 - config.layerdrop)
                after = jnp.where(kept, after, x)
            x = after
            caches.append(own)
        x = self.final_layer_norm(x) if config.final_norm else x
        x = self.project_out(x) if config.embed_size != config.hidden_size else x
        return x.astype(self.dtype), caches


def _check_tokens(config, tokens, attention_mask):
    """Refuses what can be refused: shapes always, values where they are known."""
    shape, most = getattr(tokens, "shape", ()), config.max_position_embeddings
    if len(shape) != 2:
        raise InputError(
            f"tokens are a {type(tokens).__name__} of shape {list(shape)}; they must be an array "
            "[batch, length]"
        )
    length = shape[1]
    if attention_mask is not None and np.shape(attention_mask)[1:] != shape[1:]:
        raise InputError(
            f"attention_mask has shape {list(np.shape(attention_mask))}; it must be that of the "
            f"tokens, {list(shape)}"
        )
    if attention_mask is None and length > most:
        raise InputError(f"{length} tokens exceed max_position_embeddings {most}")
    ids, mask = _known(tokens), _known(attention_mask)
    if ids is not None and ids.size and not (0 <= ids.min() and ids.max() < config.vocab_size):
        raise InputError(
            f"tokens contain ids {ids.min()} to {ids.max()}; the model's vocabulary is 0 to "
            f"{config.vocab_size - 1}"
        )
    if mask is not None and not np.isin(mask, (0, 1)).all():
        raise InputError(
            "attention_mask must have 1 where there is text and 0 where there is padding"
        )
    if mask is not None and mask.size and mask.sum(1).max() > most:
        raise InputError(f"{mask.sum(1).max()} tokens exceed max_position_embeddings {most}")


def _known(array):
    """An array on the host, or None inside `jax.jit` and where another process holds a part."""
    if array is None or isinstance(array, Tracer):
        return None
    return np.asarray(array) if getattr(array, "is_fully_addressable", True) else None


def _norm(config):
    if config.norm == "rms":
        return RMSNorm(config.norm_epsilon, config.norm_offset)
    return nn.LayerNorm(epsilon=config.norm_epsilon, dtype=_EXACT)


def _dense(config, features, dtype, use_bias):
    """Outputs are float32: the sums of the products, and the bias."""
    rounds: Any = {}
    if dtype == "bfloat16":
        rounds = {"dot_general": products.dense_product, "promote_dtype": products.unpromoted}
    return nn.Dense(
        features,
        use_bias=use_bias,
        dtype=_EXACT,
        precision=products.precision_of(dtype),
        kernel_init=nn.initializers.normal(config.init_std),
        **rounds,
    )


def init_params(model: Transformer, key: jax.Array) -> dict:
    """Random parameters of a model, a plain dict of float32 arrays."""
    return jax.jit(model.init)(one_key("key", key), jnp.zeros((1, 2), jnp.int32))["params"]

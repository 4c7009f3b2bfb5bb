"""OPT in Flax linen (Zhang et al. 2022, arXiv 2205.01068): a decoder-only transformer.

Layer norms come before each block, units are ReLU, learned positions are offset by 2, and the head
is the embedding of tokens.
"""

import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from collapse_jax.errors import InputError, real, whole

POSITION_OFFSET = 2
# Ten times those of the largest OPT: a damaged file must not ask for a billion layers.
MOST_LAYERS = 1000
NEGATIVE = jnp.finfo(jnp.float32).min
# What training draws at random; the first is what the word dropout means alone.
_DROPOUTS = ("dropout", "attention_dropout", "layerdrop")
_SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "ffn_dim",
    "max_position_embeddings",
)


@dataclasses.dataclass(frozen=True)
class OPTConfig:
    """Sizes of an OPT, under the names of Hugging Face's `config.json`.

    The defaults are facebook/opt-125m. Three numbers are probabilities that act in training alone:
    `dropout` of what attention and feed-forward add, `attention_dropout` of the weights of
    attention, and `layerdrop` of whole layers (Fan et al. 2020), drawn once a call for all
    sequences as transformers does. There is no dropout of activations, as in transformers.
    """

    vocab_size: int = 50272
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    ffn_dim: int = 3072
    max_position_embeddings: int = 2048
    dropout: float = 0.1
    attention_dropout: float = 0.0
    init_std: float = 0.02
    bos_token_id: int = 2
    eos_token_id: int = 2
    pad_token_id: int = 1
    layerdrop: float = 0.0

    def __post_init__(self):
        for field in _SIZES:
            self._check(field, whole, 1, must_be="a positive integer")
        self._check("num_hidden_layers", whole, 1, MOST_LAYERS)
        if self.hidden_size % self.num_attention_heads:
            raise InputError(
                f"OPT configuration: hidden_size {self.hidden_size} is not a multiple of "
                f"num_attention_heads {self.num_attention_heads}"
            )
        last = self.vocab_size - 1
        for field in ("bos_token_id", "eos_token_id", "pad_token_id"):
            self._check(field, whole, 0, last, must_be=f"a token from 0 to {last}")
        self._check("init_std", real, at_least=0)
        for field in _DROPOUTS:
            self._check(field, real, at_least=0, below=1)

    def __repr__(self):
        # Unfinished work on disk is known by this text: a field that came later is told only where
        # it says something.
        told = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in dataclasses.fields(self)
            if field.name != "layerdrop" or self.layerdrop
        ]
        return f"{type(self).__qualname__}({', '.join(told)})"

    def _check(self, field, check, *limits, **named_limits):
        checked = check(
            f"OPT configuration: {field}", getattr(self, field), *limits, **named_limits
        )
        object.__setattr__(self, field, checked)

    @property
    def has_dropout(self) -> bool:
        """Whether training draws random numbers."""
        return any(getattr(self, field) for field in _DROPOUTS)

    def with_dropout(self, rate: float | None) -> "OPTConfig":
        """The configuration with another `dropout`; 0 switches off all three, None changes nothing.

        Raises:
            InputError: If the rate is not in [0, 1).
        """
        if rate is None:
            return self
        return dataclasses.replace(
            self, **dict.fromkeys(_DROPOUTS[: None if rate == 0 else 1], rate)
        )

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads


# The switches of config.json, as this file implements them; of the released sizes only OPT-350m
# differs.
_REQUIRED_SWITCHES = {
    "model_type": "opt",
    "activation_function": "relu",
    "do_layer_norm_before": True,
    "enable_bias": True,
    "layer_norm_elementwise_affine": True,
    "tie_word_embeddings": True,
    "_remove_final_layer_norm": False,
}


def config_from_json(text: str) -> OPTConfig:
    """`OPTConfig` from the text of a Hugging Face `config.json`.

    Raises:
        InputError: If it is not a JSON object, or describes a variant that is not implemented.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"config.json is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise InputError("config.json must hold one JSON object")
    for name, required in _REQUIRED_SWITCHES.items():
        if values.get(name, required) != required:
            raise InputError(
                f"config.json: {name} is {values[name]!r}; this OPT is built for {required!r} only"
            )
    if values.get("quantization_config"):
        raise InputError(
            "config.json: it has a quantization_config; this OPT is built for floating weights only"
        )
    hidden_size = values.get("hidden_size", OPTConfig.hidden_size)
    if values.get("word_embed_proj_dim", hidden_size) != hidden_size:
        raise InputError(
            f"config.json: word_embed_proj_dim must equal hidden_size {hidden_size} "
            "(OPT-350m is not supported)"
        )
    fields = {field.name for field in dataclasses.fields(OPTConfig)}
    given = {name: value for name, value in values.items() if name in fields and value is not None}
    if "eos_token_id" in values and "eos_token_id" not in given:
        raise InputError("config.json: eos_token_id is null; this OPT needs an end of text")
    if "pad_token_id" in values:  # without one, transformers pads with the end of text
        given.setdefault("pad_token_id", given.get("eos_token_id", OPTConfig.eos_token_id))
    return OPTConfig(**given)


def config_to_json(config: OPTConfig, dtype: str = "float32") -> str:
    """The text of a `config.json` that transformers opens as `OPTForCausalLM`.

    Args:
        dtype: The floating type of the weights beside it.
    """
    values = dataclasses.asdict(config) | _REQUIRED_SWITCHES
    values |= {
        "architectures": ["OPTForCausalLM"],
        "word_embed_proj_dim": config.hidden_size,
        "dtype": dtype,
    }
    return json.dumps(values, indent=2, sort_keys=True) + "\n"


class KeyValue(NamedTuple):
    """Keys and values of one layer, split into heads."""

    key: Float[Array, "batch heads positions head_dim"]
    value: Float[Array, "batch heads positions head_dim"]


# (queries [batch, heads, queries, head_dim], their own keys and values) -> mixed values of the same
# shape. The caller chooses it, and so owns the layout of the cache.
Attend = Callable[[jax.Array, KeyValue], jax.Array]


class SelfAttention(nn.Module):
    """Multi-head attention; the caller passes the function that attends."""

    config: OPTConfig
    dtype: str

    def setup(self):
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            setattr(self, name, _dense(self.config, self.config.hidden_size, self.dtype))

    def _heads(self, x):
        """[batch, positions, hidden_size] -> [batch, heads, positions, head_dim]."""
        batch, positions, _ = x.shape
        return x.reshape(
            batch, positions, self.config.num_attention_heads, self.config.head_dim
        ).swapaxes(1, 2)

    def __call__(
        self, x: Float[Array, "batch positions hidden_size"], attend: Attend
    ) -> tuple[Float[Array, "batch positions hidden_size"], KeyValue]:
        """The mixed values, and the keys and values of x."""
        query = self._heads(self.q_proj(x) * self.config.head_dim**-0.5)
        own = KeyValue(self._heads(self.k_proj(x)), self._heads(self.v_proj(x)))
        mixed = attend(query, own)
        return self.out_proj(mixed.swapaxes(1, 2).reshape(x.shape)), own


class Layer(nn.Module):
    """One pre-LN decoder layer: x + attention(norm(x)), then x + feed_forward(norm(x))."""

    config: OPTConfig
    dtype: str

    def setup(self):
        self.self_attn = SelfAttention(self.config, self.dtype)
        self.self_attn_layer_norm = nn.LayerNorm(epsilon=1e-5, dtype=self.dtype)
        self.fc1 = _dense(self.config, self.config.ffn_dim, self.dtype)
        self.fc2 = _dense(self.config, self.config.hidden_size, self.dtype)
        self.final_layer_norm = nn.LayerNorm(epsilon=1e-5, dtype=self.dtype)
        self.drop = nn.Dropout(self.config.dropout)

    def __call__(
        self, x: Float[Array, "batch positions hidden_size"], attend: Attend, deterministic: bool
    ) -> tuple[Float[Array, "batch positions hidden_size"], KeyValue]:
        """The new x, and the layer's keys and values."""
        mixed, own = self.self_attn(self.self_attn_layer_norm(x), attend)
        x = x + self.drop(mixed, deterministic=deterministic)
        hidden = self.fc2(nn.relu(self.fc1(self.final_layer_norm(x))))
        return x + self.drop(hidden, deterministic=deterministic), own


class OPT(nn.Module):
    """The causal language model; `model.apply({"params": params}, tokens)` gives logits.

    Parameters are a plain dict: `embed_tokens`, `embed_positions`, `layers_0` ... ,
    `final_layer_norm`.

    dtype: "float32", or "bfloat16" for the factors of all products. Parameters, the residual
        stream, norms, softmax, logits and losses stay float32, and so do the sums of all products.
    """

    config: OPTConfig
    dtype: str = "float32"

    def setup(self):
        config = self.config
        init = nn.initializers.normal(config.init_std)
        positions = config.max_position_embeddings + POSITION_OFFSET
        self.embed_tokens = nn.Embed(
            config.vocab_size, config.hidden_size, dtype=self.dtype, embedding_init=init
        )
        self.embed_positions = nn.Embed(
            positions, config.hidden_size, dtype=self.dtype, embedding_init=init
        )
        self.layers = [Layer(config, self.dtype) for _ in range(config.num_hidden_layers)]
        self.final_layer_norm = nn.LayerNorm(epsilon=1e-5, dtype=self.dtype)

    @property
    def precision(self) -> jax.lax.Precision | None:
        """Of all products: float32 means float32, on a GPU too."""
        return _precision(self.dtype)

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
    ) -> tuple[Float[Array, "batch positions hidden_size"], list[KeyValue]]:
        """Final hidden states, and each layer's keys and values."""
        _check_tokens(self.config, tokens, attention_mask)
        length = tokens.shape[1]
        allowed = jnp.tril(jnp.ones((length, length), bool))[None, None]
        if attention_mask is None:
            positions = jnp.arange(length)[None]
        else:
            is_text = jnp.asarray(attention_mask).astype(bool)
            allowed = allowed & is_text[:, None, None, :]
            positions = jnp.cumsum(is_text, axis=1) * is_text - 1
        attention_rate = self.config.attention_dropout
        product = functools.partial(
            jnp.einsum, precision=self.precision, preferred_element_type=jnp.float32
        )

        def attend(query, own):
            scores = jnp.where(allowed, product("bhqd,bhkd->bhqk", query, own.key), NEGATIVE)
            weights = jax.nn.softmax(scores).astype(query.dtype)
            if attention_rate and not deterministic:
                keep = jax.random.bernoulli(
                    self.make_rng("dropout"), 1 - attention_rate, weights.shape
                )
                weights = jnp.where(keep, weights / (1 - attention_rate), 0)
            return product("bhqk,bhkd->bhqd", weights, own.value).astype(query.dtype)

        return self._run(
            self._embedded(tokens), positions, [attend] * len(self.layers), deterministic
        )

    def extend(
        self,
        tokens: Int[Array, "batch queries"],
        position: Any,
        attend_by_layer: Sequence[Attend],
    ) -> tuple[Float[Array, "batch queries hidden_size"], list[KeyValue]]:
        """Hidden states of tokens that all stand at one position: a step of decoding.

        Args:
            tokens: int32 ids.
            position: int [], their common position; or [batch], that of each sequence.
            attend_by_layer: How each layer attends; its cache belongs to the decoder.
        """
        position = jnp.asarray(position)
        position = position[:, None] if position.ndim else jnp.full((1, 1), position)
        return self._run(self._embedded(tokens), position, attend_by_layer, True)

    def head(self, hidden: Float[Array, "... hidden_size"]) -> Float[Array, "... vocabulary"]:
        """Logits (float32) of hidden states, by the tied embedding."""
        embedding = self.embed_tokens.embedding.astype(hidden.dtype)
        return jnp.einsum(
            "...w,vw->...v",
            hidden,
            embedding,
            precision=self.precision,
            preferred_element_type=jnp.float32,
        )

    def _embedded(self, tokens):
        """Embeddings of ids; nan outside the vocabulary, where an id below 0 would count back."""
        tokens = jnp.asarray(tokens)
        if jnp.issubdtype(tokens.dtype, jnp.integer):
            tokens = tokens.astype(jnp.promote_types(tokens.dtype, jnp.int32))
            tokens = jnp.where(tokens < 0, self.config.vocab_size, tokens)
        return self.embed_tokens(tokens)

    def _run(self, x, positions, attend_by_layer, deterministic):
        x = (x + self.embed_positions(positions + POSITION_OFFSET)).astype(jnp.float32)
        caches = []
        for layer, attend in zip(self.layers, attend_by_layer, strict=True):
            after, own = layer(x, attend, deterministic)
            if self.config.layerdrop and not deterministic:
                kept = jax.random.bernoulli(self.make_rng("dropout"), 1 - self.config.layerdrop)
                after = jnp.where(kept, after, x)
            x = after
            caches.append(own)
        return self.final_layer_norm(x), caches


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
            f"tokens hold ids {ids.min()} to {ids.max()}; the model's vocabulary is 0 to "
            f"{config.vocab_size - 1}"
        )
    if mask is not None and not np.isin(mask, (0, 1)).all():
        raise InputError(
            "attention_mask must hold 1 where there is text and 0 where there is padding"
        )
    if mask is not None and mask.size and mask.sum(1).max() > most:
        raise InputError(f"{mask.sum(1).max()} tokens exceed max_position_embeddings {most}")


def _known(array):
    """An array on the host, or None inside `jax.jit` and where another process holds a part."""
    if array is None or isinstance(array, Tracer):
        return None
    return np.asarray(array) if getattr(array, "is_fully_addressable", True) else None


def _dense(config, features, dtype):
    return nn.Dense(
        features,
        dtype=dtype,
        precision=_precision(dtype),
        kernel_init=nn.initializers.normal(config.init_std),
    )


def _precision(dtype):
    return jax.lax.Precision.HIGHEST if dtype == "float32" else None


def init_params(config: OPTConfig, key: jax.Array) -> dict:
    """Random parameters of `OPT(config)`, a plain dict of float32 arrays."""
    return jax.jit(OPT(config).init)(key, jnp.zeros((1, 2), jnp.int32))["params"]


MINI = OPTConfig(
    vocab_size=8192,
    hidden_size=256,
    num_hidden_layers=4,
    num_attention_heads=4,
    ffn_dim=1024,
    max_position_embeddings=256,
    dropout=0.0,
)
TINY = OPTConfig(
    vocab_size=2048,
    hidden_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    ffn_dim=512,
    max_position_embeddings=128,
    dropout=0.0,
)

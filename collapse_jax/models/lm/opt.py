"""OPT in Flax linen (Zhang et al. 2022, arXiv 2205.01068): pre-LN decoder, ReLU, learned positions
offset by 2, tied head.
"""

import dataclasses
import functools
import json
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from collapse_jax.errors import InputError

POSITION_OFFSET = 2
# Ten times those of the largest OPT: a damaged file should not keep anyone waiting for a list of a
# billion layers.
_MOST_LAYERS = 1000
NEGATIVE = jnp.finfo(jnp.float32).min


@dataclasses.dataclass(frozen=True)
class OPTConfig:
    """Sizes of an OPT, under the names of Hugging Face's `config.json`.

    The defaults are facebook/opt-125m.
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

    def __post_init__(self):
        for field in (
            "vocab_size",
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "ffn_dim",
            "max_position_embeddings",
        ):
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(
                    f"OPT configuration: {field} is {value!r}; it must be a positive integer"
                )
        if self.num_hidden_layers > _MOST_LAYERS:
            raise InputError(
                f"OPT configuration: num_hidden_layers is {self.num_hidden_layers}; it "
                f"must be at most {_MOST_LAYERS}"
            )
        if self.hidden_size % self.num_attention_heads:
            raise InputError(
                f"OPT configuration: hidden_size {self.hidden_size} is no multiple of "
                f"num_attention_heads {self.num_attention_heads}"
            )
        for field in ("bos_token_id", "eos_token_id", "pad_token_id"):
            value = getattr(self, field)
            if (
                isinstance(value, bool)
                or not isinstance(value, int)
                or not 0 <= value < self.vocab_size
            ):
                raise InputError(
                    f"OPT configuration: {field} is {value!r}; it must be a token from 0 "
                    f"to {self.vocab_size - 1}"
                )
        if (
            isinstance(self.init_std, bool)
            or not isinstance(self.init_std, int | float)
            or not 0 <= self.init_std < float("inf")
        ):
            raise InputError(
                f"OPT configuration: init_std is {self.init_std!r}; it must be a finite "
                "number of at least 0"
            )
        for field in ("dropout", "attention_dropout"):
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
                raise InputError(f"OPT configuration: {field} is {value!r}; it must be in [0, 1)")

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads


# What this file implements of the switches in config.json; OPT-350m is the one released size that
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

    Raises `InputError` for a variant that is not built here.
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
    hidden_size = values.get("hidden_size", OPTConfig.hidden_size)
    if values.get("word_embed_proj_dim", hidden_size) != hidden_size:
        raise InputError(
            f"config.json: word_embed_proj_dim must equal hidden_size {hidden_size} "
            "(OPT-350m is not supported)"
        )
    fields = {field.name for field in dataclasses.fields(OPTConfig)}
    return OPTConfig(
        **{name: value for name, value in values.items() if name in fields and value is not None}
    )


def config_to_json(config: OPTConfig, dtype: str = "float32") -> str:
    """The text of a `config.json` that transformers opens as `OPTForCausalLM`; dtype: the floating
    type of the weights beside it.
    """
    values = dataclasses.asdict(config) | _REQUIRED_SWITCHES
    values |= {
        "architectures": ["OPTForCausalLM"],
        "word_embed_proj_dim": config.hidden_size,
        "layerdrop": 0.0,
        "dtype": dtype,
    }
    return json.dumps(values, indent=2, sort_keys=True) + "\n"


class KeyValue(NamedTuple):
    """Keys and values of one layer, already split into heads.

    key, value: [batch, heads, positions, head_dim].
    """

    key: jax.Array
    value: jax.Array


class SelfAttention(nn.Module):
    """Multi-head attention whose keys and values may come from anywhere: the caller passes a
    function that attends.
    """

    config: OPTConfig
    dtype: str

    def setup(self):
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            setattr(self, name, _dense(self.config, self.config.hidden_size, self.dtype))

    def _heads(self, x):
        batch, positions, _ = x.shape
        return x.reshape(
            batch, positions, self.config.num_attention_heads, self.config.head_dim
        ).swapaxes(1, 2)

    def __call__(self, x, attend):
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

    def __call__(self, x, attend, deterministic):
        mixed, own = self.self_attn(self.self_attn_layer_norm(x), attend)
        x = x + self.drop(mixed, deterministic=deterministic)
        hidden = self.fc2(nn.relu(self.fc1(self.final_layer_norm(x))))
        return x + self.drop(hidden, deterministic=deterministic), own


class OPT(nn.Module):
    """The causal language model. `model.apply({"params": params}, tokens)` gives logits [batch,
    positions, vocabulary].

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
    def precision(self):
        """Of products: float32 means float32, on a GPU too."""
        return _precision(self.dtype)

    def __call__(self, tokens, attention_mask=None, deterministic=True):
        """Logits [batch, positions, vocabulary] of int32 tokens [batch, positions].

        attention_mask: [batch, positions], 0 where padded (on the left); positions count from the
        first token that is not.
        deterministic: False applies dropout and needs a "dropout" rng.
        """
        return self.head(self.hidden(tokens, attention_mask, deterministic)[0])

    def hidden(self, tokens, attention_mask=None, deterministic=True):
        """Final hidden states [batch, positions, hidden_size], and each layer's `KeyValue`."""
        length = tokens.shape[1]
        allowed = jnp.tril(jnp.ones((length, length), bool))[None, None]
        if attention_mask is None:
            positions = jnp.arange(length)[None]
        else:
            allowed = allowed & attention_mask[:, None, None, :].astype(bool)
            positions = jnp.cumsum(attention_mask, axis=1) * attention_mask - 1
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
            self.embed_tokens(tokens), positions, [attend] * len(self.layers), deterministic
        )

    def extend(self, tokens, position, attend_by_layer):
        """One step of decoding: hidden states [batch, queries, hidden_size] of tokens that all
        stand at the same `position`.

        attend_by_layer: one function (query, own KeyValue) -> mixed values per layer; the decoder
        owns the cache layout.
        """
        return self._run(
            self.embed_tokens(tokens), jnp.full((1, 1), position), attend_by_layer, True
        )

    def head(self, hidden):
        """Logits (float32) of hidden states, by the tied embedding."""
        embedding = self.embed_tokens.embedding.astype(hidden.dtype)
        return jnp.einsum(
            "...w,vw->...v",
            hidden,
            embedding,
            precision=self.precision,
            preferred_element_type=jnp.float32,
        )

    def _run(self, x, positions, attend_by_layer, deterministic):
        x = (x + self.embed_positions(positions + POSITION_OFFSET)).astype(jnp.float32)
        caches = []
        for layer, attend in zip(self.layers, attend_by_layer, strict=True):
            x, own = layer(x, attend, deterministic)
            caches.append(own)
        return self.final_layer_norm(x), caches


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
    """Randomly initialised parameters (a plain dict of float32 arrays) for `OPT(config)`."""
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

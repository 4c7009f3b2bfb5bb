"""OPT (Zhang et al. 2022, arXiv 2205.01068): its sizes by Hugging Face's names, and its
`config.json`.

Layer norms come before each block (after it in OPT-350m), units are ReLU, learned positions are
offset by 2, and the head is the embedding of tokens.
"""

import dataclasses
import functools
import json
from typing import ClassVar

import jax

from collapse_jax.errors import InputError, one_of, real, whole
from collapse_jax.models.lm import transformer
from collapse_jax.models.lm.config_file import config_values
from collapse_jax.models.lm.switches import MOST_LAYERS, Dropouts, TransformerConfig
from collapse_jax.models.lm.transformer import NEGATIVE, Attend, KeyValue, Transformer

__all__ = ["NEGATIVE", "OPT", "Attend", "KeyValue", "OPTConfig", "init_params"]

POSITION_OFFSET = 2
_SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "ffn_dim",
    "max_position_embeddings",
)


@dataclasses.dataclass(frozen=True)
class OPTConfig(Dropouts):
    """Sizes of an OPT, under the names of Hugging Face's `config.json`.

    The defaults are facebook/opt-125m. Three numbers are probabilities that act in training alone:
    `dropout` of what attention and feed-forward add, `attention_dropout` of the weights of
    attention, and `layerdrop` of whole layers (Fan et al. 2020), drawn once a call for all
    sequences as transformers does. There is no dropout of activations, as in transformers.
    """

    dropouts: ClassVar = ("dropout", "attention_dropout", "layerdrop")

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
    word_embed_proj_dim: int | None = None
    do_layer_norm_before: bool = True

    def __repr__(self):
        # Fields that came later are left out where they are off: the scratch of runs that older
        # versions began is found by this text.
        later = {"layerdrop": 0.0, "word_embed_proj_dim": None, "do_layer_norm_before": True}
        shown = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        shown = {name: value for name, value in shown.items() if later.get(name, ()) != value}
        told = ", ".join(f"{name}={value!r}" for name, value in shown.items())
        return f"{type(self).__qualname__}({told})"

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
        if self.word_embed_proj_dim is not None:
            self._check("word_embed_proj_dim", whole, 1, must_be="a positive integer or None")
        must_be = "True or False"
        self._check("do_layer_norm_before", one_of, (True, False), must_be=must_be)
        for field in self.dropouts:
            self._check(field, real, at_least=0, below=1)

    def _check(self, field, check, *limits, **named_limits):
        checked = check(
            f"OPT configuration: {field}", getattr(self, field), *limits, **named_limits
        )
        object.__setattr__(self, field, checked)

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def switches(self) -> TransformerConfig:
        """The same model in the words of all families."""
        return _switches(self)


@functools.lru_cache
def _switches(config):
    shared = {
        name: getattr(config, name)
        for name in (
            *_SIZES,
            "num_hidden_layers",
            "dropout",
            "attention_dropout",
            "layerdrop",
            "init_std",
            "bos_token_id",
            "eos_token_id",
            "pad_token_id",
        )
    }
    return TransformerConfig(
        family="opt",
        **shared,
        num_key_value_heads=config.num_attention_heads,
        head_dim=config.head_dim,
        embed_size=config.word_embed_proj_dim or config.hidden_size,
        norm_place="before" if config.do_layer_norm_before else "after",
        final_norm=config.do_layer_norm_before,
        position_offset=POSITION_OFFSET,
    )


# The switches of config.json that must have these values.
_REQUIRED_SWITCHES = {
    "model_type": "opt",
    "activation_function": "relu",
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
    values = config_values(text)
    for name, required in _REQUIRED_SWITCHES.items():
        if values.get(name, required) != required:
            raise InputError(
                f"config.json: {name} is {values[name]!r}; this OPT is built for {required!r} only"
            )
    if values.get("word_embed_proj_dim") == values.get("hidden_size", OPTConfig.hidden_size):
        values = values | {"word_embed_proj_dim": None}
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
        "word_embed_proj_dim": config.word_embed_proj_dim or config.hidden_size,
        "dtype": dtype,
    }
    return json.dumps(values, indent=2, sort_keys=True) + "\n"


class OPT(Transformer):
    """The causal language model; see `Transformer`."""

    config: OPTConfig


def init_params(config: OPTConfig, key: jax.Array) -> dict:
    """Random parameters of `OPT(config)`, a plain dict of float32 arrays."""
    return transformer.init_params(OPT(config), key)


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

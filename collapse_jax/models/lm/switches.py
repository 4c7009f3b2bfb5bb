"""Sizes and settings of decoder-only language models, independent of a family."""

import dataclasses
import functools
from typing import Any, ClassVar, NamedTuple, Self

from collapse_jax.errors import InputError, one_of, real, whole

# Ten times those of the largest OPT: a damaged file must not ask for a billion layers.
MOST_LAYERS = 1000
_SIZES = (
    "vocab_size",
    "hidden_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "ffn_dim",
    "max_position_embeddings",
    "embed_size",
)
_CHOICES = {
    "norm": ("layer", "rms"),
    "norm_place": ("before", "after", "around"),
    "positions": ("learned", "rotary"),
    "activation": ("relu", "gelu", "gelu_tanh", "silu"),
}


class Rotary(NamedTuple):
    """Rotary positions (Su et al. 2021): a pair of a head's coordinates turns with the position.

    theta: base of the wavelengths.
    share: share of each head's coordinates that are rotated.
    factor: wavelengths are stretched by it; 1 is off.
    low, high: `low_freq_factor` and `high_freq_factor` of Llama 3; None stretches all wavelengths
        equally ("linear").
    original: positions of the pretraining, for Llama 3.
    """

    theta: float = 10_000.0
    share: float = 1.0
    factor: float = 1.0
    low: float | None = None
    high: float | None = None
    original: int | None = None


class Dropouts:
    """The dropout rates of a frozen configuration."""

    # Names of the rates; the first is what the word dropout means alone.
    dropouts: ClassVar[tuple[str, ...]] = ()

    @property
    def has_dropout(self) -> bool:
        """Whether training draws random numbers."""
        return any(getattr(self, field) for field in self.dropouts)

    def with_dropout(self, rate: float | None) -> Self:
        """The configuration with another `dropout`; 0 switches off all kinds, None changes nothing.

        Raises:
            InputError: If the rate is not in [0, 1).
        """
        if rate is None:
            return self
        names = self.dropouts if rate == 0 else self.dropouts[:1]
        made: Any = self
        return dataclasses.replace(made, **dict.fromkeys(names, rate))


_UNSCALED = Rotary()


@dataclasses.dataclass(frozen=True)
class TransformerConfig(Dropouts):
    """Sizes and switches of one decoder-only language model.

    family: `model_type` of the `config.json` that it is saved with.
    num_key_value_heads: Each serves num_attention_heads / num_key_value_heads query heads.
    embed_size: Width of the embedding; projections lead to `hidden_size` and back where it differs.
    norm: "layer" or "rms"; norm_offset is added to the scales of the latter.
    norm_place: Norms "before" attention and MLP, "after" their residual sums, or "around" each.
    final_norm: Whether the last layer is followed by a norm.
    positions: "learned", counted from position_offset on, or "rotary".
    rotary, local_rotary: Of layers with full attention, and of layers with a window.
    windows: One entry per layer: the number of tokens that it attends to, including the current
        one; None is all. () is None everywhere.
    qkv_bias, out_bias, ffn_bias: Which products have a bias.
    query_key_norm: Whether queries and keys of each head pass through a norm.
    query_scale: Factor of the queries; None is 1 / sqrt(head_dim).
    attention_cap, logit_cap: x becomes cap * tanh(x / cap), before the softmax; None is off.
    activation: Of the MLP; gated multiplies it by a second product of the input.
    parallel: Attention and MLP read the same x, and both are added to it.
    tied: Whether the head is the embedding.
    embed_scale: Factor of the embedded tokens.
    embed_dropout, dropout, attention_dropout, layerdrop: Rates after the embedding, after attention
        and MLP, of the attention's weights, and of whole layers.
    eos_token_id: The first of `ends`.
    more_ends: Further ids that end a text.
    """

    dropouts: ClassVar = ("dropout", "attention_dropout", "embed_dropout", "layerdrop")

    family: str
    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    ffn_dim: int
    max_position_embeddings: int
    embed_size: int
    norm: str = "layer"
    norm_epsilon: float = 1e-5
    norm_offset: float = 0.0
    norm_place: str = "before"
    final_norm: bool = True
    positions: str = "learned"
    position_offset: int = 0
    rotary: Rotary = _UNSCALED
    local_rotary: Rotary = _UNSCALED
    windows: tuple[int | None, ...] = ()
    qkv_bias: bool = True
    out_bias: bool = True
    ffn_bias: bool = True
    query_key_norm: bool = False
    query_scale: float | None = None
    attention_cap: float | None = None
    logit_cap: float | None = None
    activation: str = "relu"
    gated: bool = False
    parallel: bool = False
    tied: bool = True
    embed_scale: float = 1.0
    embed_dropout: float = 0.0
    dropout: float = 0.0
    attention_dropout: float = 0.0
    layerdrop: float = 0.0
    init_std: float = 0.02
    bos_token_id: int = 0
    eos_token_id: int = 0
    pad_token_id: int = 0
    more_ends: tuple[int, ...] = ()

    def __post_init__(self):
        check = functools.partial(_check, self)
        for field in _SIZES:
            check(field, whole, 1, must_be="a positive integer")
        check("num_hidden_layers", whole, 1, MOST_LAYERS)
        if self.num_attention_heads % self.num_key_value_heads:
            raise InputError(
                f"{self.family} configuration: num_attention_heads {self.num_attention_heads} is "
                f"not a multiple of num_key_value_heads {self.num_key_value_heads}"
            )
        for field, choices in _CHOICES.items():
            one_of(f"{self.family} configuration: {field}", getattr(self, field), choices)
        last = self.vocab_size - 1
        for field in ("bos_token_id", "eos_token_id", "pad_token_id"):
            check(field, whole, 0, last, must_be=f"a token from 0 to {last}")
        for end in self.more_ends:
            name = f"{self.family} configuration: eos_token_id"
            whole(name, end, 0, last, must_be=f"a token from 0 to {last}")
        for field in ("init_std", "norm_epsilon"):
            check(field, real, at_least=0)
        for field in self.dropouts:
            check(field, real, at_least=0, below=1)
        for field in ("attention_cap", "logit_cap", "query_scale"):
            if getattr(self, field) is not None:
                check(field, real, above=0, must_be="above 0, or None")
        _check_windows(self)
        _check_rotary(self)

    @property
    def switches(self) -> "TransformerConfig":
        """Itself; configurations that are specific to a family return the general one here."""
        return self

    @property
    def ends(self) -> tuple[int, ...]:
        """The ids that end a text."""
        return (self.eos_token_id, *self.more_ends)

    @property
    def queries_per_key(self) -> int:
        """Query heads that share one head of keys and values."""
        return self.num_attention_heads // self.num_key_value_heads

    def window(self, layer: int) -> int | None:
        """The number of tokens that a layer attends to, including the current one; None is all."""
        return self.windows[layer] if self.windows else None

    def rotary_of(self, layer: int) -> Rotary:
        """The rotary positions of a layer."""
        return self.rotary if self.window(layer) is None else self.local_rotary


def _check(config, field, check, *limits, **named_limits):
    name = f"{config.family} configuration: {field}"
    checked = check(name, getattr(config, field), *limits, **named_limits)
    object.__setattr__(config, field, checked)


def _check_windows(config):
    if config.windows and len(config.windows) != config.num_hidden_layers:
        raise InputError(
            f"{config.family} configuration: {len(config.windows)} windows are given for "
            f"{config.num_hidden_layers} layers"
        )
    for window in config.windows:
        if window is not None:
            whole(f"{config.family} configuration: sliding window", window, 1)


def _check_rotary(config):
    if config.positions != "rotary":
        return
    for rotary in (config.rotary, config.local_rotary):
        real(f"{config.family} configuration: rotary theta", rotary.theta, above=0)
        real(f"{config.family} configuration: rotary factor", rotary.factor, above=0)
        turning = int(config.head_dim * rotary.share)
        if turning < 2 or turning % 2 or turning > config.head_dim:
            raise InputError(
                f"{config.family} configuration: rotary positions turn {turning} of the "
                f"{config.head_dim} coordinates of a head; it must be an even number from 2 on"
            )

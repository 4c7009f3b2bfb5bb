"""Model and tokenizer of a run of `collapse-jax lm`: their paths, and how they are read."""

import contextlib
import pathlib
from typing import Any

import jax

from collapse_jax.app.commands import inputs
from collapse_jax.app.config import LMConfig
from collapse_jax.errors import InputError
from collapse_jax.models.lm.corpus import TextTokenizer, load_tokenizer
from collapse_jax.models.lm.opt import MINI, OPT, TINY, OPTConfig
from collapse_jax.models.lm.random_weights import init_params
from collapse_jax.models.lm.tokenizer_fit import check_tokenizer
from collapse_jax.models.lm.transformer import Transformer
from collapse_jax.models.lm.weights import load, read_model
from collapse_jax.runs.placement import Placement

EMBEDDED_MODEL = pathlib.Path(__file__).parents[2] / "models" / "pretrained" / "opt-tiny-books"
RANDOM_MODELS = {"random:opt-125m": OPTConfig(), "random:mini": MINI, "random:tiny": TINY}


def load_model(config: LMConfig, placement: Placement) -> tuple[Transformer, dict]:
    """The model with the settings' dropout and precision, and its parameters on their devices.

    Raises:
        InputError: If it cannot be read.
    """
    is_random = config.model.startswith("random:")
    if is_random and config.model not in RANDOM_MODELS:
        raise InputError(
            f"model is {config.model!r}; models with random weights are {', '.join(RANDOM_MODELS)}"
        )
    # Parameters too large for one device go from the memory of the host to their parts.
    on_host = contextlib.nullcontext()
    if placement.shard:
        on_host = jax.default_device(jax.local_devices(backend="cpu")[0])
    with on_host:
        if is_random:
            model, params = OPT(RANDOM_MODELS[config.model]), None
        elif config.start == "random" and pathlib.Path(model_source(config)).is_dir():
            model, params = read_model(model_source(config)), None  # there may be no weights
        else:
            model, params = load(model_source(config))
        if params is None or config.start == "random":
            params = init_params(model, jax.random.key(config.seed))
        if placement.shard:
            params = placement.place_parameters(params, config.batch_size)
    changed = model.config.with_dropout(config.dropout)
    return type(model)(changed, config.precision), params


def model_of_run(config: LMConfig) -> tuple[Transformer, dict, TextTokenizer, dict[str, Any]]:
    """Returns model, pretrained parameters, tokenizer, and their entries of `runs.made_of`.

    Args:
        config: Resolved settings; those of the text are not used.

    Raises:
        InputError: As raised by `prepare`.
    """
    model, pretrained = load_model(config, Placement())
    tokenizer = load_tokenizer(tokenizer_source(config), lambda line: None)
    check_tokenizer(tokenizer, model.config, own_tokenizer(config))
    entries = inputs.tokenizer_files(tokenizer_source(config))
    entries |= inputs.network(model_source(config), model.config, pretrained)
    return model, pretrained, tokenizer, entries


def model_source(config: LMConfig) -> str:
    """Returns the path or name of the weights."""
    return str(EMBEDDED_MODEL) if config.model == "embedded" else config.model


def tokenizer_source(config: LMConfig) -> str:
    """Returns the path or name of the tokenizer."""
    return config.tokenizer or _tokenizer_of(config.model)


def _tokenizer_of(model: str) -> str:
    """The path or name of a model's own tokenizer."""
    own = {
        "random:opt-125m": "facebook/opt-125m",
        "random:tiny": "embedded",
        "embedded": str(EMBEDDED_MODEL),
    }
    if model.startswith("random:") and model not in own:
        raise InputError(f"model {model!r} has no tokenizer; give one by --tokenizer")
    return own.get(model, model)


def own_tokenizer(config: LMConfig) -> TextTokenizer | None:
    """Returns the model's own tokenizer if another one was asked for; None if it has none."""
    if config.tokenizer is None or config.model.startswith("random:"):
        return None
    try:
        return load_tokenizer(_tokenizer_of(config.model), lambda line: None)
    except InputError:
        return None

"""The families of language models: their `config.json` and the names of their tensors.

No other module depends on a family.
"""

import difflib
import json
from collections.abc import Callable
from typing import Any, NamedTuple

from collapse_jax.errors import InputError
from collapse_jax.models.lm.config_file import config_values
from collapse_jax.models.lm.families import gemma, gpt2, gpt_neox, llama, opt
from collapse_jax.models.lm.families.reading import Values
from collapse_jax.models.lm.families.tensors import Tensor
from collapse_jax.models.lm.opt import OPT, config_from_json, config_to_json
from collapse_jax.models.lm.switches import TransformerConfig
from collapse_jax.models.lm.transformer import Transformer


class LMFamily(NamedTuple):
    """What distinguishes a family's files.

    architecture: the class of transformers that opens them.
    model: the text of `config.json` -> the model without its parameters.
    write: the configuration of a model -> the values of `config.json`.
    table: every tensor of its checkpoints.
    constants: a pattern of stored names that hold no parameters.
    """

    architecture: str
    model: Callable[[str], Transformer]
    write: Callable[[Any], dict[str, Any]]
    table: Callable[[TransformerConfig], list[Tensor]]
    constants: str = ""


def _reads(read):
    return lambda text: Transformer(read(Values(json.loads(text))))


_LLAMA = {
    "write": llama.write,
    "table": llama.table,
    "constants": r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq",
}
_GEMMA = {"write": gemma.write, "table": gemma.table}
# By the `model_type` of config.json.
FAMILIES = {
    "opt": LMFamily(
        "OPTForCausalLM",
        lambda text: OPT(config_from_json(text)),
        lambda config: json.loads(config_to_json(config)),
        opt.table,
        opt.CONSTANTS,
    ),
    "gpt2": LMFamily("GPT2LMHeadModel", _reads(gpt2.read), gpt2.write, gpt2.table, gpt2.CONSTANTS),
    "gpt_neox": LMFamily(
        "GPTNeoXForCausalLM",
        _reads(gpt_neox.read),
        gpt_neox.write,
        gpt_neox.table,
        gpt_neox.CONSTANTS,
    ),
    "llama": LMFamily("LlamaForCausalLM", _reads(llama.read_llama), **_LLAMA),
    "mistral": LMFamily("MistralForCausalLM", _reads(llama.read_mistral), **_LLAMA),
    "qwen2": LMFamily("Qwen2ForCausalLM", _reads(llama.read_qwen2), **_LLAMA),
    "qwen3": LMFamily("Qwen3ForCausalLM", _reads(llama.read_qwen3), **_LLAMA),
    "gemma2": LMFamily("Gemma2ForCausalLM", _reads(gemma.read_gemma2), **_GEMMA),
    "gemma3_text": LMFamily("Gemma3ForCausalLM", _reads(gemma.read_gemma3), **_GEMMA),
}
# Of kinds that are not built, the one that is nearest.
_NEAREST = {
    "gpt_neo": "gpt2",
    "gptj": "gpt_neox",
    "gpt_bigcode": "gpt2",
    "phi": "llama",
    "phi3": "llama",
    "mixtral": "mistral",
    "qwen2_moe": "qwen2",
    "qwen3_moe": "qwen3",
    "gemma": "gemma2",
    "gemma3": "gemma3_text",
    "smollm3": "llama",
    "olmo": "llama",
    "olmo2": "llama",
    "bloom": "gpt_neox",
    "falcon": "gpt_neox",
}


def model_from_json(text: str) -> Transformer:
    """The model of a Hugging Face `config.json`, without its parameters.

    Raises:
        InputError: If it is not a JSON object, or its family or one of its settings is not
            supported.
    """
    values = config_values(text)
    kind = values.get("model_type", "opt")
    if not isinstance(kind, str) or kind not in FAMILIES:
        nearest = _nearest(kind) if isinstance(kind, str) else None
        hint = f"; the most similar one is {nearest!r}" if nearest else ""
        raise InputError(
            f"config.json: model_type is {kind!r:.100}; supported are {', '.join(FAMILIES)}{hint}"
        )
    return FAMILIES[kind].model(text)


def _nearest(kind):
    """The kind that is built and resembles one that is not; None if none does."""
    named = difflib.get_close_matches(kind, [*FAMILIES, *_NEAREST], n=1, cutoff=0.7)
    return _NEAREST.get(kind) or next((_NEAREST.get(name, name) for name in named), None)


def model_to_json(model: Transformer, dtype: str = "float32") -> str:
    """The text of a `config.json` that transformers opens as the same class."""
    kind = model.switches.family
    family = FAMILIES[kind]
    values = family.write(model.config) | {
        "model_type": kind,
        "architectures": [family.architecture],
        "dtype": dtype,
    }
    return json.dumps(values, indent=2, sort_keys=True) + "\n"

"""The language models: weights, text, fine-tuning, decoding, scoring.

Knows nothing of generations.
"""

from collapse_jax.models.lm.bits_per_byte import bits_per_byte, byte_count
from collapse_jax.models.lm.corpus import (
    Corpus,
    TextTokenizer,
    blocks_of,
    load_corpus,
    load_tokenizer,
)
from collapse_jax.models.lm.decode import BeamSearch, Greedy, Sampling, generate
from collapse_jax.models.lm.finetune import FineTune, FineTuned, fine_tune
from collapse_jax.models.lm.hidden_states import mean_hidden
from collapse_jax.models.lm.log_probs import strided_log_probs, strided_perplexity, token_log_probs
from collapse_jax.models.lm.opt import OPT, OPTConfig
from collapse_jax.models.lm.random_weights import init_params
from collapse_jax.models.lm.score import mean_entropy, mean_loss, perplexity
from collapse_jax.models.lm.switches import TransformerConfig
from collapse_jax.models.lm.text_prompts import decode_continuations, encode_prompts
from collapse_jax.models.lm.transformer import Transformer
from collapse_jax.models.lm.weights import load, load_opt, save, save_opt
from collapse_jax.models.prompting import Prompting
from collapse_jax.runs.session import Session

__all__ = [
    "OPT",
    "BeamSearch",
    "Corpus",
    "FineTune",
    "FineTuned",
    "Greedy",
    "OPTConfig",
    "Prompting",
    "Sampling",
    "Session",
    "TextTokenizer",
    "Transformer",
    "TransformerConfig",
    "bits_per_byte",
    "blocks_of",
    "byte_count",
    "decode_continuations",
    "encode_prompts",
    "fine_tune",
    "generate",
    "init_params",
    "load",
    "load_corpus",
    "load_opt",
    "load_tokenizer",
    "mean_entropy",
    "mean_hidden",
    "mean_loss",
    "perplexity",
    "save",
    "save_opt",
    "strided_log_probs",
    "strided_perplexity",
    "token_log_probs",
]

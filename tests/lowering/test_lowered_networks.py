"""The language model and the VAE, lowered for accelerators: all that is compiled on its own."""

import ast
import dataclasses
import importlib
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collapse_jax.models.lm import decode, finetune, hidden_states, log_probs, lora, pretrain, score
from collapse_jax.models.lm.decode import BeamSearch, Greedy, Sampling, generate
from collapse_jax.models.lm.finetune import FineTune, fine_tune
from collapse_jax.models.lm.opt import OPT, OPTConfig, init_params
from collapse_jax.models.lm.pretrain import Pretrain, optimiser_of
from collapse_jax.models.lm.steps import Training
from collapse_jax.models.lm.weights import load
from collapse_jax.models.vae.model import VAE
from collapse_jax.runs import checksums

# The names of these modules in their package are those of functions.
vae_model, train = (
    importlib.import_module(f"collapse_jax.models.vae.{name}") for name in ("model", "train")
)
KEY = jax.random.key(0)
FIXTURES = pathlib.Path(__file__).parents[1] / "models" / "lm" / "fixtures" / "families"
CONFIG = OPTConfig(
    vocab_size=50,
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    ffn_dim=16,
    max_position_embeddings=16,
    dropout=0.1,
)
MODEL = OPT(CONFIG)
PARAMS = jax.tree.map(
    lambda leaf: np.zeros(leaf.shape, leaf.dtype),
    jax.eval_shape(lambda key: init_params(CONFIG, key), KEY),
)
BLOCKS = np.arange(40).reshape(5, 8)
DECODERS = {
    "beams": BeamSearch(2, repetition_penalty=1.2, no_repeat_ngram_size=2),
    "greedy": Greedy(repetition_penalty=1.2, no_repeat_ngram_size=2),
    "sampling": Sampling(top_k=9, top_p=0.9, min_p=0.01, typical_p=0.9),
    "groups": BeamSearch(4, num_beam_groups=2, diversity_penalty=0.5),
    "plain_sampling": Sampling(),
}
# The functions that are compiled on their own, by module. A new one is lowered here as well.
ON_THEIR_OWN = {
    "drivers.tiles": {"_folded"},
    "estimators.gaussian_copula": {"_fitted", "_marginals"},
    "estimators.ngram.transitions": {"_first_not_below"},
    "models.lm.decode": {"_generate_batch"},
    "models.lm.hidden_states": {"_mean_hidden"},
    "models.lm.log_probs": {"_log_probs"},
    "models.lm.lora": {"_sums"},
    "models.lm.score": {"_mean_loss", "_mean_loss_and_entropy"},
    "models.lm.steps": {"run_steps"},
    "models.vae.model": {"_init_params", "decode", "encode"},
    "models.vae.train": {"_elbo", "_generate", "_trained", "loss"},
    "runs.checksums": {"_on_device"},
}


# A search over a few hundred numbers, which the host does; no device is asked for.
NOT_LOWERED = {"drivers.policy_search": {"_descend"}}


def test_every_function_that_is_compiled_is_known(root):
    found = {}
    for path in sorted((root / "collapse_jax").rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            decorators = map(ast.unparse, getattr(node, "decorator_list", ()))
            if any("jax.jit" in decorator for decorator in decorators):
                module = ".".join(path.relative_to(root / "collapse_jax").with_suffix("").parts)
                found.setdefault(module, set()).add(node.name)
    assert found == ON_THEIR_OWN | NOT_LOWERED


@pytest.mark.parametrize(
    "name",
    [
        *("beams", "greedy", "sampling"),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("groups", "plain_sampling")),
    ],
)
def test_decoders(name, lowered, lower_these):
    """Prompts of several lengths, and a text that ends where it is told to."""
    lower_these(decode, "_generate_batch")
    prompts = [[5, 6, 7], [8, 9]]
    generate(MODEL, PARAMS, prompts, DECODERS[name], 4, key=KEY, stop=[[3, 4]])
    assert lowered.names == {"_generate_batch"}


@pytest.mark.parametrize("rank", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_fits_and_scores(rank, lowered, lower_these):
    lower_these(finetune, "run_steps")
    lower_these(score, "_mean_loss", "_mean_loss_and_entropy")
    lower_these(lora, "_sums")
    settings = FineTune(epochs=1, batch_size=2, lora_rank=rank)
    fine_tune(MODEL, PARAMS, BLOCKS, BLOCKS[:2], settings, KEY)
    assert {"run_steps", "_mean_loss"} <= lowered.names
    assert ("_sums" in lowered.names) == (rank > 0)


@pytest.mark.slow
def test_other_scores(lowered, lower_these):
    lower_these(score, "_mean_loss_and_entropy")
    lower_these(hidden_states, "_mean_hidden")
    lower_these(log_probs, "_log_probs")
    score.mean_loss_and_entropy(MODEL, PARAMS, BLOCKS)
    hidden_states.mean_hidden(MODEL, PARAMS, BLOCKS)
    log_probs.token_log_probs(MODEL, PARAMS, BLOCKS)
    assert lowered.names == {"_mean_loss_and_entropy", "_mean_hidden", "_log_probs"}


def test_pretraining(lowered, lower_these):
    lower_these(pretrain, "run_steps")
    settings = Pretrain(3, 2, 1e-3, 1, 0.1, 0.1, 0.9, 0.95, 1.0)
    state = Training(PARAMS, optimiser_of(settings).init(PARAMS))
    pretrain.advance(MODEL, settings, state, BLOCKS[None, :2], 0)
    assert lowered.names == {"run_steps"}


def test_vae(check_traced):
    """Training on images and on those that another network makes, and what it gives."""
    model = VAE(height=8, width=8, capacity=2, latent=2)
    params = jax.eval_shape(lambda key: vae_model.init_params(model, key), KEY)
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), params)
    x, weight = np.zeros((4, 8, 8), np.float32), np.ones(4, np.float32)
    streams = (train.Stream(weight, zeros.decoder),)
    settings = train.VAETraining(epochs=1, batch_size=2)
    check_traced(train._trained.trace(model, settings, KEY, x, weight, streams, "bernoulli"))
    check_traced(train._elbo.trace(model, zeros, KEY, x))  # encode, decode and loss among it


@pytest.mark.slow
def test_the_rest_of_vae_and_checksums(check_traced):
    model = VAE(height=8, width=8, capacity=2, latent=2)
    check_traced(vae_model._init_params.trace(model, KEY))
    params = jax.eval_shape(lambda key: vae_model.init_params(model, key), KEY)
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), params)
    for n in (4, train._DECODED_AT_ONCE + 1):
        check_traced(train._generate.trace(model, zeros.decoder, KEY, n, "means"))
    for dtype in (np.float32, np.int32, np.uint8, jnp.bfloat16, bool):
        check_traced(checksums._on_device.trace(jnp.zeros((3, 2), dtype)))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", sorted(path.name for path in FIXTURES.iterdir()))
def test_every_family(name, precision, lowered, lower_these):
    """A step of training, scores and both kinds of decoding."""
    lower_these(finetune, "run_steps")
    lower_these(score, "_mean_loss")
    lower_these(decode, "_generate_batch")
    model, params = load(FIXTURES / name)
    model = dataclasses.replace(model, dtype=precision)
    settings, blocks = FineTune(epochs=1, batch_size=2), BLOCKS + 12  # none of them pads
    fine_tune(model, params, blocks, blocks[:2], settings, KEY)
    for decoder in (BeamSearch(2), Sampling(top_k=5)):
        generate(model, params, blocks[:2], decoder, 3, key=KEY)
    assert lowered.names == {"run_steps", "_mean_loss", "_generate_batch"}

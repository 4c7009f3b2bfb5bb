"""One model of each family at its published sizes against transformers on torch, in float32.

Weights are random, since the released ones cannot be had here, and sharper than at initialisation,
so that words differ in probability.

    python -m pytest -m slow tests/models/lm/test_parity_full_sizes.py -n 0 -s

About a CPU-minute and up to 8 GB a family. OPT-125m has a longer one, test_parity_125m.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collapse_jax.models.lm import load, save
from collapse_jax.models.lm.assemble import tensor_table
from collapse_jax.models.lm.decode import BeamSearch, Greedy, generate
from collapse_jax.models.lm.score import batch_loss, perplexity

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.slow
LENGTH, NEW, ROWS = 32, 16, 4
# Sizes of the config.json of each model; what is left out is the default of transformers.
CONFIGS = {
    "facebook/opt-350m": lambda: transformers.OPTConfig(
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        ffn_dim=4096,
        word_embed_proj_dim=512,
        do_layer_norm_before=False,
        dropout=0.0,
    ),
    "openai-community/gpt2": transformers.GPT2Config,
    "EleutherAI/pythia-160m": lambda: transformers.GPTNeoXConfig(
        vocab_size=50304,
        hidden_size=768,
        num_hidden_layers=12,
        num_attention_heads=12,
        intermediate_size=3072,
        rotary_pct=0.25,
        tie_word_embeddings=False,
    ),
    "HuggingFaceTB/SmolLM2-135M": lambda: transformers.LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        intermediate_size=1536,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 100000.0},
        max_position_embeddings=8192,
        tie_word_embeddings=True,
    ),
    "Qwen/Qwen2.5-0.5B": lambda: transformers.Qwen2Config(
        vocab_size=151936,
        hidden_size=896,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        intermediate_size=4864,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
        tie_word_embeddings=True,
        bos_token_id=151643,
        eos_token_id=151643,
    ),
    "google/gemma-3-270m": lambda: transformers.Gemma3TextConfig(
        vocab_size=262144,
        hidden_size=640,
        num_hidden_layers=18,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=256,
        intermediate_size=2048,
        query_pre_attn_scalar=256,
        sliding_window=512,
    ),
}


def sharpened(model):
    """The model with matrices twice as large, and norms and biases that show.

    Half of the rectifiers of an OPT are on and half are off: where one flips by rounding, torch's
    own gradients in float32 and in float64 differ by more than is asked here.
    """
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, leaf in model.named_parameters():
            noise = torch.randn(leaf.shape, generator=draw)
            leaf.copy_(2 * leaf if leaf.ndim > 1 else leaf + 0.05 * noise)
            if name.endswith("fc1.bias"):
                leaf.copy_(torch.where(torch.arange(len(leaf)) % 2 == 1, 8.0, -8.0))
    return model.eval()


@pytest.fixture(scope="module", params=CONFIGS)
def both(request, tmp_path_factory):
    """(our model, our params, theirs, prompts): the same random weights by a saved folder."""
    folder = tmp_path_factory.mktemp("full") / "model"
    torch.manual_seed(0)
    config = CONFIGS[request.param]()
    theirs = sharpened(transformers.AutoModelForCausalLM.from_config(config))
    theirs.save_pretrained(folder)
    model, params = load(folder)
    prompts = np.random.default_rng(0).integers(4, config.vocab_size, (ROWS, LENGTH))
    yield model, params, theirs, prompts
    jax.clear_caches()


def test_logits_perplexity_and_gradients(both):
    model, params, theirs, prompts = both
    tokens = torch.tensor(prompts)
    with torch.no_grad():
        wanted = theirs(tokens).logits
    ours = np.asarray(model.apply({"params": params}, prompts))
    assert np.abs(ours - wanted.numpy()).max() <= 1e-4 * np.abs(wanted.numpy()).max()
    losses = torch.nn.functional.cross_entropy(
        wanted[:, :-1].double().transpose(1, 2), tokens[:, 1:], reduction="none"
    )
    np.testing.assert_allclose(
        perplexity(model, params, prompts), losses.mean(1).exp().numpy(), rtol=1e-4
    )
    few = prompts[:2]
    theirs(tokens[:2], labels=tokens[:2]).loss.backward()
    gradients = jax.grad(lambda p: batch_loss(model, p, jnp.asarray(few), jnp.ones(len(few))))(
        params
    )
    named = dict(theirs.named_parameters())
    if not theirs.config.tie_word_embeddings:  # a GPT-NeoX saves it by another name
        named["embed_out.weight"] = theirs.get_output_embeddings().weight
    largest = max(float(leaf.grad.abs().max()) for leaf in named.values())
    for row in tensor_table(model):
        wanted = named[row.name].grad.numpy()
        ours = row.join(*(np.asarray(_at(gradients, path)) for path in row.paths))
        # What a softmax does not see, such as the bias of all keys, is rounding alone.
        scale = max(np.abs(wanted).max(), 1e-3 * largest)
        assert np.abs(ours - wanted).max() <= 1e-3 * scale, row.name
    theirs.zero_grad(set_to_none=True)


@pytest.mark.parametrize("decoder", [Greedy(), BeamSearch(5)], ids=["greedy", "beams"])
def test_continuations(both, decoder):
    """Token for token; where a prompt parts, torch in float64 finds both texts as probable."""
    model, params, theirs, prompts = both
    beams = decoder.num_beams if isinstance(decoder, BeamSearch) else 1
    tokens = torch.tensor(prompts)
    with torch.inference_mode():
        made = theirs.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            do_sample=False,
            num_beams=beams,
            min_new_tokens=NEW,
            max_new_tokens=NEW,
        )[:, LENGTH:].numpy()
    ours = generate(model, params, prompts, decoder, NEW)
    parted = np.flatnonzero((ours != made).any(1))
    print(f"{decoder}: {len(prompts) - len(parted)} of {len(prompts)} equal")
    assert len(parted) <= 1
    for i in parted:
        at = int(np.argmax(ours[i] != made[i]))
        stop = at + 1 if beams == 1 else NEW
        scores = [_score(theirs, prompts[i], text[:stop]) for text in (ours[i], made[i])]
        print(f"prompt {i} parts at token {at}: scores differ by {abs(scores[0] - scores[1]):.1e}")
        assert abs(scores[0] - scores[1]) < 1e-4


def test_a_saved_folder_is_the_same(both, tmp_path):
    model, params, theirs, _ = both
    save(tmp_path / "saved", model, params)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "saved").eval()
    assert type(again) is type(theirs)
    for (name, leaf), other in zip(theirs.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(leaf, other), name


def _score(theirs, prompt, text):
    """The summed log-probability of a text after a prompt, in float64."""
    exact = theirs.double()
    whole = torch.tensor(np.concatenate([prompt, text])[None])
    with torch.inference_mode():
        found = exact(whole).logits.log_softmax(-1)[0, len(prompt) - 1 : -1]
    theirs.float()
    return float(found.gather(-1, whole[0, len(prompt) :, None]).sum())


def _at(tree, path):
    for name in path:
        tree = tree[name]
    return tree

"""Makes tests/models/lm/fixtures/families: tiny random models of every family, and what
transformers says about them.

    python tests/models/lm/make_family_fixtures.py

Needs torch and transformers (the tests that read the fixtures do not). About a minute on one core.
Every switch has a value that shows: norms with random scales, several heads per key, windows
shorter than the text, caps that bite, stretched rotary positions. All parameters are float16
numbers. The reference is computed in float64 (that of padded rows in float32), and generation is
kept only where float32 agrees with it (no near-ties).

One folder a case: config.json, model.safetensors (float16) and expected.npz: tokens [3, 24], logits
[3, 24, 61], loss [3] (nats per token of each row); padded_mask [3, 24], padded_logits (0 where
padded on the left); greedy, beam5 [3, 16] (new tokens, no end); ended [3, 16] (3 beams, three ids
of END end a text; padded with 0); gradient/NAME of the mean of `loss`.
"""

import copy
import shutil
from pathlib import Path

import numpy as np
import torch
import transformers

FOLDER = Path(__file__).parent / "fixtures" / "families"
VOCABULARY, LENGTH, NEW = 61, 24, 16
END = [5, 9, 11]
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
OPT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "ffn_dim": 24,
    "max_position_embeddings": 64,
    "dropout": 0.0,
}
GPT2 = {
    "vocab_size": VOCABULARY,
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
CASES = {
    "opt_350m": transformers.OPTConfig(**OPT, word_embed_proj_dim=8, do_layer_norm_before=False),
    "gpt2": transformers.GPT2Config(**GPT2),
    "gpt_neox": transformers.GPTNeoXConfig(**SIZES, rotary_pct=0.5),
    "gpt_neox_serial": transformers.GPTNeoXConfig(
        **SIZES, rotary_pct=0.5, use_parallel_residual=False, attention_bias=False
    ),
    "llama2": transformers.LlamaConfig(**SIZES, num_key_value_heads=2, rms_norm_eps=1e-3),
    "llama3": transformers.LlamaConfig(
        **SIZES,
        head_dim=6,
        num_key_value_heads=1,
        rope_parameters=LLAMA3,
        attention_bias=True,
        mlp_bias=True,
        tie_word_embeddings=True,
    ),
    "mistral": transformers.MistralConfig(**SIZES, num_key_value_heads=2, sliding_window=7),
    "qwen2": transformers.Qwen2Config(
        **SIZES,
        num_key_value_heads=2,
        use_sliding_window=True,
        sliding_window=5,
        max_window_layers=1,
    ),
    "qwen3": transformers.Qwen3Config(**SIZES, head_dim=6, num_key_value_heads=2),
    "gemma2": transformers.Gemma2Config(
        **SIZES,
        head_dim=6,
        num_key_value_heads=2,
        sliding_window=6,
        query_pre_attn_scalar=10,
        attn_logit_softcapping=2.0,
        final_logit_softcapping=3.0,
    ),
    "gemma3": transformers.Gemma3TextConfig(
        **SIZES,
        head_dim=6,
        num_key_value_heads=2,
        sliding_window=6,
        layer_types=["sliding_attention", "full_attention"],
        rope_parameters={
            "full_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4},
            "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
        },
    ),
}


def make_model(config, seed):
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator) * 0.3
            is_scale = parameter.ndim == 1 and parameter.mean() == 1
            parameter.copy_((noise + 1 if is_scale else noise).half().float())
    return model.eval()


def row_losses(model, tokens):
    logits = model(tokens).logits[:, :-1].transpose(1, 2)
    return torch.nn.functional.cross_entropy(logits, tokens[:, 1:], reduction="none").mean(1)


def generated(models, prompts, **options):
    """New tokens, the same from all models; None where float32 and float64 part."""
    options |= {"do_sample": False, "max_new_tokens": NEW}
    options["attention_mask"] = torch.ones_like(prompts)
    made = [model.generate(prompts, **options)[:, LENGTH:] for model in models]
    if made[0].shape != made[1].shape or not (made[0] == made[1]).all():
        return None
    return torch.nn.functional.pad(made[0], (0, NEW - made[0].shape[1]), value=0)


def expectations(model, seed):
    exact = copy.deepcopy(model).double()
    generator = torch.Generator().manual_seed(1000 + seed)
    tokens = torch.randint(12, VOCABULARY, (3, LENGTH), generator=generator)
    mask = torch.ones_like(tokens)
    mask[0, :5], mask[1, :1] = 0, 0
    is_opt = model.config.model_type == "opt"
    places = {} if is_opt else {"position_ids": (mask.cumsum(1) - 1).clamp(min=0)}
    models = exact, model
    with torch.no_grad():
        # In float64 the mask overflows where a position sees nothing, and nan spreads from there.
        padded = model(tokens, attention_mask=mask, **places).logits * mask[..., None]
        assert padded.isfinite().all()
        made = {
            "greedy": generated(models, tokens, num_beams=1, min_new_tokens=NEW),
            "beam5": generated(models, tokens, num_beams=5, min_new_tokens=NEW),
            "ended": generated(models, tokens, num_beams=3, eos_token_id=END, pad_token_id=0),
        }
        if any(value is None for value in made.values()):
            return None
        out = {"tokens": tokens, "logits": exact(tokens).logits, "padded_mask": mask}
        out |= {"loss": row_losses(exact, tokens), "padded_logits": padded} | made
    row_losses(exact, tokens).mean().backward()
    # The head of GPT-NeoX is called embed_out in its files.
    is_neox = model.config.model_type == "gpt_neox"
    for name, parameter in exact.named_parameters():
        stored = "embed_out.weight" if is_neox and name == "lm_head.weight" else name
        out[f"gradient/{stored}"] = parameter.grad
    return {
        name: value.numpy().astype(np.float32 if value.is_floating_point() else np.int32)
        for name, value in out.items()
    }


def main():
    torch.set_num_threads(1)
    shutil.rmtree(FOLDER, ignore_errors=True)
    for name, config in CASES.items():
        for seed in range(100):
            model = make_model(config, seed)
            expected = expectations(model, seed)
            if expected is not None and np.isin(expected["ended"], END).any():
                break
        folder = FOLDER / name
        model.half().save_pretrained(folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        np.savez_compressed(folder / "expected.npz", **expected)
        sizes = sum(file.stat().st_size for file in folder.iterdir())
        print(f"{name}: seed {seed}, {sizes} bytes, ended {expected['ended'][0].tolist()}")


if __name__ == "__main__":
    main()

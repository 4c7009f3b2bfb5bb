"""Makes tests/models/lm/fixtures/opt_tiny: a tiny random OPT in three layouts, and what
transformers says about it.

    python tests/models/lm/make_opt_fixture.py

Needs torch and transformers (the tests that read the fixture do not). About 20 seconds on one core.
Every parameter is random, biases and norms too, so that no two can be swapped unseen; all are
float16 numbers, so that a float16 file holds them exactly. The reference is computed in float64,
and generation is kept only where float32 agrees with it (no near-ties). Layouts: model.safetensors
(float32), pytorch_model.bin (float16, `decoder.` prefix and a tied lm_head, as old releases have
them), flax_model.msgpack (float16).
expected.npz: tokens [4, 48], logits [4, 48, 97], loss [] (mean over tokens 1.. of all rows),
perplexity [4];
padded_tokens, padded_mask [4, 24], padded_logits [4, 24, 97] (pad on the left; logits there are set
to 0);
prompts [16, 64], greedy, beam5, beam5_penalty2 [16, 64] (only the new tokens; min_new_tokens =
max_new_tokens = 64);
ended_NAME [16, 64]: the same where an end is allowed (see ENDING), padded; gradient/NAME: of
`loss`, of each parameter.
"""

import copy
import shutil
from pathlib import Path

import flax.serialization
import flax.traverse_util
import numpy as np
import torch
from transformers import OPTConfig, OPTForCausalLM

FOLDER = Path(__file__).parent / "fixtures" / "opt_tiny"
SEED = 20
LIMIT = 600_000
# A token that this model does write stands in for the end of text there.
END = 50
ENDING = {
    "greedy": {"num_beams": 1, "min_new_tokens": 3},
    "beam5": {"num_beams": 5, "min_new_tokens": 0},
    "beam5_short": {"num_beams": 5, "min_new_tokens": 2, "length_penalty": -1.0},
    "beam3_long": {
        "num_beams": 3,
        "min_new_tokens": 0,
        "length_penalty": 2.0,
        "early_stopping": "never",
    },
    "beam4_early": {
        "num_beams": 4,
        "min_new_tokens": 5,
        "early_stopping": True,
        "repetition_penalty": 1.5,
    },
}


def make_model():
    config = OPTConfig(
        vocab_size=97,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        ffn_dim=64,
        max_position_embeddings=160,
        word_embed_proj_dim=32,
        dropout=0.0,
        attention_dropout=0.0,
        init_std=0.3,
        bos_token_id=2,
        eos_token_id=2,
        pad_token_id=1,
    )
    model = OPTForCausalLM(config).eval()
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator) * config.init_std
            parameter.copy_((1 + noise if "norm.weight" in name else noise).half().float())
    return model


def flax_tree(model):
    """The float16 tree that transformers 4 wrote as flax_model.msgpack."""
    flat = {}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight":
            continue
        *path, last = name.split(".")
        array = tensor.numpy().astype(np.float16)
        if last == "weight":
            last = (
                "embedding" if "embed" in path[-1] else "scale" if "norm" in path[-1] else "kernel"
            )
        flat[(*path, last)] = array.T.copy() if last == "kernel" else array
    return flax.traverse_util.unflatten_dict(flat)


def row_nll(logits, tokens):
    """Mean negative log-likelihood of tokens 1.. of each row: [B]."""
    nll = torch.nn.functional.cross_entropy(
        logits[:, :-1].transpose(1, 2), tokens[:, 1:], reduction="none"
    )
    return nll.mean(1)


def expectations(model):
    exact = copy.deepcopy(model).double()
    generator = torch.Generator().manual_seed(SEED + 1)

    def draw(rows, columns):
        return torch.randint(4, 97, (rows, columns), generator=generator)

    out = {}
    with torch.no_grad():
        tokens = draw(4, 48)
        logits = exact(tokens).logits
        out |= {
            "tokens": tokens,
            "logits": logits,
            "loss": exact(tokens, labels=tokens).loss,
            "perplexity": row_nll(logits, tokens).exp(),
        }
        padded, mask = draw(4, 24), torch.ones(4, 24, dtype=torch.long)
        for row, pad in enumerate((0, 1, 7, 20)):
            padded[row, :pad], mask[row, :pad] = 1, 0
        padded_logits = exact(padded, attention_mask=mask).logits * mask[..., None]
        out |= {"padded_tokens": padded, "padded_mask": mask, "padded_logits": padded_logits}
        prompts = draw(16, 64)
        out["prompts"] = prompts
        for name, options in {
            "greedy": {"num_beams": 1},
            "beam5": {"num_beams": 5, "repetition_penalty": 1.0},
            "beam5_penalty2": {"num_beams": 5, "repetition_penalty": 2.0},
        }.items():
            options |= {
                "do_sample": False,
                "min_new_tokens": 64,
                "max_new_tokens": 64,
                "attention_mask": torch.ones_like(prompts),
            }
            made = exact.generate(prompts, **options)
            assert made.shape == (16, 128)
            rows = (made == model.generate(prompts, **options)).all(1)
            assert rows.all(), (
                f"{name}: float32 and float64 part in rows "
                f"{(~rows).nonzero().flatten().tolist()}; choose another seed"
            )
            out[name] = made[:, 64:]
            distinct = [len(set(row.tolist())) for row in out[name]]
            print(
                f"{name}: distinct tokens per row {min(distinct)} to {max(distinct)}, "
                f"first row {out[name][0, :12].tolist()}"
            )
        for name, options in ENDING.items():
            options = options | {
                "eos_token_id": END,
                "pad_token_id": 1,
                "do_sample": False,
                "max_new_tokens": 64,
                "attention_mask": torch.ones_like(prompts),
            }
            made, single = (one.generate(prompts, **options)[:, 64:] for one in (exact, model))
            assert made.shape == single.shape, (name, made.shape, single.shape)
            assert (made == single).all(), f"{name}: float32 and float64 part; choose another seed"
            out[f"ended_{name}"] = torch.nn.functional.pad(made, (0, 64 - made.shape[1]), value=1)
            ends = (made == END).any(1)
            print(
                f"{name}: {int(ends.sum())} of 16 end, after "
                f"{[row.index(END) for row in made.tolist() if END in row]} tokens"
            )
    exact(tokens, labels=tokens).loss.backward()
    out |= {f"gradient/{name}": parameter.grad for name, parameter in exact.named_parameters()}
    return {
        name: value.numpy().astype(np.float32 if value.is_floating_point() else np.int32)
        for name, value in out.items()
    }


def main():
    torch.set_num_threads(1)
    model = make_model()
    expected = expectations(model)
    shutil.rmtree(FOLDER, ignore_errors=True)
    model.save_pretrained(FOLDER)
    half = {
        name.removeprefix("model."): tensor for name, tensor in model.half().state_dict().items()
    }
    torch.save(half, FOLDER / "pytorch_model.bin")
    (FOLDER / "flax_model.msgpack").write_bytes(
        flax.serialization.msgpack_serialize(flax_tree(model))
    )
    np.savez_compressed(FOLDER / "expected.npz", **expected)
    sizes = {file.name: file.stat().st_size for file in sorted(FOLDER.iterdir())}
    print(sizes, sum(sizes.values()))
    assert sum(sizes.values()) < LIMIT


if __name__ == "__main__":
    main()

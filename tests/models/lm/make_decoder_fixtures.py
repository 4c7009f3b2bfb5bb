"""Makes tests/models/lm/fixtures/decoders.npz: what transformers' warpers and decoders give.

    python tests/models/lm/make_decoder_fixtures.py

Needs torch and transformers (the tests that read the file do not). About 20 seconds on one core.
Generation is by the tiny Gemma 2 of fixtures/families (shared keys, windows, caps), each prompt
alone and without padding, in float64, and is kept only where float32 agrees with it (no near-ties).

logits [24, 40], with ties and with words that are cut already; warped_NAME [24, 40]: the same after
temperature and the warpers of WARPED. prompts [6, 24], of which the last lengths [6] are text;
stop_NAME: sequences of tokens that end a text, one a row, padded with -1 in front; greedy [6, 16];
beams [6, 3, 16], best first. What follows an end or a stop is 0.
"""

import copy
from pathlib import Path

import numpy as np
import torch
import transformers

FOLDER = Path(__file__).parent / "fixtures"
VOCABULARY, LENGTH, NEW = 61, 24, 16
END = [5, 9, 11]
LENGTHS = (24, 19, 2, 11, 7, 23)
WARPED = {
    "min_p": {"min_p": 0.2},
    "min_p_1": {"min_p": 1.0},
    "typical": {"typical_p": 0.6},
    "typical_little": {"typical_p": 0.01},
    "min_p_cold": {"temperature": 0.7, "min_p": 0.05},
    "all": {"temperature": 1.3, "top_k": 20, "top_p": 0.9, "min_p": 0.02, "typical_p": 0.8},
}
GREEDY = {"num_beams": 1, "repetition_penalty": 1.2, "no_repeat_ngram_size": 2}
BEAMS = {
    "num_beams": 4,
    "num_return_sequences": 3,
    "repetition_penalty": 1.2,
    "no_repeat_ngram_size": 3,
}


def warped(logits, options):
    """Logits after the warpers that transformers itself makes of generation options."""
    config = transformers.GenerationConfig(do_sample=True, **({"top_k": 0} | options))
    config._eos_token_tensor = None
    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=40, n_embd=8, n_layer=1, n_head=1, n_positions=8)
    )
    return model._get_logits_processor(config, input_ids_seq_length=1)(None, logits)


class EndsWith(transformers.StoppingCriteria):
    """Rows whose newest tokens are one of some sequences."""

    def __init__(self, sequences):
        self.sequences = [torch.tensor(one) for one in sequences]

    def __call__(self, input_ids, scores, **kwargs):
        done = torch.zeros(len(input_ids), dtype=torch.bool)
        for one in self.sequences:
            if input_ids.shape[1] >= len(one):
                done |= (input_ids[:, -len(one) :] == one).all(1)
        return done


def cut(prompt, new, stops, ends):
    """New tokens with 0 behind the first end or stop; a stop may begin in the prompt."""
    row = list(prompt)
    for count, token in enumerate(new, 1):
        row.append(token)
        if token in ends or any(row[-len(stop) :] == stop for stop in stops):
            return new[:count] + [0] * (NEW - count)
    return new


def generated(models, prompt, stops, ends, options):
    """New tokens [n, 16] of one prompt, the same from both models."""
    prompt = torch.tensor([prompt])
    options = options | {"do_sample": False, "max_new_tokens": NEW, "pad_token_id": 0}
    options |= {"eos_token_id": ends} if ends else {"min_new_tokens": NEW}
    options["stopping_criteria"] = transformers.StoppingCriteriaList([EndsWith(stops)])
    options["attention_mask"] = torch.ones_like(prompt)
    rows = []
    for model in models:
        made = model.generate(prompt, **options)[:, prompt.shape[1] :].tolist()
        rows.append([cut(prompt[0].tolist(), row, stops, ends) for row in made])
    return rows[0] if rows[0] == rows[1] else None


def all_generated(models, texts, stops, ends, options):
    made = [generated(models, text, stops, ends, options) for text in texts]
    return None if any(rows is None for rows in made) else np.array(made)


def decoded(seed):
    """Prompts, stops and continuations; None where float32 and float64 part."""
    model = transformers.AutoModelForCausalLM.from_pretrained(
        FOLDER / "families" / "gemma2", attn_implementation="eager", dtype=torch.float32
    ).eval()
    models = copy.deepcopy(model).double(), model
    rng = np.random.default_rng(seed)
    prompts = rng.integers(12, VOCABULARY, (len(LENGTHS), LENGTH))
    texts = [row[LENGTH - n :].tolist() for row, n in zip(prompts, LENGTHS, strict=True)]
    free = all_generated(models, texts, [], [], GREEDY)
    plain = all_generated(models, texts, [], [], {"num_beams": 1})
    unstopped = all_generated(models, texts, [], END, BEAMS)
    if free is None or plain is None or unstopped is None or (free == plain).all():
        return None
    # Two tokens in the midst of one row; the end of a prompt and the first token behind it.
    stop_greedy = [free[0, 0, 6:8].tolist(), [texts[2][-1], int(free[2, 0, 0])]]
    stop_beams = [unstopped[0, 0, 4:6].tolist(), [int(unstopped[1, 0, 3])]]
    greedy = all_generated(models, texts, stop_greedy, [], GREEDY)
    beams = all_generated(models, texts, stop_beams, END, BEAMS)
    if greedy is None or beams is None or (beams == unstopped).all():
        return None
    stops = {"stop_greedy": stop_greedy, "stop_beams": [[-1, *s][-2:] for s in stop_beams]}
    made = {"prompts": prompts, "lengths": LENGTHS, "greedy": greedy[:, 0], "beams": beams}
    return made | stops


def main():
    torch.set_num_threads(1)
    logits = torch.randn((24, 40), generator=torch.Generator().manual_seed(0)) * 3
    logits[0, :6] = logits[0].max()
    logits[1] = 0.5
    logits[2:8, 30:] = -torch.inf
    logits[8:16] = logits[8:16].round()
    out = {"logits": logits}
    out |= {f"warped_{name}": warped(logits, options) for name, options in WARPED.items()}
    with torch.no_grad():
        for seed in range(100):
            made = decoded(seed)
            if made is not None:
                break
    print("seed", seed, made)
    out |= made
    np.savez_compressed(
        FOLDER / "decoders.npz",
        **{
            name: np.asarray(value, np.float32 if torch.is_tensor(value) else np.int32)
            for name, value in out.items()
        },
    )


if __name__ == "__main__":
    main()

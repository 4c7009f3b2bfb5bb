"""The effect of bfloat16 on a language model: perplexity, beams, and the result of fine-tuning.

    python experiments/benchmarks/bfloat16.py
        ../shared/data/opt-mini-books on WikiText-2 beside the repository, 3.5 min

`--precision bfloat16` rounds the factors of every product, also in gradients, to bfloat16. Sums,
parameters and their gradients, norms, softmaxes and losses stay in float32. A CPU does the same
arithmetic as an accelerator, and is faster than in float32 if it has matrix units (AMX). Printed:
the perplexity of test blocks under the same weights; the share of 5-beam continuations that differ
in any of 64 tokens, and up to which token they agree; the float32 model's perplexity of both kinds
of continuations; the test perplexity after fine-tuning in both precisions, compared with other
seeds in float32.
"""

import dataclasses
import pathlib

import numpy as np
import tyro

DATA = pathlib.Path(__file__).resolve().parents[3] / "shared" / "data"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure."""

    model: str = str(DATA / "opt-mini-books")
    corpus: str = str(DATA / "wikitext-2")
    test_blocks: int = 1024
    prompts: int = 256
    train_blocks: int = 1024
    epochs: int = 5
    seeds: int = 3
    learning_rate: float = 3e-4
    batch_size: int = 32


def main(settings: Settings) -> None:
    """Measures and prints."""
    import jax

    import collapse_jax as cj

    exact, params = cj.lm.load_opt(settings.model)
    rounded = cj.lm.OPT(exact.config, "bfloat16")
    corpus, tokenizer = cj.lm.load_corpus(settings.corpus), cj.lm.load_tokenizer(settings.model)
    counts = settings.train_blocks, 64, settings.test_blocks
    train, valid, test = (
        cj.lm.blocks_of(rows, tokenizer)[:count] for rows, count in zip(corpus, counts, strict=True)
    )

    losses = [cj.lm.mean_loss(model, params, test) for model in (exact, rounded)]
    difference = np.abs(losses[1] - losses[0])
    print(
        f"perplexity of {len(test)} test blocks: float32 {np.exp(losses[0].mean()):.3f}, bfloat16 "
        f"{np.exp(losses[1].mean()):.3f}"
    )
    print(
        f"relative difference block by block: median {np.median(np.expm1(difference)):.2%}, most "
        f"{np.expm1(difference.max()):.2%}"
    )

    prompts = test[: settings.prompts]
    made = [
        np.asarray(cj.lm.generate(model, params, prompts, cj.lm.BeamSearch(5), 64))
        for model in (exact, rounded)
    ]
    differ = (made[0] != made[1]).any(1)
    agreed = np.argmax(made[0] != made[1], axis=1)[differ]
    print(
        f"5-beam continuations that differ: {differ.mean():.1%} of {len(prompts)}, in the median "
        f"from token {np.median(agreed):g} on"
    )
    under = [
        np.exp(cj.lm.mean_loss(exact, params, np.concatenate([prompts, one], 1)).mean())
        for one in made
    ]
    print(
        f"perplexity of prompts with continuations under float32: made by float32 {under[0]:.3f}, "
        f"by bfloat16 {under[1]:.3f}"
    )

    recipe = cj.lm.FineTune(
        epochs=settings.epochs, learning_rate=settings.learning_rate, batch_size=settings.batch_size
    )
    for model, seeds in ((exact, settings.seeds), (rounded, 1)):
        for seed in range(seeds):
            tuned, _ = cj.lm.fine_tune(model, params, train, valid, recipe, jax.random.key(seed))
            loss = cj.lm.mean_loss(exact, tuned, test).mean()
            print(
                f"fine-tuned in {model.dtype}, seed {seed}: test perplexity {np.exp(loss):.3f} "
                "(scored in float32)"
            )


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))

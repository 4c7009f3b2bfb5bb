"""Bigram and trigram models of words trained on their own text.

In the setting of Suresh et al. 2024 (arXiv 2412.17646).

    python experiments/suresh2024_ngrams.py
        bigram and trigram, four workflows, 3 seeds, generations 0 to 10
    python experiments/suresh2024_ngrams.py --corpus FOLDER
        another corpus (or a hub name such as wikitext-2-raw-v1)

Run time: 3 minutes of CPU time, compilation included (measured: 178 CPU-seconds, 14 minutes on 2
cores of an AMD EPYC shared with five other programs).
Words are separated by whitespace. The corpus is its first --words words, in blocks of
--block-length. Generation 0 is fitted to the real text. Every later generation draws as many blocks
as the real text has: `replace` from the newest model alone, `mix` 10% of them from the real text;
`accumulate` trains on all blocks so far, `accumulate_subsample` on as many of them as the real text
has.
Published: the paper plots its text experiments; we had no access to the plotted values. A rerun of
its setting in NumPy on its corpus (512,615 words, 20,054 distinct), bigram, replace, one run: share
of distinct words left after generations 1 to 10 .890 .809 .747 .694 .653 .615 .588 .560 .537 .514.
Expected in any corpus: replace < mix < accumulate in words left.
The dotted line is exact for words drawn independently of each other, each with its frequency in the
real text: a word of count c is lost after g generations with probability exp(-c g_g), g_1 = 1,
g_{k+1} = 1 - exp(-g_k) (Poisson offspring).
Seed i is the same key under every workflow and order, so curves of one panel are not independent.
Perplexity is that of held-out real text (the validation split; unknown words count as <unk>).
Scoring alone uses add-kappa smoothing with --kappa: the models write by maximum likelihood, under
which most of the text would be impossible.
Writes OUT/results.csv and OUT/figures/ngrams.png.
"""

import collections
import csv
import dataclasses
import pathlib

from collapse_jax.app.script import run_script

ORDERS = {2: "bigram", 3: "trigram"}
FLOWS = ("replace", "mix", "accumulate_subsample", "accumulate")
RERUN = (1.0, 0.890, 0.809, 0.747, 0.694, 0.653, 0.615, 0.588, 0.560, 0.537, 0.514)
METRICS = ("surviving_vocabulary_to_first", "perplexity", "distinct_ngrams", "vocabulary")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of all runs."""

    corpus: str = "../shared/data/wikitext-2"
    """A folder, a file, a name on the hub, or "embedded"."""
    words: int = 512_615
    """Words of real text; 0 is all."""
    block_length: int = 512
    generations: int = 10
    seeds: int = 3
    kappa: float = 0.01
    """Smoothing of the perplexity alone."""
    out: str = "runs/suresh2024_ngrams"


def words_of(rows):
    """The words of rows of text, as whitespace separates them."""
    return [word for row in rows for word in row.split()]


def load(settings):
    """(real blocks [n, length], held-out blocks [m, length], vocabulary size).

    int32 numbers of words, the most frequent first.
    """
    import numpy as np

    from collapse_jax.errors import InputError
    from collapse_jax.models.lm.corpus import load_corpus

    corpus = load_corpus(settings.corpus)
    real = words_of(corpus.train)[: settings.words or None]
    names = {
        word: number for number, (word, _) in enumerate(collections.Counter(real).most_common())
    }
    unknown = names.setdefault("<unk>", len(names))

    def blocks(words):
        tokens = np.array([names.get(word, unknown) for word in words], np.int32)
        count = len(tokens) // settings.block_length
        if not count:
            raise InputError(
                f"block_length is {settings.block_length}, but a split of {settings.corpus!r} has "
                f"{len(tokens):,} words"
            )
        return tokens[: count * settings.block_length].reshape(count, -1)

    return blocks(real), blocks(words_of(corpus.valid)), len(names)


def simulated(order, flow, real, held_out, size, settings):
    """name -> [seed, generation] of one model under one workflow."""
    import jax

    import collapse_jax as cj
    from collapse_jax.estimators import ngram, ngram_perplexity

    count, length = real.shape
    workflow = (
        cj.workflows.mix(0.9, 0.0, 0.1, random_counts=False)
        if flow == "mix"
        else getattr(cj.workflows, flow)()
    )
    process = cj.generational_process(
        ngram(order, size, length),
        cj.sources.dataset(real),
        workflow,
        sample_size=count,
        remember_first=True,
    )
    metrics = [name for name in METRICS if name != "perplexity"] + [
        ngram_perplexity(held_out, settings.kappa)
    ]
    return cj.simulate(
        process,
        jax.random.key(0),
        generations=settings.generations,
        chains=settings.seeds,
        metrics=metrics,
    )


def share_of_independent_words(real, generations):
    """Share [generations + 1] of the distinct words of `real` left under replace.

    For words that are drawn independently of each other. Source: each occurrence has Poisson(1)
    copies in the next generation (Suresh et al. 2024 bound the same recursion).
    """
    import numpy as np

    from collapse_jax.theory.lineages import branching_survival

    counts = np.unique(real, return_counts=True)[1]
    left = [
        1 - np.mean(np.exp(-counts * survival))
        for survival in branching_survival(np.arange(generations))
    ]
    return np.array([1.0, *left])


def draw(traces, settings, real, path):
    """A column a model; above the share of words left, below the perplexity of held-out text."""
    import numpy as np

    from collapse_jax.app.plots import style

    labels = {
        "replace": "replace",
        "mix": "mix, 10% real",
        "accumulate_subsample": "accumulate, subsample",
        "accumulate": "accumulate",
    }
    colours = dict(zip(FLOWS, (style.THEORY, "#e9a03b", "#2a9d8f", style.BAND), strict=True))
    made, axes = style.figure(2, len(ORDERS), sharex=True)
    generation = np.arange(settings.generations + 1)
    for column, (order, name) in zip(axes.T, ORDERS.items(), strict=True):
        for flow in FLOWS:
            for axis, metric in zip(column, METRICS[:2], strict=True):
                style.seeds(
                    axis, generation, traces[order, flow][metric], colours[flow], labels[flow]
                )
        independent = share_of_independent_words(real, settings.generations)
        column[0].plot(
            generation,
            independent,
            color=style.INK,
            ls=":",
            lw=1.4,
            zorder=4,
            label="replace, theory of independent words",
        )
        if order == 2:
            shown = generation[: len(RERUN)]
            other = {
                "color": style.INK,
                "ls": "",
                "marker": "x",
                "ms": 6,
                "zorder": 5,
                "label": "replace, another corpus, one run",
            }
            column[0].plot(shown, RERUN[: len(shown)], **other)
        column[0].set_ylim(0, 1.03)
        column[0].set_title(name, fontsize=9)
        column[1].set_yscale("log")
        style.plain_ticks(column[1].yaxis)
        column[1].set_xlabel("generation (0: fitted to real text)", fontsize=8)
        column[0].legend(fontsize=7, frameon=False)
    axes[0, 0].set_ylabel("share of generation 0's distinct words", fontsize=8)
    axes[1, 0].set_ylabel(f"perplexity of held-out text (kappa = {settings.kappa:g})", fontsize=8)
    seeds = f"{settings.seeds} seeds" if settings.seeds > 1 else "one seed"
    made.suptitle(
        f"{real.size:,} words a generation, {len(np.unique(real)):,} distinct, {seeds}, the same "
        "for every curve (mean and standard deviation)",
        fontsize=9,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    made.savefig(path, dpi=110)


def main(settings: Settings = Settings()) -> None:
    """All runs, the table, the figure."""
    real, held_out, size = load(settings)
    folder = pathlib.Path(settings.out)
    folder.mkdir(parents=True, exist_ok=True)
    distinct = len(set(real.ravel().tolist()))
    print(
        f"{real.size:,} words in {len(real):,} blocks, {distinct:,} distinct; held out: "
        f"{held_out.size:,}"
    )
    traces = {}
    with open(folder / "results.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("model", "workflow", "metric", "seed", *range(settings.generations + 1)))
        for order, name in ORDERS.items():
            for flow in FLOWS:
                trace = traces[order, flow] = simulated(order, flow, real, held_out, size, settings)
                table.writerows(
                    (name, flow, metric, seed, *row)
                    for metric in METRICS
                    for seed, row in enumerate(trace[metric].tolist())
                )
                for metric in METRICS[:2]:
                    values = trace[metric].mean(0)
                    print(
                        f"{name:8s} {flow:21s} {metric:30s}",
                        " ".join(
                            f"{value:.3f}" if value <= 1 else f"{value:.0f}" for value in values
                        ),
                    )
    draw(traces, settings, real, folder / "figures" / "ngrams.png")
    print(folder / "figures" / "ngrams.png")


if __name__ == "__main__":
    run_script(main, __doc__)

"""Could one have known? Lead times of every metric before a collapse, and sweeps for hysteresis.

    python experiments/early_warning.py [--out runs/early_warning] [--chains 400] [--parts ...]

Run time: 160 CPU-seconds, compilation included (measured by part: 75 for the alarms, 14 for
slowing, 73 for hysteresis). Parts, each a table in Markdown:

categories: K = 50 equal categories, M = 100 counts, replace; steady chains: 20% real data. The loss
is the total variation distance, the mass that the model puts on wrong categories.
gaussian: 5 dimensions, M = 60 points, replace; steady chains: 20% real data. The loss is the KL
divergence from the real distribution to the model: the excess of the test loss, in nats.
text: characters of the licence text under a bigram model, 20 blocks of 64, replace; steady chains:
30% real text. The loss is that of the real text under the model, in nats per character.
sets: ten categorical chains per set, whose disagreement is a metric.
transition: K = 50 categories, sharpened by a power b, 20% real data, M = 20,000. b rises from 1 to
1.4 in 400 generations, past the threshold 1.25; steady chains stay at b = 1.1. A second case has a
jump of b from 1.1 to 1.4 at generation 200.
slowing: b = 1, 1.05, 1.1, 1.15, where chains are steady: autocorrelation and variance by theory.
hysteresis: b changed back and forth, for 50 categories and for two; the real share likewise, under
mix.

Everything is drawn with the key of `--seed`. Writes figures/early_warning.png and hysteresis.png.
"""

import pathlib
from typing import Literal

import numpy as np

from collapse_jax.app.script import run_script

PARTS = ("categories", "gaussian", "text", "sets", "transition", "slowing", "hysteresis")
Part = Literal["categories", "gaussian", "text", "sets", "transition", "slowing", "hysteresis"]
SHARE, COUNT, SIZE = 0.2, 50, 20_000
LETTERS = " abcdefghijklmnopqrstuvwxyz"
INDICATORS = ("level", "variance", "autocorrelation")


def simulated(key, process, generations, chains, metrics):
    """A trace with the metrics, by name or as functions of the state."""
    import collapse_jax as cj

    return cj.simulate(process, key, generations=generations, chains=chains, metrics=metrics)


def pair_of(key, make, workflows, generations, chains, metrics):
    """The traces of a loop that collapses and of one that does not."""
    import jax

    return [
        simulated(jax.random.fold_in(key, place), make(flow), generations, chains, metrics)
        for place, flow in enumerate(workflows)
    ]


def categories(key, chains):
    """Counts of equal categories: (collapsing, steady)."""
    import collapse_jax as cj

    family = cj.estimators.categorical(COUNT)
    real = cj.sources.categorical(np.full(COUNT, 1 / COUNT))
    metrics = ("total_variation", "entropy", "heterozygosity", "support", "probabilities")

    def make(flow):
        return cj.generational_process(family, real, flow, sample_size=100)

    flows = cj.workflows.replace(), cj.workflows.mix(gamma=SHARE)
    return pair_of(key, make, flows, 120, chains, metrics)


def gaussian(key, chains):
    """A Gaussian in 5 dimensions: (collapsing, steady)."""
    import collapse_jax as cj

    family = cj.estimators.gaussian(5)
    real = cj.sources.normal(np.zeros(5), np.eye(5))
    metrics = (
        "kl_real_to_model", "entropy", "log_trace", "variance", "effective_rank",
        "log_condition_number", "wasserstein2",
    )  # fmt: skip

    def make(flow):
        return cj.generational_process(family, real, flow, sample_size=60)

    flows = cj.workflows.replace(), cj.workflows.mix(gamma=SHARE)
    return pair_of(key, make, flows, 60, chains, metrics)


def text(key, chains):
    """A bigram model of characters: (collapsing, steady)."""
    import collapse_jax as cj

    letters = pathlib.Path(__file__).parents[1].joinpath("LICENSE").read_text().lower()
    letters = " ".join("".join(c if c in LETTERS else " " for c in letters).split())
    tokens = np.array([LETTERS.index(letter) for letter in letters])
    blocks = tokens[: len(tokens) // 64 * 64].reshape(-1, 64)
    family = cj.estimators.ngram(2, len(LETTERS), 64, smoothing=0.01)
    params = cj.estimators.ngram_params(2, len(LETTERS), blocks, smoothing=0.01)
    real = cj.sources.population(family, params)
    metrics = (
        "cross_entropy_real_to_model", "conditional_entropy", "distinct_ngrams", "vocabulary",
        "entropy", "heterozygosity", "total_variation", "missing_mass",
    )  # fmt: skip

    def make(flow):
        return cj.generational_process(family, real, flow, sample_size=20)

    flows = cj.workflows.replace(), cj.workflows.mix(gamma=0.3)
    return pair_of(key, make, flows, 40, chains, metrics)


def sharpened(power):
    """K equal categories whose model is sampled with the power b(generation), 20% real data."""
    import collapse_jax as cj

    family = cj.estimators.categorical(COUNT)
    real = cj.sources.categorical(np.full(COUNT, 1 / COUNT))
    flow = cj.curation.tempered(lambda g: 1 / power(g))(cj.workflows.mix(gamma=SHARE))
    return cj.generational_process(family, real, flow, sample_size=SIZE)


def transitions(key, chains):
    """(b rises, b jumps, b stays) of the categories that a power sharpens."""
    import jax
    import jax.numpy as jnp

    from collapse_jax.core.process import process_grid
    from collapse_jax.drivers.plan import Plan
    from collapse_jax.drivers.simulate import simulate_chunks

    def at(settings):
        def power(g):
            ramp = 1 + 0.4 * jnp.minimum(g / 400, 1)
            jump = jnp.where(g < 200, 1.1, 1.4)
            kind = settings["kind"]
            return jnp.where(kind < 0.5, ramp, jnp.where(kind < 1.5, jump, 1.1))

        return sharpened(power)

    metrics = ("entropy", "mean", "heterozygosity", "support")
    plan = Plan(400, chains, metrics, settings={"kind": np.arange(3, dtype=np.float32)})
    chunks = list(
        simulate_chunks(process_grid(at, {"kind": 0.0}), jax.random.fold_in(key, 9), plan)
    )
    found = {
        name: np.concatenate([chunk.arrays[name] for chunk in chunks], axis=1).astype(np.float64)
        for name in metrics
    }
    return [
        {name: values.reshape(3, chains, -1)[kind] for name, values in found.items()}
        for kind in range(3)
    ]


def table(found, metrics_first=12):
    """The alarms, the earliest first, as Markdown."""
    crossed = found.crossings[np.isfinite(found.crossings)]
    print(
        f"{found.loss} crosses {found.threshold:g} in {len(crossed)} of {len(found.crossings)} "
        f"chains, in the median at generation {np.median(crossed):g} "
        f"({np.quantile(crossed, 0.1):g} to {np.quantile(crossed, 0.9):g}); {found.steady} steady "
        f"chains, {found.dropped} left out; window {found.window}\n"
    )
    print("| alarm | false alarms, % | detected, % | median lead | AUC | 10 ahead | tau (steady) |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for alarm in found.earliest()[:metrics_first]:
        false, lead, area = alarm.false_alarms, alarm.lead, alarm.curve.area
        ahead = alarm.by_lead.get(10)
        ten = f"{ahead.value:.3f} ± {ahead.error:.3f}" if ahead else ""
        tau = alarm.trend.value
        tau = "" if np.isnan(tau) else f"{tau:.2f} ({alarm.steady_trend.value:.2f})"
        print(
            f"| {alarm.indicator} of {alarm.metric} {alarm.direction} "
            f"| {100 * false.share:.1f} ({100 * false.low:.1f} to {100 * false.high:.1f}) "
            f"| {100 * alarm.detected.share:.1f} | {lead.value:g} ({lead.low:g} to {lead.high:g}) "
            f"| {area.value:.3f} ± {area.error:.3f} | {ten} | {tau} |"
        )
    print()


def warn(title, runs, loss, threshold, **options):
    """An `EarlyWarning`, printed."""
    import collapse_jax as cj

    print(f"## {title}\n")
    found = cj.early_warning(*runs, loss=loss, threshold=threshold, **options)
    table(found)
    return found


def slowing(key, chains):
    """Lag-1 autocorrelation and variance of a linear metric at four powers, and by theory."""
    import jax
    import jax.numpy as jnp

    from collapse_jax.theory import feedback

    powers, each, skip = np.array([1.0, 1.05, 1.1, 1.15]), 200, 100

    def power(g):
        return jnp.asarray(powers, jnp.float32)[jnp.clip(g // each, 0, 3)]

    last = each * len(powers) - 1
    own = jax.random.fold_in(key, 11)
    trace = simulated(own, sharpened(power), last, chains, ("mean", "entropy"))
    # The mean of the category's number: a fixed combination of shares, with this variance of one
    # generation.
    once = (COUNT**2 - 1) / 12 / SIZE
    print("## slowing down below the threshold\n")
    print("| b | eigenvalue | lag-1 | variance / one generation's | theory | log K - H | theory |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for place, b in enumerate(powers):
        rows = slice(place * each + skip, (place + 1) * each)
        x = trace["mean"][:, rows].astype(np.float64) - (COUNT - 1) / 2
        lost = np.log(COUNT) - trace["entropy"][:, rows].astype(np.float64)
        products = x[:, 1:] * x[:, :-1]
        ratio = (products.mean(1)).sum() / (x[:, :-1] ** 2).mean(1).sum()
        residual = products.mean(1) - ratio * (x[:, :-1] ** 2).mean(1)
        error = residual.std() / np.sqrt(chains) / (x**2).mean()
        spread = (x**2).mean(1) / once
        eigen = float(feedback.uniform_eigenvalue(b, SHARE))
        factor = 1 / (1 - eigen**2)
        of_counts = (COUNT - 1) / (2 * SIZE) * factor
        print(
            f"| {b:g} | {eigen:.3f} | {ratio:.4f} ± {error:.4f} | {spread.mean():.2f} ± "
            f"{spread.std() / np.sqrt(chains):.2f} | {factor:.2f} | {lost.mean():.5f} ± "
            f"{lost.mean(1).std() / np.sqrt(chains):.5f} | {of_counts:.5f} |"
        )
    print()


def sweeps(key, chains):
    """Three sweeps there and back; (title, name of the setting, `Hysteresis`) of each."""
    import jax

    import collapse_jax as cj

    def of_power(count, size):
        family = cj.estimators.categorical(count)
        real = cj.sources.categorical(np.full(count, 1 / count))

        def make(power):
            flow = cj.curation.tempered(lambda g: 1 / power(g))(cj.workflows.mix(gamma=SHARE))
            return cj.generational_process(family, real, flow, sample_size=size)

        return make

    def of_share(share):
        family, real = cj.estimators.categorical(6), cj.sources.categorical(np.full(6, 1 / 6))
        flow = cj.workflows.mix(gamma=share)
        return cj.generational_process(family, real, flow, sample_size=50)

    lengths = (100, 200, 400, 800)
    yield (
        "50 categories", "power b",
        cj.hysteresis(
            of_power(50, 10**6), jax.random.fold_in(key, 20), start=1.0, turn=1.4,
            metric="entropy", sweeps=lengths, chains=max(chains // 40, 4),
        ),
    )  # fmt: skip
    yield (
        "two categories", "power b",
        cj.hysteresis(
            of_power(2, 10**6), jax.random.fold_in(key, 21), start=1.0, turn=1.6,
            metric="entropy", sweeps=lengths, chains=max(chains // 40, 4),
        ),
    )  # fmt: skip
    yield (
        "real share, no power", "real share",
        cj.hysteresis(
            of_share, jax.random.fold_in(key, 22), start=0.3, turn=0.01,
            metric="heterozygosity", sweeps=lengths, chains=max(chains // 4, 4),
        ),
    )  # fmt: skip


def hysteresis(key, chains):
    """Prints the areas of the sweeps; returns what to draw."""
    from collapse_jax.theory import feedback

    fold, _ = feedback.fold(SHARE, COUNT)
    print("## there and back\n")
    print(
        f"50 categories, by theory: threshold {float(feedback.threshold(SHARE)):g}, fold "
        f"{fold:.4f}, area of an endless sweep {feedback.loop_area(SHARE, COUNT):.4f}, jump "
        f"{feedback.jump(SHARE, COUNT):.4f}; without real data {feedback.jump(0, COUNT):.4f} of "
        f"log 50, {feedback.jump(0, COUNT) * np.log(COUNT):.3f} nats\n"
    )
    print("| sweep | chains | areas by length | endless | verdict |")
    print("| --- | --- | --- | --- | --- |")
    drawn = []
    for title, name, found in sweeps(key, chains):
        areas = ", ".join(
            f"{sweep.length}: {sweep.area.value:.4f} ± {sweep.area.error:.4f}"
            for sweep in found.sweeps
        )
        limit = found.limit
        print(
            f"| {title} | {len(found.sweeps[0].areas)} | {areas} | {limit.low:.4f} to "
            f"{limit.high:.4f} | {found.verdict} |"
        )
        drawn.append((title, name, found))
    print()
    return drawn


def draw_sweeps(folder, drawn):
    """The loops of all sweeps; the path."""
    from collapse_jax.app.plots import style

    fig, axes = style.figure(columns=len(drawn), height=3.4)
    for axis, (title, name, found) in zip(axes[0], drawn, strict=True):
        colours = style.generation_colours(len(found.sweeps))
        for sweep, colour in zip(found.sweeps, colours, strict=True):
            label = f"{sweep.length}: {sweep.area.value:.3f}"
            axis.plot(sweep.setting, sweep.out, color=colour, lw=1.3, label=label)
            axis.plot(sweep.setting, sweep.back, color=colour, lw=1.3, ls="--")
        axis.set_xlabel(f"{name} (out —, back - -)", fontsize=8)
        axis.set_ylabel(found.metric, fontsize=8)
        axis.set_title(f"{title}: {found.verdict}", fontsize=9)
        axis.legend(fontsize=7, frameon=False, title="length: area", title_fontsize=7)
    return style.save(fig, folder, "hysteresis")


def draw_leads(folder, found):
    """Lead times of every case in one figure; the path."""
    from collapse_jax.app.plots import style
    from collapse_jax.app.plots.warning import draw_leads as draw_panel

    columns = 2 if len(found) > 1 else 1
    rows = -(-len(found) // columns)
    fig, axes = style.figure(rows, columns, width=5.6, height=4.2)
    for axis in axes.flat[len(found) :]:
        axis.set_visible(False)
    for axis, (title, one) in zip(axes.flat, found, strict=False):
        draw_panel(axis, one)
        axis.set_title(title, fontsize=9)
    return style.save(fig, folder, "early_warning")


def alarms(key, chains, parts):
    """(title, `EarlyWarning`) of each case."""
    if "categories" in parts or "sets" in parts:
        runs = categories(key, chains)
    if "categories" in parts:
        title = "50 categories, total variation 0.85"
        yield title, warn(title, runs, "total_variation", 0.85, indicators=INDICATORS, window=10)
    if "sets" in parts:
        title = "sets of ten chains of 50 categories"
        options = {"set_size": 10, "indicators": ("level",), "false_alarm_rate": 0.1}
        yield title, warn(title, runs, "total_variation", 0.85, **options)
    if "gaussian" in parts:
        title = "Gaussian in 5 dimensions, KL 10 nats"
        runs = gaussian(key, chains)
        yield title, warn(title, runs, "kl_real_to_model", 10.0, indicators=INDICATORS, window=8)
    if "text" in parts:
        title = "characters, test loss 1.6 times the first"
        runs, loss = text(key, max(chains // 4, 40)), "cross_entropy_real_to_model"
        options = {"relative": True, "indicators": INDICATORS, "window": 8}
        yield title, warn(title, runs, loss, 1.6, **options)
    if "transition" in parts:
        rises, jumps, stays = transitions(key, chains)
        for title, run in (("power rises slowly", rises), ("power jumps at 200", jumps)):
            options = {"indicators": INDICATORS, "window": 40}
            yield title, warn(title, (run, stays), "entropy", 2.5, **options)


def main(
    out: str = "runs/early_warning",
    chains: int = 400,
    seed: int = 0,
    parts: tuple[Part, ...] = PARTS,
) -> list[pathlib.Path]:
    """The simulations, tables and figures; the paths of the figures.

    Args:
        out: Folder of the figures.
        chains: Of each loop; some parts take fewer.
        seed: Of all random numbers.
        parts: What is done.
    """
    import jax

    import collapse_jax as cj

    key, folder = jax.random.key(seed), cj.RunFolder(pathlib.Path(out))
    paths = []
    found = list(alarms(key, chains, parts))
    if found:
        paths.append(draw_leads(folder, found))
    if "slowing" in parts:
        slowing(key, chains)
    if "hysteresis" in parts:
        paths.append(draw_sweeps(folder, hysteresis(key, chains)))
    for path in paths:
        print(f"Figure: {path}")
    return paths


if __name__ == "__main__":
    run_script(main, __doc__)

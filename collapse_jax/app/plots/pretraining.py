"""The loss curve of a pretraining."""

import pathlib

from collapse_jax.app.config.pretrain import PretrainConfig
from collapse_jax.app.plots import style
from collapse_jax.errors import InputError
from collapse_jax.runs.folder import RunFolder


def draw(folder: RunFolder, config: PretrainConfig) -> list[pathlib.Path]:
    """Draws training loss, held-out loss and learning rate by tokens; returns paths of PNGs.

    Raises:
        InputError: If there is no record yet.
    """
    names = ("tokens", "train_loss", "held_out_loss", "learning_rate")
    rows = folder.rows("step", *names)
    if not rows:
        raise InputError(
            f"{folder.path} contains no records yet; wait until the run has reached step "
            f"{config.evaluate_every}"
        )
    columns = {name: [row[name] for row in rows] for name in names}
    tokens, held_out = columns["tokens"], columns["held_out_loss"]
    fig, axes = style.figure(rows=2, width=5.2, height=2.6, sharex=True, height_ratios=(3, 1))
    losses, rates = axes[:, 0]
    mark = {"marker": "o" if len(rows) == 1 else None, "ms": 3}
    label = f"held-out text: final value {held_out[-1]:.3f}"
    losses.plot(
        tokens, columns["train_loss"], color=style.REAL, lw=1, label="training text", **mark
    )
    losses.plot(tokens, held_out, color=style.BAND, lw=1.8, label=label, **mark)
    losses.set_ylabel("loss (nats per token)", fontsize=8)
    losses.legend(fontsize=7, frameon=False)
    losses.set_title(
        f"{config.num_hidden_layers} layers of width {config.hidden_size}, windows of "
        f"{config.block_length}, batch {config.batch_size}",
        fontsize=8,
    )
    rates.plot(tokens, columns["learning_rate"], color=style.INK, lw=1, **mark)
    rates.set_ylim(bottom=0)
    rates.set_ylabel("learning rate", fontsize=8)
    rates.set_xlabel("tokens seen", fontsize=8)
    return [style.save(fig, folder, "loss")]

"""The loss curve of a pretraining."""

from collapse_jax.app.config import PretrainConfig
from collapse_jax.app.plots import style
from collapse_jax.errors import InputError
from collapse_jax.runs.folder import RunFolder


def draw(folder: RunFolder, config: PretrainConfig) -> list:
    """Training and held-out loss and the learning rate by tokens seen; the paths of the PNGs.

    Raises `InputError` without any record.
    """
    rows = folder.rows("step", "tokens", "train_loss", "held_out_loss", "learning_rate")
    if not rows:
        raise InputError(
            f"{folder.path} holds no records yet; let the run go on to step {config.evaluate_every}"
        )
    made, axes = style.figure(rows=2, width=5.2, height=2.6, sharex=True, height_ratios=(3, 1))
    losses, rates = axes[:, 0]
    tokens = [row["tokens"] for row in rows]
    mark = "o" if len(rows) == 1 else None
    losses.plot(
        tokens,
        [row["train_loss"] for row in rows],
        color=style.REAL,
        lw=1,
        marker=mark,
        ms=3,
        label="training text",
    )
    held_out = [row["held_out_loss"] for row in rows]
    losses.plot(
        tokens,
        held_out,
        color=style.BAND,
        lw=1.8,
        marker=mark,
        ms=3,
        label=f"held-out text: {held_out[-1]:.3f} at the end",
    )
    losses.set_ylabel("loss (nats per token)", fontsize=8)
    losses.legend(fontsize=7, frameon=False)
    sizes = (
        f"{config.num_hidden_layers} layers of width {config.hidden_size}, windows of "
        f"{config.block_length}, batch {config.batch_size}"
    )
    losses.set_title(sizes, fontsize=8)
    rates.plot(
        tokens, [row["learning_rate"] for row in rows], color=style.INK, lw=1, marker=mark, ms=3
    )
    rates.set_ylim(bottom=0)
    rates.set_ylabel("learning rate", fontsize=8)
    rates.set_xlabel("tokens seen", fontsize=8)
    return [style.save(made, folder, "loss")]

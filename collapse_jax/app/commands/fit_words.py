"""Lines on the fits of a language-model run that do not follow from the settings alone."""

from typing import Any

from collapse_jax.app.config.lm import LMSettings
from collapse_jax.models.lm.fit_settings import plan_of
from collapse_jax.models.lm.lora import trained_count


def fit_words(settings: LMSettings, ingredients: Any) -> list[str]:
    """Lines on the training budget of generation 0, and on the parameters that LoRA trains.

    Args:
        settings: The settings of the run.
        ingredients: Made by `commands.lm_ingredients.prepare`.
    """
    fit, lines = settings.fine_tune, []
    if fit.max_steps is not None or fit.max_tokens is not None:
        count, length = ingredients.blocks.train.shape
        plan = plan_of(fit, count, length)
        lines.append(
            f"fit of generation 0: {plan.steps:,} optimiser step{'s' * (plan.steps != 1)} of up to "
            f"{plan.rows} blocks, {plan.blocks * length:,} tokens, {plan.blocks / count:.3g} epochs"
        )
    if fit.lora_rank:
        params = ingredients.pretrained
        trained = trained_count(params, fit)
        every = trained_count(params, fit._replace(lora_rank=0))
        lines.append(
            f"LoRA of rank {fit.lora_rank} on {', '.join(fit.lora_targets)}: {trained:,} "
            f"parameters are trained instead of {every:,}"
        )
    return lines

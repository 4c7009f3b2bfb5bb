"""OPT, every size (Zhang et al. 2022, arXiv 2205.01068)."""

from collapse_jax.models.lm.families import tensors
from collapse_jax.models.lm.switches import TransformerConfig

# A constant that old conversions carry.
CONSTANTS = r"(model\.)?decoder\.version"


def table(config: TransformerConfig) -> list[tensors.Tensor]:
    """Every tensor of a checkpoint."""
    width, hidden, linear = config.hidden_size, config.ffn_dim, tensors.linear
    stem, embedded = "model.decoder", config.embed_size
    places = config.max_position_embeddings + config.position_offset
    rows = [
        tensors.same(
            f"{stem}.embed_tokens.weight",
            "embed_tokens/embedding",
            *(config.vocab_size, embedded),
        ),
        tensors.same(
            f"{stem}.embed_positions.weight", "embed_positions/embedding", *(places, width)
        ),
    ]
    if embedded != width:
        rows += linear(f"{stem}.project_in", "project_in", embedded, width, False)
    for i in range(config.num_hidden_layers):
        name, path = f"{stem}.layers.{i}", f"layers_{i}"
        for part in ("q", "k", "v", "out"):
            projection = f"self_attn/{part}_proj"
            stored = projection.replace("/", ".")
            rows += linear(f"{name}.{stored}", f"{path}/{projection}", width, width, True)
        rows += linear(f"{name}.fc1", f"{path}/fc1", width, hidden, True)
        rows += linear(f"{name}.fc2", f"{path}/fc2", hidden, width, True)
        for norm in ("self_attn_layer_norm", "final_layer_norm"):
            rows += tensors.norm(f"{name}.{norm}", f"{path}/{norm}", width, "layer")
    if config.final_norm:
        rows += tensors.norm(f"{stem}.final_layer_norm", "final_layer_norm", width, "layer")
    if embedded != width:
        rows += linear(f"{stem}.project_out", "project_out", width, embedded, False)
    return rows

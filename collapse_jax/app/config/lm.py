"""Settings of `collapse-jax lm`."""

import dataclasses
from collections.abc import Container
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from collapse_jax.app.config.checks import LARGEST_COUNT, LARGEST_SEED, at_least, at_most, finite
from collapse_jax.errors import InputError
from collapse_jax.runs.settings import Settings

if TYPE_CHECKING:
    from collapse_jax.models.lm.decode import Decoder
    from collapse_jax.models.lm.finetune import FineTune

PRESETS = {
    "fig1b": {"real_fraction": 0.0, "epochs": 5},
    "fig1c": {"real_fraction": 0.1, "epochs": 10},
}
# What each protocol adds to the preset: the differences between the paper and the code that its
# authors released.
PROTOCOLS = {
    "paper": {"generator": "best", "repetition_penalty": 1.0, "real_kept": "drawn"},
    "released-code": {
        "generator": "last",
        "repetition_penalty": 3.0,
        "real_kept": "batches",
        "epochs": 5,
    },
}
# The recorded perplexity of the test text that each protocol means: the mean of the blocks' own, or
# exp of their mean loss (the released code averages over batches, so that a smaller last batch
# weighs as much as the others).
TEST_PERPLEXITY = {"paper": "test_perplexity_mean", "released-code": "test_perplexity"}
# What each of the two is, wherever it is shown.
PERPLEXITY_WORDS = {
    "test_perplexity_mean": "mean over blocks (paper)",
    "test_perplexity": "exp of the mean loss (released code)",
}
# Settings that only one way of decoding reads.
DECODING_OF = {
    "num_beams": "beam",
    "temperature": "sampling",
    "top_k": "sampling",
    "top_p": "sampling",
}
# A run lists its generations, and a prompt in decoding is as many rows as there are beams.
MOST_GENERATIONS, MOST_BEAMS = 100_000, 1000


@dataclasses.dataclass(frozen=True)
class LMConfig(Settings):
    """Fine-tune a language model on real text, let it make the next training set, and so on.

    The defaults are the paper's Fig. 1b.
    """

    command: ClassVar[str] = "lm"
    may_change: ClassVar[tuple[str, ...]] = ("generations", "seeds", "checkpoints")
    paths: ClassVar[dict[str, str]] = {name: name for name in ("corpus", "model", "tokenizer")}

    preset: Literal["fig1b", "fig1c"] = "fig1b"
    """fig1b: 5 epochs, no real data kept. fig1c: 10 epochs, 10% of the original blocks kept in
    every generation."""
    protocol: Literal["paper", "released-code"] = "paper"
    """paper: the best epoch goes on, no repetition penalty, real blocks drawn anew; its perplexity
    is test_perplexity_mean. released-code: the last epoch, a penalty of 3, whole batches of real
    blocks, 5 epochs in both presets; test_perplexity."""
    corpus: str = "wikitext-2-raw-v1"
    """A folder with train/valid/test files (whole words of their names), one text file, a WikiText
    name on the hub, or "embedded". What is read and what is left out is printed. Which release of
    WikiText-2 is not stated in the paper; this is that of the released code."""
    model: str = "facebook/opt-125m"
    """A folder in Hugging Face layout (OPT, GPT-2, GPT-NeoX, Llama, Mistral, Qwen, Gemma), a GGUF
    file, a hub name, or random weights: "random:opt-125m", "random:mini", "random:tiny". "embedded"
    is the OPT of 1.1 M parameters that comes with the package, pretrained on books."""
    tokenizer: str | None = None
    """A folder, a hub name, or "embedded"; by default the model's own. Another one must encode as
    that does, unless the weights are random."""
    generations: int = 9
    """The last generation; generation 0 is the model fitted to real text."""
    seeds: int = 5
    """Independent runs, one after another."""
    seed: int = 0
    """Root of all randomness."""
    workflow: Literal["replace", "accumulate", "accumulate_subsample"] = "replace"
    """replace: what the newest model made, and the shares below. accumulate: all blocks so far.
    accumulate_subsample: as many of those as the original set has, drawn anew."""
    real_fraction: float | None = None
    """Share of each training set that original blocks make up, chosen anew in every generation; by
    default the preset's. That the set keeps its size is not stated in the paper; it does in the
    released code."""
    real_kept: Literal["drawn", "batches"] | None = None
    """How real blocks are chosen; by default the protocol's. drawn: a random share, and the model
    continues blocks chosen independently of it. batches: ceil(share * blocks / batch_size) whole
    batches of the shuffled blocks pass unchanged, and the model continues the others."""
    beta: float = 0.0
    """Share of each training set that is drawn without replacement from the previous one."""
    start: Literal["pretrained", "first", "previous"] = "pretrained"
    """What each generation is fine-tuned from: the pretrained weights, the generation-0 model, or
    its predecessor (the epoch that generator chose). The paper can be read as either of the first
    two."""
    generator: Literal["best", "last"] | None = None
    """The epoch that goes on: the one of lowest loss on the original validation set, or the last;
    by default the protocol's."""
    block_length: int = 64
    """Tokens of a block."""
    train_blocks: int = 0
    """How many blocks of the training text to use (see blocks_from); 0 uses all."""
    valid_blocks: int = 0
    """The same of the validation text."""
    test_blocks: int = 0
    """The same of the test text."""
    blocks_from: Literal["start", "spread"] = "start"
    """Where those blocks lie, if not all are used. start: the first ones, which may be of one or
    two articles. spread: evenly spaced over the text."""
    epochs: int | None = None
    """Epochs of each fit; by default the preset's, or the protocol's if it has its own."""
    batch_size: int = 128
    """Not stated in the paper; the released code's (one of its scripts passes 16)."""
    learning_rate: float = 2e-5
    """At the first epoch. Not stated in the paper; the released code's (one of its scripts passes
    1e-5)."""
    final_learning_rate: float = 1e-6
    """Where a cosine over epochs ends. Not stated in the paper; the released code's."""
    weight_decay: float = 0.01
    """On every parameter. Not stated in the paper; the released code's."""
    dropout: float | None = None
    """By default the model's own (OPT: 0.1); 0 switches it off, and with it the model's
    attention_dropout and layerdrop, which other values leave alone. Not stated in the paper; the
    released code has the model's own under old versions of its training library and none under
    new ones."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the factors of all products; sums, parameters, norms and losses are float32 in any case.
    Not stated in the paper."""
    decoding: Literal["beam", "greedy", "sampling"] = "beam"
    """How blocks are continued."""
    num_beams: int = 5
    """Of beam search."""
    repetition_penalty: float | None = None
    """1 is none, the paper's ablation has 2; tokens of the prompt count too. By default the
    protocol's."""
    temperature: float = 1.0
    """Of sampling."""
    top_k: int = 0
    """Sampling from the k most probable tokens only; 0 is off."""
    top_p: float = 1.0
    """Nucleus sampling: from the most probable tokens that hold this probability together; 1 is
    off."""
    decode_batch: int | None = None
    """Prompts decoded at once; by default 64 on CPUs, and on accelerators as many as fit into half
    of their memory, at most 1,024 on each."""
    examples: int = 4
    """How many blocks of the test text every generation continues, for
    samples/examples_seed_N.jsonl; 0 is none."""
    checkpoints: Literal["all", "ends"] = "all"
    """Generations whose parameters stay on disk: all, or the two ends, generation 0 and the newest.
    Records and texts stay in any case."""

    def check(self) -> None:
        """Raises `InputError` for the first setting that is out of range."""
        blocks = ("train_blocks", "valid_blocks", "test_blocks")
        optional = [name for name in ("epochs", "decode_batch") if getattr(self, name) is not None]
        at_least(self, 0, "generations", "seed", *blocks, "top_k", "examples")
        at_least(self, 1, "seeds", "batch_size", "num_beams", *optional)
        at_least(self, 2, "block_length")
        at_most(self, LARGEST_SEED, "seed")
        at_most(self, LARGEST_COUNT, *blocks, "examples", "batch_size", "decode_batch")
        at_most(self, LARGEST_COUNT, "block_length", "epochs", "top_k")
        at_most(self, MOST_BEAMS, "num_beams")
        at_most(self, MOST_GENERATIONS, "generations", "seeds")
        finite(self, "learning_rate", "final_learning_rate", "weight_decay")
        for name, decoding in DECODING_OF.items():
            value = getattr(self, name)
            if self.decoding != decoding and value != getattr(LMConfig, name):
                raise InputError(
                    f"{name} is {value} with decoding {self.decoding}, which ignores it; "
                    f"give --decoding {decoding}"
                )
        self._check_shares()

    def _check_shares(self):
        shares = {name: vars(self.resolved())[name] for name in ("real_fraction", "beta")}
        for name, share in shares.items():
            if not 0 <= share <= 1:
                raise InputError(f"{name} is {share}; it must be in [0, 1]")
            if self.workflow != "replace" and share > 0:
                kept = "real" if name == "real_fraction" else "earlier"
                raise InputError(
                    f"{name} is {share} with workflow {self.workflow}, which keeps all "
                    f"{kept} data; give 0"
                )
        if sum(shares.values()) > 1 + 1e-6:
            raise InputError(
                f"real_fraction + beta is {sum(shares.values()):g}; it must be at most 1"
            )

    def resolved(self) -> "LMConfig":
        """What config.json holds: every setting that is left to preset and protocol filled in."""
        defaults = PRESETS[self.preset] | PROTOCOLS[self.protocol]
        return dataclasses.replace(
            self, **{name: value for name, value in defaults.items() if getattr(self, name) is None}
        )

    def settings(self) -> "LMSettings":
        """The settings as everything below the command takes them.

        Raises:
            InputError: If one is out of range.
        """
        from collapse_jax.models.lm.decode import check_decoder
        from collapse_jax.models.lm.finetune import FineTune

        self.check()
        config = self.resolved()
        values = vars(config)
        shared = {name: values[name] for name in FineTune._fields if name in values}
        decoder = _decoder(values)
        check_decoder(decoder)
        fine_tune = FineTune(keep=values["generator"], **shared)
        return LMSettings(
            config, fine_tune, decoder, values["real_fraction"], values["real_kept"] == "batches"
        )


def perplexities_shown(protocol: str, recorded: Container) -> list[str]:
    """The recorded perplexities of the test text, the protocol's own first.

    Args:
        protocol: That of the run.
        recorded: Names of what the run recorded; runs of older versions lack one of the two.

    Returns:
        Keys of `PERPLEXITY_WORDS`.
    """
    names = sorted(PERPLEXITY_WORDS, key=lambda name: name != TEST_PERPLEXITY[protocol])
    return [name for name in names if name in recorded]


class LMSettings(NamedTuple):
    """Settings of a run, checked, with nothing left to preset and protocol.

    config: as config.json holds them. What the other fields say is read from those.
    fine_tune: the fit of each generation.
    decoder: how blocks are continued.
    real_fraction: share of real blocks in each training set.
    real_in_batches: whether they are whole batches, rather than drawn.
    """

    config: LMConfig
    fine_tune: "FineTune"
    decoder: "Decoder"
    real_fraction: float
    real_in_batches: bool


def _decoder(values):
    from collapse_jax.models.lm.decode import BeamSearch, Greedy, Sampling

    kind = {"beam": BeamSearch, "greedy": Greedy, "sampling": Sampling}[values["decoding"]]
    return kind(**{name: values[name] for name in kind._fields if name in values})

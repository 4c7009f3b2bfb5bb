"""Published loops by name: the settings of each, their source, and what the source leaves open."""

import dataclasses
import types
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from collapse_jax.errors import one_of


class Preset(NamedTuple):
    """A published loop as settings of `collapse-jax lm`.

    title: a description in a few words.
    source: where it was published, and which parts of it these settings come from.
    settings: field -> value; all other fields keep their defaults.
    left_open: field -> why we had to choose its value.
    not_followed: features of the source that no setting here reproduces.
    """

    title: str
    source: str
    settings: Mapping[str, Any]
    left_open: Mapping[str, str] = types.MappingProxyType({})
    not_followed: tuple[str, ...] = ()


def _frozen(**values):
    return types.MappingProxyType(values)


_SAMPLED = {"decoding": "sampling", "repetition_penalty": 1.0}
# Fits by the Trainer of transformers with its defaults.
_TRAINER = {
    "schedule": "linear",
    "final_learning_rate": 0.0,
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
}
_NOT_STATED = "not stated in the paper; the value of the released code"
_SHUMAILOV_OPEN = _frozen(
    batch_size=f"{_NOT_STATED} (one of its scripts passes 16)",
    learning_rate=f"{_NOT_STATED} (one of its scripts passes 1e-5)",
    final_learning_rate=_NOT_STATED,
    weight_decay=_NOT_STATED,
    dropout=(
        "not stated; the model's own dropout, as in the released code with old versions of "
        "Lightning"
    ),
    start=(
        "the paper can be read as the pretrained model or as the best model of generation 0; we "
        "start from the pretrained model"
    ),
)
_OPEN = "not stated in the sources that we read; our choice"
# Our fixed training text stands where a source has fresh text.
_FIXED_REAL = (
    "the source uses new real text in every generation; here the real text is one fixed set of "
    "blocks"
)
DEFAULT_PRESET = "fig1b"

PRESETS: Mapping[str, Preset] = _frozen(
    fig1b=Preset(
        "Shumailov et al. 2024, Fig. 1b: OPT-125m on WikiText-2, no real data kept",
        "Nature 631:755 (arXiv 2305.17493), text; its released code with --protocol released-code",
        _frozen(real_fraction=0.0, epochs=5),
        _SHUMAILOV_OPEN,
    ),
    fig1c=Preset(
        "Shumailov et al. 2024, Fig. 1c: 10% of the original blocks kept",
        "Nature 631:755 (arXiv 2305.17493), text; its released code with --protocol released-code",
        _frozen(real_fraction=0.1, epochs=10),
        _frozen(
            real_kept="not stated whether the set keeps its size; it does in the released code",
            **_SHUMAILOV_OPEN,
        ),
    ),
    gerstgrasser2024=Preset(
        "Gerstgrasser et al. 2024: TinyStories, from scratch in every generation, all data kept",
        "arXiv 2404.01413, abstract and summaries; names of the runs in notebook 09 of "
        "RylanSchaeffer/KoyejoLab-Collapse-or-Thrive (vocabulary 8,000, 1 epoch)",
        _frozen(
            corpus="roneneldan/TinyStories",
            model="HuggingFaceTB/SmolLM2-135M",
            start="random",
            workflow="accumulate",
            prompts="start",
            block_length=512,
            generations=4,
            seeds=1,
            epochs=1,
            learning_rate=3e-4,
            schedule="cosine",
            final_learning_rate=0.0,
            max_grad_norm=1.0,
            real_fraction=0.0,
            generator="last",
            protocol="released-code",
            **_SAMPLED,
        ),
        _frozen(
            block_length=_OPEN,
            generations=_OPEN,
            seeds=_OPEN,
            batch_size=_OPEN,
            learning_rate=_OPEN,
            schedule=_OPEN,
            final_learning_rate=_OPEN,
            max_grad_norm=_OPEN,
            weight_decay=_OPEN,
            temperature="1; the source also has runs at 0.3",
        ),
        (
            "the source trains GPT-2 of 9 M and Llama 2 of 12, 42 and 125 M parameters with a "
            "vocabulary of 8,000; the default here is the Llama architecture of SmolLM2-135M with "
            "its vocabulary of 49,152; --model takes any other",
            "each story is one text in the source; here blocks continue across stories",
        ),
    ),
    kazdan2024=Preset(
        "Kazdan et al. 2024: Gemma 2 2B, instructions, accumulate with a fixed budget",
        "arXiv 2410.16713; code RylanSchaeffer/KoyejoLab-Collapse-or-Thrive "
        "(sweeps/sft_language_model, src/sample_language_model)",
        _frozen(
            corpus="nvidia/HelpSteer2",
            text_column="response",
            model="google/gemma-2-2b",
            start="pretrained",
            workflow="accumulate_subsample",
            prompts="start",
            block_length=512,
            generations=19,
            seeds=3,
            epochs=1,
            batch_size=8,
            gradient_accumulation=16,
            learning_rate=8e-6,
            schedule="constant",
            warmup_steps=8,
            weight_decay=0.0,
            max_grad_norm=1.0,
            precision="bfloat16",
            real_fraction=0.0,
            generator="last",
            protocol="released-code",
            **_SAMPLED,
        ),
        _frozen(
            warmup_steps=(
                "5% of the steps in the source, which has 158 steps for one set of 20,324 samples"
            )
        ),
        (
            "the source trains on conversations of varying length and drops samples without a "
            "question and an answer; here the answers alone, in blocks of 512 tokens",
        ),
    ),
    drayson2025=Preset(
        "Drayson et al. 2025: GPT-2 on WikiText-2, 256 + 256 tokens, loss on the continuation",
        "arXiv 2502.15654 (EMNLP 2025); code GeorgeDrayson/model_collapse (main.py, config.yaml, "
        "src/generate.py)",
        _frozen(
            corpus="wikitext-2-raw-v1",
            model="openai-community/gpt2",
            start="pretrained",
            block_length=512,
            prompt_length=256,
            continuation_length=256,
            train_on="both",
            loss_on="continuation",
            top_k=50,
            generations=10,
            seeds=1,
            epochs=5,
            batch_size=16,
            learning_rate=5e-5,
            precision="bfloat16",
            real_fraction=0.5,
            generator="last",
            real_kept="drawn",
            protocol="released-code",
            **_TRAINER,
            **_SAMPLED,
        ),
        _frozen(
            top_k=(
                "top-k is the default decoding; its k is in a file that we could not read; 50 is "
                "our choice"
            ),
            epochs="the defaults stand in a file that was not at hand; README's example",
            batch_size="the defaults stand in a file that was not at hand; README's example",
        ),
        (
            "by default the source adds all the human text to the synthetic text (alpha = beta = "
            "1), which doubles the set; here half of a set of the same size is human text; alpha = "
            "0 is --real-fraction 0",
            "its detector and importance resampling",
        ),
    ),
    seddik2024=Preset(
        "Seddik et al. 2024: a GPT-2 style model, real and synthetic text mixed",
        "arXiv 2404.05090, abstract and summaries",
        _frozen(
            corpus="wikitext-2-raw-v1",
            model="openai-community/gpt2",
            start="random",
            prompts="start",
            block_length=128,
            generations=9,
            seeds=1,
            epochs=5,
            learning_rate=3e-4,
            real_fraction=0.5,
            real_kept="drawn",
            generator="last",
            protocol="released-code",
            **_SAMPLED,
        ),
        _frozen(
            corpus=_OPEN,
            model="GPT-2 style of unstated size; our choice",
            start=_OPEN,
            prompts=_OPEN,
            block_length=_OPEN,
            generations=_OPEN,
            seeds=_OPEN,
            epochs=_OPEN,
            batch_size=_OPEN,
            learning_rate=_OPEN,
            real_fraction=(
                "the source varies the synthetic share n / (N + n) of N real and n synthetic "
                "texts; our choice"
            ),
            generator=_OPEN,
            decoding=_OPEN,
            temperature=_OPEN,
        ),
    ),
    **{
        "hong-niu": Preset(
            "hong-niu/generative-recursive-training: GPT-2, half real, from the first token",
            "arXiv 2602.16065, abstract; code hong-niu/generative-recursive-training "
            "(experiments/LLM-WikiText/exp-LLM-Wiki.py)",
            _frozen(
                corpus="wikitext-103-raw-v1",
                model="openai-community/gpt2",
                start="previous",
                prompts="start",
                train_on="both",
                block_length=1024,
                train_blocks=1024,
                generations=49,
                seeds=1,
                top_p=0.95,
                epochs=1,
                batch_size=1,
                gradient_accumulation=32,
                learning_rate=2e-5,
                schedule="linear",
                warmup_steps=10,
                final_learning_rate=0.0,
                weight_decay=0.01,
                max_grad_norm=1.0,
                precision="bfloat16",
                real_fraction=0.5,
                real_kept="drawn",
                generator="last",
                protocol="released-code",
                **_SAMPLED,
            ),
            _frozen(precision="float16 in the source"),
            (
                _FIXED_REAL,
                "the source uses AdamW with beta2 = 0.95 and no weight decay of biases and norms; "
                "here beta2 = 0.999 and every parameter decays",
                "the source leaves out blank rows and adds an end-of-text token after each row",
            ),
        ),
        "sae-robustness": Preset(
            "SuchitGupte/sae-robustness: Pythia-160m from the first token; --control real gives "
            "its lineage on real text",
            "code SuchitGupte/sae-robustness-under-self-consuming-models (generations/consume.py, "
            "README, logs)",
            _frozen(
                corpus="wikitext-103-raw-v1",
                model="EleutherAI/pythia-160m-deduped",
                start="previous",
                prompts="start",
                block_length=512,
                train_blocks=2000,
                test_blocks=100,
                generations=10,
                seeds=1,
                epochs=1,
                batch_size=4,
                gradient_accumulation=4,
                learning_rate=1e-5,
                precision="bfloat16",
                real_fraction=0.0,
                generator="last",
                protocol="released-code",
                **_TRAINER,
                **_SAMPLED,
            ),
            _frozen(corpus="the Pile in the code, WikiText-103 in its README; we use WikiText-103"),
            (
                "generation 0 is the model before any fit in the source; here it is fitted to real "
                "text",
                "in the source a text ends at its end-of-text token and the next text follows in "
                "the same block; here each block is one text of 512 tokens",
            ),
        ),
        "blindtissue": Preset(
            "blindTissue/model_collapse_public: Llama-3.2-1B, 64 + 448 tokens",
            "code blindTissue/model_collapse_public (configs/fullrank.yaml, README, src)",
            _frozen(
                corpus="wikitext-103-raw-v1",
                model="meta-llama/Llama-3.2-1B",
                start="previous",
                block_length=512,
                prompt_length=64,
                continuation_length=448,
                train_on="both",
                loss_on="all",
                train_blocks=20_000,
                generations=9,
                seeds=1,
                epochs=1,
                batch_size=20,
                learning_rate=2e-5,
                schedule="cosine",
                warmup_steps=50,
                final_learning_rate=0.0,
                weight_decay=0.01,
                max_grad_norm=1.0,
                precision="bfloat16",
                decoding="sampling",
                temperature=0.7,
                top_p=0.9,
                repetition_penalty=1.2,
                real_fraction=0.0,
                generator="last",
                protocol="paper",
            ),
            _frozen(
                corpus="C4 in the source, 305 GB on the hub; here WikiText-103, or C4 by --corpus",
                warmup_steps=(
                    "5% of the steps in the source, which has 1,000 steps for 20,000 texts"
                ),
                train_blocks=(
                    "the source has 200,000 real texts in generation 0, then 20,000 texts of "
                    "each model"
                ),
            ),
            (
                "the source pools the texts of three families of models; here one model, or three "
                "by --lineages 3 and --lineage-models",
                "the source draws new prompts in every generation; here they are the same blocks",
                "its recovery in weight space",
            ),
        ),
        "ce-llms": Preset(
            "flowersteam/ce_llms: LoRA, sampling at temperature 1.5 with min-p 0.2",
            "arXiv 2504.03814; code flowersteam/ce_llms (clusters_iterative_train.sh, "
            "iterative_train_vllm.sh, ft_and_gen.py, model_utils.py)",
            _frozen(
                corpus="wikitext-2-raw-v1",
                model="HuggingFaceTB/SmolLM-1.7B",
                start="pretrained",
                prompts="start",
                block_length=256,
                train_blocks=4000,
                temperature=1.5,
                min_p=0.2,
                generations=19,
                seeds=1,
                epochs=1,
                batch_size=16,
                learning_rate=2e-4,
                schedule="linear",
                warmup_steps=1,
                final_learning_rate=0.0,
                weight_decay=0.01,
                max_grad_norm=1.0,
                lora_rank=16,
                lora_alpha=16.0,
                lora_targets=("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2", "gate"),
                precision="bfloat16",
                real_fraction=0.75,
                real_kept="drawn",
                generator="last",
                **_SAMPLED,
            ),
            _frozen(
                corpus="posts of Reddit and Twitter in the source; our choice",
                model=(
                    "the source draws one of four models for each generation; here it is always "
                    "one of them"
                ),
                real_fraction="the synthetic share is 1/16 to 1 in the source; here 1/4",
                warmup_steps="0.125% of the steps in the source",
            ),
            (
                _FIXED_REAL,
                "the source draws synthetic texts from all earlier models; here from the newest",
                "in the source each text answers an instruction, ends at its end-of-text token "
                "within 300 tokens, and is cut to 256 tokens for training",
            ),
        ),
    },
)
# What the protocols of Shumailov et al. add to their two figures: the differences between the paper
# and the code that its authors released. Other loops say all of this themselves.
PROTOCOLS = {
    "paper": {"generator": "best", "repetition_penalty": 1.0, "real_kept": "drawn"},
    "released-code": {
        "generator": "last",
        "repetition_penalty": 3.0,
        "real_kept": "batches",
        "epochs": 5,
    },
}
OF_SHUMAILOV = ("fig1b", "fig1c")
# Fields that are None until `resolved` asks preset and protocol.
LEFT_TO_BOTH = frozenset(PROTOCOLS["paper"]) | frozenset(PRESETS[DEFAULT_PRESET].settings)


@dataclasses.dataclass(frozen=True)
class PresetSettings:
    """The published loop to run; options that are given explicitly override it."""

    preset: Literal[
        "fig1b",
        "fig1c",
        "gerstgrasser2024",
        "kazdan2024",
        "drayson2025",
        "seddik2024",
        "hong-niu",
        "sae-robustness",
        "blindtissue",
        "ce-llms",
    ] = "fig1b"
    """A published loop, whose values become the defaults of all other options (`collapse-jax
    families` lists the loops). fig1b: 5 epochs, no real data kept. fig1c: 10 epochs, 10% of the
    original blocks kept in every generation. docs/presets.md describes the others, and what their
    sources leave open."""
    protocol: Literal["paper", "released-code"] = "paper"
    """For fig1b and fig1c: the procedure of the paper, or that of the authors' released code; for
    all presets: which test perplexity is shown first. paper: the best epoch generates, no
    repetition penalty, real blocks drawn again in every generation; the perplexity shown is
    test_perplexity_mean. released-code: the last epoch generates, repetition penalty 3, whole
    batches of real blocks, 5 epochs in both presets; the perplexity shown is test_perplexity."""

    def check_preset(self) -> None:
        """Raises `InputError` for an unknown preset or protocol."""
        one_of("preset", self.preset, PRESETS)
        one_of("protocol", self.protocol, PROTOCOLS)

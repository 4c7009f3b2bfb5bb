"""`collapse-jax lm`: the paper's language-model loop from settings to a run folder."""

import contextlib
import dataclasses
import pathlib
from typing import NamedTuple

import jax
import numpy as np

from collapse_jax.app.commands.examples import example_prompts
from collapse_jax.app.commands.needs import disk_need, spread_words
from collapse_jax.app.commands.observe import PUBLISHED_ONLY, left_out, observer, publisher
from collapse_jax.app.config import LMConfig
from collapse_jax.core import workflows
from collapse_jax.core.process import generational_process
from collapse_jax.core.types import Process
from collapse_jax.drivers.run import Watcher, run
from collapse_jax.errors import InputError
from collapse_jax.estimators import sources
from collapse_jax.estimators.causal_lm import causal_lm
from collapse_jax.models.lm.corpus import TextTokenizer, blocks_of, load_corpus, load_tokenizer
from collapse_jax.models.lm.decode import BeamSearch, Greedy, Sampling, check_decoder
from collapse_jax.models.lm.devices import Placement
from collapse_jax.models.lm.finetune import FineTune
from collapse_jax.models.lm.opt import MINI, OPT, TINY, OPTConfig, init_params
from collapse_jax.models.lm.weights import load_opt
from collapse_jax.runs import distributed
from collapse_jax.runs.folder import RunFolder
from collapse_jax.runs.memory import PEAKS, STAGES, PeakMemory
from collapse_jax.runs.scratch import FileScratch, Scratch
from collapse_jax.runs.stopping import Stop

EMBEDDED_MODEL = pathlib.Path(__file__).parents[2] / "models" / "pretrained" / "opt-tiny-books"
RANDOM_MODELS = {"random:opt-125m": OPTConfig(), "random:mini": MINI, "random:tiny": TINY}
# What the key of the examples is folded with: the highest number, which no seed counts up to.
_EXAMPLES = np.uint32(2**32 - 1)


class Blocks(NamedTuple):
    """Token blocks [N, length] (int32) of each split."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


class Ingredients(NamedTuple):
    """Everything that is read from outside before the loop begins."""

    model: OPT
    pretrained: dict
    tokenizer: TextTokenizer
    blocks: Blocks


def prepare(config: LMConfig, placement: Placement = Placement()) -> Ingredients:
    """Reads and checks model, tokenizer and corpus.

    Raises `InputError` for whatever does not fit together.
    """
    config.check()
    check_decoder(decoder_of(config))
    model, pretrained = _load_model(config, placement)
    tokenizer = load_tokenizer(config.tokenizer or _tokenizer_of(config.model))
    if tokenizer.vocab_size > model.config.vocab_size:
        raise InputError(
            f"tokenizer {tokenizer.name!r} has {tokenizer.vocab_size} entries, more than "
            "the model's vocabulary of "
            f"{model.config.vocab_size}; give the model's own tokenizer"
        )
    corpus = load_corpus(config.corpus)
    wanted = Blocks(config.train_blocks, config.valid_blocks, config.test_blocks)
    blocks = {}
    for split, rows in corpus._asdict().items():
        found, count = blocks_of(rows, tokenizer, config.block_length), getattr(wanted, split)
        if found.max() >= model.config.vocab_size:
            ids = f"tokenizer {tokenizer.name!r} gives ids up to {found.max()}"
            raise InputError(
                f"{ids}, but the model's vocabulary has {model.config.vocab_size}; give "
                "the model's own tokenizer"
            )
        if count > len(found):
            raise InputError(
                f"{split}_blocks is {count}, but the corpus has {len(found)} blocks; give "
                "at most that, or 0 for all"
            )
        blocks[split] = found[: count or None]
    ingredients = Ingredients(model, pretrained, tokenizer, Blocks(**blocks))
    process_of(config, ingredients)
    return ingredients


def process_of(
    config: LMConfig,
    ingredients: Ingredients,
    progress=lambda stage, done, total: None,
    scratch: Scratch = Scratch(),
    stage=lambda name: contextlib.nullcontext(),
    placement: Placement = Placement(),
) -> Process:
    """The process of the settings; what `causal_lm` takes besides.

    Raises `InputError` for blocks too long for the model.
    """
    config = config.resolved()
    model, pretrained, _, blocks = ingredients
    estimator = causal_lm(
        model,
        pretrained,
        blocks.train,
        blocks.valid,
        settings=fine_tune_of(config),
        decoder=decoder_of(config),
        start=config.start,
        decode_batch=config.decode_batch,
        progress=progress,
        scratch=scratch,
        stage=stage,
        placement=placement,
    )
    return generational_process(
        estimator, sources.dataset(blocks.train), workflow_of(config), sample_size=len(blocks.train)
    )


def run_lm(
    config: LMConfig,
    folder: RunFolder,
    ingredients: Ingredients,
    *,
    progress=lambda stage, done, total: None,
    watcher=Watcher(),
    say=print,
    stop: Stop | None = None,
    placement: Placement = Placement(),
):
    """Runs (or resumes) the loop in an opened folder on the devices of `placement`; returns its
    `Trace`.

    progress: called with a stage ("fit", "generate", "score") and how many of its tokens are done.
    say: takes a line for people.
    stop: asked after each epoch, each part of a generated set and each generation, once it is
    saved, whether to stop there.
    """
    model, pretrained, tokenizer, blocks = ingredients
    prompts = example_prompts(blocks.test, config.examples)
    examples_key = jax.random.fold_in(jax.random.key(config.seed), _EXAMPLES)
    stop = stop or Stop()
    scratch, memory = FileScratch(folder.unfinished, say, stop), PeakMemory()
    observe = observer(
        model, pretrained, blocks, prompts, decoder_of(config), examples_key, progress, placement
    )

    def observe_memory_too(*generation):
        with memory.stage("score"):
            observed = observe(*generation)
        return observed | memory.take()

    def end(chain, generation, row):
        watcher.end(chain, generation, row)
        stop.here()

    return run(
        process_of(config, ingredients, progress, scratch, memory.stage, placement),
        jax.random.key(config.seed),
        generations=config.generations,
        chains=config.seeds,
        folder=folder,
        observe=observe_memory_too,
        publish=publisher(folder, tokenizer, prompts),
        published_only=(*PUBLISHED_ONLY, *PEAKS),
        watcher=watcher._replace(end=end, say=say),
        states=config.checkpoints,
        scratch=scratch,
    )


def workflow_of(config: LMConfig):
    """The workflow of the settings. Shares are rounded numbers of blocks (with real_kept="batches":
    whole batches), chosen anew in every generation.
    """
    config = config.resolved()
    real, previous = config.real_fraction, config.beta
    if real == previous == 0:
        return getattr(workflows, config.workflow)()
    if config.real_kept == "batches" and real > 0:
        return workflows.keep_or_continue(real, beta=previous, batch_size=config.batch_size)
    return workflows.mix(round(1 - real - previous, 12), previous, real, random_counts=False)


def fine_tune_of(config: LMConfig) -> FineTune:
    """The fit of each generation, of the settings."""
    config = config.resolved()
    return FineTune(
        epochs=config.epochs,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        final_learning_rate=config.final_learning_rate,
        weight_decay=config.weight_decay,
        keep=config.generator,
    )


def decoder_of(config: LMConfig):
    """The decoder of the settings."""
    config = config.resolved()
    if config.decoding == "beam":
        return BeamSearch(config.num_beams, config.repetition_penalty)
    if config.decoding == "greedy":
        return Greedy(config.repetition_penalty)
    return Sampling(config.temperature, config.top_k, config.top_p, config.repetition_penalty)


def _load_model(config, placement):
    if config.model.startswith("random:"):
        if config.model not in RANDOM_MODELS:
            raise InputError(
                f"model is {config.model!r}; random ones are {', '.join(RANDOM_MODELS)}"
            )
    # What does not fit one device goes from the memory of the host to its parts.
    with (
        jax.default_device(jax.local_devices(backend="cpu")[0])
        if placement.shard
        else contextlib.nullcontext()
    ):
        if config.model.startswith("random:"):
            sizes = RANDOM_MODELS[config.model]
            model, params = OPT(sizes), init_params(sizes, jax.random.key(config.seed))
        else:
            model, params = load_opt(EMBEDDED_MODEL if config.model == "embedded" else config.model)
        params = (
            placement.place_parameters(params, config.batch_size) if placement.shard else params
        )
    dropout = model.config.dropout if config.dropout is None else config.dropout
    return OPT(dataclasses.replace(model.config, dropout=dropout), config.precision), params


def _tokenizer_of(model):
    if model == "random:opt-125m":
        return "facebook/opt-125m"
    if model == "random:tiny":
        return "embedded"
    if model == "embedded":
        return str(EMBEDDED_MODEL)
    if model.startswith("random:"):
        raise InputError(f"model {model!r} has no tokenizer of its own; give tokenizer")
    return model


def lm_command(
    config: LMConfig,
    out: str,
    console,
    placement: Placement = Placement(),
    seeds: tuple[int, ...] = (),
) -> None:
    """`collapse-jax lm`: checks everything, runs or resumes, draws the figures, and prints a table.

    seeds: those to make, beside other calls that make the others; () for all, which are then
    recorded and drawn.
    """
    from collapse_jax.app.commands.progress import LanguageModelProgress
    from collapse_jax.app.plots import draw_run

    config = config.resolved()
    config.check()
    folder = RunFolder(out, seeds)
    folder.check(config)
    finished = {(row["chain"], row["generation"]) for row in folder.rows("chain", "generation")}
    wanted = {
        (chain, generation)
        for chain in seeds or range(config.seeds)
        for generation in range(config.generations + 1)
    }
    if wanted <= finished and (folder.path / "results.nc").is_file():
        console.print(f"all {len(wanted)} generations of {folder.path} are done")
    else:
        ingredients = distributed.first_then_others(lambda: prepare(config, placement))
        need = disk_need(config, ingredients, finished, seeds)
        folder = RunFolder.open(out, config, need.total, seeds)
        sizes = ", ".join(
            f"{len(part)} {split}" for split, part in ingredients.blocks._asdict().items()
        )
        console.print(
            f"{config.model}: blocks of {config.block_length} tokens: {sizes}; run folder "
            f"{folder.path}",
            highlight=False,
        )
        for line in (need.words(), spread_words(config, ingredients, placement), *left_out()):
            if line:
                console.print(line, highlight=False)
        with LanguageModelProgress(
            console, len(seeds) or config.seeds, config.generations
        ) as progress:
            say = lambda line: console.print(line, highlight=False)  # noqa: E731
            with Stop(say) as stop:
                options = {
                    "progress": progress.stage,
                    "watcher": progress.watcher,
                    "say": say,
                    "stop": stop,
                    "placement": placement,
                }
                run_lm(config, folder, ingredients, **options)
    if seeds:
        console.print(f"seed {', '.join(map(str, seeds))} of {config.seeds} done; once all are, the same "
"command without --only-seeds "
                      "records and draws them", highlight=False)  # fmt: skip
    if seeds or not distributed.is_first():
        return
    console.print(table_of(folder))
    console.print(memory_words(folder.rows()), highlight=False)
    for path in draw_run(folder):
        console.print(f"figure: {path}", highlight=False)


def memory_words(rows: list[dict]) -> str:
    """One line: the highest peak of each stage over all rows, on the host and, where there is one,
    on the accelerator.
    """
    peaks = {name: max((row[name] for row in rows if name in row), default=None) for name in PEAKS}
    host, device = (
        [
            f"{stage} {peaks[f'{stage}_{kind}_mib']:,.0f} MiB"
            for stage in STAGES
            if peaks[f"{stage}_{kind}_mib"] is not None
        ]
        for kind in ("peak", "device_peak")
    )
    parts = [
        f"{where}: {', '.join(found)}"
        for where, found in (("host", host), ("fullest device", device))
        if found
    ]
    return f"peak memory, {'; '.join(parts)}" if parts else "peak memory: nothing here tells it"


def table_of(folder: RunFolder):
    """A rich table of the run: perplexities by generation, the mean over seeds."""
    from rich.table import Table

    rows = folder.rows()
    table = Table(
        "generation",
        "test perplexity",
        "median, training set under generation 0",
        "best epoch",
        "seconds",
    )
    for generation in sorted({row["generation"] for row in rows}):
        group = [row for row in rows if row["generation"] == generation]
        test = [row["test_perplexity"] for row in group]
        spread = f" ± {np.std(test, ddof=1):.2f}" if len(test) > 1 else ""
        median = np.mean([row["train_perplexity_first_median"] for row in group])
        epochs = ", ".join(str(row["best_epoch"] + 1) for row in group)
        seconds = sum(row["seconds"] for row in group)
        table.add_row(
            str(generation),
            f"{np.mean(test):.2f}{spread}",
            f"{median:.2f}",
            epochs,
            f"{seconds:.0f}",
        )
    pretrained = next(
        (row["pretrained_test_perplexity"] for row in rows if "pretrained_test_perplexity" in row),
        None,
    )
    if pretrained is not None:
        table.caption = f"test perplexity before any fine-tuning: {pretrained:.2f}"
    return table

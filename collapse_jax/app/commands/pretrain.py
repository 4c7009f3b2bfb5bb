"""`collapse-jax pretrain`: an OPT from scratch, from a text to a folder that `collapse-jax lm
--model` loads.
"""

import collections
import hashlib
import json
import math
import pathlib
import shutil
import tempfile
import time
from typing import NamedTuple

import jax
import numpy as np

from collapse_jax.app.config import PretrainConfig
from collapse_jax.errors import InputError
from collapse_jax.models.lm.corpus import (
    TextTokenizer,
    fingerprint,
    load_corpus,
    load_tokenizer,
    tokenizer_files,
    training_rows,
)
from collapse_jax.models.lm.devices import Placement
from collapse_jax.models.lm.opt import OPT, OPTConfig
from collapse_jax.models.lm.pretrain import (
    STEPS_PER_CALL,
    Pretrain,
    Training,
    advance,
    begin,
    schedule_of,
    window_order,
)
from collapse_jax.models.lm.score import mean_loss
from collapse_jax.models.lm.token_file import (
    Windows,
    cut_windows,
    flat_tokens,
    leave_out_shared,
    read_tokens,
    write_tokens,
)
from collapse_jax.models.lm.weights import save_opt, tensor_table
from collapse_jax.runs import distributed
from collapse_jax.runs.checkpoint import Checkpoints
from collapse_jax.runs.folder import RunFolder
from collapse_jax.runs.stopping import Stop

# A vocabulary is rounded up to a multiple of this, which is kind to matrix units; OPT's 50,265
# entries become its 50,272.
_VOCABULARY_STEP = 8
_CHECKPOINTS_KEPT = 2


class Materials(NamedTuple):
    """What the steps need besides settings: the model (no parameters yet), and the windows of the
    text.
    """

    model: OPT
    windows: Windows


def settings_of(config: PretrainConfig) -> Pretrain:
    """The optimiser's part of the settings."""
    return Pretrain(
        **{name: getattr(config, name) for name in Pretrain._fields if hasattr(config, name)}
    )


def model_config(config: PretrainConfig, tokenizer: TextTokenizer) -> OPTConfig:
    """Sizes of the model, for a tokenizer whose empty text is its beginning-of-text id, as OPT's
    is.
    """
    names = (
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "ffn_dim",
        "max_position_embeddings",
    )
    vocabulary = -(-tokenizer.vocab_size // _VOCABULARY_STEP) * _VOCABULARY_STEP
    first = next(iter(tokenizer.encode([""])[0]), OPTConfig.bos_token_id)
    sizes = {name: getattr(config, name) for name in names}
    return OPTConfig(
        vocab_size=vocabulary, dropout=0.0, bos_token_id=first, eos_token_id=first, **sizes
    )


def parameters_of(config: OPTConfig) -> int:
    """How many numbers a model has."""
    return sum(math.prod(row.shape) for row in tensor_table(config))


def prepare(
    config: PretrainConfig, out, *, progress=lambda stage, done, total=None: None
) -> tuple[RunFolder, Materials]:
    """The opened run folder with its tokenizer and tokens, made now or found there, and the windows
    that are cut from them.

    progress: called with a stage ("encode", "compare", ...) and how many of its tokens are done.
    Raises `InputError`, before anything is written, for what is missing, unreadable or too short,
    and for a folder whose run was
    begun with other settings, another text or another tokenizer.
    """
    config.check()
    folder = RunFolder(out)
    folder.check(config)
    made_from = {
        "corpus": fingerprint(config.corpus),
        "tokenizer": _tokenizer_fingerprint(config.tokenizer),
    }
    kept_out = _kept_out(config.exclude)
    made_from["exclude"] = [_sha256("".join(rows)) for rows in kept_out]
    file = read_tokens(folder.path / "tokens", made_from)
    if file is None:
        progress("read the tokenizer, or train it", 0)
        folder = _open_new(
            config, out, made_from, tokenizer_files(config.tokenizer, training_rows(config.corpus))
        )
        tokenizer = load_tokenizer(str(folder.path / "tokenizer"))
        rows = training_rows(config.corpus)
        write_tokens(
            folder.path / "tokens",
            rows,
            tokenizer,
            made_from,
            progress=lambda done: progress("encode", done),
        )
        file = read_tokens(folder.path / "tokens", made_from)
    else:
        folder = RunFolder.open(out, config)
        tokenizer = load_tokenizer(str(folder.path / "tokenizer"))
    windows = cut_windows(file, config.block_length, config.held_out)
    if kept_out:
        others, total = [flat_tokens(tokenizer, rows) for rows in kept_out], windows.train.size
        windows = leave_out_shared(
            windows, others, progress=lambda done: progress("compare", done, total)
        )
        if windows.left_out.all():
            raise InputError(
                f"exclude is {config.exclude!r}; every window of the corpus shares text "
                "with it, so give another corpus"
            )
    model = OPT(model_config(config, tokenizer))
    counts = {
        "tokens": len(file.tokens),
        "rows": len(file.rows),
        "train_windows": len(windows.train),
        "left_out_windows": int(windows.left_out.sum()),
        "held_out_windows": len(windows.held_out),
        "parameters": parameters_of(model.config),
    }
    folder.write_text("counts.json", json.dumps(counts, indent=2) + "\n")
    return folder, Materials(model, windows)


def run_pretrain(
    config: PretrainConfig,
    folder: RunFolder,
    materials: Materials,
    *,
    progress=lambda stage, done, total=None: None,
    recorded=lambda row: None,
    stop: Stop | None = None,
    placement: Placement = Placement(),
) -> dict:
    """Runs (or resumes, from the last checkpoint) all steps in an opened folder, exports the model,
    and returns its parameters.

    progress: called with the stage "train" and how many of its tokens are done. recorded: called
    with each new record.
    stop: asked after each compiled call whether to save and stop there. placement: the devices.
    """
    (model, windows), settings = materials, settings_of(config)
    init_key, order_key = jax.random.split(jax.random.key(config.seed))
    usable = np.flatnonzero(~windows.left_out)
    order = window_order(order_key, len(usable))
    held_out = windows.held_out[_spread(len(windows.held_out), config.held_out_windows)]
    batch_tokens = config.batch_size * config.block_length
    checkpoints, stop = Checkpoints(folder.checkpoints, keep=_CHECKPOINTS_KEPT), stop or Stop()
    step, state, record = _restored(checkpoints, model, settings, init_key)
    state = placement.place_parameters(state, config.batch_size)
    clock = _Clock()
    while step < config.steps:
        ends = (
            step + STEPS_PER_CALL,
            _after(step, config.evaluate_every),
            _after(step, config.save_every),
            config.steps,
        )
        count = min(ends) - step
        clock.start()
        index = usable[order(step * config.batch_size, count * config.batch_size)]
        batches = np.asarray(windows.train[index], np.int32).reshape(count, config.batch_size, -1)
        state, losses = advance(model, settings, state, batches, step, placement)
        clock.stop(count * batch_tokens)
        step += count
        record["loss"], record["losses"] = (
            record["loss"] + float(losses.astype(np.float64).sum()),
            record["losses"] + count,
        )
        progress("train", step * batch_tokens, config.steps * batch_tokens)
        last = step == config.steps
        if last or step % config.evaluate_every == 0:
            row = {
                "step": step,
                "tokens": step * batch_tokens,
                "train_loss": record["loss"] / record["losses"],
                "held_out_loss": float(
                    mean_loss(
                        model,
                        state.params,
                        held_out,
                        batch_size=config.batch_size,
                        placement=placement,
                    ).mean()
                ),
                "learning_rate": float(schedule_of(settings)(step - 1)),
                "tokens_per_second": clock.rate(),
            }
            record = {"rows": [*record["rows"], row], "loss": 0.0, "losses": 0}
            recorded(row)
            if not last:
                folder.write_rows(record["rows"])
        if last or step % config.save_every == 0 or stop.requested:
            checkpoints.save(step, state, record, {})
            stop.here()
    checkpoints.close()
    for path in (folder.path / "tokenizer").iterdir():
        folder.write_text(f"model/{path.name}", path.read_text(encoding="utf-8"))
    params = jax.tree.map(distributed.to_host, state.params)
    if distributed.is_first():
        _export(folder.path / "model", model, params, config.precision)
    # The row of the last step comes last of all, for it says that everything is done.
    folder.write_rows(record["rows"])
    return state.params


def _export(folder, model, params, precision):
    for left in folder.glob(".saving-*"):  # of a killed export; the run folder is ours alone
        shutil.rmtree(left, ignore_errors=True)
    try:
        save_opt(folder, model, params, precision)
    except InputError as error:  # nothing that was said wrongly: all the work is done by now
        raise OSError(str(error)) from None


def pretrain_command(
    config: PretrainConfig, out: str, console, placement: Placement = Placement()
) -> None:
    """`collapse-jax pretrain`: checks everything, runs or resumes, draws the loss curve, and says
    where the model is.
    """
    from collapse_jax.app.commands.progress import StageProgress
    from collapse_jax.app.plots import draw_run

    config.check()
    folder = RunFolder(out)
    folder.check(config)
    rows = folder.rows("step", "held_out_loss")
    weights = folder.path / "model" / "model.safetensors"
    if rows and rows[-1]["step"] == config.steps and weights.is_file():
        console.print(f"all {config.steps} steps of {folder.path} are done")
    else:
        with StageProgress(console) as bar:
            folder, materials = distributed.first_then_others(
                lambda: prepare(config, out, progress=bar.stage)
            )
            counts = json.loads((folder.path / "counts.json").read_text())
            left_out = (
                f", {counts['left_out_windows']:,} of them left out for text of {config.exclude}"
                if config.exclude
                else ""
            )
            bar.line(
                f"{counts['parameters']:,} parameters; {counts['tokens']:,} tokens: "
                f"{counts['train_windows']:,} windows of "
                f"{config.block_length}{left_out}, {counts['held_out_windows']:,} held "
                f"out; run folder {folder.path}"
            )
            with Stop(bar.line) as stop:
                options = {
                    "progress": bar.stage,
                    "recorded": lambda row: bar.line(_line(row)),
                    "stop": stop,
                    "placement": placement,
                }
                run_pretrain(config, folder, materials, **options)
        rows = folder.rows()
    if not distributed.is_first():
        return
    console.print(
        f"held-out loss {rows[-1]['held_out_loss']:.4f} (perplexity "
        f"{math.exp(rows[-1]['held_out_loss']):.2f}); "
        f"model: {weights.parent} ({weights.stat().st_size / 1e6:.2f} MB, {config.precision})",
        highlight=False,
    )
    for path in draw_run(folder):
        console.print(f"figure: {path}", highlight=False)


class _Clock:
    """Tokens a second; the first call of a process is not counted, for it compiles."""

    def __init__(self):
        self._warm, self._seconds, self._tokens, self._began = False, 0.0, 0, 0.0

    def start(self):
        self._began = time.perf_counter()

    def stop(self, tokens):
        if self._warm:
            self._seconds, self._tokens = (
                self._seconds + time.perf_counter() - self._began,
                self._tokens + tokens,
            )
        self._warm = True

    def rate(self):
        """Since it was last asked for; None where nothing was counted."""
        rate = round(self._tokens / self._seconds, 1) if self._tokens else None
        self._seconds, self._tokens = 0.0, 0
        return rate


def _restored(checkpoints, model, settings, key):
    """Step, state and record of the newest checkpoint, or of the beginning."""
    template: Training = jax.eval_shape(lambda: begin(model, settings, key))
    whole = checkpoints.newest_whole(template)
    return (
        whole[:3]
        if whole
        else (0, begin(model, settings, key), {"rows": [], "loss": 0.0, "losses": 0})
    )


def _open_new(config, out, made_from, files):
    """The run folder with its tokenizer, once a corpus that is too short was refused."""
    with tempfile.TemporaryDirectory() as aside:
        for name, text in files.items():
            pathlib.Path(aside, name).write_text(text, encoding="utf-8")
        tokenizer = load_tokenizer(aside)
    found, least = 0, 2 * config.block_length
    rows = training_rows(config.corpus)
    for row in rows:
        found += len(tokenizer.encode([row])[0])
        if found >= least:
            break
    else:
        raise InputError(
            f"corpus {config.corpus!r} has {found} tokens; give at least {least}, 2 "
            "windows of block_length"
        )
    # To its end, so that a damaged file is found before anything is written.
    collections.deque(rows, maxlen=0)
    # Parameters and Adam's two moments, in the checkpoints that are kept and the one being written;
    # the tokens of a packed text.
    states = (_CHECKPOINTS_KEPT + 1) * 3 * 4 * parameters_of(model_config(config, tokenizer))
    folder = RunFolder.open(
        out, config, states + 4 * sum(size for _, size, _ in made_from["corpus"])
    )
    for name, text in files.items():
        folder.write_text(f"tokenizer/{name}", text)
    return folder


def _kept_out(source):
    """Rows of the valid and test text of a corpus, or none."""
    try:
        return [] if source is None else list(load_corpus(source)[1:])
    except InputError as error:
        raise InputError(f"exclude is {source!r}: {error}") from None


def _tokenizer_fingerprint(source):
    """What changes when the tokenizer does; one that is trained depends on the corpus and its size
    alone.
    """
    return (
        source
        if source.startswith("train:")
        else {name: _sha256(text) for name, text in tokenizer_files(source).items()}
    )


def _sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


def _spread(windows, wanted):
    """Numbers of `wanted` windows, evenly spaced, or of all."""
    return (
        np.arange(windows)
        if not 0 < wanted < windows
        else np.linspace(0, windows - 1, wanted).round().astype(int)
    )


def _after(step, every):
    """The first multiple of `every` above `step`."""
    return (step // every + 1) * every


def _line(row):
    rate = f", {row['tokens_per_second']:,.0f} tokens/s" if row["tokens_per_second"] else ""
    losses = f"training loss {row['train_loss']:.4f}, held-out loss {row['held_out_loss']:.4f}"
    return (
        f"step {row['step']} ({row['tokens']:,} tokens): {losses}, learning rate "
        f"{row['learning_rate']:.2e}{rate}"
    )

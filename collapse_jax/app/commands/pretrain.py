"""`collapse-jax pretrain`: an OPT from scratch, from a text to a folder that `lm --model` loads."""

import collections
import functools
import hashlib
import json
import math
import os
import pathlib
import shutil
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from collapse_jax.app.commands import inputs
from collapse_jax.app.config import PretrainConfig
from collapse_jax.app.config.pretrain import PretrainSettings
from collapse_jax.errors import DivergenceError, InputError
from collapse_jax.models.lm.assemble import tensor_table
from collapse_jax.models.lm.corpus import (
    TextTokenizer,
    fingerprint,
    load_corpus,
    load_tokenizer,
    tell_training,
    tokenizer_files,
    training_rows,
)
from collapse_jax.models.lm.notice import Say
from collapse_jax.models.lm.opt import OPT, OPTConfig
from collapse_jax.models.lm.pretrain import advance, begin, learning_rate_at, window_order
from collapse_jax.models.lm.score import mean_loss
from collapse_jax.models.lm.steps import STEPS_PER_CALL, Training
from collapse_jax.models.lm.token_file import (
    Windows,
    cut_windows,
    flat_tokens,
    leave_out_shared,
    read_tokens,
    write_tokens,
)
from collapse_jax.models.lm.weights import save_opt
from collapse_jax.runs import distributed, made_of
from collapse_jax.runs.checkpoint import Checkpoints
from collapse_jax.runs.folder import RunFolder
from collapse_jax.runs.placement import Placement
from collapse_jax.runs.session import Session
from collapse_jax.runs.stopping import Stop

# A vocabulary is rounded up to a multiple of this, which suits matrix units; OPT's 50,265 entries
# become its 50,272.
_VOCABULARY_STEP = 8
CHECKPOINTS_KEPT = 2
# Nats per token; exp of more than 709 is no float.
_LARGEST_LOSS = 700.0


class Materials(NamedTuple):
    """What the steps need besides settings.

    model: the network, without parameters.
    windows: of the text.
    """

    model: OPT
    windows: Windows


def model_config(config: PretrainConfig, tokenizer: TextTokenizer) -> OPTConfig:
    """Sizes of the model, and its special tokens: those that the tokenizer's files name.

    Of one that names none, the id that an empty text is encoded as begins and ends a text.
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
    end = tokenizer.special.get("eos_token", first)
    special = {
        "bos_token_id": first,
        "eos_token_id": end,
        # Where a tokenizer has names for special tokens, but none for padding, the end stands in.
        "pad_token_id": tokenizer.special.get("pad_token", end)
        if tokenizer.special
        else OPTConfig.pad_token_id,
    }
    sizes = {name: getattr(config, name) for name in names}
    return OPTConfig(vocab_size=vocabulary, dropout=0.0, **special, **sizes)


def parameters_of(config: OPTConfig) -> int:
    """How many numbers a model has."""
    return sum(math.prod(row.shape) for row in tensor_table(OPT(config)))


def prepare(
    settings: PretrainSettings,
    out: str | os.PathLike,
    *,
    session: Session = Session(),
    say: Say | None = None,
) -> tuple[RunFolder, Materials]:
    """The opened run folder with its tokenizer and tokens, and the windows of the text.

    Tokenizer and tokens are made now, or found in the folder.

    Args:
        session: Progress (stages "encode", "compare", ...).
        say: Called with lines on what is read and what is left out; by default they are logged.

    Raises:
        InputError: Before anything is written, if something is missing, unreadable or too short, or
            the folder's run was begun with other settings, another text or another tokenizer.
    """
    config = settings.config
    folder = RunFolder(out)
    tell_training(config.corpus, say)
    kept_out = _kept_out(config.exclude, say)
    read = _corpus(config) | inputs.tokenizer_files(config.tokenizer) | _excluded(config, kept_out)
    folder.check(config, read)
    made_from = {
        "corpus": fingerprint(config.corpus),
        "tokenizer": _tokenizer_fingerprint(config.tokenizer),
        "exclude": [_sha256("".join(rows)) for rows in kept_out],
    }
    if config.text_column is not None:  # folders of versions without it have no such entry
        made_from["text_column"] = config.text_column
    file = read_tokens(folder.path / "tokens", made_from)
    if file is None:
        session.progress("read the tokenizer, or train it", 0, None)
        rows = training_rows(config.corpus, config.text_column)
        files = tokenizer_files(config.tokenizer, rows, say)
        folder = _open_new(config, out, made_from, files, read)
        tokenizer = load_tokenizer(str(folder.path / "tokenizer"), _said_before)
        rows, tokens = training_rows(config.corpus, config.text_column), folder.path / "tokens"
        write_tokens(tokens, rows, tokenizer, made_from, session=session)
        file = read_tokens(tokens, made_from)
    else:
        folder = RunFolder.open(out, config, inputs=read)
        tokenizer = load_tokenizer(str(folder.path / "tokenizer"), _said_before)
    assert file is not None  # just written
    folder.keep_inputs(_own_files(folder))
    windows = _windows(config, file, tokenizer, kept_out, session)
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


def _windows(config, file, tokenizer, kept_out, session):
    """The windows of the text, without those that share text with what is kept out."""
    windows = cut_windows(file, config.block_length, config.held_out)
    if kept_out:
        others = [flat_tokens(tokenizer, rows) for rows in kept_out]
        windows = leave_out_shared(windows, others, session=session)
        if windows.left_out.all():
            raise InputError(
                f"exclude is {config.exclude!r}; every window of the corpus shares text "
                "with it, so give another corpus"
            )
    return windows


def run_pretrain(
    settings: PretrainSettings,
    folder: RunFolder,
    materials: Materials,
    *,
    session: Session = Session(),
    recorded: Callable[[dict], Any] = lambda row: None,
    stop: Stop | None = None,
) -> dict:
    """Runs all steps in an opened folder, or the rest of them after the newest checkpoint.

    Args:
        session: Devices and progress (stage "train").
        recorded: Called with each new record.
        stop: Asked after each compiled call whether to save and stop there.

    Returns:
        The parameters; the model is exported to the folder.
    """
    config, model, stop = settings.config, materials.model, stop or Stop()
    init_key, order_key = jax.random.split(jax.random.key(config.seed))
    steps = Steps(settings, materials, session, order_key)
    checkpoints = Checkpoints(folder.checkpoints, keep=CHECKPOINTS_KEPT)
    step, state, record = _restored(checkpoints, model, settings.optimiser, init_key)
    state = session.placement.place_parameters(state, config.batch_size)
    while step < config.steps:
        step, state, losses = steps.run(step, state)
        record["loss"] += float(losses.astype(np.float64).sum())
        record["losses"] += len(losses)
        last = step == config.steps
        if last or step % config.evaluate_every == 0:
            row = steps.row(step, state.params, record["loss"] / record["losses"])
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
    # The row of the last step is written last, since it says that everything is done.
    folder.write_rows(record["rows"])
    return state.params


class Steps:
    """Compiled calls on the windows of a text, and what is recorded of them."""

    def __init__(
        self,
        settings: PretrainSettings,
        materials: Materials,
        session: Session,
        order_key: jax.Array,
    ):
        """Nothing is computed yet; order_key: of the order of the windows."""
        self._config, self._settings, self._session = settings.config, settings.optimiser, session
        self._model, windows = materials
        self._train, self._usable = windows.train, np.flatnonzero(~windows.left_out)
        self._order = window_order(order_key, len(self._usable))
        scored = _evenly_spaced(len(windows.held_out), self._config.held_out_windows)
        self._held_out = windows.held_out[scored]
        self._clock = _Clock()

    @property
    def _batch_tokens(self):
        return self._config.batch_size * self._config.block_length

    def run(self, step, state: Any) -> tuple[int, Any, np.ndarray]:
        """(step, state, losses) after one call, which ends where there is something to do."""
        config = self._config
        ends = (
            step + STEPS_PER_CALL,
            _next_multiple(step, config.evaluate_every),
            _next_multiple(step, config.save_every),
            config.steps,
        )
        count = min(ends) - step
        self._clock.start()
        places = self._order(step * config.batch_size, count * config.batch_size)
        batches = np.asarray(self._train[self._usable[places]], np.int32)
        state, losses = advance(
            self._model,
            self._settings,
            state,
            batches.reshape(count, config.batch_size, -1),
            step,
            session=self._session,
        )
        self._clock.stop(count * self._batch_tokens)
        step += count
        total = config.steps * self._batch_tokens
        self._session.progress("train", step * self._batch_tokens, total)
        return step, state, losses

    def row(self, step: int, params: dict, train_loss: float) -> dict:
        """The record after a step."""
        session = self._session.devices_only()
        held_out = mean_loss(
            self._model,
            params,
            self._held_out,
            batch_size=self._config.batch_size,
            session=session,
        )
        loss = float(held_out.mean())
        if not math.isfinite(loss):
            raise DivergenceError(
                f"the held-out loss became {loss} after step {step - 1}; try a smaller learning "
                "rate"
            )
        return {
            "step": step,
            "tokens": step * self._batch_tokens,
            "train_loss": train_loss,
            "held_out_loss": loss,
            "learning_rate": learning_rate_at(self._settings, step - 1),
            "tokens_per_second": self._clock.rate(),
        }


def _export(folder, model, params, precision):
    for left_over in folder.glob(".saving-*"):  # of a killed export; no other process writes here
        shutil.rmtree(left_over, ignore_errors=True)
    try:
        save_opt(folder, model, params, precision)
    except InputError as error:  # not bad input: all the work is done by now
        raise OSError(str(error)) from None


def pretrain_command(
    config: PretrainConfig,
    out: str,
    console: Any,
    placement: Placement = Placement(),
    *,
    dry_run: bool = False,
) -> None:
    """`collapse-jax pretrain`: checks everything, runs or resumes, draws the loss curve.

    Args:
        dry_run: Whether it is only said what would be done.
    """
    from collapse_jax.app.plots import draw_run

    settings = config.settings()
    folder = RunFolder(out)
    folder.check(config)
    if dry_run:
        from collapse_jax.app.commands.pretrain_dry_run import dry_run as dry_run_of

        return dry_run_of(settings, folder, console, placement)
    weights = folder.path / "model" / "model.safetensors"
    if _is_done(config, folder, functools.partial(console.print, highlight=False)):
        console.print(f"all {config.steps} steps of {folder.path} are done")
    else:
        folder = _open_and_run(settings, out, console, placement)
    rows = folder.rows("step", "held_out_loss")
    if not distributed.is_first():
        return
    loss = rows[-1]["held_out_loss"]
    console.print(
        f"held-out loss {loss:.4f} (perplexity, exp of the mean loss: {_exp_words(loss)}); "
        f"model: {weights.parent} ({weights.stat().st_size / 1e6:.2f} MB, {config.precision})",
        highlight=False,
    )
    for path in draw_run(folder):
        console.print(f"figure: {path}", highlight=False)


def _exp_words(loss):
    return f"{math.exp(loss):.2f}" if loss < _LARGEST_LOSS else "above 1e300"


def _open_and_run(settings, out, console, placement):
    """The run folder, with all steps done."""
    from collapse_jax.app.commands.progress import StageProgress

    config = settings.config
    with StageProgress(console) as bar:
        session = Session(placement, progress=bar.stage)
        said: list[str] = []
        folder, materials = distributed.first_then_others(
            functools.partial(prepare, settings, out, session=session, say=said.append)
        )
        for line in said:
            bar.line(line)
        counts = json.loads((folder.path / "counts.json").read_text())
        left_out = ""
        if config.exclude:
            left_out = (
                f", {counts['left_out_windows']:,} of them left out for text of {config.exclude}"
            )
        bar.line(
            f"{counts['parameters']:,} parameters; {counts['tokens']:,} tokens: "
            f"{counts['train_windows']:,} windows of {config.block_length}{left_out}, "
            f"{counts['held_out_windows']:,} held out; run folder {folder.path}"
        )

        def recorded(row):
            bar.line(_line(row))

        with Stop(bar.line) as stop:
            run_pretrain(settings, folder, materials, session=session, recorded=recorded, stop=stop)
    return folder


class _Clock:
    """Tokens a second; the first call of a process is not counted, because it compiles."""

    def __init__(self):
        self._warm, self._seconds, self._tokens, self._began = False, 0.0, 0, 0.0

    def start(self):
        self._began = time.perf_counter()

    def stop(self, tokens):
        if self._warm:
            self._seconds += time.perf_counter() - self._began
            self._tokens += tokens
        self._warm = True

    def rate(self):
        """Since the last call of `rate`; None if nothing was counted."""
        rate = round(self._tokens / self._seconds, 1) if self._tokens else None
        self._seconds, self._tokens = 0.0, 0
        return rate


def _restored(checkpoints, model, optimiser, key):
    """Step, state and record of the newest checkpoint, or of the beginning."""
    template: Training = jax.eval_shape(lambda: begin(model, optimiser, key))
    newest = checkpoints.newest_whole(template)
    if newest:
        return newest[:3]
    return 0, begin(model, optimiser, key), {"rows": [], "loss": 0.0, "losses": 0}


def _open_new(config, out, made_from, files, read):
    """The run folder with its tokenizer, after refusing a corpus that is too short."""
    with tempfile.TemporaryDirectory() as aside:
        for name, text in files.items():
            pathlib.Path(aside, name).write_text(text, encoding="utf-8")
        tokenizer = load_tokenizer(aside, _said_before)
    count, least = 0, 2 * config.block_length
    rows = training_rows(config.corpus, config.text_column)
    for row in rows:
        count += len(tokenizer.encode([row])[0])
        if count >= least:
            break
    else:
        raise InputError(
            f"corpus {config.corpus!r} has {count} tokens; give at least {least}, 2 "
            "windows of block_length"
        )
    # To its end, so that a damaged file is found before anything is written.
    collections.deque(rows, maxlen=0)
    # Parameters and Adam's two moments, in the checkpoints that are kept and the one being written;
    # the tokens of a packed text.
    states = (CHECKPOINTS_KEPT + 1) * 3 * 4 * parameters_of(model_config(config, tokenizer))
    tokens = 4 * sum(size for _, size, _ in made_from["corpus"])
    folder = RunFolder.open(out, config, states + tokens, inputs=read)
    for name, text in files.items():
        folder.write_text(f"tokenizer/{name}", text)
    return folder


def _said_before(line):
    """For reading again what everything has been said of."""


def _corpus(config):
    """What the run folder keeps of the files that are read."""
    hashes = {name: digest for name, _, digest in fingerprint(config.corpus)}
    return {"corpus": {"where": config.corpus, "contents": hashes}}


def _excluded(config, kept_out):
    """The same of the text that is kept out: its rows."""
    if config.exclude is None:
        return {}
    hashes = dict(zip(("valid", "test"), map(made_of.of_texts, kept_out), strict=True))
    return {"text to exclude": {"where": config.exclude, "contents": hashes}}


def _is_done(config, folder, say):
    """Whether every record and the model are there, made of what would be read now."""
    rows = {row["step"] for row in folder.rows("step", "held_out_loss")}
    wanted = {*range(config.evaluate_every, config.steps, config.evaluate_every), config.steps}
    own = folder.path / "tokenizer"
    names = ["model.safetensors", "config.json", *(os.listdir(own) if own.is_dir() else ())]
    if not wanted <= rows or not all((folder.path / "model" / name).is_file() for name in names):
        return False
    finders = {
        "corpus": lambda: _corpus(config),
        "tokenizer": lambda: inputs.tokenizer_files(config.tokenizer),
        "text to exclude": lambda: _excluded(config, _kept_out(config.exclude, _said_before)),
    }
    return inputs.unchanged(folder, finders, say)


def _own_files(folder):
    """The same of the tokens and of the tokenizer in the folder itself, which the steps read."""
    return inputs.files_of("tokens", str(folder.path / "tokens")) | inputs.files_of(
        "tokenizer of the run", str(folder.path / "tokenizer")
    )


def _kept_out(source, say):
    """Rows of the valid and of the test text of a corpus; [] without one."""
    try:
        return [] if source is None else list(load_corpus(source, say)[1:])
    except InputError as error:
        raise InputError(f"exclude is {source!r}: {error}") from None


def _tokenizer_fingerprint(source):
    """Changes with the tokenizer; one that is trained depends on the corpus and its size alone."""
    if source.startswith("train:"):
        return source
    return {name: _sha256(text) for name, text in tokenizer_files(source, (), _said_before).items()}


def _sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


def _evenly_spaced(windows, wanted):
    """Numbers of `wanted` of the windows; of all if that is 0 or too many."""
    if not 0 < wanted < windows:
        return np.arange(windows)
    return np.linspace(0, windows - 1, wanted).round().astype(int)


def _next_multiple(step, every):
    """The first multiple of `every` above `step`."""
    return (step // every + 1) * every


def _line(row):
    rate = f", {row['tokens_per_second']:,.0f} tokens/s" if row["tokens_per_second"] else ""
    losses = f"training loss {row['train_loss']:.4f}, held-out loss {row['held_out_loss']:.4f}"
    return (
        f"step {row['step']} ({row['tokens']:,} tokens): {losses}, learning rate "
        f"{row['learning_rate']:.2e}{rate}"
    )

"""Schedules, budgets, accumulated gradients, clipping and the loss on a part of each block."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collapse_jax.errors import InputError
from collapse_jax.models.lm import finetune
from collapse_jax.models.lm.finetune import FineTune, fine_tune
from collapse_jax.models.lm.fit_settings import Plan, plan_of
from collapse_jax.models.lm.opt import OPT, OPTConfig, init_params
from collapse_jax.models.lm.schedules import learning_rates
from collapse_jax.models.lm.score import batch_loss, mean_loss, token_losses
from collapse_jax.runs.scratch import AsFirstWritten, Scratch
from collapse_jax.runs.session import Session

SIZES = {
    "vocab_size": 29,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "ffn_dim": 16,
    "max_position_embeddings": 8,
    "init_std": 0.3,
}
MODEL = OPT(OPTConfig(**SIZES, dropout=0.0))
KEY = jax.random.key(4)
# 11 blocks in steps of up to 2 * 3: 6 and 5 an epoch, of which the last batch has 1. The fifth step
# is in the third of 4 epochs.
EVERYTHING = FineTune(
    epochs=4,
    batch_size=2,
    learning_rate=3e-2,
    final_learning_rate=2e-3,
    weight_decay=0.1,
    keep="last",
    schedule="linear",
    warmup_steps=2,
    gradient_accumulation=3,
    max_grad_norm=0.9,
    max_steps=5,
    loss_from=3,
)

pytestmark = pytest.mark.usefixtures("quick_compile")


@pytest.fixture(scope="module")
def params():
    return init_params(MODEL.config, jax.random.key(0))


@pytest.fixture(scope="module")
def blocks():
    return np.random.default_rng(0).integers(3, 29, (11, 8))


@pytest.fixture(scope="module")
def valid():
    return np.random.default_rng(1).integers(3, 29, (4, 8))


@pytest.fixture
def steps_seen(monkeypatch):
    """The blocks of every optimiser step, a list of lists of rows."""
    seen, run_steps = [], finetune.run_steps

    def spy(*arguments):
        tokens, weights = arguments[5]
        for step, weight in zip(np.asarray(tokens), np.asarray(weights), strict=True):
            rows = step.reshape(-1, step.shape[-1])[weight.ravel() > 0]
            if len(rows):
                seen.append([tuple(row) for row in rows.tolist()])
        return run_steps(*arguments)

    monkeypatch.setattr(finetune, "run_steps", spy)
    return seen


# Learning rates.


def formula(schedule, step, *, steps, warmup, first, final):
    """transformers' `get_scheduler`; an end above 0 as in cosine_with_min_lr."""
    if step < warmup:
        return first * step / max(1, warmup)
    progress = (step - warmup) / max(1, steps - warmup)
    if schedule == "constant":
        return first
    share = 1 - progress if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
    return first * (share * (1 - final / first) + final / first)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
@pytest.mark.parametrize(("steps", "warmup"), [(7, 0), (10, 3), (40, 39), (1, 0)])
def test_rates_by_step_are_those_of_the_formulas(schedule, steps, warmup):
    final = 1e-6 if schedule == "constant" else 3e-4
    settings = FineTune(
        schedule=schedule, warmup_steps=warmup, learning_rate=5e-3, final_learning_rate=final
    )
    wanted = [
        formula(schedule, s, steps=steps, warmup=warmup, first=5e-3, final=final)
        for s in range(steps)
    ]
    np.testing.assert_allclose(learning_rates(settings, steps), wanted, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_the_formulas_are_those_of_transformers(schedule):
    torch = pytest.importorskip("torch")
    from transformers import get_scheduler

    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=5e-3)
    name = {"constant": "constant_with_warmup"}.get(schedule, schedule)
    scheduler = get_scheduler(name, optimiser, num_warmup_steps=3, num_training_steps=10)
    theirs = []
    for _ in range(10):
        theirs.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    ours = [formula(schedule, s, steps=10, warmup=3, first=5e-3, final=0.0) for s in range(10)]
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-18)
    settings = FineTune(
        schedule=schedule, warmup_steps=3, learning_rate=5e-3, final_learning_rate=0.0
    )
    np.testing.assert_allclose(learning_rates(settings, 10), theirs, rtol=1e-5, atol=1e-12)


# Budgets.


def counted(settings, blocks, length):
    """The plan by going through the fit block by block."""
    read = steps = epochs = 0
    rows = min(settings.batch_size * settings.gradient_accumulation, blocks)
    for _ in range(settings.epochs):
        in_step = 0
        for block in range(blocks):
            no_steps = in_step == 0 and steps == settings.max_steps
            no_tokens = settings.max_tokens and (read + 1) * length > settings.max_tokens
            if no_steps or no_tokens:
                return Plan(rows, read, epochs, steps)
            steps, epochs = steps + (in_step == 0), epochs + (block == 0)
            read, in_step = read + 1, (in_step + 1) % rows
    return Plan(rows, read, epochs, steps)


def test_the_smallest_of_epochs_steps_and_tokens_ends_a_fit():
    ends = set()
    for epochs, batch, accumulation, blocks, max_steps, max_tokens in itertools.product(
        (1, 3), (1, 4, 50), (1, 3), (1, 7, 13), (None, 1, 3, 8), (None, 5, 17, 64, 200)
    ):
        settings = FineTune(
            epochs,
            batch,
            gradient_accumulation=accumulation,
            max_steps=max_steps,
            max_tokens=max_tokens,
        )
        plan = plan_of(settings, blocks, 5)
        assert plan == counted(settings, blocks, 5)
        ends.add((plan.epochs == epochs, plan.steps == max_steps, plan.blocks * 5 == max_tokens))
    assert len(ends) > 4


def test_a_budget_stays_while_the_training_set_grows():
    in_tokens = FineTune(epochs=1000, batch_size=4, max_tokens=8 * 50)
    in_steps = in_tokens._replace(max_tokens=None, max_steps=12)
    assert [plan_of(in_tokens, n, 8).blocks for n in (10, 20, 40, 200)] == [50] * 4
    assert [plan_of(in_steps, n, 8).steps for n in (10, 20, 40, 200)] == [12] * 4
    assert [plan_of(in_steps, n, 8).epochs for n in (10, 20, 40, 200)] == [4, 3, 2, 1]


def test_the_cosine_over_epochs_ends_with_the_epochs_of_a_budget(
    params, blocks, valid, monkeypatch
):
    """Two of 9 epochs: rates at 0 and at half of the cosine."""
    rates, run_steps = [], finetune.run_steps

    def spy(*arguments):
        rates.append(arguments[7])
        return run_steps(*arguments)

    monkeypatch.setattr(finetune, "run_steps", spy)
    settings = FineTune(
        epochs=9, batch_size=8, learning_rate=3e-2, final_learning_rate=1e-2, max_steps=3
    )
    _, result = fine_tune(MODEL, params, blocks, valid, settings, KEY)
    assert rates == pytest.approx([3e-2, 2e-2], rel=1e-12) and result.steps == 3


# A whole fit.


def clipped(gradient, most):
    norm = math.sqrt(sum((g**2).sum() for g in gradient.values()))
    return {name: g * min(1, most / norm) for name, g in gradient.items()}, norm


@functools.cache
def value_and_grad(first):
    """(params, rows [6, 8], weights [6]) -> the mean loss from a position on, by the logits alone,
    and its gradient.
    """

    def loss(params, tokens, weights):
        log_probs = jax.nn.log_softmax(MODEL.apply({"params": params}, tokens))[:, :-1]
        picked = jnp.take_along_axis(log_probs, tokens[:, 1:, None], -1)[:, first - 1 :, 0]
        return -jnp.average(picked.mean(1), weights=weights)

    return jax.jit(jax.value_and_grad(loss))


def by_hand(params, steps, rates, settings):
    """AdamW in float64 on clipped gradients of the mean loss over all rows of a step; (arrays,
    losses, norms of the gradients).
    """
    p, structure = named(params), jax.tree.structure(params)
    m, v = ({name: np.zeros_like(a) for name, a in p.items()} for _ in range(2))
    losses, norms, s = [], [], settings
    for t, (rows, rate) in enumerate(zip(steps, rates, strict=True), 1):
        here = jax.tree.unflatten(structure, [jnp.asarray(a, jnp.float32) for a in p.values()])
        padded = jnp.asarray([*rows, *rows[:1] * (6 - len(rows))])
        loss, gradient = value_and_grad(max(s.loss_from, 1))(
            here, padded, (jnp.arange(6) < len(rows)).astype(jnp.float32)
        )
        g, norm = clipped(named(gradient), s.max_grad_norm or math.inf)
        for name in p:
            m[name] = s.beta1 * m[name] + (1 - s.beta1) * g[name]
            v[name] = s.beta2 * v[name] + (1 - s.beta2) * g[name] ** 2
            m_hat, v_hat = m[name] / (1 - s.beta1**t), v[name] / (1 - s.beta2**t)
            step = m_hat / (np.sqrt(v_hat) + s.epsilon) + s.weight_decay * p[name]
            p[name] = p[name] - rate * step
        losses.append(float(loss))
        norms.append(norm)
    return p, losses, norms


def named(tree):
    """Float64 arrays by path, in the order of the leaves."""
    return {
        jax.tree_util.keystr(path): np.asarray(leaf, np.float64)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def largest_difference(a, b):
    """Without the key biases, whose gradient is rounding error."""
    return max(np.abs(a[name] - b[name]).max() for name in a if "k_proj']['bias" not in name)


def test_everything_at_once_is_a_plain_loop(params, blocks, valid, steps_seen):
    """Warm-up, linear decay, accumulated gradients of uneven batches, clipping, a budget that ends
    within an epoch, the loss from position 3 on.
    """
    settings = EVERYTHING
    fitted, result = fine_tune(MODEL, params, blocks, valid, settings, KEY)
    assert [len(rows) for rows in steps_seen] == [6, 5, 6, 5, 6] and result.steps == 5
    everything = sorted(map(tuple, blocks.tolist()))
    for epoch in (steps_seen[:2], steps_seen[2:4]):
        assert sorted(itertools.chain(*epoch)) == everything
    assert len(set(steps_seen[4])) == 6 and steps_seen[4] != steps_seen[2] != steps_seen[0]
    rates = [formula("linear", s, steps=5, warmup=2, first=3e-2, final=2e-3) for s in range(5)]
    plain, losses, norms = by_hand(params, steps_seen, rates, settings)
    assert largest_difference(named(fitted), plain) < 1e-4
    wanted = [
        np.average(losses[:2], weights=[6, 5]),
        np.average(losses[2:4], weights=[6, 5]),
        losses[4],
    ]
    np.testing.assert_allclose(result.train_loss, wanted, rtol=1e-5)
    held_out = token_losses(MODEL, fitted, jnp.asarray(valid))[:, 2:].mean()
    assert len(result.valid_loss) == 3
    assert result.valid_loss[-1] == pytest.approx(float(held_out), rel=1e-5)
    assert min(norms) < 0.9 < max(norms)
    # So the comparison sees each of them.
    uneven = [rows[:5] for rows in steps_seen]
    for wrong, those in (
        (settings._replace(max_grad_norm=None), steps_seen),
        (settings._replace(loss_from=0), steps_seen),
        (settings, uneven),
    ):
        assert largest_difference(by_hand(params, those, rates, wrong)[0], plain) > 1e-3
    shifted = by_hand(params, steps_seen, rates[1:] + rates[:1], settings)[0]
    assert largest_difference(shifted, plain) > 1e-3


def test_accumulated_batches_are_one_big_batch(params, blocks, valid):
    """To rounding: 3 batches of 2, the last of an epoch 2, 2 and 1, beside batches of 6."""
    fitted, result = fine_tune(MODEL, params, blocks, valid, EVERYTHING, KEY)
    one = EVERYTHING._replace(batch_size=6, gradient_accumulation=1)
    whole, other = fine_tune(MODEL, params, blocks, valid, one, KEY)
    assert largest_difference(named(fitted), named(whole)) < 1e-5
    np.testing.assert_allclose(result.train_loss, other.train_loss, rtol=1e-6)
    np.testing.assert_allclose(result.valid_loss, other.valid_loss, rtol=1e-6)
    assert result.steps == other.steps
    # More batches than there are: one step takes all blocks, and nothing is made for the others.
    many = FineTune(2, 4, 1e-2, gradient_accumulation=2**31 - 1)
    assert plan_of(many, 11, 8) == Plan(11, 22, 2, 2)
    ((tokens, weights, calls),) = finetune._calls(blocks, many, KEY, 11)
    assert tokens.shape == (1, 3, 4, 8) and weights.sum() == 11 and calls == 1


def test_the_loss_from_a_position_is_that_of_the_later_tokens(params, blocks):
    firsts, weights = (0, 1, 5, 7), jnp.arange(11.0)

    @jax.jit
    def everything(params, tokens):
        by_token = [token_losses(MODEL, params, tokens, loss_from=first) for first in firsts]
        means = [batch_loss(MODEL, params, tokens, weights, loss_from=first) for first in firsts]
        return by_token, means

    by_token, means = everything(params, jnp.asarray(blocks))
    every = np.asarray(by_token[0])
    assert every.shape == (11, 7)
    for first, later, mean in zip(firsts, by_token, means, strict=True):
        expected = every[:, max(first, 1) - 1 :]
        np.testing.assert_allclose(later, expected, rtol=1e-5)
        np.testing.assert_allclose(mean, np.average(expected.mean(1), weights=weights), rtol=1e-5)
    scored = mean_loss(MODEL, params, blocks, loss_from=5)
    np.testing.assert_allclose(scored, every[:, 4:].mean(1), rtol=1e-5)


# Stopped and started again.


class Stopped(Exception):
    pass


class Memory(Scratch):
    """A scratch in memory that fails after one of its writes."""

    def __init__(self, fails_at=None):
        self.pieces, self.writes, self.fails_at = {}, 0, fails_at

    def load(self, name, made_of):
        made, arrays = self.pieces.get(name, (None, None))
        return dict(arrays) if made == made_of else None

    def save(self, name, made_of, arrays):
        self.pieces[name] = made_of, {key: np.array(value) for key, value in arrays.items()}
        self.writes += 1
        if self.writes == self.fails_at:
            raise Stopped


@pytest.mark.parametrize(("rank", "rate"), [(0, 1.0), (2, 0.1)])
def test_it_goes_on_from_any_epoch_with_the_same_bits(params, blocks, valid, rank, rate):
    """With everything at once and dropout, of all weights and of LoRA, the best epoch before the
    last.
    """
    model = OPT(OPTConfig(**SIZES, dropout=0.3))
    settings = EVERYTHING._replace(lora_rank=rank, learning_rate=rate, keep="best")
    whole, undisturbed = [], Memory()
    for scratch in (Scratch(), undisturbed):
        session = Session(scratch=scratch)
        whole.append(fine_tune(model, params, blocks, valid, settings, KEY, session=session))
    assert undisturbed.writes >= 3
    for fails_at in range(1, undisturbed.writes + 1):
        memory = Memory(fails_at)
        session = Session(scratch=memory)
        with pytest.raises(Stopped):
            fine_tune(model, params, blocks, valid, settings, KEY, session=session)
        whole.append(fine_tune(model, params, blocks, valid, settings, KEY, session=session))
    fitted, result = whole[0]
    for again, same in whole[1:]:
        assert jax.tree.all(jax.tree.map(np.array_equal, again, fitted))
        assert same.valid_loss.tolist() == result.valid_loss.tolist()
        assert same.train_loss.tolist() == result.train_loss.tolist()
        assert same.gradient_norm.tolist() == result.gradient_norm.tolist()
        assert (same.best_epoch, same.steps) == (result.best_epoch, result.steps) == (0, 5)


def test_unfinished_fits_of_older_versions_are_named_as_they_were():
    """What a fit was made of goes into a fingerprint; later settings only where they count."""
    named_so = (
        "FineTune(epochs=5, batch_size=128, learning_rate=2e-05, final_learning_rate=1e-06, "
        "beta1=0.9, beta2=0.999, epsilon=1e-08, weight_decay=0.01, keep='best'"
    )
    assert repr(AsFirstWritten(FineTune(), finetune._LATER_FIELDS)) == f"{named_so})"
    later = AsFirstWritten(FineTune(max_steps=3, schedule="linear"), finetune._LATER_FIELDS)
    assert repr(later) == f"{named_so}, schedule='linear', max_steps=3)"


# What is refused.


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"gradient_accumulation": 0}, "gradient_accumulation is 0; it must be an integer of at"),
        ({"max_grad_norm": 0.0}, r"max_grad_norm is 0\.0; it must be finite and above 0"),
        ({"max_grad_norm": math.nan}, "max_grad_norm is nan"),
        ({"max_steps": 0}, "max_steps is 0"),
        ({"max_tokens": 2.5}, r"max_tokens is 2\.5"),
        ({"max_tokens": 7}, "max_tokens is 7; a block has 8 tokens, so it must be at least that"),
        ({"warmup_steps": -1, "schedule": "linear"}, "warmup_steps is -1"),
        (
            {"warmup_steps": 5, "schedule": "linear", "epochs": 5, "batch_size": 128},
            "warmup_steps is 5; a fit of 11 blocks has 5 optimiser steps here, so it must be below",
        ),
        (
            {"warmup_steps": 5},
            "^warmup_steps is 5 with schedule cosine-by-epoch, which ignores it; give a schedule "
            "by step: constant, linear or cosine$",
        ),
        (
            {"schedule": "constant", "final_learning_rate": 0.0},
            r"final_learning_rate is 0\.0 with schedule constant, which ignores it",
        ),
        ({"schedule": "polynomial"}, "schedule is 'polynomial'; it must be one of cosine-by-epoch"),
        ({"loss_from": 8}, "loss_from is 8; a block has 8 tokens, so it must be at most 7"),
        ({"loss_from": -1}, "loss_from is -1"),
    ],
)
def test_settings_without_meaning(params, blocks, valid, change, says):
    with pytest.raises(InputError, match=says):
        fine_tune(MODEL, params, blocks, valid, FineTune(**change), KEY)


def test_validation_blocks_in_which_nothing_counts(params, blocks, valid):
    with pytest.raises(InputError, match="loss_from is 5; a block has 4 tokens"):
        fine_tune(MODEL, params, blocks, valid[:, :4], FineTune(loss_from=5), KEY)

"""Fine-tuning, step for step against a plain AdamW and against torch where it is there."""

import dataclasses
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collapse_jax.errors import DivergenceError, InputError
from collapse_jax.models.lm import finetune
from collapse_jax.models.lm.finetune import FineTune, fine_tune, learning_rate_at
from collapse_jax.models.lm.opt import OPT, OPTConfig, init_params
from collapse_jax.models.lm.score import mean_loss
from collapse_jax.models.lm.weights import load_opt
from collapse_jax.runs.session import Session

FIXTURE = Path(__file__).parent / "fixtures" / "opt_tiny"
CONFIG = OPTConfig(
    vocab_size=29,
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=2,
    ffn_dim=16,
    max_position_embeddings=8,
    dropout=0.0,
    init_std=0.3,
)
MODEL = OPT(CONFIG)
KEY = jax.random.key(4)


@pytest.fixture(scope="module")
def params():
    return init_params(CONFIG, jax.random.key(0))


@pytest.fixture(scope="module")
def blocks():
    return np.random.default_rng(0).integers(0, 29, (6, 8))


@pytest.fixture(scope="module")
def valid():
    return np.random.default_rng(1).integers(0, 29, (4, 8))


@pytest.fixture(scope="module")
def gradient():
    """gradient(params, tokens) of the mean loss, from the logits alone."""

    def loss(params, tokens):
        log_probs = jax.nn.log_softmax(MODEL.apply({"params": params}, tokens))[:, :-1]
        return -jnp.mean(jnp.take_along_axis(log_probs, tokens[:, 1:, None], -1))

    function = jax.jit(jax.grad(loss))
    return lambda params, tokens: named(function(params, tokens))


def named(tree):
    """Float64 arrays by path."""
    return {
        jax.tree_util.keystr(path): np.asarray(leaf, np.float64)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def like(tree, arrays):
    return jax.tree_util.tree_map_with_path(
        lambda path, _: jnp.asarray(arrays[jax.tree_util.keystr(path)], jnp.float32), tree
    )


class PlainAdamW:
    """Loshchilov and Hutter 2019, Algorithm 2, in float64, weight decay on every parameter."""

    def __init__(self, arrays, settings):
        self.p, self.s, self.t, self.norms = dict(arrays), settings, 0, []
        self.m = {name: np.zeros_like(array) for name, array in arrays.items()}
        self.v = {name: np.zeros_like(array) for name, array in arrays.items()}

    def step(self, gradient, rate):
        s, self.t = self.s, self.t + 1
        self.norms.append(math.sqrt(sum((g**2).sum() for g in gradient.values())))
        for name, g in gradient.items():
            self.m[name] = s.beta1 * self.m[name] + (1 - s.beta1) * g
            self.v[name] = s.beta2 * self.v[name] + (1 - s.beta2) * g * g
            m, v = self.m[name] / (1 - s.beta1**self.t), self.v[name] / (1 - s.beta2**self.t)
            self.p[name] = (
                self.p[name]
                - rate * s.weight_decay * self.p[name]
                - rate * m / (np.sqrt(v) + s.epsilon)
            )


def largest_difference(tree, arrays):
    """Over all parameters but the key biases: softmax does not see them, so their gradient is
    rounding error, which Adam blows up.
    """
    return max(
        np.abs(array - arrays[name]).max()
        for name, array in named(tree).items()
        if "k_proj']['bias" not in name
    )


def batch_steps(params, gradient, batches, settings, norms=None):
    plain = PlainAdamW(named(params), settings)
    for batch, rate in batches:
        plain.step(gradient(like(params, plain.p), jnp.asarray(batch)), rate)
    if norms is not None:
        norms += plain.norms
    return plain.p


# The optimiser.


def test_every_step_is_adamw(params, blocks, valid, gradient):
    """One batch an epoch, so that the order does not matter, and the learning rate of each epoch
    does.
    """
    settings = FineTune(
        epochs=4,
        batch_size=6,
        learning_rate=3e-2,
        final_learning_rate=1e-3,
        weight_decay=0.2,
        keep="last",
    )
    rates = [
        1e-3 + (3e-2 - 1e-3) * share
        for share in (1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2)
    ]
    fitted, result = fine_tune(MODEL, params, blocks, valid, settings, KEY)
    norms = []
    plain = batch_steps(params, gradient, [(blocks, rate) for rate in rates], settings, norms)
    assert largest_difference(fitted, plain) < 1e-4
    assert largest_difference(fitted, named(params)) > 0.05
    np.testing.assert_allclose(result.gradient_norm, norms, rtol=1e-3)
    assert min(norms) < 0.9 * max(norms)
    assert result.steps == 4
    for wrong in (
        settings._replace(weight_decay=0.0),
        settings._replace(beta1=0.8),
        settings._replace(beta2=0.9),
    ):
        other = batch_steps(params, gradient, [(blocks, rate) for rate in rates], wrong)
        assert largest_difference(fitted, other) > 1e-3  # so the comparison does see each setting


def test_a_compiled_step_gets_every_setting_that_it_can_read(params, blocks, valid, monkeypatch):
    """Settings that another value of must not compile again are not there: they would be stale."""
    given, run_steps = [], finetune.run_steps

    def spy(*arguments):
        given.append(arguments[2])
        return run_steps(*arguments)

    monkeypatch.setattr(finetune, "run_steps", spy)
    settings = FineTune(
        *(3, 4, 2e-2, 1e-2, 0.8, 0.9, 1e-6, 0.3, "last"),
        *("cosine", 1, 2, 0.5, 5, 200, 3, 2, 3.0, ("fc1",)),
    )
    assert not any(
        value == FineTune._field_defaults[name] for name, value in settings._asdict().items()
    )
    fine_tune(MODEL, params, blocks, valid, settings, KEY)
    compiled = run_steps._cache_size()
    others = settings._replace(
        epochs=2,
        learning_rate=3e-2,
        final_learning_rate=1e-6,
        keep="best",
        schedule="constant",
        warmup_steps=0,
        max_steps=2,
        max_tokens=None,
    )
    fine_tune(MODEL, params, blocks, valid, others, KEY)
    assert run_steps._cache_size() == compiled
    for static in given:
        missing = {name for name in FineTune._fields if not hasattr(static, name)}
        assert missing == {
            *("epochs", "batch_size", "learning_rate", "final_learning_rate", "keep"),
            *("schedule", "warmup_steps", "max_steps", "max_tokens"),
        }
        for name in set(FineTune._fields) - missing:
            assert getattr(static, name) == getattr(settings, name), name


def test_a_partial_last_batch_is_the_mean_over_its_own_rows(params, blocks, valid, gradient):
    """Batches of 2 and 1: the result is one of the three that the order of the blocks allows."""
    three = blocks[:3]
    settings = FineTune(epochs=1, batch_size=2, learning_rate=3e-2)
    fitted, result = fine_tune(MODEL, params, three, valid, settings, KEY)
    distances = []
    for last in range(3):
        batches = [np.delete(three, last, 0), three[last : last + 1]]
        distances.append(
            largest_difference(
                fitted,
                batch_steps(params, gradient, [(batch, 3e-2) for batch in batches], settings),
            )
        )
    assert result.steps == 2 and min(distances) < 1e-4 and sorted(distances)[1] > 1e-3


def test_more_blocks_than_fit_one_compiled_call(params, blocks, valid, gradient):
    """18 steps, in calls of 16 and 2, on blocks that are all the same."""
    settings = FineTune(epochs=1, batch_size=1, learning_rate=1e-2)
    same = np.repeat(blocks[:1], 18, 0)
    fitted, result = fine_tune(MODEL, params, same, valid, settings, KEY)
    plain = batch_steps(params, gradient, [(blocks[:1], 1e-2)] * 18, settings)
    assert result.steps == 18 and largest_difference(fitted, plain) < 1e-3 < largest_difference(
        fitted, named(params)
    )


def test_plain_adamw_is_torchs():
    torch = pytest.importorskip("torch")
    settings = FineTune(weight_decay=0.1)
    rng = np.random.default_rng(0)
    start, gradients, rates = (
        rng.normal(size=20),
        rng.normal(size=(6, 20)),
        rng.uniform(1e-3, 1e-1, 6),
    )
    plain = PlainAdamW({"x": start}, settings)
    theirs = torch.tensor(start, requires_grad=True)
    optimiser = torch.optim.AdamW([theirs], betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1)
    for gradient, rate in zip(gradients, rates, strict=True):
        plain.step({"x": gradient}, rate)
        theirs.grad = torch.tensor(gradient)
        optimiser.param_groups[0]["lr"] = rate
        optimiser.step()
    np.testing.assert_allclose(plain.p["x"], theirs.detach().numpy(), rtol=1e-12)


def test_losses_by_epoch_are_those_of_torch():
    """transformers' OPT in float64 under torch's AdamW and cosine: the whole of a fine-tuning, one
    batch an epoch.
    """
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    theirs = transformers.OPTForCausalLM.from_pretrained(FIXTURE, use_safetensors=True).double()
    tokens = np.random.default_rng(2).integers(4, 97, (5, 12))
    held_out = np.random.default_rng(3).integers(4, 97, (3, 12))
    settings = FineTune(epochs=5, batch_size=8, learning_rate=1e-2, final_learning_rate=1e-4)
    _, result = fine_tune(*load_opt(FIXTURE), tokens, held_out, settings, KEY)
    optimiser = torch.optim.AdamW(
        theirs.parameters(), lr=1e-2, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=5, eta_min=1e-4)
    tokens, held_out = torch.tensor(tokens), torch.tensor(held_out)
    train, valid = [], []
    for epoch in range(5):
        assert learning_rate_at(settings, epoch) == pytest.approx(
            optimiser.param_groups[0]["lr"], rel=1e-12
        )
        optimiser.zero_grad()
        loss = theirs(tokens, labels=tokens).loss
        loss.backward()
        optimiser.step()
        schedule.step()
        train.append(loss.item())
        with torch.no_grad():
            valid.append(theirs(held_out, labels=held_out).loss.item())
    np.testing.assert_allclose(result.train_loss, train, rtol=1e-4)
    np.testing.assert_allclose(result.valid_loss, valid, rtol=1e-4)
    assert train[-1] < 0.7 * train[0]


def test_cosine_over_epochs():
    settings = FineTune(epochs=4, learning_rate=3.0, final_learning_rate=1.0)
    rates = [learning_rate_at(settings, epoch) for epoch in range(5)]
    np.testing.assert_allclose(
        rates, [3.0, 2 + math.sqrt(0.5), 2.0, 2 - math.sqrt(0.5), 1.0], rtol=1e-12
    )
    assert learning_rate_at(FineTune(epochs=1), 0) == 2e-5


@pytest.mark.parametrize(
    ("setting", "value"),
    [(name, value) for name in ("beta1", "beta2") for value in (math.nan, -0.1, 1.0, "0.9", None)]
    + [("epsilon", value) for value in (math.nan, -1e-8, math.inf)]
    + [("learning_rate", math.nan), ("weight_decay", math.inf), ("final_learning_rate", math.nan)],
)
def test_a_number_that_is_none_trains_nothing(params, blocks, valid, setting, value):
    """It ended in "the loss became nan; try a smaller learning rate"."""
    with pytest.raises(InputError, match=rf"^{setting} is .*{value}.*; it must be "):
        fine_tune(MODEL, params, blocks, valid, FineTune(**{setting: value}), KEY)


# Epochs.


@pytest.mark.parametrize("keep", ["best", "last"])
@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_validation_loss_that_is_none_wins_nothing(
    params, blocks, valid, keep, loss, monkeypatch
):
    told = iter([2.0, loss, 1.0])
    monkeypatch.setattr(finetune, "mean_loss", lambda *_, **__: np.array([next(told)]))
    settings = FineTune(epochs=3, batch_size=6, keep=keep)
    with pytest.raises(DivergenceError, match=rf"loss became {loss} after epoch 1, step 2"):
        fine_tune(MODEL, params, blocks, valid, settings, KEY)


def test_what_is_held_during_a_fit(params, blocks, valid):
    """The start, a copy that is trained, its two moments, and the best parameters once there are
    any: nothing else, in no epoch.
    """
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    held = []

    def progress(*now):
        buffers = {a.unsafe_buffer_pointer(): a.nbytes for a in jax.live_arrays()}
        held.append(sum(buffers.values()))

    before = {a.unsafe_buffer_pointer(): a.nbytes for a in jax.live_arrays()}
    settings = FineTune(epochs=4, batch_size=6, learning_rate=1e-3)
    fine_tune(MODEL, params, blocks, valid, settings, KEY, session=Session(progress=progress))
    more = [(bytes_held - sum(before.values())) / size for bytes_held in held]
    assert more == pytest.approx([3, 4, 4, 4], abs=0.2)


def test_the_best_epoch_is_kept(params, blocks, valid):
    """Random blocks can only be learnt by heart, so the held-out loss rises after a while."""
    settings = FineTune(epochs=6, batch_size=6, learning_rate=5e-2, final_learning_rate=5e-2)
    best, result = fine_tune(MODEL, params, blocks, valid, settings, KEY)
    last, other = fine_tune(MODEL, params, blocks, valid, settings._replace(keep="last"), KEY)
    np.testing.assert_array_equal(result.valid_loss, other.valid_loss)
    assert result.best_epoch == result.valid_loss.argmin() < 5
    assert mean_loss(MODEL, best, valid).mean() == pytest.approx(result.valid_loss.min(), rel=1e-6)
    assert mean_loss(MODEL, last, valid).mean() == pytest.approx(result.valid_loss[-1], rel=1e-6)
    assert result.valid_loss[-1] > result.valid_loss.min() + 0.01


def test_every_epoch_is_another_permutation_of_all_blocks(params, blocks, valid, monkeypatch):
    seen = []
    run_steps = finetune.run_steps

    def spy(*arguments):
        tokens, weights = arguments[5]
        seen.append(np.asarray(tokens).reshape(-1, 8)[np.asarray(weights).ravel() > 0])
        return run_steps(*arguments)

    monkeypatch.setattr(finetune, "run_steps", spy)
    settings = FineTune(epochs=3, batch_size=4)
    told = []
    session = Session(progress=lambda *now: told.append(now))
    fine_tune(MODEL, params, blocks, valid, settings, KEY, session=session)
    fine_tune(MODEL, params, blocks, valid, settings, KEY)
    fine_tune(MODEL, params, blocks, valid, settings, jax.random.key(5))
    orders = [tuple(map(tuple, epoch)) for epoch in seen]
    assert all(sorted(order) == sorted(map(tuple, blocks.tolist())) for order in orders)
    assert (
        len(set(orders[:3])) == 3
        and orders[:3] == orders[3:6]
        and set(orders[:3]).isdisjoint(orders[6:])
    )
    assert told == [("fit", done, 3 * 6 * 8) for done in (48, 96, 144)]


@pytest.mark.parametrize("field", ["dropout", "attention_dropout", "layerdrop"])
def test_dropout_is_on_while_training_and_off_while_judging(
    params, blocks, valid, field, monkeypatch
):
    """On blocks that are all the same and a learning rate of zero, the losses of the steps differ
    by their masks alone: all of them, or two where the one layer is there or is not.
    """
    different = 2 if field == "layerdrop" else 4 * 6
    steps = []
    run_steps = finetune.run_steps

    def spy(*arguments):
        state, losses, norms = run_steps(*arguments)
        steps.append(losses.tolist())
        return state, losses, norms

    monkeypatch.setattr(finetune, "run_steps", spy)
    model, same = OPT(dataclasses.replace(CONFIG, **{field: 0.5})), np.repeat(blocks[:1], 6, 0)
    settings = FineTune(epochs=2, batch_size=1, learning_rate=0.0, final_learning_rate=0.0)
    results = [
        fine_tune(model, params, same, valid, settings, jax.random.key(seed))[1]
        for seed in (0, 0, 1)
    ]
    assert (
        steps[:2] == steps[2:4]
        and len({loss for epoch in steps[:2] + steps[4:] for loss in epoch}) == different
    )
    assert results[0].train_loss == pytest.approx([np.mean(epoch) for epoch in steps[:2]])
    exact = mean_loss(MODEL, params, valid).mean()
    assert (
        results[0].valid_loss.tolist()
        == results[2].valid_loss.tolist()
        == pytest.approx([exact] * 2, rel=1e-6)
    )


def test_the_callers_params_are_left_alone(params, blocks, valid):
    before = named(params)
    fitted, _ = fine_tune(
        MODEL, params, blocks, valid, FineTune(epochs=2, batch_size=6, learning_rate=1e-2), KEY
    )
    assert not any(leaf.is_deleted() for tree in (params, fitted) for leaf in jax.tree.leaves(tree))
    assert all(np.array_equal(array, before[name]) for name, array in named(params).items())


# What goes wrong.


def test_a_loss_that_is_no_number_names_epoch_and_step(params, blocks, valid):
    with pytest.raises(
        DivergenceError,
        match=r"^the loss became (nan|inf) at epoch 0, step [12] \(learning rate 1e\+30\)",
    ) as caught:
        fine_tune(
            MODEL,
            params,
            np.repeat(blocks, 2, 0),
            valid,
            FineTune(epochs=2, batch_size=4, learning_rate=1e30),
            KEY,
        )
    assert "\n" not in str(caught.value)
    with pytest.raises(
        DivergenceError, match="the validation loss became nan after epoch 0, step 1"
    ):
        fine_tune(
            MODEL, params, blocks, valid, FineTune(epochs=2, batch_size=6, learning_rate=1e30), KEY
        )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": -1}, "batch_size is -1"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"final_learning_rate": -1e-6}, "final_learning_rate is -1e-06"),
        ({"weight_decay": float("inf")}, "weight_decay is inf"),
        ({"keep": "first"}, "keep is 'first'"),
    ],
)
def test_settings_that_have_no_meaning(params, blocks, valid, change, says):
    with pytest.raises(InputError, match=says):
        fine_tune(MODEL, params, blocks, valid, FineTune(**change), KEY)


def test_blocks_that_do_not_fit(params, blocks, valid):
    too_long = np.zeros((2, 9), int)
    for bad, says in (
        (blocks[:0], "no training blocks"),
        (blocks + 25, "vocabulary"),
        (too_long, "max_position_embeddings 8"),
    ):
        with pytest.raises(InputError, match=says):
            fine_tune(MODEL, params, bad, valid, FineTune(), KEY)
    with pytest.raises(InputError, match="no validation blocks"):
        fine_tune(MODEL, params, blocks, valid[:0], FineTune(), KEY)

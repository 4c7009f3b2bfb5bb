"""Pretraining, step for step against a plain AdamW and against torch; the order of windows; calls
cut anywhere.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collapse_jax.app.config import PretrainConfig
from collapse_jax.errors import DivergenceError, InputError
from collapse_jax.models.lm import pretrain
from collapse_jax.models.lm.opt import OPT, OPTConfig
from collapse_jax.models.lm.pretrain import advance, begin, schedule_of, window_order
from collapse_jax.models.lm.weights import save_opt

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
DEFAULT = PretrainConfig().settings().optimiser
SETTINGS = DEFAULT._replace(
    steps=8,
    batch_size=3,
    learning_rate=3e-2,
    warmup_steps=3,
    final_share=0.1,
    weight_decay=0.5,
    gradient_clip=0.5,
)
KEY = jax.random.key(4)


@pytest.fixture(scope="module")
def batches():
    """Without id 1: torch gives the embedding of padding no gradient."""
    return np.random.default_rng(0).integers(2, 29, (8, 3, 8))


@pytest.fixture(scope="module")
def gradient():
    """gradient(arrays by path, tokens) of the mean loss, from the logits alone."""

    def loss(params, tokens):
        log_probs = jax.nn.log_softmax(MODEL.apply({"params": params}, tokens))[:, :-1]
        return -jnp.mean(jnp.take_along_axis(log_probs, tokens[:, 1:, None], -1))

    function = jax.jit(jax.grad(loss))
    tree = begin(MODEL, SETTINGS, KEY).params

    def call(arrays, tokens):
        params = jax.tree_util.tree_map_with_path(
            lambda path, _: jnp.asarray(arrays[jax.tree_util.keystr(path)], jnp.float32), tree
        )
        return named(function(params, jnp.asarray(tokens)))

    return call


def named(tree):
    """Float64 arrays by path."""
    return {
        jax.tree_util.keystr(path): np.asarray(leaf, np.float64)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def rate_at(s, step):
    """The schedule, from its sentence in the docs: a line up, then a cosine that would end at step
    `steps`.
    """
    if step < s.warmup_steps:
        return s.learning_rate * (step + 1) / (s.warmup_steps + 1)
    done = (step - s.warmup_steps) / (s.steps - s.warmup_steps)
    return s.learning_rate * (
        s.final_share + (1 - s.final_share) * (1 + math.cos(math.pi * done)) / 2
    )


def plain_steps(p, gradient, batches, s, decay_all=False):
    """Loshchilov and Hutter 2019, Algorithm 2, in float64, on gradients scaled down to a norm of
    `gradient_clip`.
    """
    m, v = ({name: np.zeros_like(array) for name, array in p.items()} for _ in range(2))
    for t, batch in enumerate(batches):
        g, rate = gradient(p, batch), rate_at(s, t)
        norm = math.sqrt(sum((array**2).sum() for array in g.values()))
        scale = min(1.0, s.gradient_clip / norm) if s.gradient_clip else 1.0
        after = {}
        for name, array in p.items():
            m[name] = s.beta1 * m[name] + (1 - s.beta1) * scale * g[name]
            v[name] = s.beta2 * v[name] + (1 - s.beta2) * (scale * g[name]) ** 2
            update = (
                m[name]
                / (1 - s.beta1 ** (t + 1))
                / (np.sqrt(v[name] / (1 - s.beta2 ** (t + 1))) + s.epsilon)
            )
            decayed = decay_all or "kernel" in name or "embed_tokens" in name
            after[name] = array - rate * (update + s.weight_decay * decayed * array)
        p = after
    return p


def largest_difference(arrays, others):
    """Over all but the key biases: softmax does not see them, so their gradient is rounding error,
    which Adam blows up.
    """
    return max(
        np.abs(array - others[name]).max()
        for name, array in arrays.items()
        if "k_proj']['bias" not in name
    )


# The optimiser.


def test_every_step_is_clipped_adamw_with_warmup_and_cosine(batches, gradient):
    start = begin(MODEL, SETTINGS, KEY)
    first = named(start.params)
    for count in (1, 4, 8):
        state, losses = advance(MODEL, SETTINGS, begin(MODEL, SETTINGS, KEY), batches[:count], 0)
        assert losses.shape == (count,)
        assert (
            largest_difference(
                named(state.params), plain_steps(first, gradient, batches[:count], SETTINGS)
            )
            < 1e-4
        )
    fitted = named(state.params)
    assert largest_difference(fitted, first) > 0.05
    wrong = [
        {"weight_decay": 0.0},
        {"beta1": 0.8},
        {"beta2": 0.8},
        {"gradient_clip": 0.0},
        {"warmup_steps": 2},
        {"final_share": 0.9},
        {"steps": 9},
        {"learning_rate": 2.9e-2},
    ]
    for changes in wrong:  # so the comparison does see each setting
        assert (
            largest_difference(
                fitted, plain_steps(first, gradient, batches, SETTINGS._replace(**changes))
            )
            > 1e-3
        ), changes
    assert (
        largest_difference(fitted, plain_steps(first, gradient, batches, SETTINGS, decay_all=True))
        > 1e-3
    )


def test_without_clipping_and_without_warmup(batches, gradient):
    settings = SETTINGS._replace(gradient_clip=0.0, warmup_steps=0)
    start = begin(MODEL, settings, KEY)
    first = named(start.params)
    state, _ = advance(MODEL, settings, start, batches, 0)
    assert (
        largest_difference(named(state.params), plain_steps(first, gradient, batches, settings))
        < 1e-4
    )


def test_losses_are_those_of_torch(batches, tmp_path):
    """transformers' OPT in float64 under torch's own AdamW, clipping and schedule."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    state = begin(MODEL, SETTINGS, KEY)
    save_opt(tmp_path, MODEL, state.params)
    theirs = transformers.OPTForCausalLM.from_pretrained(tmp_path, dtype=torch.float64).train()
    groups = {True: [], False: []}
    for name, parameter in theirs.named_parameters():
        groups["norm" not in name and "bias" not in name and "embed_positions" not in name].append(
            parameter
        )
    optimiser = torch.optim.AdamW(
        [
            {"params": groups[True], "weight_decay": 0.5},
            {"params": groups[False], "weight_decay": 0.0},
        ],
        lr=3e-2,
        betas=(0.9, 0.95),
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: rate_at(SETTINGS, step) / 3e-2
    )
    expected = []
    for batch in batches:
        tokens = torch.tensor(batch)
        loss = theirs(input_ids=tokens, labels=tokens).loss
        expected.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
        optimiser.step()
        schedule.step()
    _, losses = advance(MODEL, SETTINGS, state, batches, 0)
    np.testing.assert_allclose(losses, expected, rtol=2e-5)
    assert losses[-1] != pytest.approx(losses[0], rel=1e-2)


@pytest.mark.parametrize(
    "settings",
    [
        SETTINGS,
        DEFAULT,
        DEFAULT._replace(steps=7, warmup_steps=6),
        DEFAULT._replace(steps=5, warmup_steps=0),
    ],
)
def test_schedule(settings):
    schedule = schedule_of(settings)
    for step in {*range(min(settings.steps, 12)), settings.warmup_steps, settings.steps - 1}:
        assert float(schedule(step)) == pytest.approx(rate_at(settings, step), rel=1e-5)
    assert float(schedule(settings.warmup_steps)) == pytest.approx(settings.learning_rate)
    assert float(schedule(settings.steps)) == pytest.approx(
        settings.learning_rate * settings.final_share, rel=1e-5
    )


def test_calls_may_be_cut_anywhere():
    """40 steps in calls of 16, of 5, and of 1: the same bits, in one compiled program."""
    batches = np.random.default_rng(1).integers(0, 29, (40, 3, 8))
    ends, compiled = [], []
    for size in (16, 5, 1):
        state, losses = begin(MODEL, SETTINGS, KEY), []
        for start in range(0, 40, size):
            state, some = advance(MODEL, SETTINGS, state, batches[start : start + size], start)
            losses += some.tolist()
        ends.append([losses, *map(np.asarray, jax.tree.leaves(state))])
        compiled.append(pretrain.run_steps._cache_size())
    assert compiled[0] == compiled[1] == compiled[2]
    for other in ends[1:]:
        for ours, theirs in zip(ends[0], other, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_the_loss_falls_on_a_text_that_repeats_itself():
    """From about ln 29 for a random model to near nothing: each token of the text says which one
    follows.
    """
    settings = DEFAULT._replace(steps=64, batch_size=3, learning_rate=3e-2, warmup_steps=5)
    windows = 4 + np.arange(25 * 8).reshape(25, 8) % 5
    order, state, losses = window_order(KEY, 25), begin(MODEL, settings, KEY), []
    for step in range(0, 64, 16):
        state, some = advance(
            MODEL, settings, state, windows[order(step * 3, 48)].reshape(16, 3, 8), step
        )
        losses += some.tolist()
    assert losses[0] > math.log(29) * 0.8 and np.mean(losses[-8:]) < 0.1


def test_a_loss_that_is_no_number_names_the_step(batches):
    settings = SETTINGS._replace(learning_rate=1e30, steps=100, warmup_steps=0)
    with pytest.raises(
        DivergenceError, match=r"at step 4[1-7] \(learning rate \d\S*e\+29\); try a smaller one"
    ):
        advance(MODEL, settings, begin(MODEL, settings, KEY), batches, 40)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("batch_size", 0),
        ("warmup_steps", 8),
        ("warmup_steps", -1),
        ("learning_rate", math.nan),
        ("final_share", -0.1),
        ("weight_decay", math.inf),
        ("gradient_clip", -1.0),
    ],
)
def test_settings_without_meaning(field, value):
    with pytest.raises(InputError, match=f"^{field} is {value}; it must be"):
        begin(MODEL, SETTINGS._replace(**{field: value}), KEY)


# The order of windows.


def test_each_epoch_is_a_permutation_of_its_own():
    order = window_order(KEY, 11)
    epochs = order(0, 44).reshape(4, 11)
    assert (np.sort(epochs) == np.arange(11)).all()
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 4
    for number, epoch in enumerate(epochs):
        np.testing.assert_array_equal(
            epoch, jax.random.permutation(jax.random.fold_in(KEY, number), 11)
        )
    assert (window_order(jax.random.key(5), 11)(0, 11) != epochs[0]).any()


def test_what_stands_at_a_place_depends_on_nothing_before():
    """Any stretch, also one over several epochs, asked of an order that was never asked before."""
    whole = window_order(KEY, 7)(0, 60)
    for start, count in ((0, 1), (6, 2), (13, 30), (59, 1), (20, 7)):
        np.testing.assert_array_equal(
            window_order(KEY, 7)(start, count), whole[start : start + count]
        )
    assert window_order(KEY, 1)(0, 5).tolist() == [0] * 5

"""LoRA beside its formula, beside a plain rewrite in torch, and what it holds in memory."""

import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collapse_jax.errors import InputError
from collapse_jax.models.lm import lora
from collapse_jax.models.lm.finetune import FineTune, fine_tune
from collapse_jax.models.lm.opt import OPT, OPTConfig, init_params
from collapse_jax.models.lm.score import mean_loss, token_losses
from collapse_jax.models.lm.weights import load, load_opt
from collapse_jax.runs.session import Session

FIXTURES = pathlib.Path(__file__).parent / "fixtures"
FAMILIES = sorted(folder.name for folder in (FIXTURES / "families").iterdir())
MODEL = OPT(
    OPTConfig(
        vocab_size=29,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        ffn_dim=16,
        max_position_embeddings=8,
        init_std=0.3,
        dropout=0.0,
    )
)
KEY = jax.random.key(4)

pytestmark = pytest.mark.usefixtures("quick_compile")


@pytest.fixture(scope="module")
def params():
    return init_params(MODEL.config, jax.random.key(0))


@pytest.fixture(scope="module")
def blocks():
    return np.random.default_rng(0).integers(3, 29, (6, 8))


@pytest.fixture(scope="module")
def valid():
    return np.random.default_rng(1).integers(3, 29, (4, 8))


def first_adapters(params, settings, key):
    """Those with which a fit of this key begins."""
    return lora.init_adapters(params, settings, jax.random.fold_in(key, settings.epochs + 1))


def kernel(params, name):
    for part in name.split("/"):
        params = params[part]
    return params["kernel"]


def random_adapters(params, settings):
    """Adapters whose two matrices are random."""
    rng = np.random.default_rng(3)
    return {
        name: lora.Adapter(*(rng.normal(0, 0.3, m.shape).astype(np.float32) for m in adapter))
        for name, adapter in first_adapters(params, settings, KEY).items()
    }


# What is computed.


@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_of_every_projection_is_the_merged_weight(family):
    """In every family: W x + (alpha / rank) B A x beside (W + (alpha / rank) B A) x."""
    model, params = load(FIXTURES / "families" / family)
    every = tuple({path.split("/")[-1] for path in _kernels(params)})
    settings = FineTune(lora_rank=2, lora_alpha=3.0, lora_targets=every)
    adapters = random_adapters(params, settings)
    assert set(adapters) == _kernels(params)
    assert {"q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"} <= set(every)
    with np.load(FIXTURES / "families" / family / "expected.npz") as file:
        tokens = jnp.asarray(file["tokens"])

    @jax.jit
    def both(params, adapters, merged):
        with lora.adapted(model, adapters, 1.5):
            beside = token_losses(model, params, tokens)
        return beside, token_losses(model, merged, tokens), token_losses(model, params, tokens)

    merged = lora.merged(params, adapters, 1.5)
    for name, adapter in adapters.items():
        wanted = np.asarray(kernel(params, name)) + 1.5 * adapter.a @ adapter.b
        np.testing.assert_allclose(kernel(merged, name), wanted, rtol=1e-5, atol=1e-6)
    beside, inside, without = both(params, adapters, merged)
    np.testing.assert_allclose(beside, inside, rtol=1e-4, atol=1e-4)
    assert np.abs(np.asarray(beside) - without).max() > 0.01


def test_factors_are_rounded_as_those_of_the_projections(params, blocks):
    """With bfloat16: as near to the float32 losses as those of the merged weights are."""
    settings, tokens = FineTune(lora_rank=2, lora_targets=("q_proj", "fc1")), jnp.asarray(blocks)
    adapters, half = random_adapters(params, settings), OPT(MODEL.config, "bfloat16")
    merged = lora.merged(params, adapters, 1.5)

    @jax.jit
    def all_three(params, adapters, merged):
        with lora.adapted(half, adapters, 1.5):
            beside = token_losses(half, params, tokens)
        return beside, token_losses(half, merged, tokens), token_losses(MODEL, merged, tokens)

    beside, inside, exact = all_three(params, adapters, merged)
    assert beside.dtype == jnp.float32
    wrong, allowed = (np.abs(np.asarray(rounded) - exact).max() for rounded in (beside, inside))
    assert 1e-4 < wrong < 2 * allowed


def _kernels(params):
    paths = jax.tree_util.tree_leaves_with_path(params)
    names = ["/".join(part.key for part in path) for path, _ in paths]
    return {name.removesuffix("/kernel") for name in names if name.endswith("/kernel")}


def test_the_first_matrices(params, chi_square_p):
    """A is normal with deviation 1 / rank, its matrices differ, and B is zero."""
    wide = {"layers_0": {"q_proj": {"kernel": np.zeros((4000, 10))}, "v_proj": {"kernel": params}}}
    wide["layers_0"]["v_proj"]["kernel"] = np.zeros((4000, 10))
    adapters = lora.init_adapters(wide, FineTune(lora_rank=4), KEY)
    q, v = adapters["layers_0/q_proj"], adapters["layers_0/v_proj"]
    for adapter in (q, v):
        assert adapter.a.shape == (4000, 4) and adapter.b.shape == (4, 10)
        assert not adapter.b.any()
        quarters = np.histogram(4 * adapter.a, [-np.inf, -0.67449, 0, 0.67449, np.inf])[0]
        assert chi_square_p(quarters, np.full(4, 0.25)) > 1e-4
        assert abs(float(adapter.a.std()) * 4 - 1) < 4 / math.sqrt(2 * 16_000)
    assert abs(np.corrcoef(q.a.ravel(), v.a.ravel())[0, 1]) < 4 / math.sqrt(16_000)


def test_a_fit_is_a_plain_loop_over_a_and_b(params, blocks, valid):
    """AdamW in float64 on dA = s dW B' and dB = s A' dW, where dW is the gradient of the merged
    weights by the logits alone.
    """
    settings = FineTune(
        *(3, 6, 5e-2, 1e-2),
        weight_decay=0.1,
        keep="last",
        lora_rank=2,
        lora_alpha=3.0,
        lora_targets=("q_proj", "fc2"),
    )
    fitted, result = fine_tune(MODEL, params, blocks, valid, settings, KEY)

    @jax.jit
    def gradient(params):
        log_probs = jax.nn.log_softmax(MODEL.apply({"params": params}, blocks))[:, :-1]
        return -jnp.mean(jnp.take_along_axis(log_probs, blocks[:, 1:, None], -1))

    gradient = jax.jit(jax.grad(gradient))
    scale, s = 1.5, settings
    start = first_adapters(params, settings, KEY)
    p = {
        (name, i): np.asarray(adapter[i], float) for name, adapter in start.items() for i in (0, 1)
    }
    m, v = ({at: np.zeros_like(a) for at, a in p.items()} for _ in range(2))

    def now():
        adapters = {
            name: lora.Adapter(*(p[name, i].astype(np.float32) for i in (0, 1))) for name in start
        }
        return jax.tree.map(jnp.asarray, _by_hand_merged(params, adapters, scale))

    for t, rate in enumerate((5e-2, 4e-2, 2e-2), 1):
        whole = gradient(now())
        g = {}
        for name in start:
            dense = np.asarray(kernel(whole, name), float)
            g[name, 0] = scale * dense @ p[name, 1].T
            g[name, 1] = scale * p[name, 0].T @ dense
        for at in p:
            m[at] = s.beta1 * m[at] + (1 - s.beta1) * g[at]
            v[at] = s.beta2 * v[at] + (1 - s.beta2) * g[at] ** 2
            m_hat, v_hat = m[at] / (1 - s.beta1**t), v[at] / (1 - s.beta2**t)
            p[at] = p[at] - rate * (m_hat / (np.sqrt(v_hat) + s.epsilon) + 0.1 * p[at])
    wanted = now()
    for name in start:
        np.testing.assert_allclose(kernel(fitted, name), kernel(wanted, name), atol=1e-4)
        assert np.abs(kernel(fitted, name) - kernel(params, name)).max() > 1e-2
    assert result.valid_loss[-1] == pytest.approx(mean_loss(MODEL, fitted, valid).mean(), rel=1e-6)
    # All the rest is the caller's own.
    changed = {f"{name}/kernel" for name in start}
    for path, leaf in jax.tree_util.tree_leaves_with_path(fitted):
        name = "/".join(part.key for part in path)
        same = params
        for part in name.split("/"):
            same = same[part]
        assert name in changed or leaf is same


def _by_hand_merged(params, adapters, scale):
    def new(path, leaf):
        name = "/".join(part.key for part in path).removesuffix("/kernel")
        at_kernel = path[-1].key == "kernel" and name in adapters
        return leaf + scale * adapters[name].a @ adapters[name].b if at_kernel else leaf

    return jax.tree_util.tree_map_with_path(new, params)


@pytest.mark.parametrize("family", ["opt", "llama3"])
def test_a_fit_is_that_of_a_plain_rewrite_in_torch(family):
    """transformers' model in float64 with each target wrapped, from our A, under torch's AdamW."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    if family == "opt":
        folder, targets = FIXTURES / "opt_tiny", ("q_proj", "v_proj")
        model, params = load_opt(folder)
    else:
        folder, targets = FIXTURES / "families" / family, ("k_proj", "gate", "fc2")
        model, params = load(folder)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True)
    theirs = theirs.double().eval().requires_grad_(False)
    rng = np.random.default_rng(2)
    tokens, held_out = (rng.integers(4, 60, (rows, 12)) for rows in (5, 3))
    settings = FineTune(
        *(3, 8, 2e-2, 1e-3), weight_decay=0.1, lora_rank=3, lora_alpha=5.0, lora_targets=targets
    )
    _, result = fine_tune(model, params, tokens, held_out, settings, KEY)

    class LoRA(torch.nn.Module):
        def __init__(self, linear, adapter):
            super().__init__()
            self.linear = linear
            self.a = torch.nn.Parameter(torch.tensor(np.asarray(adapter.a, float).T))
            self.b = torch.nn.Parameter(torch.tensor(np.asarray(adapter.b, float).T))

        def forward(self, x):
            return self.linear(x) + 5 / 3 * (x @ self.a.T @ self.b.T)

    names = {"gate": "mlp.gate_proj", "fc2": "mlp.down_proj", "k_proj": "self_attn.k_proj"}
    decoder = theirs.model.decoder if family == "opt" else theirs.model
    trained = []
    for name, adapter in first_adapters(params, settings, KEY).items():
        layer, last = decoder.layers[int(name.split("/")[0][7:])], name.split("/")[-1]
        parent, _, child = names.get(last, f"self_attn.{last}").rpartition(".")
        parent = layer.get_submodule(parent)
        setattr(parent, child, LoRA(getattr(parent, child), adapter))
        trained += [getattr(parent, child).a, getattr(parent, child).b]
    optimiser = torch.optim.AdamW(trained, lr=2e-2, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=3, eta_min=1e-3)
    tokens, held_out = torch.tensor(tokens), torch.tensor(held_out)
    train, valid = [], []
    for _ in range(3):
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
    assert train[-1] < train[0] - 0.02


# What is held.


def test_only_the_small_matrices_and_their_moments_are_held(params, blocks, valid):
    """A fit of all weights holds three or four sets of parameters; this one less than a fourth of
    one, beside the caller's.
    """
    settings = FineTune(3, 6, 1e-2, lora_rank=1)
    trained = 4 * lora.trained_count(params, settings)
    assert trained == 4 * 2 * 2 * (8 + 8)  # two layers, two projections
    size, held, scratched = sum(leaf.nbytes for leaf in jax.tree.leaves(params)), [], []

    def progress(*now):
        buffers = {a.unsafe_buffer_pointer(): a.nbytes for a in jax.live_arrays()}
        held.append(sum(buffers.values()))

    class Counting(type(Session().scratch)):
        def save(self, name, made_of, arrays):
            scratched.append(sum(np.asarray(a).nbytes for a in arrays.values()))

    before = sum({a.unsafe_buffer_pointer(): a.nbytes for a in jax.live_arrays()}.values())
    session = Session(progress=progress, scratch=Counting())
    fitted, _ = fine_tune(MODEL, params, blocks, valid, settings, KEY, session=session)
    more = [now - before for now in held]
    assert max(more) < 5 * trained + 600 and max(more) < size / 4
    assert max(scratched) < 3 * trained + 200
    # From weights in NumPy, as files give them, the same.
    of_files = jax.tree.map(np.asarray, params)
    again, _ = fine_tune(MODEL, of_files, blocks, valid, settings, KEY)
    assert jax.tree.all(jax.tree.map(np.array_equal, fitted, again))
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(again))


# What is refused.


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"lora_rank": 2, "lora_targets": ("q_proj", "c_attn")},
            "^lora_targets names 'c_attn'; the projections of this model are (?=.*fc1)(?=.*q_proj)",
        ),
        ({"lora_rank": 9}, "^lora_rank is 9; the matrices of q_proj, v_proj have rank 8 at most$"),
        ({"lora_rank": -1}, "lora_rank is -1; it must be an integer of at least 0"),
        ({"lora_rank": 2, "lora_alpha": 0.0}, r"lora_alpha is 0\.0; it must be finite and above 0"),
        (
            {"lora_rank": 2, "lora_targets": ()},
            r"lora_targets is \(\); it must be a tuple of",
        ),
        (
            {"lora_rank": 2, "lora_targets": "q_proj"},
            "lora_targets is 'q_proj'; it must be a tup",
        ),
        (
            {"lora_alpha": 16.0},
            r"lora_alpha is 16\.0 with lora_rank 0, which ignores it; give",
        ),
        ({"lora_targets": ("fc1", "fc2")}, "lora_targets is fc1, fc2 with lora_rank 0, which ign"),
    ],
)
def test_settings_without_meaning(params, blocks, valid, change, says):
    with pytest.raises(InputError, match=says):
        fine_tune(MODEL, params, blocks, valid, FineTune(**change), KEY)


def test_an_adapter_that_nothing_calls_is_an_error(params, blocks):
    """It would stay as it is, unseen."""
    adapters = random_adapters(params, FineTune(lora_rank=2))
    adapters["layers_7/self_attn/q_proj"] = adapters["layers_0/self_attn/q_proj"]
    with pytest.raises(AssertionError, match="never calls layers_7/self_attn/q_proj"):
        with lora.adapted(MODEL, adapters, 1.0):
            jax.eval_shape(lambda: token_losses(MODEL, params, jnp.asarray(blocks)))

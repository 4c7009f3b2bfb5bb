"""Shared by all tests: a cache of compiled programs, the quick tier, the shared data, the
statistical checks, and a newcomer's estimator.
"""

import contextlib
import ctypes
import gc
import os
import pathlib
import socket
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest
from scipy import stats

# Before jax is imported by any test: programs that are slow to compile are kept between sessions
# and shared by the workers.
_CACHE = (
    pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    / "collapse_jax"
    / "tests"
)
# An empty one would put the programs of the fault tests into the working directory.
os.environ["JAX_COMPILATION_CACHE_DIR"] = os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(_CACHE)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "0")

ROOT = pathlib.Path(__file__).parents[1]
# Beyond these a process gives back what the modules before compiled. Linux allows 65,530 maps by
# default, and a module of tests may add some ten thousand, or a GiB.
_MOST_MAPS, _MOST_RESIDENT = 45_000, 1.5 * 2**30
_WORKERS = 2


def pytest_xdist_auto_num_workers(config) -> int:
    """Two workers, each with files of its own; none for tests of one file."""
    places = {argument.partition("::")[0] for argument in config.args}
    return 0 if len(places) == 1 and places.pop().endswith(".py") else _WORKERS


def _places(tier: str) -> tuple[str, ...]:
    """The lines of the list of a tier: how the names of its tests begin."""
    lines = (ROOT / "tests" / f"{tier}.txt").read_text(encoding="utf-8").splitlines()
    return tuple(line for line in lines if line and not line.startswith("#"))


def pytest_ignore_collect(collection_path, config):
    """Files without a quick test are not even imported where only quick ones are asked for."""
    if config.option.markexpr == "quick" and collection_path.name.startswith("test_"):
        name = collection_path.relative_to(ROOT).as_posix()
        return not any(place.startswith(name) for place in _places("quick")) or None
    return None


def _names_files(config) -> bool:
    """Whether the command names files or tests, and no folder."""
    return bool(config.args) and all(
        argument.partition("::")[0].endswith(".py") for argument in config.args
    )


def pytest_collection_modifyitems(config, items) -> None:
    """Puts tests into their tiers. A file that the command names runs with its thorough tests."""
    whole = _names_files(config) and config.option.markexpr != "thorough"
    quick, thorough = _places("quick"), set() if whole else set(_places("thorough"))
    for item in items:
        if item.get_closest_marker("slow") is not None:
            continue
        if item.nodeid.startswith(quick):
            item.add_marker(pytest.mark.quick)
        elif {item.nodeid, item.nodeid.partition("[")[0]} & thorough:
            item.add_marker(pytest.mark.thorough)


@pytest.fixture(scope="session")
def root() -> pathlib.Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
    """The folder of shared data beside the repository; tests that need it are skipped elsewhere."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the shared data folder (../shared/data beside the repository)")
    return folder


@pytest.fixture(scope="session")
def refused():
    """refused(call, *arguments, **keywords): the one line of the `InputError` that is raised."""
    from collapse_jax.errors import InputError

    def line_of(call, *arguments, **keywords):
        with pytest.raises(InputError) as caught:
            call(*arguments, **keywords)
        text = str(caught.value)
        assert "\n" not in text and len(text) < 1000
        assert caught.value.__cause__ is None and (
            caught.value.__context__ is None or caught.value.__suppress_context__
        )
        return text

    return line_of


@pytest.fixture(scope="module", autouse=True)
def few_programs():
    """Forgets compiled programs between modules before they fill the memory, or the process's table
    of memory maps, where XLA would crash.
    """
    yield
    if "jax" in sys.modules and _holds_too_much():
        sys.modules["jax"].clear_caches()
        gc.collect()
        # glibc keeps what is freed until it is told to give it back: 6 of 7 GiB were such.
        if hasattr(library := ctypes.CDLL(None), "malloc_trim"):
            library.malloc_trim(0)


def _holds_too_much() -> bool:
    """Whether this process is near a limit; False where the system does not tell."""
    process = pathlib.Path("/proc/self")
    if not (process / "statm").exists():
        return False
    resident = int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    maps = (process / "maps").read_bytes().count(b"\n")
    return resident > _MOST_RESIDENT or maps > _MOST_MAPS


@pytest.fixture(scope="module")
def quick_compile():
    """XLA without its costly passes, for modules that test laws on small arrays; halves the time of
    a cold start.
    """
    import jax

    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="session")
def assert_mean():
    """assert_mean(samples [chains, ...], expected [...]): the mean over chains lies within 4 of its
    own standard errors (|z| < 4).
    """

    def check(samples, expected, sigmas=4.0):
        samples = np.asarray(samples, np.float64)
        expected = np.broadcast_to(np.asarray(expected, np.float64), samples.shape[1:])
        error = samples.std(0, ddof=1) / np.sqrt(len(samples))
        distance = np.abs(samples.mean(0) - expected)
        # the second term is the rounding of float32, for entries that do not vary
        wrong = distance > sigmas * error + 1e-6 * np.abs(expected)
        assert not wrong.any(), (
            f"|z| up to {np.max(distance / np.maximum(error, 1e-300)):.1f} at "
            f"{np.argwhere(wrong).tolist()}"
        )

    return check


@pytest.fixture(scope="session")
def chi_square_p():
    """chi_square_p(observed [cells], law [cells]) -> p-value; the rarest cells are pooled until
    they expect at least 5.
    """

    def p_value(observed, law):
        observed, expected = np.asarray(observed, float), np.asarray(law, float) * np.sum(observed)
        assert not observed[expected == 0].any(), "something impossible was drawn"
        order = np.argsort(expected)
        rare = int(np.searchsorted(np.cumsum(expected[order]), 5)) + 1
        cells = [order[:rare], *order[rare:, None]]
        observed, expected = (
            np.array([values[cell].sum() for cell in cells]) for values in (observed, expected)
        )
        return (
            stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue
            if len(cells) > 1
            else 1.0
        )

    return p_value


class LaplaceParams(NamedTuple):
    location: object
    scale: object


@pytest.fixture(scope="session")
def laplace():
    """A newcomer's estimator, made with `cj.estimator(fit, sample)` and nothing else; x is [n]."""
    import jax
    import jax.numpy as jnp

    from collapse_jax.core.factory import estimator
    from collapse_jax.core.types import FitInfo

    def weighted_median(x, weight):
        order = jnp.argsort(x)
        below = jnp.cumsum(weight[order])
        middle = jnp.array(
            [jnp.searchsorted(below, below[-1] / 2, side=side) for side in ("left", "right")]
        )
        return jnp.mean(x[order][middle])

    def fit(key, params, data):
        location = weighted_median(data.x, data.weight)
        return LaplaceParams(
            location, jnp.average(jnp.abs(data.x - location), weights=data.weight)
        ), FitInfo.exact()

    def sample(key, params, n):
        return params.location + params.scale * jax.random.laplace(key, (n,))

    return estimator(fit, sample)


class Jobs:
    """Commands as several processes on the loopback with virtual devices."""

    # The command line without figures, which take longer than such a run.
    _CLI = (
        "import sys, collapse_jax.app.plots as plots; plots.draw_run = lambda folder: []; "
        "from collapse_jax.app.cli import main; main(sys.argv[1:])"
    )

    @staticmethod
    def cli(*arguments) -> list[str]:
        """The command line as a command."""
        return ["-c", Jobs._CLI, *map(str, arguments)]

    @staticmethod
    @contextlib.contextmanager
    def started(command: list[str], processes: int = 2, devices: int = 8):
        """A list of processes of Python with so many devices each; whatever still runs at the end
        is killed.
        """
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            place = f"127.0.0.1:{probe.getsockname()[1]}"
        environment = os.environ | {
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
            "JAX_PLATFORMS": "cpu",
        }
        options = {
            "stdout": subprocess.PIPE,
            "stderr": subprocess.STDOUT,
            "text": True,
            "env": environment | {"COLUMNS": "200"},
        }
        began = []
        for number in range(processes):
            several = (
                [
                    "--coordinator",
                    place,
                    "--num-processes",
                    str(processes),
                    "--process-id",
                    str(number),
                ]
                if processes > 1
                else []
            )
            began.append(subprocess.Popen([sys.executable, "-u", *command, *several], **options))
        try:
            yield began
        finally:
            for process in began:
                with process:  # which waits, and closes its pipes
                    process.kill()

    @staticmethod
    def finished(
        command: list[str], processes: int = 2, devices: int = 8, seconds: int = 300
    ) -> list[str]:
        """What each process of a job said that came to a good end."""
        with Jobs.started(command, processes, devices) as began:
            said = [process.communicate(timeout=seconds)[0] for process in began]
        assert [process.returncode for process in began] == [0] * processes, "\n".join(said)[-4000:]
        return said


@pytest.fixture(scope="session")
def jobs() -> type[Jobs]:
    """jobs.cli(*arguments), jobs.started(command, processes, devices), jobs.finished(...)."""
    return Jobs


@pytest.fixture(scope="session")
def write_inputs():
    """write_inputs(folder, **changes): what `lm` needs, as small as can be: model/ with its
    tokenizer (a random OPT), and text.txt.
    """

    def write(folder, **changes):
        import jax

        from collapse_jax.models.lm import corpus
        from collapse_jax.models.lm.opt import OPT, OPTConfig, init_params
        from collapse_jax.models.lm.weights import save_opt

        sizes = {
            "vocab_size": 2048,
            "hidden_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "ffn_dim": 16,
        }
        config = OPTConfig(
            **sizes | {"max_position_embeddings": 16, "dropout": 0.1, "init_std": 0.3} | changes
        )
        save_opt(folder / "model", OPT(config), init_params(config, jax.random.key(0)))
        corpus._train_embedded().save(str(folder / "model" / "tokenizer.json"))
        (folder / "text.txt").write_text("".join(corpus.embedded_corpus().train[:60]))
        return folder

    return write

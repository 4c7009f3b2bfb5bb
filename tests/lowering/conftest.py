"""What the package compiles, lowered for accelerators that are not there.

A lowered program is what XLA for that platform would be given. Nothing is compiled: `check` reads
the programs, and results are made up.
"""

import re

import jax
import jax.numpy as jnp
import pytest

from collapse_jax.drivers import sharded, tiles

PLATFORMS = ("cuda", "tpu")
# Targets of custom calls that the platform's own compiler or library serves: cuSOLVER, cuBLAS and
# JAX's kernel of threefry on GPUs; decompositions and top-k on TPUs; marks of layouts on both.
_SERVED = {
    "cuda": r"cusolver_|cublas|cudnn|cu_threefry2x32|(__gpu\$)?TopK$|mhlo.topk$|Sharding$",
    "tpu": r"(Eigh|Qr|LuDecomposition|ProductOfElementaryHouseholderReflectors|TopK|mhlo.topk"
    r"|ApproxTopK|PartialReduce|Sharding)$",
}
_CUSTOM_CALL = re.compile(r"custom_call\s*@([\w.$]+)")
# Operations that wait for the host.
_HOST = re.compile(r"stablehlo\.(infeed|outfeed|send|recv)\b")
# XLA takes the 64-bit numbers of a TPU apart into 32-bit ones, in all operations but this.
_BITS_OF_FLOAT64 = re.compile(r"bitcast_convert[^\n]*\(tensor<[\dx]*f64>\)")


def faults(text: str, platform: str) -> list[str]:
    """What a lowered program holds that its platform cannot do by itself."""
    targets = sorted(set(_CUSTOM_CALL.findall(text)))
    found = [target for target in targets if not re.match(_SERVED[platform], target)]
    found += sorted(set(_HOST.findall(text)))
    if platform == "tpu" and _BITS_OF_FLOAT64.search(text):
        found.append("bits of float64")
    return found


def check(traced, seen=None) -> None:
    """Raises for a traced program that an accelerator could not do by itself.

    seen: a set that the targets of its custom calls are added to.
    """
    for platform in PLATFORMS:
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        found = faults(text, platform)
        assert not found, f"{traced.fun_name} on {platform}: {', '.join(found)}"
        if seen is not None:
            seen.update(_CUSTOM_CALL.findall(text))


class Lowered:
    """Stands in the place of compiled functions: their programs are checked, not run.

    names: the functions that were lowered.
    targets: of the custom calls that were seen.
    """

    def __init__(self):
        self._done = {}
        self.names, self.targets = set(), set()

    def program(self, compiled):
        """In the place of a compiled function: it is lowered, and its results are zeros."""
        return _Program(compiled, self)

    def lower(self, compiled, arguments, named):
        """Checks the program for such arguments, once; what it would give, as zeros."""
        traced = compiled.trace(*arguments, **named)
        if id(traced.jaxpr) not in self._done:
            self._done[id(traced.jaxpr)] = traced  # kept, or its number would be another's
            self.names.add(traced.fun_name)
            check(traced, self.targets)
        # Of an integer that says which chain is no number, "none".
        made_up = -1 if traced.fun_name == "_chain_with_nan" else 0
        return jax.tree.map(lambda leaf: jnp.full(leaf.shape, made_up, leaf.dtype), traced.out_info)


class _Program:
    """What may be called, or lowered and compiled before it is."""

    def __init__(self, compiled, lowered):
        self._compiled, self._lowered = compiled, lowered

    def __call__(self, *arguments, **named):
        return self._lowered.lower(self._compiled, arguments, named)

    def lower(self, *arguments, **named):
        return self

    def compile(self):
        return self


@pytest.fixture
def lowered(monkeypatch):
    """What chains compile while they run, as they would where a GPU is JAX's default."""
    # Programs are kept by what is static in them: none of another test's, nor ours for others.
    kept = [kept for kept in vars(tiles).values() if hasattr(kept, "cache_clear")]
    for programs in kept:
        programs.cache_clear()
    made, compiled = Lowered(), sharded.compiled
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(tiles, "compiled", lambda *args, **of: made.program(compiled(*args, **of)))
    yield made
    for programs in kept:
        programs.cache_clear()


@pytest.fixture
def check_traced():
    """check_traced(traced): raises for a traced program that an accelerator could not do."""
    return check


@pytest.fixture
def faults_of():
    """faults_of(text, platform): what is wrong with a lowered program."""
    return faults


@pytest.fixture
def lower_these(lowered, monkeypatch):
    """lower_these(module, *names): functions that a module compiled when it was imported."""

    def lower(module, *names):
        for name in names:
            monkeypatch.setattr(module, name, lowered.program(getattr(module, name)))

    return lower

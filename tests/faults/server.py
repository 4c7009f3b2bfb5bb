"""A process that has imported everything and computed nothing.

It forks a child for every run that it is told of.

Told on its standard input, a JSON object a line (see `child`); answers on its standard output:
{"pid": ...} at once, and {"code": ...} when the child has ended. A start costs no imports then;
programs come from the compilation cache. Forking is safe here because JAX starts its threads with
its first computation, which only children make.
"""

import ctypes
import errno
import importlib
import itertools
import json
import os
import resource
import signal
import struct
import sys
import time
import traceback

_MODULES = (
    "scipy.io",
    "xarray",
    "orbax.checkpoint",
    "transformers",
    "tokenizers",
    "rich.progress",
    "rich.table",
    "collapse_jax.app.cli",
    "collapse_jax.app.plots",
    "collapse_jax.app.commands.simulate",
    "collapse_jax.app.commands.progress",
    "collapse_jax.app.commands.grid",
    "collapse_jax.app.commands.lm",
    "collapse_jax.app.commands.pretrain",
    "shumailov2024_vae",
    "host_run",
)


def serve():
    """Answers until its standard input ends."""
    for name in _MODULES:
        importlib.import_module(name)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            child(order)
        print(json.dumps({"pid": pid}), file=answers)
        _, status = os.waitpid(pid, 0)
        print(json.dumps({"code": os.waitstatus_to_exitcode(status)}), file=answers)


def child(order: dict):
    """One run, to its end.

    program: "collapse-jax", "vae" or "host". arguments: of its command line. log: the file for what
    it prints. events: the file that gets a line for each call of a hooked function, as it begins.
    environment: variables set on top. hooks: [{"at": "module:name", "name": what the events call
    it, "act": see `_acted`, "call": at which call (1 the first; 0 at none)}]. put: [["module:name",
    the value that it gets]]. file_limit: bytes that a file may have at most. unprivileged: whether
    root's right to write anywhere is given up.
    """
    code = 70
    try:
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(log, stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ.update(order.get("environment", {}))
        for place, value in order.get("put", []):
            module, _, name = place.partition(":")
            setattr(importlib.import_module(module), name, value)
        events = os.open(order["events"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for hook in order.get("hooks", []):
            _hook(hook, lambda text: os.write(events, f"{time.monotonic():.4f} {text}\n".encode()))
        if order.get("unprivileged"):
            _give_up_override()
        if order.get("file_limit"):
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (order["file_limit"], order["file_limit"]))
        _run(order["program"], order["arguments"])
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(bool(ended.code))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _run(program, arguments):
    """Without figures, which take longer than such a run."""
    import collapse_jax.app.plots
    from collapse_jax.app.cli import main
    from collapse_jax.app.terminal import terminal

    collapse_jax.app.plots.draw_run = lambda folder: []
    if program == "collapse-jax":
        return main(arguments)
    if program == "host":
        import host_run

        return host_run.main(arguments)
    import shumailov2024_vae as vae
    import tyro

    vae.draw = lambda folder, results, settings: []
    with terminal():
        vae.main(tyro.cli(vae.Settings, args=arguments))


def _hook(hook, tell):
    module, _, path = hook["at"].partition(":")
    place = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        place = getattr(place, parent)
    # One object for all threads: chains are simulated by several.
    function, calls = getattr(place, name), itertools.count(1)

    def hooked(*given, **options):
        number = next(calls)
        tell(f"{hook['name']} {number} {_place(hook['name'], given)}")
        at = number == hook["call"] or (hook["act"] == "full" and 0 < hook["call"] <= number)
        return _acted(hook, function, given, options) if at else function(*given, **options)

    setattr(place, name, hooked)


def _place(name, given):
    """What a save, or the making of a generation, is of."""
    if name in ("save", "make"):
        one, generation = given[:2]
        return f"{(one if name == 'save' else one.checkpoints).folder} {generation}"
    return ""


def _acted(hook, function, given, options):
    """What happens in the place of a call.

    kill: SIGKILL before it. killed: SIGKILL after it. half: SIGKILL in the middle of what it
    writes. interrupt: SIGINT before it. full: the disk is full, from here on. denied:
    hook["folder"] may no longer be written to. wait: until the file hook["until"] is there.
    """
    act = hook["act"]
    if act == "killed":
        function(*given, **options)
    if act in ("kill", "killed"):
        os.kill(os.getpid(), signal.SIGKILL)
    if act == "half":
        file = given[0]
        function(*given, **options)
        file.flush()
        file.truncate(file.tell() // 2)
        os.kill(os.getpid(), signal.SIGKILL)
    if act == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere")
    if act == "interrupt":
        os.kill(os.getpid(), signal.SIGINT)
    if act == "denied":
        os.chmod(hook["folder"], 0o555)
    while act == "wait" and not os.path.exists(hook["until"]):
        time.sleep(0.01)
    return function(*given, **options)


def _give_up_override():
    """Drops root's capabilities to pass over the permissions of files, for this thread.

    They are CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH; threads that it starts lack them too.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    head, sets = (
        ctypes.create_string_buffer(struct.pack("Ii", 0x20080522, 0)),
        ctypes.create_string_buffer(24),
    )
    assert libc.capget(head, sets) == 0
    words = list(struct.unpack("6I", sets.raw))
    for i in range(3):  # effective, permitted, inheritable
        words[i] &= ~0b110
    assert libc.capset(head, ctypes.create_string_buffer(struct.pack("6I", *words), 24)) == 0


if __name__ == "__main__":
    serve()

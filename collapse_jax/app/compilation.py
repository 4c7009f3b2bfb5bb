"""A cache of compiled programs on disk, so that another process need not compile them again."""

import hashlib
import os
import pathlib
import platform
import tempfile

from collapse_jax.errors import InputError, first_line


def cache(folder: str | os.PathLike | None = None) -> pathlib.Path:
    """Keeps compiled programs in a folder, for this process and later ones.

    Most of the time of a first `cj.simulate` is compilation. With the programs in the folder, a
    process has its first numbers after about two CPU-seconds. Call this function once, at the top
    of a script. The command line does so automatically. The results do not depend on it.

    The folder may be shared by processes that run at the same time, and deleted at any time. A
    program is reused by the same version of JAX for the same settings and shapes.

    Args:
        folder: the folder of the cache; it is created if it does not exist. The default is that of
            the command line, `collapse_jax/compiled-PROCESSOR` in `$XDG_CACHE_HOME` or `~/.cache`.
            PROCESSOR names the kind of processor, since machines of several kinds may share a home
            folder; if you give a folder, only machines of one kind should share it. The environment
            variable `JAX_COMPILATION_CACHE_DIR` overrides the default.

    Returns:
        The folder.

    Raises:
        InputError: if the folder cannot be created or written to.
    """
    if folder is None:
        folder = os.environ.get("JAX_COMPILATION_CACHE_DIR") or default_folder()
    if not isinstance(folder, str | os.PathLike) or not str(folder):
        raise InputError(f"folder is {folder!r}; it must be the name of a folder")
    path = pathlib.Path(folder).expanduser().absolute()
    _check_writable(path)
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    jax.config.update("jax_compilation_cache_dir", str(path))
    # JAX leaves out what compiles in less than a second, which is most of a small simulation.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    compilation_cache.reset_cache()  # it looks for a folder once, at the first program
    return path


def default_folder() -> pathlib.Path:
    """Returns the folder of the command line's compiled programs, by kind of processor."""
    folder = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return folder / "collapse_jax" / f"compiled-{_processor()}"


def _check_writable(path):
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise InputError(
            f"folder is {str(path)!r}, which cannot be written to ({first_line(error)}); choose a "
            "writable folder"
        ) from None


def _processor():
    """A name for this kind of processor: a program for one may not run on another.

    Both may share the home folder.
    """
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        flags = ""
    return f"{platform.machine()}-{hashlib.sha256(flags.encode()).hexdigest()[:8]}"

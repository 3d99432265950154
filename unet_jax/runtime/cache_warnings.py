"""jax's warnings about programs in the compilation cache, as one line a mistake that says what to do."""

import contextlib
import re
import sys
import warnings
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

WARNING = re.compile(r"Error (reading|writing) persistent compilation cache entry for '.*?': \w+: (.*)", re.DOTALL)
PROGRAMS = "*-cache"
# What a program starts with that was compressed by Zstandard, where that is installed, in the place of zlib.
ZSTANDARD = b"\x28\xb5\x2f\xfd"


@contextlib.contextmanager
def explained_cache_warnings() -> Iterator[None]:
    """Within the block, jax's warnings about its cache become lines on stderr, each once; others stay as they are.

    A damaged program is removed when jax warns that it cannot read it: jax itself would keep the file, compile again
    at each start, and warn each time.
    """
    show, said = warnings.showwarning, set()

    def explain(message: Warning | str, *arguments: Any, **options: Any) -> None:
        found = WARNING.fullmatch(str(message))
        if found is None:
            show(message, *arguments, **options)
            return
        line = (_unread if found[1] == "reading" else _unwritten)(found[2])
        if line not in said:
            print(f"warning: {line}", file=sys.stderr, flush=True)
        said.add(line)

    with warnings.catch_warnings():
        # Python would hide a warning whose text was there before, and with it that a program was cut.
        warnings.filterwarnings("always", WARNING.pattern)
        warnings.showwarning = explain
        yield


def _unread(reason: str) -> str:
    folder = _folder()
    if damaged := _remove_damaged(folder.glob(PROGRAMS)):
        return f"{damaged} compiled programs in {folder} were damaged: they are removed, and compiled again."
    remedy = _remedy(folder)
    return f"compiled programs in {folder} cannot be read ({_brief(reason)}): they are compiled again; {remedy}"


def _unwritten(reason: str) -> str:
    folder = _folder()
    # jax leaves what it wrote before the disk was full.
    newest = max(folder.glob(PROGRAMS), key=lambda path: path.stat().st_mtime_ns, default=None)
    _remove_damaged([newest] if newest else [])
    return f"compiled programs cannot be kept in {folder} ({_brief(reason)}): {_remedy(folder)}"


def _remedy(folder: Path) -> str:
    return f"make {folder} a folder with room that can be written, or name another config.train.compilation_cache."


def _folder() -> Path:
    import jax  # which has started, as it has warned

    return Path(jax.config.jax_compilation_cache_dir)


def _remove_damaged(programs: Iterable[Path]) -> int:
    """Removes those that cannot be decompressed, and returns how many that were."""
    count = 0
    for path in programs:
        with contextlib.suppress(OSError):
            if not _is_whole(path.read_bytes()):
                path.unlink()
                count += 1
    return count


def _is_whole(program: bytes) -> bool:
    if program.startswith(ZSTANDARD):
        return True  # as far as can be told without that package
    try:
        zlib.decompress(program)
    except zlib.error:
        return False
    return True


def _brief(reason: str) -> str:
    """Without the number of the system's error and the program's long name."""
    return re.sub(r"\[Errno \d+\] |: '.*'", "", reason)

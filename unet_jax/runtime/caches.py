"""Where what can be made again is kept: decoded cases, compiled programs, the phantom.

configs/default.py names folders below data/. That is where they are in a checkout; started anywhere else, the program
leaves nothing in the current folder and uses the user's cache folder. A path of one's own stands.
"""

import atexit
import functools
import os
import shutil
import sys
import tempfile
from pathlib import Path

import platformdirs

# The folders that configs/default.py names; a test holds the two together.
DEFAULTS = ("data/cache", "data/compiled", "data/phantom/kaggle_3m")
_IN_A_CHECKOUT = Path("data")

_moved: Path | None = None


def move_to(folder: Path | None) -> None:
    """Keeps everything below `folder` from now on, as --cache_dir says; None: where it belongs by itself."""
    global _moved
    _moved = folder


def place_of(named: str | Path) -> Path:
    """Where a folder that a config names is on this machine."""
    named = Path(named)
    if named.as_posix() not in DEFAULTS:
        return named
    return _base() / named.relative_to(_IN_A_CHECKOUT)


def _base() -> Path:
    if _moved is not None:
        return _moved
    # Of the checkout that this package is part of, if it is.
    checkout, here = Path(__file__).parents[2], Path.cwd()
    if (checkout / "configs" / "default.py").is_file() and here.is_relative_to(checkout):
        return _IN_A_CHECKOUT if here == checkout else checkout / _IN_A_CHECKOUT
    folder = platformdirs.user_cache_path("unet_jax", appauthor=False)
    if not _can_be_written(folder):
        return _temporary(folder)
    if not folder.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _say(f"Decoded cases and compiled programs are kept in {folder}; --cache_dir=DIR keeps them elsewhere.")
    return folder


def _can_be_written(folder: Path) -> bool:
    if not folder.is_absolute():  # nobody's home is known
        return False
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)


@functools.cache
def _temporary(instead_of: Path) -> Path:
    """A folder of this process alone, for a home that is read-only: what is compiled there is executed."""
    folder = Path(tempfile.mkdtemp(prefix="unet_jax-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _say(f"{instead_of} cannot be written: decoded cases are kept until this ends; --cache_dir=DIR keeps them.")
    return folder


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

"""Says where a config file fails: it is a program, and can raise anything."""

import importlib.util
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from unet_jax.errors import InputError

FLAG = "--config="


def check(arguments: Sequence[str]) -> None:
    """Executes the config file that the command line names.

    Raises:
        InputError: it cannot be read or raises an exception: which, and at which line of it.
    """
    named = [argument.removeprefix(FLAG) for argument in arguments if argument.startswith(FLAG)]
    for name in named[-1:]:
        # What stands after the colon is given to get_config.
        path, colon, argument = name.partition(".py:")
        path = Path(f"{path}.py" if colon else name)
        if not path.is_file():
            raise InputError(f"--config={name}: there is no such file{_others(path)}.")
        try:
            spec = importlib.util.spec_from_file_location("config_file", path)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            module.get_config(*([argument] if colon else []))
        except Exception as error:
            raise InputError(_where(error, path)) from error


def _others(path: Path) -> str:
    found = sorted(one.name for one in path.parent.glob("*.py")) if path.parent.is_dir() else []
    return f"; in {path.parent} there are {', '.join(found)}" if found else ""


def _where(error: Exception, path: Path) -> str:
    """The exception's type and text, at the last line of `path` that led to it."""
    what = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{path}, line {error.lineno}: {type(error).__name__}: {error.msg}: mend this config file."
    lines = [frame.lineno for frame in traceback.extract_tb(sys.exc_info()[2]) if frame.filename == str(path)]
    place = f"{path}, line {lines[-1]}" if lines else f"{path}"
    return f"{place}: {what}: mend this config file."

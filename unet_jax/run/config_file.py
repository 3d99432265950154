"""Says where a config file fails: it is a program, and can raise anything."""

import importlib.util
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from unet_jax.errors import InputError
from unet_jax.run import recipes

FLAG = "--config"


def with_paths(arguments: Sequence[str]) -> list[str]:
    """The command line with the path of a file for what --config names; the file is executed once, to check it.

    Raises:
        InputError: there is no such file or recipe, it cannot be read, or it raises an exception: which, and at which
            line of it.
    """
    arguments = list(arguments)
    for place, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name not in (FLAG, FLAG[1:]):
            continue
        if equals:
            arguments[place] = f"{FLAG}={_checked(value)}"
        elif place + 1 < len(arguments):
            arguments[place + 1] = _checked(arguments[place + 1])
    return arguments


def _checked(named: str) -> str:
    """The path of the file that is named, with what is given to its get_config after a colon."""
    path, argument = recipes.find(named)
    recipes.make_importable(path)
    given = [] if argument is None else [argument]
    try:
        spec = importlib.util.spec_from_file_location("config_file", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.get_config(*given)
    except Exception as error:
        raise InputError(_where(error, path)) from error
    return ":".join([str(path), *given])


def _where(error: Exception, path: Path) -> str:
    """The exception's type and text, at the last line of `path` that led to it."""
    whole = str(path.absolute())
    what = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
    if isinstance(error, SyntaxError) and error.filename == whole:
        return f"{path}, line {error.lineno}: {type(error).__name__}: {error.msg}: mend this config file."
    lines = [frame.lineno for frame in traceback.extract_tb(sys.exc_info()[2]) if frame.filename == whole]
    place = f"{path}, line {lines[-1]}" if lines else f"{path}"
    return f"{place}: {what}: mend this config file."

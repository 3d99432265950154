"""The recipes of the program: where they are, what they are called, and which file a name or a path means."""

import difflib
import sys
from pathlib import Path
from types import ModuleType

from unet_jax.errors import InputError

_PACKAGE = Path(__file__).parents[1]
# An installed package carries the recipes inside; in a checkout they are beside it.
FOLDER = next((path for path in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if path.is_dir()), None)
# What recipes call their folder when they import each other: `from configs import default`.
IMPORTED_AS = "configs"


def names() -> list[str]:
    """What --config takes without a path, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.py"))


def find(named: str) -> tuple[Path, str | None]:
    """The file that --config=`named` means, and what is given to its `get_config`, if anything.

    A name without ".py", such as "lgg_cpu", is a recipe of the program; all else is the path of a file. What comes
    after a colon is given to `get_config`.

    Raises:
        InputError: there is no such recipe or file; those that there are are listed.
    """
    path, colon, argument = named.partition(".py:")
    if colon or named.endswith(".py"):
        path = Path(f"{path}.py" if colon else named)
        if not path.is_file():
            raise InputError(f"--config={named}: there is no such file{_beside(path)}.")
        return path, argument if colon else None
    name, colon, argument = named.partition(":")
    if name not in names():
        close = difflib.get_close_matches(name, names(), n=1)
        hint = f"did you mean {close[0]}? There are" if close else "there are"
        raise InputError(
            f"--config={named}: there is no such recipe; {hint} {', '.join(names())}. A file is named with its path "
            "and .py."
        )
    return FOLDER / f"{name}.py", argument if colon else None


def make_importable(path: Path) -> None:
    """Lets the config file `path` import the program's recipes as `configs`, wherever the program was started.

    Files of its own folder come first, if that is called so.
    """
    package = sys.modules.setdefault(IMPORTED_AS, ModuleType(IMPORTED_AS))
    folders = [folder for folder in (path.absolute().parent, FOLDER) if folder.name == IMPORTED_AS]
    package.__path__ = list(dict.fromkeys(map(str, folders)))


def _beside(path: Path) -> str:
    found = sorted(one.name for one in path.parent.glob("*.py")) if path.parent.is_dir() else []
    if found:
        return f"; in {path.parent} there are {', '.join(found)}"
    return f"; recipes of the program are named without path and .py: {', '.join(names())}"

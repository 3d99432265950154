"""What lies in a data set's folder: the one listing behind training and prediction.

Hidden files and folders, which editors and macOS leave, are passed over. Suffixes and names of folders are compared
without regard to capital letters. Links to folders are not followed: they could lead out of the data set, or in a loop.
"""

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from unet_jax.data.names import shown
from unet_jax.errors import InputError


def entries(root: Path, folder: Path | str = ".") -> list[Path]:
    """All files under `root / folder`, at any depth, as sorted paths from `root`.

    What is there and cannot be read, such as a broken link, is listed too: reading it says what is wrong.

    Raises:
        InputError: a folder cannot be read.
    """
    return sorted(_walk(root, Path(folder)))


def files_under(root: Path, suffixes: Collection[str], folder: Path | str = ".") -> list[Path]:
    """The `entries` whose names end in one of `suffixes`, which are in small letters.

    Raises:
        InputError: a folder cannot be read, or is a link that leads to such files outside of `root`.
    """
    return [path for path in entries(root, folder) if has_suffix(path, suffixes) or _hides(root / path, root, suffixes)]


def check_links(root: Path, paths: Collection[Path], suffixes: Collection[str]) -> None:
    """Checks that none of these `entries` is a link that leads to files of these suffixes outside of `root`.

    Raises:
        InputError: one is.
    """
    for path in paths:
        if not has_suffix(path, suffixes):
            _hides(root / path, root, suffixes)


def has_suffix(path: Path, suffixes: Collection[str]) -> bool:
    """Whether a name ends in one of `suffixes`, in capital letters or small ones."""
    return path.name.lower().endswith(tuple(suffixes))


def folder_named(root: Path, name: str) -> Path | None:
    """The folder in `root` of this name, in whatever capital letters, as a path from `root`; None where there is none.

    Raises:
        InputError: there are two, or `root` cannot be read.
    """
    found = [path for path in folders(root) if path.name.casefold() == name.casefold()]
    if len(found) > 1:
        raise InputError(
            f"{root}: holds {' and '.join(shown(path) for path in found)}, and each could be meant by {name}: rename "
            "or remove one of them."
        )
    return found[0] if found else None


def folders(root: Path) -> list[Path]:
    """The folders in `root`, links to folders included, as sorted paths from `root`; none where it is not a folder.

    Raises:
        InputError: `root` cannot be read.
    """
    try:
        return sorted(
            Path(entry.name) for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith(".")
        )
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise _unreadable(root, error) from error


def _walk(root: Path, folder: Path) -> Iterator[Path]:
    try:
        found = sorted(os.scandir(root / folder), key=lambda entry: entry.name)
    except OSError as error:
        raise _unreadable(root if folder == Path() else folder, error) from error
    for entry in found:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(root, folder / entry.name)
        else:
            yield folder / entry.name


def _hides(place: Path, root: Path, suffixes: Collection[str]) -> bool:
    """Raises InputError where a link leads to a folder of such files elsewhere, which would be left out in silence."""
    if not place.is_symlink() or not place.is_dir() or place.resolve().is_relative_to(root.resolve()):
        return False
    try:
        names = [Path(name) for name in os.listdir(place)]
    except OSError as error:
        raise _unreadable(place, error) from error
    if any(has_suffix(name, suffixes) for name in names):
        raise InputError(
            f"{shown(place)}: is a link to a folder outside of the data set, and such links are not followed: copy the "
            "folder there, or remove the link."
        )
    return False


def _unreadable(place: Path, error: OSError) -> InputError:
    return InputError(f"{shown(place)}: cannot be read ({error.strerror}): mend its permissions.")

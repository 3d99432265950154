"""Cases of any files that two patterns, or a table, name: pictures or volumes, in any format of `table`."""

import contextlib
from collections.abc import Callable
from pathlib import Path

from unet_jax.data.case import Case
from unet_jax.data.faults import Fault, FaultsError
from unet_jax.data.formats import pictures, table
from unet_jax.data.labels import LabelMap
from unet_jax.data.reader import CaseFiles
from unet_jax.errors import InputError

DECODING = "patterns 1: channels in the pattern's order, 16 bits of pictures over 65535"


def decode(
    files: CaseFiles,
    read: Callable[[Path], bytes],
    labels: LabelMap | None,
    threshold: int | None = None,
    axes: str = "patient",
    number_of: Callable[[Path], int] | None = None,
) -> Case:
    """Reads, checks and puts together the files of one case.

    Args:
        files: what `pattern_listing` said of the case.
        read: gives the bytes of a path of `files`, or raises InputError.
        labels: which values of the masks are which class; None where they hold 0 and 1 or 0 and 255.
        threshold: see `labels.to_classes`.
        axes: of volumes, config.data.axes.
        number_of: the class that what is marked in a mask's file belongs to, where files are of one class each.

    Returns:
        the case, as `pictures` has it, or `nifti` of volumes.

    Raises:
        InputError: every fault of the case, one line each.
    """
    paths = (*files.images, *files.masks)
    formats = [table.format_of(path) for path in paths]
    sorts = {found and found[0].sort for found in formats}
    if not paths or sorts == {"picture"}:
        return pictures.decode(files, read, labels, threshold, number_of)
    if sorts == {"volume"} and (len(files.images) == files.channels or files.faults):
        from unet_jax.data.formats import nifti

        return nifti.decode(files, read, labels, threshold=threshold, axes=axes, number_of=number_of)
    raise FaultsError(files.faults or [_mistake(files, paths, formats)])


def with_decoders(listing: list[CaseFiles]) -> list[CaseFiles]:
    """The same listing, once what decodes its first case is imported.

    A library may keep the exception of an import that failed, and with it all that the functions that called for the
    import held: a whole volume, if that was while a case was decoded.
    """
    paths = [path for files in listing[:1] for path in (*files.images, *files.masks)]
    formats = {path: found[0] for path in paths if (found := table.format_of(path))}
    with contextlib.suppress(InputError):  # a package that is missing is told of with the case
        table.check_packages(formats)
        if any(one.sort == "volume" for one in formats.values()):
            from unet_jax.data.formats import nifti  # noqa: F401
    return listing


def _mistake(files: CaseFiles, paths: tuple[Path, ...], formats: list) -> Fault:
    """Why files cannot be a case."""
    unknown = next((path for path, found in zip(paths, formats, strict=True) if found is None), None)
    if unknown is not None:
        known = ", ".join((*table.suffixes("picture"), *table.suffixes("volume")))
        return Fault(unknown, f"is of a kind that is not read ({known} are): convert it.", "not read")
    if len({found[0].sort for found in formats}) > 1:
        mistake = "has pictures and volumes, of which one cannot be the mask or channel of the other: convert one."
        return Fault(files.name, mistake, "sorts")
    mistake = f"has {len(files.images) // files.channels} volumes as slices: leave {{slice}} to pictures."
    return Fault(files.name, mistake, "volumes as slices")

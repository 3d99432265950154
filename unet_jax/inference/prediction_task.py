"""What a prediction reads and writes, found and checked before anything is computed."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

from ml_collections import ConfigDict

from unet_jax.data import beside, load
from unet_jax.data.formats import unlabelled
from unet_jax.data.formats.file_sorts import sort_of
from unet_jax.data.formats.table import format_of
from unet_jax.data.labels import LabelMap
from unet_jax.data.names import shown
from unet_jax.data.reader import CaseFiles, Reader
from unet_jax.data.scale import Scale
from unet_jax.errors import InputError
from unet_jax.files import storage_error
from unet_jax.inference.network import image_channels
from unet_jax.inference.settings import keeps_scale
from unet_jax.inference.writers import overlays as overlay_files
from unet_jax.inference.writers import picture_masks, tables
from unet_jax.run import folder as run_folder
from unet_jax.runtime import exchange

# An error about files that are there already lists so many.
LISTED = 5


@dataclasses.dataclass(frozen=True)
class Task:
    """What is read and what is written.

    Attributes:
        reader: of the images.
        root: that their paths start from.
        listing: the cases.
        channels: of the images that the run was trained on.
        shown: the channel that overlays show in grey; see `overlays.encode`.
        channel_names: what the run's channels are called.
        scale: of intensities, that the run was trained on, where that is known and matters.
        writer: of the masks: see `output`.
        encode: the writer's, for cases of these axes.
        classes: several, of the run; empty for one.
        output: the folder.
        probabilities: whether they are written.
        overlays: whether they are written.
    """

    reader: Reader
    root: Path
    listing: list[CaseFiles]
    channels: int
    shown: int | None
    channel_names: tuple[str, ...]
    scale: Scale | None
    writer: ModuleType
    encode: Callable[..., Iterator[tuple[Path, bytes]]]
    classes: LabelMap
    output: Path
    probabilities: bool
    overlays: bool


def plan(
    workdir: Path,
    config: ConfigDict,
    source: Path,
    output: Path,
    *,
    overwrite: bool,
    probabilities: bool,
    overlays: bool,
) -> Task:
    """What is to be done for the run in `workdir`, of that config; the other arguments are those of `predict`.

    Makes the output's folder: what would go wrong after hours of computing goes wrong now.

    Raises:
        InputError: the run, the input or the output cannot be used.
    """
    channels = image_channels(workdir, config)
    task = _task(workdir, config, channels, source, output, probabilities, overlays)
    _check_output(task, source, overwrite)
    exchange.barrier()  # so that none finds there what another has written by now
    return task


def _task(
    workdir: Path,
    config: ConfigDict,
    channels: int,
    source: Path,
    output: Path,
    probabilities: bool,
    overlays: bool,
) -> Task:
    settings = load.reader_settings(config)
    if settings.patient_csv and not Path(settings.patient_csv).exists():
        settings = dataclasses.replace(settings, patient_csv=None)  # it is of the training set, which may be elsewhere
    reader, root = unlabelled.image_reader(source, settings, channels)
    listing = reader.find(root)
    if note := beside.note(listing):
        print(note, flush=True)
    writer = _writer(sort := _sort(listing, source))
    return Task(
        reader=reader,
        root=root,
        listing=listing,
        channels=channels,
        shown=run_folder.read_shown(workdir, config, channels),
        channel_names=run_folder.read_channel_names(workdir, config, channels),
        scale=run_folder.read_scale(workdir, config, keeps_scale(workdir, config, channels)),
        writer=writer,
        encode=functools.partial(writer.encode, axes=settings.axes) if sort == "volume" else writer.encode,
        classes=run_folder.read_classes(workdir),
        output=output,
        probabilities=probabilities,
        overlays=overlays,
    )


def _sort(listing: Sequence[CaseFiles], source: Path) -> str:
    """The sort of the images; files that were passed over may be of another."""
    first = next((files.images[0] for files in listing if files.images), None)
    found = format_of(first) if first else None
    return found[0].sort if found else sort_of(source)


def _writer(sort: str) -> ModuleType:
    """Imported only where they are needed: their packages are extras."""
    if sort == "volume":
        from unet_jax.inference.writers import volume_masks

        return volume_masks
    if sort == "dicom":
        from unet_jax.inference.writers import dicom_masks

        return dicom_masks
    return picture_masks


def _check_output(task: Task, source: Path, overwrite: bool) -> None:
    output = task.output
    if output.exists() and not output.is_dir():
        raise InputError(f"{output}: is a file, and --output must be a folder: name another.")
    if source.is_dir() and output.resolve().is_relative_to(source.resolve()):
        raise InputError(
            f"{output}: --output lies within --input, whose masks would be taken for images: name another."
        )
    if not overwrite:
        paths = [*planned(task), *(path for files in task.listing for path in stale(task, files))]
        there = [path for path in paths if (output / path).exists()]
        if there:
            listed = ", ".join(shown(path) for path in there[:LISTED])
            others = f" and {len(there) - LISTED} more" if len(there) > LISTED else ""
            raise InputError(
                f"{output}: holds {listed}{others} already: name another --output, or add --overwrite to replace them."
            )
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, output) or InputError(
            f"{output}: cannot be made ({error.strerror}): name another --output."
        ) from None


def planned(task: Task) -> list[Path]:
    """The files of all cases, or folders of them, relative to the output folder."""
    paths = [Path(tables.CASES), Path(tables.SLICES)]
    for files in task.listing:
        paths += task.writer.plan(files, task.probabilities, task.classes)
        paths += [overlay_files.plan(files)] if task.overlays else []
    return paths


def stale(task: Task, files: CaseFiles) -> list[Path]:
    """What another prediction may have written for a case and this one does not: it would lie beside a new mask."""
    written = {*task.writer.plan(files, task.probabilities, task.classes)}
    found = [path for path in task.writer.plan(files, True, task.classes) if path not in written]
    if not task.overlays:
        overlay = overlay_files.plan(files)
        found += [overlay, *([overlay.with_suffix("")] if overlay.suffix == ".png" else [])]  # of a stack of pages
    return found

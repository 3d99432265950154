"""A trained run as a function on arrays."""

import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float32, UInt8
from ml_collections import ConfigDict

from unet_jax.auto import best as best_file
from unet_jax.auto import members, runs
from unet_jax.data import intensity, regions, scale
from unet_jax.data import load as load_data
from unet_jax.data.case import Case, check_finite
from unet_jax.data.formats import sources
from unet_jax.data.labels import LabelMap
from unet_jax.data.scale import Scale
from unet_jax.errors import InputError
from unet_jax.inference import components, ensemble, postprocess
from unet_jax.inference.network import image_channels
from unet_jax.inference.segment import segment_stream
from unet_jax.inference.settings import SegmentSettings, keeps_scale
from unet_jax.inference.windows import Segmented, Wanted
from unet_jax.plan import plan_file
from unet_jax.run import folder as run_folder
from unet_jax.run import pack_file
from unet_jax.run.config import read_config
from unet_jax.runtime.mesh import check_batch_size, prediction_mesh
from unet_jax.runtime.out_of_memory import explained
from unet_jax.wording import count

Mask = UInt8[np.ndarray, "d h w"]


def load(run: str | os.PathLike[str], *, batch_size: int | None = None) -> "Segmenter":
    """The network of a run, from the checkpoint that its config names: the best one, unless told otherwise.

        segment = unet_jax.load("runs/default")
        mask = segment(image)

    Args:
        run: the run's folder, or a pack (docs/share.md). Of the folder of a cross-validation, the networks of the folds
            are averaged; of that of a choice (best.json), folds and configurations, and its post-processing is applied.
        batch_size: slices, or slabs, that are computed together; fewer are filled up to that number. None is the
            run's own, with which the masks are those of `evaluate` and `predict` to the bit; 1 spares the filling where
            single pictures are to be segmented.

    Raises:
        InputError: the folder holds no run, or no checkpoint yet; or the file is not a pack.
        DamageError: a pack is not what was packed, or no checkpoint is whole. One that is damaged among others is a
            warning.
    """
    with pack_file.opened(Path(run)) as workdir:
        if (workdir / best_file.NAME).exists():
            return _load_choice(workdir, batch_size)
        return _load_runs(workdir, batch_size)


def _load_runs(workdir: Path, batch_size: int | None) -> "Segmenter":
    found = ensemble.find(workdir)
    config, first, mesh = found.config, found.first, prediction_mesh(found.config.train.spatial)
    if batch_size is not None:
        config.train.batch_size = batch_size
        check_batch_size(batch_size, mesh)
    network, restored, lines = ensemble.load(found, mesh)
    for line in lines:
        warnings.warn(line, RuntimeWarning, stacklevel=3)
    classes = run_folder.read_classes(first)
    settings = SegmentSettings.of_run(first, config, mesh)

    def segment(wanted: Iterator[Wanted], keep: bool) -> Iterator[Segmented]:
        return segment_stream(network, wanted, settings, keep_probabilities=keep)

    def finish(mask: Mask) -> Mask:
        return postprocess.apply(mask, settings.postprocess, classes)

    channels = image_channels(first, config)
    names, trained = _of_images(first, config, channels)
    step = restored[0].step if len(restored) == 1 else None
    return Segmenter(segment, finish, config, step, channels, classes, names, trained)


def _load_choice(workdir: Path, batch_size: int | None) -> "Segmenter":
    best, plans = best_file.read(workdir), plan_file.read_plans(workdir / plan_file.NAME)
    first = runs.folder_of(workdir, best.configurations[0], best.folds[0])
    config = read_config(first)
    mesh = prediction_mesh(config.train.spatial)
    loaded = members.load(workdir, plans, best.configurations, best.folds, mesh)
    if batch_size is not None:
        check_batch_size(batch_size, mesh)
        loaded = [replace(one, settings=replace(one.settings, batch_size=batch_size)) for one in loaded]
    classes = run_folder.read_classes(first)

    def segment(wanted: Iterator[Wanted], keep: bool) -> Iterator[Segmented]:
        for found in members.segment(loaded, wanted, keep_probabilities=keep or len(best.configurations) > 1):
            yield members.together(found, best.configurations, config.eval.threshold, regions.painted(classes))

    def finish(mask: Mask) -> Mask:
        return components.apply(mask, best.postprocessing)

    channels = image_channels(first, config)
    names, trained = _of_images(first, config, channels)
    return Segmenter(segment, finish, config, None, channels, classes, names, trained)


def _of_images(workdir: Path, config: ConfigDict, channels: int) -> tuple[tuple[str, ...], Scale | None]:
    """What a run's channels are called, and the scale of intensities that it was trained on, where that matters."""
    names = run_folder.read_channel_names(workdir, config, channels)
    return names, run_folder.read_scale(workdir, config, keeps_scale(workdir, config, channels))


class Segmenter:
    """A trained network as a function from images to masks; `load` makes it.

    Images are numbers of any type, channels last. They are read as a file of that type is: 8 bits, and 16 bits of
    pictures, as 0 to 1, and all others on their own scale, which must be that of the run's files:

        [h, w, c]           a picture
        [d, h, w, c]        a volume, slice by slice
        [b, d, h, w, c]     several volumes; d = 1 for pictures that have nothing to do with each other

    of any size. config.data.intensity and config.eval apply, as they do when the run is evaluated: scaling and
    post-processing take a volume as a whole.

    Attributes:
        config: the run's.
        step: of the checkpoint; None where there are several.
        channels: that images must have.
        classes: the names of several; empty for one.
        members: the numbers of each class in a mask: 1, 2 and so on, or several of each where classes overlap.
        channel_names: what the channels are called.
    """

    def __init__(
        self,
        segment: Callable[[Iterator[Wanted], bool], Iterator[Segmented]],
        finish: Callable[[Mask], Mask],
        config: ConfigDict,
        step: int | None,
        channels: int,
        classes: LabelMap,
        channel_names: tuple[str, ...] = (),
        trained: Scale | None = None,
    ):
        self.config = config
        self.step = step
        self.channels = channels
        self.classes = tuple(classes)
        self.members = regions.members(classes)
        self.channel_names = channel_names
        self._stream = segment
        self._finish = finish
        self._trained = trained

    def __repr__(self) -> str:
        names = ", ".join(self.channel_names)
        finds = ", ".join(self.classes) or "one class"
        step = "" if self.step is None else f", step {self.step}"
        return f"<Segmenter: {self.config.model.name}{step}; {count(self.channels, 'channel')} ({names}) → {finds}>"

    def __call__(
        self, image: ArrayLike, spacing: tuple[float, float, float] | None = None
    ) -> UInt8[np.ndarray, "*volume h w"]:
        """The mask, of the image's shape without c: 1 where there is tumour, or the number of a class; 0 elsewhere.

        Args:
            image: as described above.
            spacing: mm between slices, rows and columns; a run that resamples (config.data.spacing) needs it.

        Raises:
            InputError: the image has another shape or type than described, or pixels that are not finite; or there is
                no spacing where one is needed.
            OutOfMemoryError: the device has too little memory for a batch.
        """
        masks = [self._finish(done.mask) for done in self._segment(image, spacing)]
        return np.stack(masks).reshape(np.shape(image)[:-1])

    def probabilities(
        self, image: ArrayLike, spacing: tuple[float, float, float] | None = None
    ) -> Float32[np.ndarray, "*volume h w"]:
        """The probability of tumour at each pixel, before threshold and post-processing.

        With several classes, those of background and each class, in place of the image's channels; where classes
        overlap, those of each class.

        Args:
            image: as for a mask.
            spacing: as for a mask.

        Raises:
            InputError: as for a mask.
            OutOfMemoryError: as for a mask.
        """
        found = [done.probability for done in self._segment(image, spacing, keep_probabilities=True)]
        return np.stack(found).reshape(*np.shape(image)[:-1], *found[0].shape[3:])

    def _segment(
        self, image: ArrayLike, spacing: tuple[float, float, float] | None, keep_probabilities: bool = False
    ) -> list[Segmented]:
        cases = self._cases(np.asarray(image), spacing)
        wanted = (Wanted(position, case, np.arange(len(case.image))) for position, case in enumerate(cases))
        with explained(self.config):
            return list(self._stream(wanted, keep_probabilities))

    def _cases(self, image: np.ndarray, spacing: tuple[float, float, float] | None) -> list[Case]:
        found = f"the image is {image.dtype} {image.shape}"
        if image.ndim not in (3, 4, 5) or not image.size:
            raise InputError(f"{found}; it must be [h, w, c], [d, h, w, c] or [b, d, h, w, c], and none of them 0.")
        if image.shape[-1] != self.channels:
            channels = count(self.channels, "channel")
            raise InputError(f"{found}; the network was trained on {channels}, which come last.")
        if spacing is None and self.config.data.spacing is not None:
            raise InputError("the run resamples its images (config.data.spacing): give the image's spacing in mm.")
        data = self.config.data
        mode = sources.intensity_mode(data.source, load_data.reader_settings(self.config).intensity)
        image = sources.as_read(data.source, image, data.images)
        volumes = image.reshape(-1, *(1, *image.shape)[-4:])
        cases = [Case(f"image {number}", "", volume, None) for number, volume in enumerate(volumes, 1)]
        for case in cases:
            check_finite(case)
        cases = [Case(case.name, "", intensity.normalise(case.image, mode), None, spacing) for case in cases]
        if self._trained is not None:
            measured = [scale.measure(case.name, case.image) for case in cases]
            for line in scale.warnings(self._trained, measured, self.channel_names):
                warnings.warn(line, RuntimeWarning, stacklevel=5)
        return cases

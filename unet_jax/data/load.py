"""The data set that a config names: its cases decoded, its classes, and what identifies its files."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from unet_jax.data import beside, cache, intensity, labels, phantom
from unet_jax.data.case import Case
from unet_jax.data.formats import layouts, sources
from unet_jax.data.labels import LabelMap
from unet_jax.data.reader import CaseFiles, Digests
from unet_jax.runtime import caches, exchange


@dataclasses.dataclass(frozen=True)
class DataSet:
    """A data set, opened once a command.

    Attributes:
        cases: in the reader's order, their arrays read-only memory maps.
        classes: what the masks tell apart, where that is several; empty for one.
        fingerprint: of the files and of how they are decoded.
        digests: size and SHA-256 of every file.
        listing: the files of each case, in the order of the cases.
        channel_names: what the images' channels are called.
        shown: the channel that stands for an image where one is shown in grey.
        unit: what a split keeps together: see `sources.unit`.
        decoding: how the files became cases, for what is made of them.
        ignores: whether masks may have pixels that are left out: `labels.IGNORED`.
    """

    cases: list[Case]
    classes: LabelMap
    fingerprint: str
    digests: Digests
    listing: Sequence[CaseFiles] = ()
    channel_names: tuple[str, ...] = ()
    shown: int = 0
    unit: str = "patient"
    decoding: str = ""
    ignores: bool = False

    @property
    def channels(self) -> int:
        """How many channels its images have."""
        return self.cases[0].image.shape[-1]


def load(config: ConfigDict) -> DataSet:
    """Decodes the config's cases, or takes them from the cache; the phantom is made first where it is asked for.

    Of several processes, the first one decodes, and the others find in the cache what it made; where they have caches
    of their own, they decode at the same time as each other.

    Raises:
        InputError: anything is wrong with the data; every fault is listed.
    """
    root = Path(config.data.root)
    if config.data.source == "phantom":
        made = config.phantom
        write = functools.partial(
            phantom.write_once, root, seed=made.seed, patients=made.patients, size=made.size, slices=tuple(made.slices)
        )
        exchange.primary_first(write)
    source, settings = config.data.source, reader_settings(config)
    reader = sources.reader(root, source, settings)
    listing = reader.find(root)
    if note := beside.note(listing):
        print(note, flush=True)
    cases, fingerprint, digests = exchange.primary_first(
        functools.partial(cache.load, reader, root, caches.place_of(config.data.cache), listing)
    )
    names = sources.channel_names(source, root, cases[0].image.shape[-1], settings.images)
    return DataSet(
        cases,
        load_classes(config),
        fingerprint,
        digests,
        listing,
        names,
        sources.channel_to_show(source, names),
        sources.unit(source, settings),
        reader.DECODING,
        labels.IGNORE in sources.label_map(root, source, settings),
    )


def has_patches(config: ConfigDict) -> bool:
    """Whether the config trains on patches of preprocessed cases, rather than on slices or slabs of decoded ones."""
    return config.data.patch is not None or config.plan.configuration is not None


def reader_settings(config: ConfigDict) -> sources.Settings:
    """How the config's files are read; where patches are preprocessed, intensities are left as the files have them."""
    settings = sources.settings(config.data.to_dict())
    intensity.check_mode(settings.intensity)
    return dataclasses.replace(settings, intensity="range") if has_patches(config) else settings


def load_classes(config: ConfigDict) -> LabelMap:
    """The classes that the config's masks tell apart: see `sources.classes`."""
    return sources.classes(Path(config.data.root), config.data.source, reader_settings(config))


def take_cases_from(data: Path, config: ConfigDict) -> None:
    """Makes `config` read the cases in another folder, and says what lies there."""
    if config.data.images:  # by which the run was trained, and its cases are told apart
        config.data.root = str(data)
        return
    found = layouts.find(data, config.data.labels)
    print(found.note, flush=True)
    config.data.update(layouts.keys(found, config.data.to_dict()))

"""The config that runs, from the one that was asked for: which data there are, and what they need."""

from collections.abc import Collection
from pathlib import Path

from ml_collections import ConfigDict

from unet_jax.data.formats import layouts, pattern_notes, sources
from unet_jax.errors import InputError
from unet_jax.run.config import flatten
from unet_jax.runtime import caches

SOURCES = ("auto", *sources.SOURCES)
DOWNLOAD = "https://www.kaggle.com/datasets/mateuszbuda/lgg-mri-segmentation"
COMMAND = "`python -m unet_jax.data.download` does that"


def resolve(config: ConfigDict, given: Collection[str]) -> tuple[ConfigDict, list[str]]:
    """The config with its data source decided, and what the user should be told about it.

    Args:
        config: as the config file and the command line have it.
        given: keys that the command line set, such as "model.width"; they are never replaced.

    Raises:
        InputError: the source has no such name, or the folder of the data is not there.
    """
    if config.data.source not in SOURCES:
        raise InputError(f"config.data.source is {config.data.source!r}; it must be one of {', '.join(SOURCES)}.")
    resolved = config.copy_and_resolve_references()
    resolved.unlock()
    root, messages = Path(config.data.root), []
    patterned = config.data.images or config.data.masks
    if config.data.source == "auto" and not root.is_dir() and "data.root" not in given and not patterned:
        # "auto" on the command line asks for this very decision, so it does not stand against it
        given = set(given) - {"data.source"}
        changes = _replace(resolved, flatten(config.scaled_down.to_dict()), given)
        messages = [
            f"No data at {root}: running the recipe scaled down on the built-in phantom. To run it in full, unpack "
            f"{DOWNLOAD} so that {root}/TCGA_CS_4941_19960909 is a folder: {COMMAND}.",
            f"Scaled down: {', '.join(changes)}.",
        ]
    else:
        del resolved.scaled_down
        if patterned and (config.data.masks or not _holds_studies(config, root)):
            resolved.data.source = _source_of_patterns(config.data.source)
        elif config.data.source == "auto" and root.is_dir():
            found = layouts.find(root, config.data.labels)
            resolved.data.update(layouts.keys(found, config.data.to_dict()))
            messages.append(found.note)
    if resolved.data.source == "phantom":
        resolved.phantom.root = str(caches.place_of(resolved.phantom.root).absolute())
        resolved.data.root = resolved.phantom.root
    elif root.exists() and not root.is_dir():
        raise InputError(f"config.data.root={root}: is a file, and a folder is needed: unpack it, or name its folder.")
    elif not root.is_dir():
        raise InputError(f"config.data.root: found no folder {root}; {_needed(resolved.data)}.")
    if resolved.data.source == "patterns":
        messages += pattern_notes.of_files(Path(resolved.data.root), resolved.data.images, resolved.data.masks)
    if not resolved.data.split_file:
        messages += pattern_notes.of_split(Path(resolved.data.root))
    messages += sources.notes(resolved.data.source, sources.settings(resolved.data.to_dict()))
    # A run finds its data from whichever folder it is used.
    resolved.data.root = str(Path(resolved.data.root).absolute())
    resolved.lock()
    return resolved, messages


def _holds_studies(config: ConfigDict, root: Path) -> bool:
    """Whether data are DICOM, of which config.data.images describes the series and SEG or RTSTRUCT are the masks."""
    if config.data.source != "auto" or not root.is_dir():
        return config.data.source == "dicom"
    try:
        return layouts.find(root).source == "dicom"
    except InputError:  # of which nothing is known, so that the patterns must tell
        return False


def _source_of_patterns(source: str) -> str:
    if source not in ("auto", "patterns"):
        raise InputError(
            f"config.data.source is {source!r}, and config.data.images and masks are patterns of files: set source to "
            "'auto', or both patterns to None."
        )
    return "patterns"


def _needed(data: ConfigDict) -> str:
    """What a missing folder would have to hold, and what else there is to do."""
    if data.source == "lgg":
        return (
            f"it must hold one folder a patient: unpack {DOWNLOAD} there ({COMMAND}), or set config.data.source=phantom"
        )
    if data.source == "patterns":
        patterns = f"config.data.images={data.images} and config.data.masks={data.masks}"
        return f"it must hold what {patterns} describe: name it with --config.data.root"
    if data.source == "nifti":
        return "it must hold imagesTr and labelsTr, as raw data sets of nnU-Net do: correct the path"
    return "correct the path, or set config.data.source=phantom for built-in data"


def _replace(config: ConfigDict, replacements: dict, given: Collection[str]) -> list[str]:
    """Sets each key that was not given, and says from what to what."""
    changes = []
    for key, value in replacements.items():
        group, name = key.rsplit(".", 1)
        if key not in given and config[group].get(name, value) != value:
            changes.append(f"{key} {config[group][name]} → {value}")
            config[group][name] = value
    return changes

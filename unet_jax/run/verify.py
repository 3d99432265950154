"""Compares the files of a run's data with what they were when it began, and what was decoded of them."""

from pathlib import Path

from unet_jax.data import cache, load, verified
from unet_jax.data.formats import sources
from unet_jax.data.reader import hash_files
from unet_jax.errors import InputError
from unet_jax.run import resume
from unet_jax.run.config import read_config
from unet_jax.run.folder import DATA
from unet_jax.runtime import caches
from unet_jax.wording import count


def verify(workdir: Path, *, data: Path | None = None) -> int:
    """Hashes every file and every decoded array, and says how many there are; nothing of the run is written.

    All are read, whatever earlier starts noted of them.

    Args:
        workdir: the run's folder.
        data: where the files are now, if elsewhere than in the run's config.

    Returns:
        how many files were verified.

    Raises:
        InputError: a file has another content, is missing or is new; each is listed. Or the run has no list of files.
        RunError: decoded cases are damaged, and could not be decoded again: see `cache.load`.
    """
    config = read_config(workdir)
    root, folder = data or Path(config.data.root), caches.place_of(config.data.cache)
    recorded = resume.read_files(workdir)
    if recorded is None:
        raise InputError(f"{workdir} has no {DATA}: a run writes it when it begins or resumes.")
    reader = sources.reader(root, config.data.source, load.reader_settings(config))
    listing = reader.find(root)
    listed = {path for files in listing for path in (*files.images, *files.masks)}
    known = verified.nothing(folder, root)
    digests = hash_files(reader, listed | recorded.keys(), root, known)
    known.save()
    lines = resume.file_differences(workdir, digests)
    if lines:
        raise InputError("\n  ".join([f"{root} is not as it was when {workdir} was trained:", *lines]))
    decoded = cache.verify(reader, listing, root, folder, digests)
    print(f"{count(len(recorded), 'file')} verified in {root}: those that {workdir} was trained on.", flush=True)
    if decoded is None:
        print(f"They are not decoded in {folder}; the next run does that.", flush=True)
    else:
        print(f"{decoded:,} decoded cases verified in {folder}.", flush=True)
    return len(recorded)

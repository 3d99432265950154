"""Compares the files of a run's data with what they were when it began."""

from pathlib import Path

from unet_jax.data import cache
from unet_jax.data.formats import sources
from unet_jax.errors import InputError
from unet_jax.run import resume
from unet_jax.run.config import read_config
from unet_jax.run.folder import DATA


def verify(workdir: Path, *, data: Path | None = None) -> int:
    """Hashes every file and says how many there are; nothing is decoded, and nothing is written.

    Args:
        workdir: the run's folder.
        data: where the files are now, if elsewhere than in the run's config.

    Returns:
        how many files were verified.

    Raises:
        InputError: a file has another content, is missing or is new; each is listed. Or the run noted no files.
    """
    settings = read_config(workdir).data
    root = data or Path(settings.root)
    recorded = resume.read_files(workdir)
    if recorded is None:
        raise InputError(f"{workdir} has no {DATA}: a run writes it when it is begun or goes on.")
    reader = sources.reader(root, settings.source, sources.settings(settings.to_dict()))
    listed = {path for files in reader.find(root) for path in (*files.images, *files.masks)}
    lines = resume.file_differences(workdir, cache.hash_files(reader, listed | recorded.keys(), root))
    if lines:
        raise InputError("\n  ".join([f"{root} is not as it was when {workdir} was trained:", *lines]))
    print(f"{len(recorded):,} files verified in {root}: they are those that {workdir} was trained on.", flush=True)
    return len(recorded)

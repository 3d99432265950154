"""Downloads the LGG data from Kaggle and checks that they are all there.

    python -m unet_jax.data.download --root=data/kaggle_3m

The data are Kaggle's mateuszbuda/lgg-mri-segmentation, under CC BY-NC-SA 4.0. Needs `pip install .[kaggle]`.
"""

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from unet_jax.data.faults import lines_of, summary
from unet_jax.data.formats import lgg
from unet_jax.data.formats.image_file import read_file
from unet_jax.errors import InputError
from unet_jax.files import storage_error
from unet_jax.runtime.command_line import run_and_report

DATASET = "mateuszbuda/lgg-mri-segmentation"
PAGE = f"https://www.kaggle.com/datasets/{DATASET}"
# The folder in the data set that holds the scans; it has a second copy of them.
FOLDER = "kaggle_3m"
LICENCE = (
    f"{PAGE}: Creative Commons Attribution-NonCommercial-ShareAlike 4.0 (CC BY-NC-SA 4.0). If you use the data, cite "
    "Buda, Saha and Mazurowski 2019, doi 10.1016/j.compbiomed.2019.05.002."
)


@dataclasses.dataclass(frozen=True)
class Counts:
    """How much there is of the data: patients, slices, and slices whose mask has tumour."""

    patients: int
    slices: int
    tumour_slices: int

    def __str__(self):
        return f"{self.patients:,} patients, {self.slices:,} slices, {self.tumour_slices:,} of them with tumour"


PUBLISHED = Counts(patients=110, slices=3929, tumour_slices=1373)


def download(root: Path, expected: Counts = PUBLISHED) -> bool:
    """Downloads the scans to `root`, unless it is there already, and verifies them.

    What is downloaded lies under another name beside `root` until it is verified; existing data are never changed.

    Returns:
        whether they were downloaded.

    Raises:
        InputError: what is there, or what came, is not what was expected; kagglehub is missing, or cannot download.
    """
    if root.exists():
        verify(root, expected)
        return False
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{root.name}.", dir=root.parent) as unfinished:
        scans = _fetched(Path(unfinished) / "download") / FOLDER
        verify(scans, expected)
        scans.rename(root)
    return True


def verify(root: Path, expected: Counts) -> None:
    """Decodes every file under `root` and counts; nothing is written.

    Raises:
        InputError: files are damaged or missing (see `faults.summary`), or there are more or fewer than `expected`.
    """
    patients, slices, tumour_slices, faults = set(), 0, 0, []
    for files in tqdm(lgg.find(root), desc="verifying", unit="case", disable=None, delay=1):
        try:
            case = lgg.decode(files, lambda path: read_file(root, path))
        except InputError as error:
            faults += lines_of(error)
            continue
        patients.add(case.patient)
        slices += len(case.mask)
        tumour_slices += int(case.mask.any(axis=(1, 2)).sum())
    if faults:
        raise InputError(summary(faults))
    found = Counts(len(patients), slices, tumour_slices)
    if found != expected:
        raise InputError(
            f"{root}: holds {found}, and the data set has {expected}: move the folder away and download it again."
        )


def _fetched(folder: Path) -> Path:
    """What kagglehub downloads into a new folder."""
    try:
        import kagglehub
    except ImportError as error:
        raise InputError("Downloads from Kaggle need the package kagglehub: pip install .[kaggle].") from error
    try:
        return Path(kagglehub.dataset_download(DATASET, output_dir=str(folder)))
    # kagglehub and requests raise errors of many kinds, of no common class.
    except Exception as error:
        if isinstance(error, OSError) and storage_error(error) is not None:
            raise
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise InputError(
            f"{DATASET} cannot be downloaded ({type(error).__name__}: {reason}): check the network and Kaggle's "
            f"credentials (KAGGLE_API_TOKEN, or ~/.kaggle/kaggle.json), or unpack {PAGE} by hand."
        ) from error


def main(arguments: Sequence[str]) -> int:
    """Downloads as the command line says and returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m unet_jax.data.download", allow_abbrev=False)
    parser.add_argument("--root", type=Path, default=Path("data/kaggle_3m"), help="the folder to make")
    given = parser.parse_args(arguments)
    print(LICENCE, flush=True)

    def run() -> str:
        done = "downloaded" if download(given.root) else "is there already"
        return f"{given.root}: {done} and verified: {PUBLISHED}."

    return run_and_report(run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

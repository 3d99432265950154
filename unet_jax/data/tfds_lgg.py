"""The LGG data as a TFDS data set, `lgg_mri`: built without TensorFlow, in ArrayRecord files of one slice a record.

    python -m unet_jax.data.tfds_lgg --root=data/kaggle_3m --data_dir=data/tfds
    tfds build lgg_mri --imports=unet_jax.data.tfds_lgg --manual_dir=data/kaggle_3m --data_dir=data/tfds

The second is TFDS's own command, which as of version 4.9.10 does not start without TensorFlow.

Each example is an axial slice with its mask, and says whose scan it is and where in it. The splits train, validation
and test are those that `splits.make` draws by default: by patient, 10 % and then 15 %, seed 0.
"""

import argparse
import io
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import tensorflow_datasets as tfds

from unet_jax.data import cache, splits
from unet_jax.data.formats import lgg
from unet_jax.data.formats.image_file import read_file
from unet_jax.data.reader import CaseFiles
from unet_jax.errors import InputError
from unet_jax.runtime.command_line import run_and_report

FEATURES = tfds.features.FeaturesDict(
    {
        "image": tfds.features.Image(
            shape=(None, None, 3), encoding_format="png", doc="pre-contrast, FLAIR and post-contrast"
        ),
        "mask": tfds.features.Tensor(
            shape=(None, None), dtype=np.uint8, encoding="zlib", doc="0 is background, 1 tumour"
        ),
        "patient": tfds.features.Text(doc="such as TCGA_CS_4941"),
        "case": tfds.features.Text(doc="the scan, such as TCGA_CS_4941_19960909"),
        "slice": tfds.features.Scalar(np.int32, doc="its number in the scan; numbers may have gaps"),
    }
)

# The names that TFDS gives to sides.
SPLITS = {"train": "train", "validation": "val", "test": "test"}


class LggMri(tfds.core.GeneratorBasedBuilder):
    """Brain MRI of lower-grade gliomas with hand-drawn masks (Buda et al. 2019), slice by slice."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    manual_dir is the folder that directly holds the scans' folders, such as kaggle_3m, which holds
    TCGA_CS_4941_19960909: `python -m unet_jax.data.download` downloads it from Kaggle.
    """

    def __init__(self, *, file_format: str | None = None, **kwargs):
        # TFDS's own default, TFRecord, needs TensorFlow.
        super().__init__(file_format=file_format or "array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            homepage="https://www.kaggle.com/datasets/mateuszbuda/lgg-mri-segmentation",
            license="CC BY-NC-SA 4.0",
            citation="Buda, Saha and Mazurowski 2019, doi:10.1016/j.compbiomed.2019.05.002",
            features=FEATURES,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        root = Path(dl_manager.manual_dir)
        # Everything is decoded once before anything is written: what is wrong is one list.
        with tempfile.TemporaryDirectory(prefix="decoded-", dir=self.data_dir) as decoded:
            cases, _, _ = cache.load(lgg, root, Path(decoded))
            split = splits.make(cases)
        listing = lgg.find(root)
        return {
            name: self._generate_examples(root, [files for files in listing if files.patient in getattr(split, side)])
            for name, side in SPLITS.items()
        }

    def _generate_examples(self, root: Path, listing: list[CaseFiles]) -> Iterator[tuple[str, dict]]:
        for files in listing:
            case = lgg.decode(files, lambda path: read_file(root, path))
            for path, pixels, mask in zip(files.images, case.image, case.mask, strict=True):
                png = cv2.imencode(".png", np.ascontiguousarray(pixels[..., ::-1]))[1]
                number = int(path.stem.rpartition("_")[2])
                yield (
                    f"{case.name}_{number}",
                    {
                        # TFDS itself would encode pixels with TensorFlow.
                        "image": io.BytesIO(png.tobytes()),
                        "mask": mask,
                        "patient": case.patient,
                        "case": case.name,
                        "slice": number,
                    },
                )


def build(root: Path, data_dir: Path) -> Path:
    """Builds the data set, whole or not at all.

    Args:
        root: the scans, in Kaggle's layout.
        data_dir: where TFDS keeps data sets.

    Returns:
        the new folder, `<data_dir>/lgg_mri/<version>`.

    Raises:
        InputError: the folder is there already, or anything is wrong with the scans; every fault is listed.
    """
    builder = LggMri(data_dir=data_dir)
    folder = Path(builder.data_dir)
    if folder.exists():
        raise InputError(f"{folder}: exists; remove it to build it again, or name another --data_dir.")
    lgg.find(root)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=root))
    return folder


def main(arguments: Sequence[str]) -> int:
    """Builds the data set as the command line says and returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m unet_jax.data.tfds_lgg", allow_abbrev=False)
    parser.add_argument("--root", type=Path, default=Path("data/kaggle_3m"), help="the scans, in Kaggle's layout")
    parser.add_argument("--data_dir", type=Path, default=Path("data/tfds"), help="where TFDS keeps data sets")
    given = parser.parse_args(arguments)
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()

    def run() -> str:
        folder = build(given.root, given.data_dir)
        return f"{folder}: built. To train from it: --config.data.source=tfds --config.data.root={given.data_dir}"

    return run_and_report(run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What nnU-Net 2.8.1 answered; see tests/golden/make_nnunet_planning.py."""

import functools
import gzip
import json
import lzma
import tarfile
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden" / "nnunet"


@functools.cache
def planning() -> dict:
    return json.loads(lzma.decompress((GOLDEN / "planning.json.xz").read_bytes()))


def data_set(name: str) -> dict:
    return planning()["data_sets"][name]


def planned() -> list[tuple[str, str]]:
    """Every (data set, planner) with an answer."""
    return [(name, planner) for name, each in planning()["data_sets"].items() for planner in each["plans"]]


def unpack_raw(folder: Path) -> Path:
    """The raw folders of the data sets that have one, in nnU-Net's layout."""
    with tarfile.open(GOLDEN / "raw.tar.xz") as archive:
        for member in archive:
            data = archive.extractfile(member).read()
            path = folder / member.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(gzip.compress(data, 1) if path.suffix == ".gz" else data)
    return folder

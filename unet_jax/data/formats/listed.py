"""Cases whose files nnU-Net's dataset.json names one by one, in its table `dataset`."""

from pathlib import Path

from unet_jax.data.faults import Fault, lines_of
from unet_jax.data.formats import dataset_json
from unet_jax.data.formats.nifti_listing import DESCRIPTION
from unet_jax.data.patients import Patients
from unet_jax.data.reader import CaseFiles
from unet_jax.errors import InputError
from unet_jax.wording import count


def find(root: Path, patients: Patients) -> list[CaseFiles]:
    """Lists the cases of the table, the channels of each in its order.

    Raises:
        InputError: dataset.json cannot be read, or has no such table.
    """
    content = dataset_json.read(root / DESCRIPTION)
    if not isinstance(content.table, dict) or not content.table:
        raise InputError(f'{root / DESCRIPTION}: has no table "dataset" that names the files of each case.')
    return [_case(root, name, entry, len(content.channels), patients) for name, entry in sorted(content.table.items())]


def _case(root: Path, name: str, entry: object, channels: int, patients: Patients) -> CaseFiles:
    faults: list[str] = []
    found = entry if isinstance(entry, dict) else {}
    names, label = found.get("images"), found.get("label")
    if not isinstance(names, list) or not names or not isinstance(label, str):
        mistake = f'needs "images", a list of paths, and "label", a path, in {DESCRIPTION}.'
        return CaseFiles(name, "", (), (), (Fault(name, mistake, "table"),))
    images = [dataset_json.inside(root, one, faults) for one in names]
    mask = dataset_json.inside(root, label, faults)
    if len(names) != channels:
        faults.append(
            Fault(
                name,
                f"has {count(len(names), 'image')} in {DESCRIPTION}, which names {count(channels, 'channel')}.",
                "channels",
            )
        )
    try:
        patient = patients.place(name).patient
    except InputError as error:
        patient = ""
        faults += lines_of(error)
    there = tuple(path for path in images if path)
    return CaseFiles(name, patient, there, (mask,) if mask else (), tuple(faults), channels=len(there) or 1)

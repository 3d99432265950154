"""DICOM series as tests write them: slices of 8 x 9 pixels, 4 mm apart."""

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

SERIES, OTHER_SERIES = generate_uid(entropy_srcs=["one"]), generate_uid(entropy_srcs=["two"])
AXIAL = [1, 0, 0, 0, 1, 0]
STUDY = {
    "StudyInstanceUID": generate_uid(entropy_srcs=["study"]),
    "FrameOfReferenceUID": generate_uid(entropy_srcs=["frame"]),
    "PatientName": "Anna",
    "PatientBirthDate": "",
    "PatientSex": "",
    "StudyDate": "20200101",
    "StudyTime": "",
    "StudyID": "7",
    "AccessionNumber": "",
    "ReferringPhysicianName": "",
    "SeriesNumber": 3,
    "Manufacturer": "",
    "PositionReferenceIndicator": "",
    "SliceThickness": 4,
}


def make_slice(number, pixels=None, **elements):
    """A slice of 8 x 9 pixels, 4 mm above the one before it."""
    pixels = np.full((8, 9), number, np.uint16) if pixels is None else pixels
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = MRImageStorage, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(number)])
    dataset = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
    dataset.Modality, dataset.PatientID = "MR", "anna"
    dataset.SeriesInstanceUID, dataset.SeriesDescription = SERIES, "AX FLAIR"
    dataset.InstanceNumber = 100 - number
    dataset.ImageOrientationPatient, dataset.ImagePositionPatient = AXIAL, [-10, -20, 4.0 * number]
    dataset.PixelSpacing = [0.5, 0.75]
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = *pixels.shape, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.dtype.itemsize
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes()
    for name, value in elements.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    return dataset


def write_series(folder, datasets, name="{}.dcm"):
    folder.mkdir(parents=True, exist_ok=True)
    for number, dataset in enumerate(datasets):
        dataset.save_as(folder / name.format(number), enforce_file_format=True)

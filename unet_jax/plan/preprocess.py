"""A case as the network sees it: axes in the plan's order, cropped, normalised, resampled.

    python -m unet_jax.plan.preprocess DATASET plans.json CONFIGURATION CASE out.npz

writes what nnU-Net would have stored for a case of its raw data set DATASET: `data` [c, d, h, w], `seg` [1, d, h, w],
`properties` (JSON), and the voxels that patches are centred on, `cl_1`, `cl_(1,3)` … [n, 4].

The steps and their order are those of nnunetv2 2.8.1, preprocessing/preprocessors/default_preprocessor.py.
"""

import argparse
import dataclasses
import io
import json
import sys
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int8, Int16, Integer, Num

from unet_jax.errors import InputError
from unet_jax.files import write_bytes
from unet_jax.plan import foreground, raw
from unet_jax.plan.crop import Box, crop_to_nonzero
from unet_jax.plan.dataset import read_dataset
from unet_jax.plan.normalise import normalise
from unet_jax.plan.plan_file import read_plans
from unet_jax.plan.plans import Configuration, Plans
from unet_jax.plan.resample import Shape, Spacing, new_shape, resample_image, resample_mask
from unet_jax.runtime.command_line import run_and_report


@dataclasses.dataclass(frozen=True)
class Geometry:
    """Where a preprocessed case comes from: all that is needed to go back. Axes stand in the plan's order.

    Attributes:
        spacing: the files', in mm.
        shape: the files'.
        box: what was cut out of them.
    """

    spacing: Spacing
    shape: Shape
    box: Box

    @property
    def cropped(self) -> Shape:
        """The box's shape."""
        return tuple(stop - start for start, stop in self.box)


@dataclasses.dataclass(frozen=True)
class Preprocessed:
    """A case as the network sees it.

    Attributes:
        image: normalised and resampled.
        mask: labels, and -1 outside of the body.
        geometry: the way back.
    """

    image: Float32[np.ndarray, "d h w c"]
    mask: Int8[np.ndarray, "d h w"] | Int16[np.ndarray, "d h w"]
    geometry: Geometry


def preprocess(
    image: Num[np.ndarray, "d h w c"],
    mask: Integer[np.ndarray, "d h w"] | None,
    spacing: Spacing,
    plans: Plans,
    configuration: Configuration,
) -> Preprocessed:
    """Preprocesses a case, for training and for prediction alike.

    Args:
        image: as in the files, of any type and range.
        mask: labels from 0; None where there is none: then the inside of the body is 0.
        spacing: mm.
        plans: the order of the axes and the data set's intensities.
        configuration: one of `plans`.

    Raises:
        InputError: the image has other channels, or another range, than the plan is for.
    """
    order = plans.transpose_forward
    whole = image.transpose(*order, 3)
    cropped, labels, box = crop_to_nonzero(whole, None if mask is None else mask.transpose(order))
    geometry = Geometry(tuple(spacing[axis] for axis in order), whole.shape[:3], box)
    normalised = normalise(cropped, labels, configuration.normalisation, configuration.inside_only, plans.intensities)
    target = spacing_of(configuration, geometry)
    change = new_shape(geometry.cropped, geometry.spacing, target), geometry.spacing, target
    return Preprocessed(
        resample_image(normalised, *change, configuration.images),
        np.ascontiguousarray(resample_mask(labels, *change, configuration.masks)),
        geometry,
    )


def spacing_of(configuration: Configuration, geometry: Geometry) -> Spacing:
    """What a case is resampled to: a configuration of slices leaves the distance between them."""
    return (geometry.spacing[0], *configuration.spacing)[-3:]


def configuration_of(plans: Plans, name: str) -> Configuration:
    """A plan's configuration by its name.

    Raises:
        InputError: there is none of that name; those there are are listed.
    """
    if name not in plans.configurations:
        raise InputError(f"the plan has no configuration {name!r}: choose one of {', '.join(plans.configurations)}.")
    return plans.configurations[name]


def _write(args: argparse.Namespace) -> str:
    dataset, plans = read_dataset(args.dataset / raw.DESCRIPTION), read_plans(args.plans)
    configuration = configuration_of(plans, args.configuration)
    case, properties = raw.read(raw.find(args.dataset, dataset, args.case), dataset, plans.reader)
    found = preprocess(case.image, case.mask, case.spacing, plans, configuration)
    arrays = {"data": np.moveaxis(found.image, -1, 0), "seg": found.mask[None]}
    if case.mask is not None:
        for key, voxels in foreground.locations(found.mask, foreground.classes(dataset)).items():
            # nnU-Net counts the mask's channel, of which there is one.
            arrays[f"cl_{key}".replace(" ", "")] = np.pad(voxels, [(0, 0), (1, 0)]) if len(voxels) else voxels[:, 0]
    properties |= {
        "shape_before_cropping": found.geometry.shape,
        "bbox_used_for_cropping": found.geometry.box,
        "shape_after_cropping_and_before_resampling": found.geometry.cropped,
    }
    file = io.BytesIO()
    np.savez(file, **arrays, properties=json.dumps(properties))
    write_bytes(args.out, file.getvalue())
    shape = " × ".join(map(str, found.mask.shape))
    return f"{args.out}: {case.name} in the configuration {args.configuration}, {shape} voxels."


def main(arguments: list[str]) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m unet_jax.plan.preprocess", description="Preprocesses a case.")
    parser.add_argument("dataset", type=Path, help="nnU-Net's raw data set, a folder with dataset.json")
    parser.add_argument("plans", type=Path, help="nnU-Net's plans, or a plan.json")
    parser.add_argument("configuration", help="of the plan, such as 3d_fullres")
    parser.add_argument("case", help="its name, without channel and ending")
    parser.add_argument("out", type=Path, help="the .npz file to write")
    args = parser.parse_args(arguments)
    return run_and_report(lambda: _write(args))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Files of runs on patches: StableHLO of a whole case, or ONNX of the network alone, tried on a real case."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float32, Shaped
from ml_collections import ConfigDict

from unet_jax.data import load
from unet_jax.data.case import Case
from unet_jax.data.formats import unlabelled
from unet_jax.data.formats.image_file import read_file
from unet_jax.errors import InputError
from unet_jax.export import onnx_file, stablehlo
from unet_jax.export.whole_case import STEP, Part, probabilities, program
from unet_jax.files import write_bytes
from unet_jax.inference.volume_windows import cut, lay_out
from unet_jax.inference.windows import Segmented
from unet_jax.plan.dataset import Dataset
from unet_jax.plan.fingerprint import spacing_of
from unet_jax.plan.preprocess import Preprocessed, preprocess
from unet_jax.wording import count

# Of a mask's voxels, the share that may differ: ties, and what a border of zeros changes, which is not cut off.
LARGEST_SHARE = 1e-3
# The largest difference of a patch's probabilities in ONNX.
TOLERANCE = 1e-5
CASCADE = (
    "the second network of a cascade, which is given another one's masks: one file cannot hold both. Export the first "
    "one, or 3d_fullres; or use predict."
)
# What a program around an ONNX file does, in order.
LEFT = (
    "axes: transpose the file's array by transpose_forward",
    "crop: to the box of what is not 0 in any channel",
    "normalise: by normalisation, as docs/nnunet.md has it",
    "resample: to spacing",
    "windows: cut patches; average {averaged} with Gaussian weights and over mirror_axes",
    "back: resample these to the box's voxels, {decided}, paste, transpose back",
    "postprocess",
)


def case_to_try(
    config: ConfigDict,
    channels: int,
    data: Path | None,
    shape: tuple[int, int, int] | None,
    spacing: tuple[float, float, float] | None,
) -> Case:
    """The first case of the run's data, or of another folder or file, brought to a shape and given a spacing.

    Args:
        config: the run's.
        channels: that images must have.
        data: images, with or without masks; None for the run's own.
        shape: the case's middle is cut, or its border repeated, to that; None leaves it.
        spacing: takes the place of the case's own.

    Raises:
        InputError: there is no image, or one of other channels.
    """
    settings = dataclasses.replace(load.reader_settings(config), patient_csv=None, patient_pattern=None)
    reader, root = unlabelled.image_reader(Path(config.data.root) if data is None else data, settings, channels)
    case = reader.decode(reader.find(root)[0], functools.partial(read_file, root))
    if case.image.shape[-1] != channels:
        raise InputError(f"{case.name} has {count(case.image.shape[-1], 'channel')}, and the network takes {channels}.")
    image = np.asarray(case.image, np.float32)
    image = image if shape is None else _fitted(image, shape)
    return Case(case.name, case.patient, image, None, spacing_of(case) if spacing is None else spacing)


def _fitted(image: Shaped[np.ndarray, "d h w c"], shape: tuple[int, int, int]) -> Shaped[np.ndarray, "D H W c"]:
    for axis, size in enumerate(shape):
        here = image.shape[axis]
        # Beyond its ends, an image is its outermost slices.
        image = image.take(np.clip(np.arange(size) + (here - size) // 2, 0, here - 1), axis)
    return np.ascontiguousarray(image)


def write(output: Path, parts: Sequence[Part], expected: Segmented, facts: dict[str, Any], axes: str) -> dict:
    """Writes the file that `output` names by its suffix, once it was tried on a case, and prints how exact it is.

    Args:
        output: an .onnx or a .zip.
        parts: the configurations, whose probabilities are averaged.
        expected: a case, of the shape and spacing that the file is for, and what the program itself finds in it, with
            probabilities.
        facts: about the run.
        axes: config.data.axes.

    Returns:
        the facts in the file.

    Raises:
        InputError: the file differs too much from the program, or ONNX cannot have it.
        StorageError: the file cannot be written.
    """
    form, trace = (onnx_file, _onnx) if output.suffix == ".onnx" else (stablehlo, _stablehlo)
    traced, of_program, said = trace(output, parts, expected)
    case = expected.wanted.case
    facts = facts | {"axes": axes, "spacing": list(case.spacing), "threshold": parts[0].settings.threshold}
    facts |= of_program | {"jax": jax.__version__}
    packed = form.pack(traced, facts)
    write_bytes(output, packed)
    print(f"Exported {facts['run']} to {output} ({len(packed) / 1e6:,.1f} MB). {said}", flush=True)
    return facts


def _stablehlo(output: Path, parts: Sequence[Part], expected: Segmented) -> tuple[bytes, dict[str, Any], str]:
    """The whole way from a case to its mask as a program, its facts, and how exact it is."""
    case = expected.wanted.case
    traced = stablehlo.trace_fixed(program(parts, case.image.shape[:3], case.spacing), case.image)
    mask, probability = stablehlo.run(traced, case.image)
    share = float(np.mean(mask != expected.mask))
    difference = float(np.abs(probability - expected.probability).max())
    if not share <= LARGEST_SHARE:
        cropped = _is_cropped(case)
        why = " The case has a border of zeros, which predict cuts off: name a case without one by --data." * cropped
        raise InputError(
            f"{output} was not written: {share:.2%} of the mask's voxels differ from predict's in {case.name}, and at "
            f"most {LARGEST_SHARE:.1%} may.{why}"
        )
    *sizes, channels = case.image.shape
    facts = {
        "input": {"shape": [*sizes, channels], "dtype": "float32"},
        "output": {
            "mask": {"shape": sizes, "dtype": "uint8"},
            "probability": {"shape": list(probability.shape), "dtype": "float32"},
        },
        "mirror_axes": [list(part.settings.mirror_axes) for part in parts],
        "mask_differs": share,
        "max_difference": difference,
    }
    said = (
        f"In {case.name}, {int((mask != expected.mask).sum()):,} of {mask.size:,} voxels of the mask differ from "
        f"predict's, and probabilities by at most {difference:.1e}."
    )
    return traced, facts, said


def _is_cropped(case: Case) -> bool:
    nonzero = (case.image != 0).any(-1)
    return any(not nonzero.take(end, axis).any() for axis in range(3) for end in (0, -1))


def _onnx(output: Path, parts: Sequence[Part], expected: Segmented) -> tuple[bytes, dict[str, Any], str]:
    """As `_stablehlo`, of the network and its softmax or sigmoids alone: ONNX gets no loops, and windows are one."""
    if len(parts) > 1:
        raise InputError(
            f"{output}: {len(parts)} configurations predict together, on patches of their own, and an ONNX file holds "
            "one network: export to .zip, or one of the runs."
        )
    [part], case = parts, expected.wanted.case
    plan = part.settings.plan
    configuration = plan.configuration
    prepared = preprocess(case.image, None, case.spacing, plan.plans, configuration)

    def network(patch: jax.Array) -> jax.Array:
        return probabilities(part.logits(patch), plan.dataset)

    patch = _patch(prepared, configuration.patch_size)
    model = onnx_file.trace_fixed(network, patch)
    difference = float(np.abs(onnx_file.run(model, patch) - np.asarray(network(jax.device_put(patch)))).max())
    if not difference <= TOLERANCE:
        raise InputError(
            f"{output} was not written: its probabilities differ from the checkpoint's by {difference:.1e} in a patch "
            f"of {case.name}, and at most {TOLERANCE:.0e} is allowed: export to .zip."
        )
    shape = ["batch", *patch.shape[1:-1]]
    facts = {
        "input": {"shape": [*shape, patch.shape[-1]], "dtype": "float32", "is": "patches of preprocessed cases"},
        "output": {"shape": [*shape, plan.dataset.outputs], "dtype": "float32", "is": "probabilities"},
        "left": _left(plan.dataset),
        "transpose_forward": list(plan.plans.transpose_forward),
        "normalisation": [
            {"scheme": scheme, "inside_only": inside} | dataclasses.asdict(of)
            for scheme, inside, of in zip(
                configuration.normalisation, configuration.inside_only, plan.plans.intensities, strict=True
            )
        ],
        "spacing": list(configuration.spacing),
        "window_step": STEP,
        "mirror_axes": list(part.settings.mirror_axes),
        "max_difference": difference,
    }
    last = "softmax" if plan.dataset.regions is None else "sigmoids"
    said = (
        f"It holds the network and its {last} alone; its metadata say what is left to do. In a patch of {case.name}, "
        f"probabilities differ by at most {difference:.1e}."
    )
    return model, facts, said


def _left(dataset: Dataset) -> list[str]:
    words = {"averaged": "the logarithms of their probabilities", "decided": "take the largest"}
    if dataset.regions is not None:
        words = {
            "averaged": "log(p / (1 - p)) of their probabilities",
            "decided": "paint those above 0 (painted)",
        }
    return [line.format(**words) for line in LEFT]


def _patch(prepared: Preprocessed, size: Sequence[int]) -> Float32[np.ndarray, "1 *patch c"]:
    """The middle window."""
    layout = lay_out(prepared.image.shape[:3], size, STEP, gaussian=True)
    middle = np.array([[len(starts) // 2 for starts in layout.starts]])
    return cut(prepared.image, layout, middle, 1)

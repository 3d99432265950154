"""A run's network as one file for programs that have neither this package nor the run: StableHLO or ONNX."""

import functools
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from unet_jax.data import load, regions
from unet_jax.data.case import Case
from unet_jax.data.labels import LabelMap
from unet_jax.data.slices import Slices
from unet_jax.errors import InputError
from unet_jax.export import onnx_file, stablehlo, volumes
from unet_jax.export.classes import describe
from unet_jax.export.whole_case import Part
from unet_jax.files import write_bytes
from unet_jax.inference.network import image_channels, load_network, within_a_program
from unet_jax.inference.segment import segment_stream
from unet_jax.inference.settings import SegmentSettings, flips_of
from unet_jax.inference.windows import Wanted
from unet_jax.run import checkpoint
from unet_jax.run import folder as run_folder
from unet_jax.run.config import read_config
from unet_jax.runtime import compilation_cache
from unet_jax.runtime.mesh import prediction_mesh
from unet_jax.runtime.out_of_memory import explained

# suffix of the file → the module that traces a program, runs it, and packs it with its facts
FORMATS = {".zip": stablehlo, ".onnx": onnx_file}
# The largest difference from the checkpoint's probabilities.
TOLERANCE = 1e-5
# The file is tried on so many slices, or slabs, of a case.
TRIED = 3


def export(
    workdir: Path,
    output: Path,
    *,
    data: Path | None = None,
    overwrite: bool = False,
    shape: tuple[int, int, int] | None = None,
    spacing: tuple[float, float, float] | None = None,
) -> dict:
    """Writes the checkpoint that the config names, with its preprocessing, as a program, and prints how exact it is.

    The program ends with the sigmoid of one class, or of each that may overlap, or with the softmax of several. It is
    tried on slices of a case, in the form in which it is written, before it is. Of a run on patches, see `volumes`.

    Args:
        workdir: the run's folder.
        output: the file; its suffix names the format, one of FORMATS.
        data: a folder of cases to try it on; None for those that the run was trained on.
        overwrite: whether to replace `output` if it exists.
        shape: of the cases that the file of a run on patches is for; None for that of the case it is tried on.
        spacing: of these, in mm; None for that of the case it is tried on.

    Returns:
        the facts in the file.

    Raises:
        InputError: the folder holds no run, or there are no cases; `output` exists, or names no format; a package is
            missing; or the network cannot be written in that format, or differs by more than TOLERANCE.
        DamageError: no checkpoint is whole.
        StorageError: the file cannot be written; what was there before is as it was.
    """
    check_output(output, overwrite=overwrite)
    config = read_config(workdir)
    if config.data.patch is not None:
        return _volumes(workdir, config, output, data, shape, spacing)
    if shape is not None or spacing is not None:
        raise InputError(f"--shape and --spacing are for runs on patches, and {workdir} takes images of any size.")
    if data is not None:
        load.take_cases_from(data, config)
    run_folder.check_data(config)
    form = FORMATS[output.suffix]
    with explained(config):
        compilation_cache.use(config.train.compilation_cache)
        case = load.load(config).cases[0]
        image = _tried_on(case, config.data.slab, config.data.neighbours)
        network, restored = load_network(workdir, config, prediction_mesh(None))
        classes = run_folder.read_classes(workdir)
        for line in checkpoint.warnings(workdir / run_folder.CHECKPOINTS, restored):
            print(f"warning: {line}", file=sys.stderr, flush=True)
        program = form.trace(within_a_program(network), image)
        difference = _difference(network, functools.partial(form.run, program), image)
    if not difference <= TOLERANCE:
        raise InputError(
            f"{output} was not written: its probabilities differ from the checkpoint's by {difference:.1e} on real "
            f"slices, and at most {TOLERANCE:.0e} is allowed: choose the other of {' and '.join(FORMATS)}."
        )
    facts = {
        "run": workdir.resolve().name,
        "checkpoint_step": restored.step,
        "model": config.model.to_dict(),
        **_interface(image, classes),
        "channels": list(run_folder.read_channel_names(workdir, config, case.image.shape[-1])),
        **(describe(classes) if classes else {}),
        **{key: config.data[key] for key in ("image_size", "slab", "intensity", "neighbours")},
        "threshold": None if classes else config.eval.threshold,
        "tta": list(flips_of(config)),
        "tiles": config.eval.tiles,
        "postprocess": config.eval.postprocess.to_dict(),
        "max_difference": difference,
        "jax": jax.__version__,
    }
    file = form.pack(program, facts)
    write_bytes(output, file)
    print(
        f"Exported step {restored.step} of {facts['run']} to {output} ({len(file) / 1e6:,.1f} MB). Largest difference "
        f"from the checkpoint's probabilities, over {image[..., 0].size:,} real pixels: {difference:.1e}.",
        flush=True,
    )
    return facts


def check_output(output: Path, *, overwrite: bool) -> None:
    """Raises InputError where a file's name has no format, or there is one that is not to be replaced."""
    if output.suffix not in FORMATS:
        raise InputError(
            f"--output={output}: the file's name must end with {' or '.join(FORMATS)}: see docs/export.md."
        )
    if output.exists() and not overwrite:
        raise InputError(f"--output={output} exists: name another file, or add --overwrite.")


def _volumes(
    workdir: Path,
    config: ConfigDict,
    output: Path,
    data: Path | None,
    shape: tuple[int, int, int] | None,
    spacing: tuple[float, float, float] | None,
) -> dict:
    """The export of a run on patches."""
    if config.plan.previous:
        raise InputError(f"{workdir} is {volumes.CASCADE}")
    if data is None:
        run_folder.check_data(config)
    with explained(config):
        compilation_cache.use(config.train.compilation_cache)
        case = volumes.case_to_try(config, image_channels(workdir, config), data, shape, spacing)
        mesh = prediction_mesh(None)
        network, restored = load_network(workdir, config, mesh)
        for line in checkpoint.warnings(workdir / run_folder.CHECKPOINTS, restored):
            print(f"warning: {line}", file=sys.stderr, flush=True)
        part = Part(network, SegmentSettings.of_run(workdir, config, mesh))
        facts = {
            "run": workdir.resolve().name,
            "checkpoint_step": restored.step,
            "channels": list(run_folder.read_channel_names(workdir, config, case.image.shape[-1])),
            **describe(run_folder.read_classes(workdir)),
            "postprocess": config.eval.postprocess.to_dict(),
        }
        wanted = Wanted(0, case, np.arange(len(case.image)))
        [expected] = segment_stream(part.logits, [wanted], part.settings, keep_probabilities=True)
        return volumes.write(output, [part], expected, facts, config.data.axes)


def _interface(image: np.ndarray, classes: LabelMap) -> dict[str, dict]:
    """What goes into a program of any number of images like `image`, of any rows and columns, and what comes out."""
    axes = ["batch", *image.shape[1:-3], "height", "width"]
    names = list(classes) if regions.overlap(classes) else ["background", *classes]
    channels = [len(names)] if classes else []
    meaning = f"probabilities of {', '.join(names)}" if classes else "probability of tumour"
    return {
        "input": {"shape": [*axes, image.shape[-1]], "dtype": str(image.dtype)},
        "output": {"shape": [*axes, *channels], "dtype": "float32", "is": meaning},
    }


def _tried_on(case: Case, slab: int | None, neighbours: int) -> np.ndarray:
    """Slices, or slabs, from the middle of a case: [n, h, w, c] or [n, slab, h, w, c]."""
    depth = len(case.image)
    first = max((depth - TRIED) // 2, 0)
    index = np.array([(0, number) for number in range(first, min(first + TRIED, depth))])
    return Slices([case], index, slab, neighbours=neighbours).gather(range(len(index)))["image"]


def _difference(
    network: Callable[[jax.Array], jax.Array], exported: Callable[[np.ndarray], np.ndarray], image: np.ndarray
) -> float:
    """The largest between the results of the two functions, for the whole batch and for its first image alone."""
    batches = (image, image[:1])
    return max(float(np.abs(exported(batch) - np.asarray(network(batch))).max()) for batch in batches)

"""Packs a run, the folds of a cross-validation, or what a choice predicts with, into one file to share."""

import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from unet_jax.auto import best as best_file
from unet_jax.auto import runs
from unet_jax.errors import InputError
from unet_jax.files import read_json, sealed_json
from unet_jax.inference.network import load_network
from unet_jax.plan import plan_file
from unet_jax.run import checkpoint, history, manifest, pack_file, plain_arrays
from unet_jax.run import folder as run_folder
from unet_jax.run.config import as_json, default_config, read_config
from unet_jax.runtime.mesh import data_mesh
from unet_jax.share import card
from unet_jax.version import VERSION
from unet_jax.wording import count

SUFFIX = ".zip"
# Taken as they are, where the run has them.
COPIED = (run_folder.CLASSES, run_folder.THRESHOLD, run_folder.CHOSEN, plan_file.NAME)
# What names cases.
NAMING = (run_folder.SPLIT,)
# Keys of the config that say where things lie: what is made again anywhere, and files that may be named like cases.
OF_HERE = ("data.cache", "train.compilation_cache")
PATHS = ("data.patient_csv", "data.split_file", "phantom.root", "plan.file", "plan.previous", "train.initial_weights")
METRICS = PurePosixPath(run_folder.EVALUATION, "test", "metrics.json")


def pack(
    workdir: Path,
    output: Path,
    *,
    licence: str | None = None,
    case_names: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Writes one file with all that predicting, scoring, exporting and fine-tuning need of a run, and a model card.

    Args:
        workdir: the folder of a run, of a cross-validation, whose folds are packed together, or of a choice, of which
            the runs that predict are.
        output: the file, which ends with .zip.
        licence: of the weights, for the card; None says that nobody stated one.
        case_names: whether the pack names the cases and files of its data, which may be patients' names. Without, the
            split is left out, so that it can be scored by --split=all alone.
        overwrite: whether to replace `output` if it exists.

    Returns:
        the facts in pack.json.

    Raises:
        InputError: the folder holds nothing to predict with, or `output` exists or has another ending.
        DamageError: no checkpoint of a run is whole.
        StorageError: the file cannot be written; what was there before is as it was.
    """
    if output.suffix != SUFFIX:
        raise InputError(f"--output={output}: a pack's name must end with {SUFFIX}.")
    if output.exists() and not overwrite:
        raise InputError(f"--output={output} exists: name another file, or add --overwrite.")
    if workdir.is_file():
        raise InputError(f"{workdir} is a pack already: copy it.")
    parts = _parts(workdir)
    facts = {
        "program": f"unet_jax {VERSION}",
        "kind": "run" if parts == {"": workdir} else "choice" if _is_choice(workdir) else "folds",
        "runs": [name or "." for name in parts],
        "licence": licence,
        "case_names": case_names,
    }

    def members() -> Iterator[tuple[str, bytes]]:
        yield card.NAME, card.page(workdir, parts, output.name, facts).encode()
        if facts["kind"] == "choice":
            yield best_file.NAME, (workdir / best_file.NAME).read_bytes()
            yield plan_file.NAME, (workdir / plan_file.NAME).read_bytes()
        if facts["kind"] == "folds" and (workdir / run_folder.CHOSEN).exists():
            yield run_folder.CHOSEN, (workdir / run_folder.CHOSEN).read_bytes()
        for name, folder in parts.items():
            for path, content in _of_run(folder, case_names).items():
                yield str(PurePosixPath(name, path)), content

    size, digest = pack_file.write(output, members(), facts)
    print(f"Packed {workdir} into {output} ({size / 1e6:,.1f} MB), SHA-256 {digest}.", flush=True)
    print(_on_names(parts, case_names), flush=True)
    return facts


def _parts(workdir: Path) -> dict[str, Path]:
    """The runs that are packed, by where they lie in the folder; a single one is the folder itself.

    Raises:
        InputError: there is none, or nothing is chosen yet among the configurations of a plan.
    """
    if (workdir / run_folder.CONFIG).exists():
        return {"": workdir}
    if _is_choice(workdir):
        best, plans = best_file.read(workdir), plan_file.read_plans(workdir / plan_file.NAME)
        stages = [plans.configurations[name].previous_stage for name in best.configurations]
        names = dict.fromkeys([*(stage for stage in stages if stage), *best.configurations])
        found = [runs.folder_of(workdir, name, fold) for name in names for fold in best.folds]
    else:
        if begun := runs.begun(workdir):
            raise InputError(
                f"{workdir}: nothing is chosen yet: run the command that trains it until all runs are done, or pack "
                f"one of its runs, such as --workdir={begun[0].folder}."
            )
        found = run_folder.folds_of(workdir)
        if not found:
            read_json(workdir / run_folder.CONFIG)  # which says that there is no run
    return {folder.relative_to(workdir).as_posix(): folder for folder in found}


def _is_choice(workdir: Path) -> bool:
    return (workdir / best_file.NAME).exists()


def _of_run(workdir: Path, case_names: bool) -> dict[str, bytes]:
    """A run's files as a pack has them, by their paths in its folder; of the checkpoints, the one that predicts."""
    config = read_config(workdir)
    _, restored = load_network(workdir, config, data_mesh())
    for line in checkpoint.warnings(workdir / run_folder.CHECKPOINTS, restored):
        print(f"warning: {line}", file=sys.stderr, flush=True)
    found = {
        run_folder.CONFIG: sealed_json(_config(workdir, case_names)),
        run_folder.HISTORY: history.encode(history.epochs_of(history.read(workdir))),
    }
    if data := run_folder.read_data(workdir):
        found[run_folder.DATA] = sealed_json(data if case_names else _unnamed(data))
    copied = [*COPIED, *(NAMING if case_names else ()), METRICS]
    for name in map(str, copied):
        if (workdir / name).exists():
            read_json(workdir / name)  # which says if it is damaged
            found[name] = (workdir / name).read_bytes()
    arrays = plain_arrays.encode("model", restored.items["model"])
    saved = manifest.read_manifest(workdir / run_folder.CHECKPOINTS / str(restored.step))
    facts = {
        "step": restored.step,
        "score": saved["score"],
        "best": restored.step,
        "leaves": {"model": saved["leaves"]["model"]},
        "record": saved.get("record", {}),
    }
    of_checkpoint = arrays | {manifest.MANIFEST: manifest.encode(facts, arrays)}
    folder = PurePosixPath(run_folder.CHECKPOINTS, str(restored.step))
    return found | {str(folder / name): content for name, content in of_checkpoint.items()}


def _config(workdir: Path, case_names: bool) -> dict[str, Any]:
    """The run's config, with the program's own values where the run's are of the machine that it was trained on."""
    found, own = read_json(workdir / run_folder.CONFIG), as_json(default_config().to_dict())
    for key in OF_HERE + (() if case_names else PATHS):
        group, name = key.split(".")
        if name in found.get(group, {}):
            found[group][name] = own[group][name]
    if not case_names:
        found["data"]["root"] = Path(found["data"]["root"]).name
    return found


def _unnamed(data: dict[str, Any]) -> dict[str, Any]:
    """The description of a run's data with numbers for the names of its files."""
    files = sorted(data["files"].values(), key=lambda of: of["sha256"])
    return {**data, "files": {str(number): of for number, of in enumerate(files)}}


def _on_names(parts: dict[str, Path], case_names: bool) -> str:
    """What whoever gives the file away should know of it."""
    if not case_names:
        return "It names no case, and is scored with --split=all --data=DIR; with --case_names also by its own split."
    files = max(len((run_folder.read_data(folder) or {"files": ()})["files"]) for folder in parts.values())
    return f"It names {count(files, 'file')} of the data, and the cases of the split: be sure that all may know them."

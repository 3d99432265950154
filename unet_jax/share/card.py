"""The model card of a pack, in Markdown: what it was trained on, how it scores, what it is for, and how it is used.

After Mitchell et al. 2019, "Model Cards for Model Reporting". What nobody stated is said to be not stated.
"""

import json
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from unet_jax.auto import best as best_file
from unet_jax.auto import table
from unet_jax.data.names import shown
from unet_jax.files import read_json
from unet_jax.inference.network import image_channels
from unet_jax.report.scores import share, spread
from unet_jax.run import folder as run_folder
from unet_jax.run import resume
from unet_jax.run.config import OPEN_GROUPS, as_json, default_config, flatten, read_config
from unet_jax.wording import count

NAME = "card.md"
CROSSVAL = "crossval.json"
NOT_STATED = "not stated"


def page(workdir: Path, runs: Mapping[str, Path], pack: str, facts: Mapping[str, Any]) -> str:
    """The card.

    Args:
        workdir: that is packed.
        runs: the folders of the packed runs, by their places in it.
        pack: the file's name.
        facts: of pack.json: `program`, `licence` and `case_names`.
    """
    first = next(iter(runs.values()))
    config = read_config(first)
    name = shown(workdir.resolve().name)
    sections = {
        "Model": _model(first, config, runs),
        "Data": _data(first, config, facts["case_names"]),
        "Scores": _scores(workdir, runs),
        "Intended use": [
            f"Segmentation of {_classes(first)} in images of the same kind as those above. For research: nothing here "
            "was approved as a medical device.",
        ],
        "Limits": _limits(first, config),
        "Licence": [facts["licence"] or f"{NOT_STATED}: ask whoever made this file before you use it."],
        "Use": _use(pack),
        "Trained by": _trained(first, facts["case_names"]),
    }
    text = [f"# {name}", f"Packed by {facts['program']}."]
    for title, paragraphs in sections.items():
        text += [f"## {title}", *paragraphs]
    return "\n\n".join(text) + "\n"


def _model(first: Path, config: Any, runs: Mapping[str, Path]) -> list[str]:
    options = {key: value for key, value in as_json(config.model.to_dict()).items() if key != "name"}
    together = "" if list(runs) == [""] else f" {len(runs)} of them: {', '.join(runs)}."
    lines = [f"Network `{config.model.name}`: `{json.dumps(options)}`.{together}"]
    if config.data.patch is not None:
        lines.append(
            f"Patches of {tuple(config.data.patch)} voxels; spacing in mm: {config.data.spacing or 'as found'}."
        )
    else:
        lines.append(f"Images are resized to {config.data.image_size} pixels a side.")
    return lines


def _data(first: Path, config: Any, case_names: bool) -> list[str]:
    channels = image_channels(first, config)
    names = run_folder.read_channel_names(first, config, channels)
    split = read_json(first / run_folder.SPLIT) if (first / run_folder.SPLIT).exists() else {}
    sides = {side: len(split[side]) for side in ("train", "val", "test") if side in split}
    fingerprint = read_json(first / run_folder.CONFIG).get(run_folder.FINGERPRINT)
    root = Path(config.data.root)
    return [
        f"`{shown(root if case_names else root.name)}` ({config.data.source}), fingerprint `{fingerprint}`.",
        f"Channels: {', '.join(map(shown, names))}. Classes: {_classes(first)}.",
        "Split by "
        + str(config.data.split_by)
        + (": " + ", ".join(f"{number:,} {side}" for side, number in sides.items()) if sides else "")
        + ".",
    ]


def _classes(first: Path) -> str:
    return ", ".join(map(shown, run_folder.read_classes(first))) or "one class"


def _scores(workdir: Path, runs: Mapping[str, Path]) -> list[str]:
    """Of each packed run's test side, and of all together where somebody pooled them."""
    lines = []
    if (workdir / best_file.NAME).exists():
        best = best_file.read(workdir)
        lines.append(table.page(best).partition("\n")[2].strip() if best.results else "The choice was not scored here.")
    if (workdir / CROSSVAL).exists():
        pooled = read_json(workdir / CROSSVAL)
        lines.append(f"All folds pooled, each case scored by a network that never saw it: {_dice(pooled)}.")
    for name, folder in runs.items():
        path = folder / run_folder.EVALUATION / "test" / "metrics.json"
        where = f"{name}: " if name else ""
        if not path.exists():
            lines.append(f"{where}not scored.")
            continue
        found = read_json(path)
        unit = found.get("unit", "patient")
        lines.append(
            f"{where}test side, {count(found['cases'], 'case')} of {count(found['patients'], unit)} "
            f"({found['split_by']}): {_dice(found)}; of all pixels, precision "
            f"{share(found['precision'])}, recall {share(found['recall'])}."
        )
        lines += [
            f"- {shown(label)}: Dice {spread(of['dice_per_patient'])}" for label, of in found.get("classes", {}).items()
        ]
    return lines


def _dice(found: Mapping[str, Any]) -> str:
    """With the interval."""
    return f"Dice per {found.get('unit', 'patient')} {spread(found['dice_per_patient'])}"


def _limits(first: Path, config: Any) -> list[str]:
    limits = [
        "Scanners, sequences, resolutions and patients unlike those of the training data were not tried, unless the "
        "scores above say so.",
        "An interval is over the test side's patients alone: it does not cover other hospitals.",
    ]
    if config.data.split_by == "slice":
        limits.append("Slices of one patient lie on several sides of the split: the scores are inflated.")
    if config.data.source == "phantom":
        limits.append("It was trained on synthetic images, and is of no use for real ones.")
    return limits


def _use(pack: str) -> list[str]:
    command = f"python main.py --mode=predict --workdir={shlex.quote(pack)} --input=IMAGES --output=MASKS"
    program = f'import unet_jax\n\nsegment = unet_jax.load("{pack}")\nmask = segment(image)'
    return [f"```\n{command}\n```", f"```python\n{program}\n```"]


def _trained(first: Path, case_names: bool) -> list[str]:
    lines = ["python main.py --config=configs/default.py", *command_line(first, case_names=case_names)]
    return ["```\n" + " \\\n  ".join(lines) + "\n```"]


def command_line(workdir: Path, *, case_names: bool = True) -> list[str]:
    """The flags that make the default config the run's, quoted for a shell; what is the same in all runs is left out.

    Args:
        workdir: the run's folder.
        case_names: whether paths are given in full.
    """
    found, known = _recorded(workdir), flatten(as_json(default_config().to_dict()))
    groups = [group.rstrip(".") for group in OPEN_GROUPS]
    flags = {}
    for key, value in found.items():
        if key in known and known[key] != value and not key.startswith(OPEN_GROUPS) and not _is_of_here(key):
            flags[key] = value
    if "data.root" in found and found["data.root"] != known["data.root"]:
        flags["data.root"] = found["data.root"] if case_names else Path(found["data.root"]).name
    for group in groups:
        its, default = (_of_group(keys, group) for keys in (found, known))
        if its != default:
            flags[group] = its
    return [shlex.quote(f"--config.{key}={_written(value)}") for key, value in sorted(flags.items())]


def _recorded(workdir: Path) -> dict[str, Any]:
    return flatten(read_json(workdir / run_folder.CONFIG))


def _of_group(keys: Mapping[str, Any], group: str) -> dict[str, Any]:
    """A group's keys, nested again."""
    tree: dict[str, Any] = {}
    for key, value in keys.items():
        first, *rest = key.split(".")
        if first == group:
            *parents, last = rest
            node = tree
            for parent in parents:
                node = node.setdefault(parent, {})
            node[last] = value
    return tree


def _is_of_here(key: str) -> bool:
    """Whether a key says where things lie, or how they are shown, rather than what is trained."""
    return resume.is_harmless(key) or key.startswith("scaled_down.")


def _written(value: Any) -> str:
    if isinstance(value, dict):
        return json.dumps(value)
    if isinstance(value, list):
        return str(_tuple(value))
    return str(value)


def _tuple(value: Iterable[Any]) -> tuple:
    return tuple(_tuple(each) if isinstance(each, list) else each for each in value)

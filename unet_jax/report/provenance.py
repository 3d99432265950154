"""Where a report's scores come from: recipe, command, data, machine; and the config, first what differs in it."""

import datetime
import platform
import shlex
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import jax
from ml_collections import ConfigDict

from unet_jax.report.markup import tag
from unet_jax.run.config import as_json, default_config, flatten
from unet_jax.run.folder import EVALUATION
from unet_jax.wording import count

PACKAGES = ("jax", "jaxlib", "flax", "orbax-checkpoint", "numpy")


def origin(folder: Path, workdir: Path, config: ConfigDict, summary: Mapping[str, Any]) -> dict[str, str]:
    """Where a report comes from: recipe, data, the command that makes it again, and today's date, by their names.

    Args:
        folder: of the evaluation.
        workdir: the run's.
        config: the run's.
        summary: what metrics.json holds.
    """
    changed = len(_differences(config.to_dict()))
    side = summary["split"]
    command = ["unet-jax", "--mode=evaluate", f"--workdir={workdir}", f"--split={side}"]
    if side == "all":
        command.append(f"--data={config.data.root}")
    if folder != workdir / EVALUATION / side:
        command.append(f"--output={folder}")
    return {
        "Recipe": f"{config.model.name}; {count(changed, 'key')} other than in configs/default.py, listed below",
        "Data": f"{config.data.source}, {config.data.root}",
        "Command": shlex.join(command),
        "Date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def listed(found: Mapping[str, str]) -> Element:
    """The lines of `origin` as they stand on the page."""
    lines = [
        tag("div", tag("dt", name), tag("dd", tag("code", value) if name == "Command" else value))
        for name, value in found.items()
    ]
    return tag("dl", *lines, class_="origin")


def facts(summary: Mapping[str, Any], config: Mapping[str, Any]) -> list[Element]:
    """What ran on what, and the whole config."""
    devices = jax.devices()
    device = devices[0].device_kind if devices[0].platform != "cpu" else f"CPU ({platform.machine()})"
    versions = ", ".join(
        [f"Python {platform.python_version()}", *(f"{name} {metadata.version(name)}" for name in PACKAGES)]
    )
    found = {
        "Checkpoint": f"{summary['checkpoint']}, step {summary['checkpoint_step']}",
        **({} if summary["threshold"] is None else {"Tumour from probability": f"{summary['threshold']:g}"}),
        "Seconds a case": f"{summary['seconds_per_case']:.2f}",
        "Device": device if len(devices) == 1 else f"{len(devices)} × {device}",
        "Versions": versions,
        "Data fingerprint": tag("code", summary["data_fingerprint"]),
    }
    settings = {f"config.{key}": tag("code", repr(value)) for key, value in flatten(config).items()}
    changed = {
        f"config.{key}": tag("span", tag("code", repr(value)), f" instead of {default!r}" if known else "")
        for key, (value, known, default) in _differences(config).items()
    }
    differing = [
        tag("h3", "What differs from configs/default.py"),
        tag("div", _table(changed), class_="scroll", id="changed"),
    ]
    return [
        tag("div", _table(found), class_="scroll"),
        *(differing if changed else []),
        tag("details", tag("summary", "The whole config"), tag("div", _table(settings), class_="scroll"), id="config"),
    ]


def _differences(config: Mapping[str, Any]) -> dict[str, tuple[Any, bool, Any]]:
    """The config's values other than the program's own, by key, with whether there is a default, and that."""
    known = flatten(as_json(default_config().to_dict()))
    return {
        key: (value, key in known, known.get(key))
        for key, value in flatten(as_json(config)).items()
        if key not in known or known[key] != value
    }


def _table(found: Mapping[str, str | Element]) -> Element:
    lines = [tag("tr", tag("th", name, scope="row"), tag("td", value)) for name, value in found.items()]
    return tag("table", tag("tbody", *lines), class_="facts")

"""Plans on disk: this project's plan.json, and nnU-Net's plans files, whichever lies there."""

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

from unet_jax.errors import InputError
from unet_jax.files import SEAL, json_digest, write_json, write_sealed_json
from unet_jax.plan import inheritance, intensities, nnunet_plans
from unet_jax.plan.dataset import READERS
from unet_jax.plan.fields import (
    FLAG,
    OBJECT,
    SIZE,
    TEXT,
    Fields,
    number,
    one_of,
    or_none,
    permutation,
    raise_faults,
    read_object,
    sequence,
    whole,
    written,
)
from unet_jax.plan.network import Network
from unet_jax.plan.normalisation import NNUNET
from unet_jax.plan.plans import Configuration, Plans, contradictions
from unet_jax.plan.resample import Resampling

NAME = "plan.json"
# The first key of a plan.json, and the layout it has.
MARK, LAYOUT = "unet_jax_plan", 1

_AXES = (2, 3)
_RESAMPLING = {
    "order": whole(0),
    "order_z": whole(0),
    "separate_z": or_none(FLAG),
    "enabled": FLAG,
}
_NETWORK = {
    "residual": FLAG,
    "features": sequence(whole(1)),
    "kernels": sequence(sequence(whole(1), _AXES)),
    "strides": sequence(sequence(whole(1), _AXES)),
    "blocks": sequence(whole(1)),
    "decoder_blocks": sequence(whole(1), empty=True),
}
_CONFIGURATION = {
    "spacing": sequence(number(above=0), _AXES),
    "patch_size": sequence(whole(1), _AXES),
    "batch_size": whole(1),
    "median_shape": sequence(SIZE, _AXES),
    "normalisation": sequence(one_of(NNUNET)),
    "inside_only": sequence(FLAG),
    "batch_dice": FLAG,
    "data": TEXT,
}
_OPTIONAL = {"previous_stage": (TEXT, None), "next_stages": (sequence(TEXT), ()), "inherits_from": (TEXT, None)}
_PLANS = {
    "dataset": TEXT,
    "name": TEXT,
    "planner": TEXT,
    "reader": or_none(one_of(READERS)),
    "median_spacing": sequence(number(above=0), [3]),
    "median_shape": sequence(whole(1), [3]),
    "transpose_forward": permutation(3),
}


def read_plans(path: Path) -> Plans:
    """Reads a plan.json, or a plans file of nnU-Net; edited by hand or not.

    Raises:
        InputError: it cannot be read, something in it is unknown, missing or of the wrong kind, or values contradict
            each other; each mistake is a line.
    """
    values = read_object(path)
    # A run's own plan is sealed.
    seal = values.pop(SEAL, None)
    if seal not in (None, json_digest(values)):
        raise InputError(f"{path} is not what was written (SHA-256): it was damaged or edited; restore it.")
    if not {MARK, "plans_name", "configurations"} & values.keys():
        keys = ", ".join(map(written, values)) or "none"
        raise InputError(f"{path} holds nothing of a plan (its keys are {keys}): give a {NAME}, or nnU-Net's plans.")
    faults: list[str] = []
    plans = _from_json(values, faults) if MARK in values else nnunet_plans.from_json(values, faults)
    raise_faults(str(path), faults or contradictions(plans))
    return plans


def write_plans(path: Path, plans: Plans) -> None:
    """Writes a plan.json.

    Raises:
        StorageError: the disk is full, read-only or failing.
    """
    write_json(path, to_json(plans))


def write_sealed(path: Path, plans: Plans) -> None:
    """Writes the plan.json of a run, which nobody is to edit any more, unless it is there already.

    Raises:
        StorageError: the disk is full, read-only or failing.
    """
    content = to_json(plans)
    with contextlib.suppress(InputError):
        if path.exists() and read_object(path) == {**content, SEAL: json_digest(content)}:
            return
    write_sealed_json(path, content)


def to_json(plans: Plans) -> dict[str, Any]:
    """What a plan.json holds."""
    whole_ones = {name: _as_json(each) for name, each in plans.configurations.items()}
    return {
        MARK: LAYOUT,
        **{key: _plain(getattr(plans, key)) for key in _PLANS},
        "intensities": intensities.to_json(plans.intensities),
        "configurations": {
            name: inheritance.own(values, whole_ones.get(values.get(inheritance.KEY)))
            for name, values in whole_ones.items()
        },
        "reasons": list(plans.reasons),
    }


def _as_json(each: Configuration) -> dict[str, Any]:
    values = {field.name: _plain(getattr(each, field.name)) for field in dataclasses.fields(each)}
    for key, (_, absent) in _OPTIONAL.items():
        if getattr(each, key) == absent:
            del values[key]
    parent = {key: values.pop(key) for key in [inheritance.KEY] if key in values}
    return parent | values


def _plain(value: Any) -> Any:
    """Tuples as lists, and dataclasses as objects."""
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def _from_json(values: dict[str, Any], faults: list[str]) -> Plans | None:
    fields = Fields(values, "", faults)
    layout = fields.take(MARK, whole(1))
    if layout is not None and layout > LAYOUT:
        faults.append(f"{MARK} is {layout}: this version reads up to {LAYOUT}; use the version that wrote the plan.")
        return None
    found = {key: fields.take(key, kind) for key, kind in _PLANS.items()}
    found["intensities"] = intensities.from_fields(fields.inner("intensities"), faults)
    configurations = fields.take("configurations", inheritance.CONFIGURATIONS)
    found["configurations"] = inheritance.read_all(configurations, _read_configuration, faults)
    found["reasons"] = fields.take("reasons", sequence(TEXT, empty=True), ())
    fields.close()
    return None if faults else Plans(**found)


def _read_configuration(fields: Fields) -> Configuration | None:
    found = {key: fields.take(key, kind) for key, kind in _CONFIGURATION.items()}
    found |= {key: fields.take(key, kind, absent) for key, (kind, absent) in _OPTIONAL.items()}
    # Of a plan that was made of a config, the config says what the network is.
    network = fields.take("network", or_none(OBJECT))
    if network is not None:
        network = _read_object(Fields(network, fields.place("network"), fields.faults), _NETWORK, Network)
    found["network"] = network
    for key in nnunet_plans.KINDS:
        found[key] = _read_object(fields.inner(key), _RESAMPLING, Resampling)
    fields.close()
    return None if fields.faults else Configuration(**found)


def _read_object(fields: Fields, kinds: dict[str, Any], made: type) -> Any:
    found = {key: fields.take(key, kind) for key, kind in kinds.items()}
    fields.close()
    return None if fields.faults else made(**found)

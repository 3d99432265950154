"""A run's config: the program's own, what a run recorded, and both flattened.

`configs/default.py` is the program's own config: it explains every key. Recipes override it, and a run's `config.json`
holds what it ran with.
"""

import functools
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from unet_jax.errors import InputError
from unet_jax.files import read_json
from unet_jax.run import recipes
from unet_jax.run.folder import CHOSEN, CONFIG, FINGERPRINT, THRESHOLD, folds_of

# Groups whose keys depend on the network or the loss that is chosen; those check them.
OPEN_GROUPS = ("model.", "loss.")
# Never taken from a run's config: what lies in that folder is executed.
PROGRAMS = "train.compilation_cache"


def default_config() -> ConfigDict:
    """The program's own config, which has every key."""
    return _default_module().get_config()


@functools.cache
def _default_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("unet_jax_default_config", recipes.FOLDER / "default.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_config(workdir: Path, *, flips: bool | None = None, tiles: bool | None = None) -> ConfigDict:
    """The run's config; keys that are newer than the run have the program's own values.

    A threshold that the run has chosen takes the place of config.eval.threshold; and of a fold, so does what was chosen
    on the other folds, see `crossval.choices`.

    Args:
        workdir: the run's folder.
        flips: takes the place of config.eval.tta; None leaves it.
        tiles: takes the place of config.eval.tiles; None leaves it.

    Raises:
        InputError: there is none; or a key is unknown or its value of another type than the program's own, and all of
            these are listed.
    """
    path = workdir / CONFIG
    found, known = read_flat_config(workdir), flatten(as_json(default_config().to_dict()))
    faults = [_fault(key, value, known) for key, value in sorted(found.items())]
    if any(faults):
        raise InputError("\n".join(f"{path}: {fault}" for fault in faults if fault))
    added = {key: value for key, value in known.items() if not key.startswith(OPEN_GROUPS)}
    chosen = added | found | {PROGRAMS: known[PROGRAMS]}
    chosen |= {key: value for key, value in (("eval.tta", flips), ("eval.tiles", tiles)) if value is not None}
    if chosen.get("eval.choose_threshold"):
        chosen["eval.threshold"] = _chosen_threshold(workdir, chosen["eval.threshold"])
    if chosen.get("eval.choose"):
        chosen |= chosen_on_other_folds(workdir)
    try:
        return ConfigDict(_nested(chosen))
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(f"{path} is not a config ({error}): restore it.") from None


def _chosen_threshold(workdir: Path, otherwise: float) -> float:
    """What the run has chosen once it is trained to its end; before that, `otherwise`."""
    path = workdir / THRESHOLD
    if not path.exists():
        return otherwise
    found = read_json(path)
    value = found.get("threshold") if isinstance(found, dict) else None
    if not isinstance(value, float) or not 0 < value < 1:
        raise InputError(f"{path} has no threshold between 0 and 1: remove it, and train again to choose one.")
    return value


def chosen_on_other_folds(workdir: Path) -> dict[str, float | int]:
    """Keys and values of `crossval.choices`, for a fold, or for what all folds predict; none before it has chosen."""
    path = workdir / CHOSEN
    if not path.exists():
        return {}
    found = read_json(path)
    threshold, minimum = (
        found.get(name) if isinstance(found, dict) else None for name in ("threshold", "minimum_voxels")
    )
    if not isinstance(threshold, float) or not 0 < threshold < 1 or not isinstance(minimum, int) or minimum < 0:
        raise InputError(f"{path} has no threshold and minimum size: remove it; --mode=crossval chooses them again.")
    return {"eval.threshold": threshold, "eval.postprocess.minimum_voxels": minimum}


def _fault(key: str, value: Any, known: Mapping[str, Any]) -> str | None:
    """What is wrong with a value of a run's config, given those of the defaults."""
    if key not in known:
        if key == FINGERPRINT or key.startswith(OPEN_GROUPS):
            return None
        return f"config.{key} is not a key of this version of the program: use the one that made the run."
    # A whole number may stand for a float, and None for anything.
    types = (int, float) if isinstance(known[key], float) else type(known[key])
    if value is None or known[key] is None or isinstance(value, types):
        return None
    return f"config.{key} is {value!r}, and must be of the kind of {known[key]!r}: restore the file."


def read_flat_config(workdir: Path) -> dict[str, Any]:
    """The run's config as it is on disk, flattened, with the data's fingerprint.

    Raises:
        InputError: there is none.
    """
    if not (workdir / CONFIG).exists() and (folds := folds_of(workdir)):
        raise InputError(f"{workdir} holds the folds of a cross-validation: name one of them, as --workdir={folds[0]}.")
    found = read_json(workdir / CONFIG)
    if not isinstance(found, dict):
        raise InputError(f"{workdir / CONFIG} is not a config: restore it.")
    return flatten(found)


def as_json(tree: Mapping) -> dict:
    """With lists for tuples, as a file has them."""
    return json.loads(json.dumps(tree))


def flatten(tree: Mapping, prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a.b": 1}."""
    flat = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _nested(flat: Mapping[str, Any]) -> dict:
    tree = {}
    for key, value in flat.items():
        *groups, name = key.split(".")
        node = tree
        for group in groups:
            node = node.setdefault(group, {})
        node[name] = value
    return tree

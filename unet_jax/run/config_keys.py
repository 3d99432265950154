"""Which keys a config may have and which of them no value, in its file and on the command line."""

import difflib
from collections.abc import Collection, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, FieldReference, config_flags

from unet_jax.errors import InputError
from unet_jax.run.config import OPEN_GROUPS, flatten

# What others call a key.
SHORT = {"lr": "learning_rate", "bs": "batch_size", "wd": "weight_decay", "num_epochs": "epochs"}


class OrNone(flags.ArgumentParser):
    """Takes what another parser takes, and "None" for no value."""

    def __init__(self, parser: flags.ArgumentParser):
        self.parser = parser
        self.syntactic_help = parser.syntactic_help

    def parse(self, argument: Any) -> Any:
        """The value that the command line gives."""
        return None if argument == "None" else self.parser.parse(argument)

    def flag_type(self) -> str:
        """What --help calls it."""
        return self.parser.flag_type()


def accept_none() -> None:
    """Lets --config.optim.clip_norm=None mean no value; `check_keys` refuses it for keys that need one."""
    for kind, parser in ((float, flags.FloatParser()), (int, flags.IntegerParser()), (str, flags.ArgumentParser())):
        config_flags.register_flag_parser_for_type(kind, OrNone(parser))


def check_keys(config: ConfigDict, known: ConfigDict) -> None:
    """Raises InputError unless `config` has every key of `known` and no other, OPEN_GROUPS aside.

    Only what is a placeholder in `known` may be None.
    """
    found, needed = flatten(config.to_dict()), flatten(known.to_dict())
    faults = [
        f"config.{key} is missing: start from configs/default.py."
        for key in sorted(needed.keys() - found.keys())
        if not key.startswith(OPEN_GROUPS) or key == "model.name"
    ]
    faults += unknown_keys([key for key in found if not key.startswith(OPEN_GROUPS)], known)
    faults += [
        f"config.{key} is None, and needs a value, such as {needed[key]!r}."
        for key in sorted(_needing_value(known))
        if key in found and found[key] is None
    ]
    if faults:
        raise InputError("\n".join(faults))


def _needing_value(known: ConfigDict, prefix: str = "") -> list[str]:
    keys = []
    for key, value in known.items(preserve_field_references=True):
        if isinstance(value, ConfigDict):
            keys += _needing_value(value, f"{prefix}{key}.")
        elif not isinstance(value, FieldReference):
            keys.append(prefix + key)
    return keys


def unknown_keys(keys: Sequence[str], known: ConfigDict) -> list[str]:
    """A line for each of `keys` that neither is nor holds a key of `known`, with the nearest that does."""
    leaves = list(flatten(known.to_dict()))
    groups = {leaf[:place] for leaf in leaves for place, letter in enumerate(leaf) if letter == "."}
    return [f"config.{key} is not a key; {_hint(key, leaves, groups)}" for key in keys if key not in {*leaves, *groups}]


def _hint(key: str, leaves: Sequence[str], groups: Collection[str]) -> str:
    group, _, name = key.rpartition(".")
    if group == "loss":
        return f"give the loss as a whole: --config.loss='{{\"{name}\": 1.0}}'."
    same = [leaf for leaf in leaves if leaf.rpartition(".")[2] == SHORT.get(name, name)]
    close = difflib.get_close_matches(key, same or [*leaves, *groups], n=1, cutoff=0.0 if same else 0.6)
    return f"did you mean config.{close[0]}?" if close else "see configs/default.py."

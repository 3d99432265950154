"""Reads the command line; what cannot be read ends the program with one line and exit code 2."""

import sys
from collections.abc import Sequence

from unet_jax.command_line import together, usage
from unet_jax.command_line.flags import CONFIG, FLAGS, MODE, MODES
from unet_jax.errors import InputError
from unet_jax.run import config_file
from unet_jax.run.config import default_config
from unet_jax.run.config_keys import unknown_keys


def parse_flags(arguments: Sequence[str]) -> list[str]:
    """Parses the command line; what cannot be parsed ends the program with one line and exit code 2.

    Of several processes, the others end with that line too. --help and --version end the program with what they ask
    for, and exit code 0.
    """
    if text := usage.asked_for(arguments):
        print(text)
        sys.exit(0)
    try:
        rest = FLAGS(config_file.with_paths(arguments))
        if len(rest) > 1:
            raise InputError(f"{rest[1]!r} is not a flag: flags look like --mode=train.")
        getattr(CONFIG.value, "seed", None)  # what could not be loaded raises only when it is looked at
        _check_mode()
    except InputError as error:
        sys.exit(together.complain(error, arguments))
    except Exception as error:  # absl, ml_collections and the parsers of values have many kinds
        sys.exit(together.complain(InputError(_explained(error, arguments)), arguments))
    return rest


def _check_mode() -> None:
    if MODE.value not in MODES:
        raise InputError(f"--mode is {MODE.value!r}; it must be one of {', '.join(MODES)}.")
    if MODE.value == "benchmark" and together.is_one_of_several():
        raise InputError("--mode=benchmark measures one process: start it without --distributed and --coordinator.")


def _explained(error: Exception, arguments: Sequence[str]) -> str:
    keys = [argument[len("--config.") :].split("=")[0] for argument in arguments if argument.startswith("--config.")]
    if keys and not any(argument.split("=")[0] in ("--config", "-config") for argument in arguments):
        return f"--config.{keys[0]} sets a key of a recipe: name that too, as in --config=default."
    unknown = unknown_keys(keys, default_config()) if isinstance(error, (AttributeError, KeyError)) else []
    if "as a ConfigDict" in str(error):
        return f"{str(error).split(':')[0]}: a group of keys is given as in --config.loss='{{\"dice\": 1.0}}'."
    return "\n".join(unknown) or _not_of_this_recipe(error, keys) or _last_line(error)


def _not_of_this_recipe(error: Exception, keys: Sequence[str]) -> str | None:
    """What is wrong where a recipe gives a group, such as its network, without a key that it might have."""
    for key in keys:
        group, _, name = key.rpartition(".")
        if isinstance(error, (AttributeError, KeyError)) and str(error).strip("\"'") == name:
            return (
                f"this recipe's config.{group} has no {name}: give it as a whole, with the keys that the recipe sets, "
                f"as in --config.{group}=\"{{'name': 'unet2015', '{name}': …}}\"."
            )
    return None


def _last_line(error: Exception) -> str:
    reason = error.__cause__ or error
    lines = [line.strip() for line in str(reason).splitlines() if line.strip()]
    return lines[-1] if lines else type(reason).__name__

"""Converts weights that were trained in PyTorch.

    python -m unet_jax.models.pretrained.torch_weights unet.pt weights/buda2019 --model=buda2019

reads a state dictionary from a .safetensors file (needs the package safetensors) or a .pt or .pth file (needs
PyTorch), and writes a folder that `weights.load` reads. If the network's size differs from its source's, give
--option=width=16, once for each option. Exit codes: 0 done, 2 an argument or a file cannot be used,
5 the disk cannot take the result.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from flax.traverse_util import unflatten_dict

from unet_jax.errors import InputError, RunError
from unet_jax.models import build
from unet_jax.models.pretrained import torch_names, weights


class Source(NamedTuple):
    """Where a state dictionary comes from.

    Attributes:
        network: the name of the network that it fits.
        names: PyTorch's names of the network's layers.
        options: the network's options that set its size, and may be given.
        ignored: keys that begin with one of these are left out.
    """

    network: str
    names: Callable[[Any], torch_names.Names]
    options: tuple[str, ...]
    ignored: tuple[str, ...] = ()


UNET_SIZES = ("width", "depth")
RESNEXT_SIZES = ("width", "depths", "cardinality", "group_width")

SOURCES = {
    "tutorial": Source("tutorial", torch_names.tutorial, UNET_SIZES),
    "buda2019": Source("buda2019", torch_names.buda2019, UNET_SIZES),
    "fpn": Source("fpn", torch_names.fpn, ("width", "pyramid_width", "groups")),
    # The kernel's module also keeps the whole network from which it takes its encoder: the same arrays again.
    "resnext50_unet": Source("resnext50_unet", torch_names.resnext50_unet, RESNEXT_SIZES, ignored=("base_model.",)),
    # torchvision's file: only the encoder, and a classifier.
    "resnext50_encoder": Source("resnext50_unet", torch_names.resnext50_encoder, RESNEXT_SIZES, ignored=("fc.",)),
}

# Layer → PyTorch's names of its arrays → ours.
ARRAYS: dict[type[nnx.Module], dict[str, str]] = {
    nnx.Conv: {"weight": "kernel", "bias": "bias"},
    nnx.ConvTranspose: {"weight": "kernel", "bias": "bias"},
    nnx.GroupNorm: {"weight": "scale", "bias": "bias"},
    nnx.InstanceNorm: {"weight": "scale", "bias": "bias"},
    nnx.BatchNorm: {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"},
}
# PyTorch counts batches for an average without decay, which no network here uses.
UNUSED = ".num_batches_tracked"


class Target(NamedTuple):
    """One of our arrays: its path, which begins with the collection, its shape in PyTorch, and how to convert it."""

    path: tuple[str | int, ...]
    torch_shape: tuple[int, ...]
    convert: Callable[[np.ndarray], np.ndarray]


def read(path: Path) -> dict[str, np.ndarray]:
    """The state dictionary in a .safetensors, .pt or .pth file.

    A .pt file executes nothing: it is read with `weights_only=True`. Its arrays become float32.

    Raises:
        InputError: it cannot be read, contains anything but named arrays, or needs a package that is missing.
    """
    if path.suffix not in (".safetensors", ".pt", ".pth"):
        raise InputError(f"{path} has the suffix {path.suffix!r}: give a .safetensors, .pt or .pth file.")
    if not path.is_file():
        raise InputError(f"{path} is not a file: give a state dictionary that PyTorch saved.")
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        import safetensors.numpy
    except ImportError:
        raise InputError(f"{path} needs the package safetensors: pip install safetensors.") from None
    try:
        return safetensors.numpy.load_file(path)
    except safetensors.SafetensorError as error:
        raise InputError(f"{path} is not a whole safetensors file ({error}): fetch it again.") from None


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError:
        raise InputError(
            f"{path} needs PyTorch to be read: pip install torch, or save it as .safetensors where torch is."
        ) from None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises its own, pickle's, zipfile's and more
        raise InputError(
            f"{path} is not a whole file of nothing but weights ({type(error).__name__}): "
            "fetch it again, or save model.state_dict() by itself."
        ) from None
    whole = isinstance(state, dict) and all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items()
    )
    if not whole:
        raise InputError(f"{path} contains more than named arrays: save model.state_dict() by itself.")
    return {key: value.float().numpy() for key, value in state.items()}


def convert(
    state: Mapping[str, np.ndarray],
    model: str,
    *,
    where: str = "the state dictionary",
    in_channels: int = 3,
    num_classes: int = 1,
    **options,
) -> tuple[dict, dict]:
    """A state dictionary as (params, batch_stats) of the network: float32, with our names and axis orders.

    Args:
        state: arrays by PyTorch's keys.
        model: one of `SOURCES`. "resnext50_encoder" gives only the encoder of "resnext50_unet".
        where: name of `state` in an error.
        in_channels: channels of the image.
        num_classes: channels of the logits.
        **options: sizes of the network that differ from its source's.

    Raises:
        InputError: there is no such source or option; or keys are missing or left over, or arrays have another shape;
            all of them are listed.
    """
    if model not in SOURCES:
        raise InputError(f"--model is {model!r}; it must be one of {', '.join(SOURCES)}.")
    source = SOURCES[model]
    if unknown := sorted(set(options) - set(source.options)):
        raise InputError(f"--option has {', '.join(unknown)}; {model} takes only {', '.join(source.options)}.")
    network = nnx.eval_shape(lambda: build(source.network, in_channels, num_classes, nnx.Rngs(0), **options))
    state = {key: array for key, array in state.items() if not key.startswith(source.ignored)}
    sizes = {"in_channels": in_channels, "num_classes": num_classes} | options
    described = ", ".join(f"{key} {value}" for key, value in sizes.items())
    return fill(network, source.names(network), state, f"{where} does not fit {model} with {described}:")


def fill(
    network: nnx.Module, names: torch_names.Names, state: Mapping[str, np.ndarray], title: str
) -> tuple[dict, dict]:
    """A state dictionary as (params, batch_stats) of `network`, whose layers have these names.

    Args:
        network: the module, or its shapes.
        names: PyTorch's name of every layer that `state` is for.
        state: arrays by PyTorch's keys.
        title: first line of the error.

    Raises:
        InputError: keys are missing or left over, or arrays have another shape; all of them are listed.
    """
    targets = _targets(network, names)
    state = {key: array for key, array in state.items() if not key.endswith(UNUSED)}
    needed = {key: target.torch_shape for key, target in targets.items()}
    found = {key: array.shape for key, array in state.items()}
    faults = [
        f"  {key}: found {found.get(key, 'nothing')}, needed {needed.get(key, 'nothing')}"
        for key in [*needed, *sorted(found.keys() - needed)]
        if found.get(key) != needed.get(key)
    ]
    if faults:
        raise InputError("\n".join([title, *faults]))
    flat = {target.path: target.convert(state[key]) for key, target in targets.items()}
    tree = unflatten_dict({path: np.ascontiguousarray(array, np.float32) for path, array in flat.items()})
    return tree["params"], tree.get("batch_stats", {})


def _targets(network: nnx.Module, names: torch_names.Names) -> dict[str, Target]:
    """The arrays of the layers in `names`, by PyTorch's key."""
    modules = {"/".join(map(str, path)): (path, module) for path, module in nnx.iter_modules(network)}
    targets = {}
    for prefix, name in names:
        path, module = modules[name]
        arrays = next(arrays for kind, arrays in ARRAYS.items() if isinstance(module, kind))
        for torch_name, ours in arrays.items():
            variable = getattr(module, ours)
            if variable is None:  # a convolution without bias
                continue
            collection = "batch_stats" if isinstance(variable, nnx.BatchStat) else "params"
            shape, change = variable.shape, np.asarray
            if ours == "kernel":
                *spatial, before, after = shape
                if isinstance(module, nnx.ConvTranspose):
                    shape, change = (before, after, *spatial), _transposed_kernel
                else:
                    shape, change = (after, before, *spatial), _kernel
            targets[f"{prefix}.{torch_name}"] = Target((collection, *path, ours), shape, change)
    return targets


def _kernel(weight: np.ndarray) -> np.ndarray:
    """[out, in, *spatial] → [*spatial, in, out]."""
    return np.moveaxis(weight, (1, 0), (-2, -1))


def _transposed_kernel(weight: np.ndarray) -> np.ndarray:
    """[in, out, *spatial] → [*spatial, in, out], flipped: PyTorch's is the kernel of the convolution it transposes."""
    return np.moveaxis(np.flip(weight, range(2, weight.ndim)), (0, 1), (-2, -1))


def main(arguments: Sequence[str]) -> int:
    """Converts the file that the command line names, and returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m unet_jax.models.pretrained.torch_weights", allow_abbrev=False)
    parser.add_argument("source", type=Path, help="the state dictionary: .safetensors, .pt or .pth")
    parser.add_argument("out", type=Path, help="the folder to write")
    parser.add_argument("--model", required=True, choices=SOURCES, help="source of the file, which gives its names")
    parser.add_argument("--in_channels", type=int, default=3, help="channels of the image")
    parser.add_argument("--num_classes", type=int, default=1, help="channels of the logits")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="a size, as JSON")
    given = parser.parse_args(arguments)
    try:
        arguments = {"in_channels": given.in_channels, "num_classes": given.num_classes}
        arguments |= dict(_option(text) for text in given.option)
        params, batch_stats = convert(read(given.source), given.model, where=str(given.source), **arguments)
        weights.save(given.out, params, batch_stats, {"name": SOURCES[given.model].network, **arguments})
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    count = sum(array.size for array in jax.tree.leaves(params))
    print(f"{given.out}: {given.model}, {count:,} parameters.")
    return 0


def _option(text: str) -> tuple[str, int | list[int]]:
    """("width", 16) of "width=16"."""
    name, _, written = text.partition("=")
    try:
        value = json.loads(written)
    except ValueError:
        value = None
    if not all(type(number) is int for number in (value if isinstance(value, list) else [value])):
        raise InputError(f"--option={text}: give a whole number or a list of them, as in --option=width=16.")
    return name, value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

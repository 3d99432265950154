"""From PyTorch to this project: names and axis order of weights, and the .npz that the tests read.

The make_*.py scripts beside this need PyTorch, which the tests do not. Their modules carry the names of our
own parameter paths, so that what is left to do here is the axis order.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn

CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose2d, nn.ConvTranspose3d)
NORMS = (nn.BatchNorm2d, nn.BatchNorm3d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.GroupNorm)


def channels_last(x: torch.Tensor) -> np.ndarray:
    return np.moveaxis(x.detach().numpy(), 1, -1)


def kernel(module: nn.Module, weight: torch.Tensor) -> np.ndarray:
    """Torch's [out, in, *spatial], or [in, out, *spatial] and mirrored, as [*spatial, in, out]."""
    array = weight.detach().numpy()
    if isinstance(module, TRANSPOSED):
        spatial = tuple(range(2, array.ndim))
        return np.moveaxis(np.flip(array, spatial), (0, 1), (-2, -1))
    return np.moveaxis(array, (1, 0), (-2, -1))


def parameters(root: nn.Module, *, gradient: bool = False) -> dict[str, np.ndarray]:
    """{our path: array in our layout} of every parameter, or of its gradient."""
    found = {}
    for name, module in root.named_modules():
        for key, parameter in module.named_parameters(recurse=False):
            value = parameter.grad if gradient else parameter
            if key == "bias":
                ours, array = "bias", value.detach().numpy()
            elif isinstance(module, NORMS):
                ours, array = "scale", value.detach().numpy()
            else:
                ours, array = "kernel", kernel(module, value)
            found["/".join([*name.split("."), ours])] = array
    return found


def statistics(root: nn.Module) -> dict[str, np.ndarray]:
    """{our path: array} of the running means and variances."""
    found = {}
    for name, module in root.named_modules():
        if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)):
            found[name.replace(".", "/") + "/mean"] = module.running_mean.numpy()
            found[name.replace(".", "/") + "/var"] = module.running_var.numpy()
    return found


@torch.no_grad()
def randomise(root: nn.Module, seed: int) -> None:
    """Random weights that keep activations near 1, and random running statistics; all exact in float16."""
    torch.manual_seed(seed)
    for module in root.modules():
        if isinstance(module, CONVOLUTIONS + TRANSPOSED):
            taps = module.weight[0].numel() if isinstance(module, CONVOLUTIONS) else module.in_channels
            _assign(module.weight, torch.randn_like(module.weight) * (2 / taps) ** 0.5)
            if module.bias is not None:
                _assign(module.bias, torch.randn_like(module.bias) * 0.2)
        elif isinstance(module, NORMS):
            _assign(module.weight, torch.rand_like(module.weight) + 0.5)
            _assign(module.bias, torch.randn_like(module.bias) * 0.2)
            if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)):
                _assign(module.running_mean, torch.randn_like(module.running_mean) * 0.3)
                _assign(module.running_var, torch.rand_like(module.running_var) + 0.5)


def _assign(target: torch.Tensor, value: torch.Tensor) -> None:
    target.copy_(value.half().float())


def count(root: nn.Module) -> int:
    return sum(parameter.numel() for parameter in root.parameters())


def save(name: str, model: nn.Module, image: torch.Tensor, *, gradients: list[str], seed: int) -> None:
    """Writes <name>.npz: random weights, `image`, the logits, and the gradients at the paths `gradients`."""
    randomise(model, seed)
    model.eval()
    outputs = model(image)
    outputs = outputs if isinstance(outputs, list) else [outputs]
    sum(logits.square().mean() for logits in outputs).backward()
    all_gradients = parameters(model, gradient=True)
    arrays = {"image": channels_last(image)}
    arrays |= {f"logits/{i}": channels_last(logits) for i, logits in enumerate(outputs)}
    arrays |= {f"params/{path}": x.astype(np.float16) for path, x in parameters(model).items()}
    arrays |= {f"stats/{path}": x for path, x in statistics(model).items()}
    arrays |= {f"gradient/{path}": all_gradients[path] for path in gradients}
    file = Path(__file__).parent / f"{name}.npz"
    np.savez_compressed(file, **arrays)
    spread = ", ".join(f"{logits.std():.2f}" for logits in outputs)
    print(f"{file.name}: {file.stat().st_size / 1000:.0f} kB, logits {[*outputs[0].shape]}, std {spread}")

"""The PyTorch side: the same U-Net, loss and optimiser, as PyTorch's own users would write and run them."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class DoubleConv(nn.Module):
    """Two 3×3 convolutions, each with a ReLU."""

    def __init__(self, before: int, after: int):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, padding=1)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features of the same size."""
        x = functional.relu(self.conv1(x), inplace=True)
        return functional.relu(self.conv2(x), inplace=True)


class UNet(nn.Module):
    """The tutorial's U-Net: four levels, max pooling, bilinear doubling, skips; modules named as in unet_jax."""

    def __init__(self, channels: int, classes: int, width: int):
        super().__init__()
        w1, w2, w3, w4 = width, 2 * width, 4 * width, 8 * width
        self.encoder = nn.ModuleList(DoubleConv(*pair) for pair in ((channels, w1), (w1, w2), (w2, w3), (w3, w4)))
        self.decoder = nn.ModuleList(DoubleConv(*pair) for pair in ((w4 + w3, w3), (w3 + w2, w2), (w2 + w1, w1)))
        self.pool = nn.MaxPool2d(2)
        self.upsample = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of the image's size."""
        skips = []
        for block in self.encoder[:-1]:
            x = block(x)
            skips.append(x)
            x = self.pool(x)
        x = self.encoder[-1](x)
        for block, skip in zip(self.decoder, reversed(skips), strict=True):
            x = block(torch.cat([self.upsample(x), skip], dim=1))
        return self.head(x)


def loss_of(logits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy plus soft Dice, pooled over the batch, in float32."""
    logits = logits.float()
    probability = torch.sigmoid(logits)
    overlap = (probability * mask).sum()
    dice = 1 - (2 * overlap + 1) / (probability.sum() + mask.sum() + 1)
    return functional.binary_cross_entropy_with_logits(logits, mask) + dice


def network(params: Mapping, width: int, device: str) -> UNet:
    """The network with the parameters of unet_jax's `tutorial`, in the channels-last format."""
    model = UNet(params["encoder"][0]["conv1"]["kernel"].shape[2], params["head"]["kernel"].shape[3], width)
    state = {}
    for path, array in leaves(params):
        name = path.replace("kernel", "weight")
        array = np.array(array)
        state[name] = torch.from_numpy(array.transpose(3, 2, 0, 1).copy() if array.ndim == 4 else array)
    model.load_state_dict(state)
    return model.to(device, memory_format=torch.channels_last)


def leaves(tree: Mapping, prefix: str = "") -> list[tuple[str, np.ndarray]]:
    """The arrays of nested dictionaries with their keys, joined by dots."""
    found = []
    for key, value in tree.items():
        found += leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(f"{prefix}{key}", value)]
    return found


def configure(threads: int) -> None:
    """What PyTorch's tuning guide advises for both kinds of device."""
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True


def on_device(batch: Mapping[str, np.ndarray], device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The image, uint8, channels last in memory, and the mask with an axis for its class."""
    image = torch.from_numpy(batch["image"]).permute(0, 3, 1, 2).to(device, memory_format=torch.channels_last)
    return image, torch.from_numpy(batch["mask"])[:, None].to(device)


def make_train_step(model: UNet, batch: Mapping[str, np.ndarray], device: str, dtype: str, compiled: bool) -> Callable:
    """A function that takes one step on the batch, which lies on the device, and gives the loss."""
    image, mask = on_device(batch, device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

    def forward_loss(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16"):
            logits = model(image.float().div_(255))
        return loss_of(logits, mask.float())

    forward_loss = torch.compile(forward_loss) if compiled else forward_loss

    def step() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = forward_loss(image, mask)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def make_prediction(model: UNet, batch: Mapping[str, np.ndarray], device: str, dtype: str, compiled: bool) -> Callable:
    """A function that predicts the batch's probabilities."""
    image, _ = on_device(batch, device)
    model.eval()

    def forward(image: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16"):
            logits = model(image.float().div_(255))
        return torch.sigmoid(logits.float())

    forward = torch.compile(forward) if compiled else forward

    def predict() -> torch.Tensor:
        with torch.inference_mode():
            return forward(image)

    return predict


def peak_memory_gb(work: Callable, device: str) -> float | None:
    """Of the device while `work`, which has run before, is done once; None on a CPU, which does not count it."""
    if device != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats()
    work()
    return torch.cuda.max_memory_allocated() / 1e9


def wait(device: str) -> None:
    """Until the device has done all it was given."""
    if device == "cuda":
        torch.cuda.synchronize()

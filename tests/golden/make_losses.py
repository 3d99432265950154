"""Writes losses.json: what PyTorch, MONAI and segmentation_models_pytorch answer on random inputs.

    python tests/golden/make_losses.py

It needs torch, monai and segmentation_models_pytorch; the tests need losses.json alone.
"""

import functools
import importlib.util
import json
import sys
import types
from importlib.metadata import version
from pathlib import Path

import monai.losses as monai
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

# The package itself imports encoders and with them torchvision; its losses need torch alone.
spec = importlib.util.find_spec("segmentation_models_pytorch")
package = types.ModuleType(spec.name)
package.__path__ = list(spec.submodule_search_locations)
sys.modules[spec.name] = package
from segmentation_models_pytorch import losses as smp  # noqa: E402
from segmentation_models_pytorch.losses._functional import softmax_focal_loss_with_logits  # noqa: E402

SHAPES = {"binary": (3, 6, 5, 1), "classes": (3, 6, 5, 3), "volume": (2, 3, 4, 5, 3)}
LEVELS = [(2, 8, 4, 3), (2, 4, 4, 3), (2, 2, 2, 3)]


def main() -> None:
    rng = np.random.default_rng(0)
    inputs = {name: draw(rng, shape) for name, shape in SHAPES.items()}
    rows = [
        {"source": source, "loss": loss, "options": options, "input": name, "weighted": "weighted" in source}
        | dict(zip(("value", "gradient_norm"), evaluate(inputs[name], function), strict=True))
        for source, loss, options, name, function in references()
    ]
    packages = ("torch", "monai", "segmentation_models_pytorch")
    golden = {
        "made_with": {name: version(name) for name in packages},
        "inputs": inputs,
        "rows": rows,
        "deep_supervision": deep_supervision(rng),
    }
    text = json.dumps(golden, separators=(",", ":"))
    for mark in (
        '"inputs":',
        '"rows":',
        '"deep_supervision":',
        '{"source":',
        *(f'"{name}":{{' for name in SHAPES),
    ):
        text = text.replace(mark, "\n" + mark)
    Path(__file__).with_name("losses.json").write_text(text + "\n")


def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> dict:
    """Flat lists: logits, labels (0 and 1 where there is one class) and pixel weights of 0 and 1."""
    pixels = int(np.prod(shape[:-1]))
    return {
        "shape": list(shape),
        "logits": (2 * rng.standard_normal(pixels * shape[-1])).round(4).tolist(),
        "labels": rng.integers(max(shape[-1], 2), size=pixels).tolist(),
        "pixel_weights": rng.integers(2, size=pixels).tolist(),
    }


def channels_first(drawn: dict) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits and mask [b, k, *spatial], labels [b, *spatial] and pixel weights [b, 1, *spatial]."""
    shape = drawn["shape"]
    logits = torch.tensor(drawn["logits"], dtype=torch.float32).reshape(shape).movedim(-1, 1)
    labels = torch.tensor(drawn["labels"]).reshape(shape[:-1])
    mask = F.one_hot(labels, shape[-1]).movedim(-1, 1) if shape[-1] > 1 else labels[:, None]
    weights = torch.tensor(drawn["pixel_weights"], dtype=torch.float32).reshape(shape[:-1])[:, None]
    return logits, mask.float(), labels, weights


def evaluate(drawn: dict, function) -> tuple[float, float]:
    """The loss, and the length of its gradient by the logits."""
    logits, mask, labels, weights = channels_first(drawn)
    logits.requires_grad_()
    value = function(logits, mask, labels, weights)
    value.backward()
    return value.item(), logits.grad.norm().item()


def deep_supervision(rng: np.random.Generator) -> dict:
    levels = [draw(rng, shape) for shape in LEVELS]
    target = channels_first(levels[0])[1]
    dice = monai.DiceLoss(softmax=True, include_background=False, batch=True, smooth_nr=1, smooth_dr=1)
    loss = monai.DeepSupervisionLoss(dice, weights=[2 / 3, 1 / 3, 0])
    value = loss([channels_first(level)[0] for level in levels], target)
    return {
        "levels": levels,
        "loss": {"dice": 1.0},
        "source": "monai DeepSupervisionLoss",
        "value": value.item(),
    }


def references():
    """Yields source, loss, options, input, and a function of (logits, mask, labels, pixel weights).

    Scales differ at times: MONAI's Jaccard doubles numerator and denominator, its focal loss for several
    classes is a mean over them too; smp (segmentation_models_pytorch) halves what Dice divides.
    """
    one = {"smooth_nr": 1, "smooth_dr": 1}
    two = {"smooth_nr": 2, "smooth_dr": 2}
    sigmoid, softmax = {"sigmoid": True}, {"softmax": True, "include_background": False}
    tversky = {"alpha": 0.2, "beta": 0.6}
    bce_by_torch = F.binary_cross_entropy_with_logits

    def masks(criterion):
        return lambda logits, mask, labels, weights: criterion(logits, mask)

    def labels(criterion):
        return lambda logits, mask, labels, weights: criterion(logits, labels)

    yield "torch", "bce", {}, "binary", masks(bce_by_torch)
    yield "torch", "bce", {}, "classes", masks(bce_by_torch)
    yield "torch, weighted", "bce", {}, "binary", weighted_bce
    yield "smp", "bce", {}, "binary", masks(smp.SoftBCEWithLogitsLoss())
    for name in ("classes", "volume"):
        yield "torch", "ce", {}, name, labels(F.cross_entropy)
        yield "smp", "ce", {}, name, labels(smp.SoftCrossEntropyLoss(smooth_factor=0))
        yield "torch", "topk", {"fraction": 0.1}, name, labels(top_10_percent)

    for ours, jaccard, smooth in (("dice", False, one), ("jaccard", True, two)):
        loss = functools.partial(monai.DiceLoss, jaccard=jaccard, **smooth)
        masked = monai.MaskedDiceLoss(batch=True, jaccard=jaccard, **sigmoid, **smooth)
        yield "MONAI, weighted", ours, {}, "binary", lambda z, t, y, w, masked=masked: masked(z, t, w)
        yield "MONAI", ours, {"per_sample": True}, "binary", masks(loss(**sigmoid))
        yield "MONAI", ours, {"per_sample": True}, "classes", masks(loss(**softmax))
        for name, activation in (("binary", sigmoid), ("classes", softmax), ("volume", softmax)):
            yield "MONAI", ours, {}, name, masks(loss(batch=True, **activation))
        yield "MONAI", ours, {"background": True}, "classes", masks(loss(batch=True, softmax=True))
    loss = monai.DiceLoss(batch=True, smooth_nr=1e-5, smooth_dr=1e-5, **softmax)
    yield "MONAI", "dice", {"smooth": 1e-5}, "volume", masks(loss)
    yield "smp", "dice", {}, "binary", masks(smp.DiceLoss("binary", smooth=0.5))
    yield "smp", "dice", {"background": True}, "classes", labels(smp.DiceLoss("multiclass", smooth=0.5))
    yield "smp", "jaccard", {}, "binary", masks(smp.JaccardLoss("binary", smooth=1.0))
    yield "smp", "jaccard", {"background": True}, "classes", labels(smp.JaccardLoss("multiclass", smooth=1.0))
    yield "MONAI", "bce + dice", {}, "binary", masks(monai.DiceCELoss(batch=True, **sigmoid, **one))
    yield "MONAI", "ce + dice", {}, "volume", masks(monai.DiceCELoss(batch=True, **softmax, **one))

    for options in ({}, {"gamma": 0.5, "alpha": 0.25}):
        yield "MONAI", "focal", options, "binary", masks(monai.FocalLoss(**options))
        several = monai.FocalLoss(use_softmax=True, **options)
        yield "MONAI", "focal", options, "classes", lambda z, t, y, w, loss=several: loss(z, t) * z.shape[1]
        yield "smp", "focal", options, "binary", masks(smp.FocalLoss("binary", **options))
    yield (
        "smp",
        "focal",
        {"gamma": 3.0},
        "volume",
        labels(functools.partial(softmax_focal_loss_with_logits, gamma=3.0)),
    )

    yield (
        "MONAI",
        "tversky",
        tversky,
        "binary",
        masks(monai.TverskyLoss(batch=True, **sigmoid, **tversky, **one)),
    )
    yield (
        "MONAI",
        "tversky",
        tversky,
        "volume",
        masks(monai.TverskyLoss(batch=True, **softmax, **tversky, **one)),
    )
    yield "smp", "tversky", {}, "binary", masks(smp.TverskyLoss("binary", alpha=0.3, beta=0.7, smooth=1.0))
    loss = smp.TverskyLoss("binary", alpha=0.3, beta=0.7, gamma=0.75, smooth=1.0)
    yield "smp", "focal_tversky", {}, "binary", masks(loss)

    for options, per_image in (({}, False), ({"per_sample": True}, True)):
        yield "smp", "lovasz", options, "binary", masks(smp.LovaszLoss("binary", per_image=per_image))
        for name in ("classes", "volume"):
            yield "smp", "lovasz", options, name, labels(smp.LovaszLoss("multiclass", per_image=per_image))


def weighted_bce(logits, mask, labels, weights):
    return F.binary_cross_entropy_with_logits(logits, mask, weight=weights, reduction="sum") / weights.sum()


def top_10_percent(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The mean over the hardest 10 % of the pixels, which nnU-Net calls TopK10."""
    losses = F.cross_entropy(logits, labels, reduction="none").reshape(-1)
    return torch.topk(losses, losses.numel() // 10)[0].mean()


if __name__ == "__main__":
    main()

"""Names of layers in PyTorch's state dictionaries: (PyTorch's prefix, our path) of each layer."""

from unet_jax.models.fpn import FPN
from unet_jax.models.nnunet import NNUNet
from unet_jax.models.resnext import Encoder, ResNeXtUNet
from unet_jax.models.unet import UNet

Names = list[tuple[str, str]]

# The tutorial's `double_conv` is nn.Sequential(convolution, ReLU, convolution, ReLU).
DOUBLE_CONV = (("0", "conv1"), ("2", "conv2"))

# torchvision's residual block.
BOTTLENECK = (
    ("conv1", "conv1"),
    ("bn1", "norm1"),
    ("conv2", "conv2"),
    ("bn2", "norm2"),
    ("conv3", "conv3"),
    ("bn3", "norm3"),
)
DOWNSAMPLE = (("downsample.0", "shortcut"), ("downsample.1", "shortcut_norm"))


def tutorial(network: UNet) -> Names:
    """The tutorial's U-Net: conv_down1 … conv_down4, conv_up3 … conv_up1, last_conv."""
    depth = len(network.encoder)
    down = [(f"conv_down{level + 1}", f"encoder/{level}") for level in range(depth)]
    up = [(f"conv_up{depth - 1 - i}", f"decoder/{i}") for i in range(depth - 1)]
    return [*_joined(down + up, DOUBLE_CONV), ("last_conv", "head")]


def buda2019(network: UNet) -> Names:
    """The U-Net of Buda et al. on PyTorch Hub: encoder1 …, bottleneck, upconv4, decoder4 …, conv."""
    poolings = len(network.decoder)
    blocks = [(f"encoder{level + 1}.enc{level + 1}", f"encoder/{level}") for level in range(poolings)]
    blocks += [("bottleneck.bottleneck", f"encoder/{poolings}")]
    blocks += [(f"decoder{poolings - i}.dec{poolings - i}", f"decoder/{i}") for i in range(poolings)]
    names = [
        (block + layer, f"{path}/{layer}") for block, path in blocks for layer in ("conv1", "norm1", "conv2", "norm2")
    ]
    names += [(f"upconv{poolings - i}", f"upsamples/{i}/transposed") for i in range(poolings)]
    return [*names, ("conv", "head")]


def fpn(network: FPN) -> Names:
    """The Kaggle kernel's FPN. Its `seg_blocks` start at the finest level, our `branches` at the coarsest."""
    down = [(f"conv_down{level + 1}", f"encoder/{level}") for level in range(len(network.encoder))]
    names = _joined(down, DOUBLE_CONV)
    names += [("toplayer", "laterals/0")]
    names += [(f"latlayer{i}", f"laterals/{i}") for i in range(1, len(network.laterals))]
    names += [(f"smooth{i + 1}", f"smooths/{i}") for i in range(len(network.smooths))]
    for i, branch in enumerate(reversed(network.branches)):
        path = f"branches/{len(network.branches) - 1 - i}"
        for block in range(len(branch.convs)):
            prefix = f"seg_blocks.{i}.block.{block}.block"
            names += [(f"{prefix}.0", f"{path}/convs/{block}"), (f"{prefix}.1", f"{path}/norms/{block}")]
    return [*names, ("last_conv", "head")]


def resnext50_unet(network: ResNeXtUNet) -> Names:
    """The Kaggle kernel's ResNeXt U-Net: encoder0 (the stem) …, decoder4 …, last_conv0, last_conv1."""
    names = [("encoder0.0", "encoder/stem"), ("encoder0.1", "encoder/stem_norm")]
    names += _stages("encoder", network.encoder)
    decoder = [(f"decoder{len(network.decoder) - i}", f"decoder/{i}") for i in range(len(network.decoder))]
    parts = (("conv1.convrelu.0", "conv1"), ("deconv", "transposed"), ("conv2.convrelu.0", "conv2"))
    names += _joined(decoder, parts)
    return [*names, ("last_conv0.convrelu.0", "smooth"), ("last_conv1", "head")]


def resnext50_encoder(network: ResNeXtUNet) -> Names:
    """The resnext50_32x4d of torchvision: conv1, bn1, layer1 … layer4."""
    return [("conv1", "encoder/stem"), ("bn1", "encoder/stem_norm"), *_stages("layer", network.encoder)]


def nnunet(network: NNUNet) -> Names:
    """The PlainConvUNet and ResidualEncoderUNet of nnU-Net: encoder.stages, decoder.stages, transpconvs, seg_layers.

    Its `seg_layers` start at the coarsest level, our `heads` at the finest.
    """
    conv_norm = (("conv", "conv"), ("norm", "norm"))
    parts, residual = [], network.stem is not None
    if residual:
        parts.append(("encoder.stem.convs.0", "stem"))
    for level, stage in enumerate(network.encoder):
        for i, block in enumerate(stage.layers):
            path = f"encoder/{level}/layers/{i}"
            if not residual:
                parts.append((f"encoder.stages.{level}.0.convs.{i}", path))
                continue
            prefix = f"encoder.stages.{level}.blocks.{i}"
            parts += [(f"{prefix}.{name}", f"{path}/{name}") for name in ("conv1", "conv2")]
            if block.shortcut is not None:  # after the pooling, where there is one
                parts.append((f"{prefix}.skip.{int(max(block.stride) > 1)}", f"{path}/shortcut"))
    for i, stage in enumerate(network.decoder):
        parts += [(f"decoder.stages.{i}.convs.{n}", f"decoder/{i}/layers/{n}") for n in range(len(stage.layers))]
    names = _joined(parts, conv_norm)
    names += [(f"decoder.transpconvs.{i}", f"upsamples/{i}") for i in range(len(network.upsamples))]
    last = len(network.decoder) - 1
    return [*names, *((f"decoder.seg_layers.{last - i}", f"heads/{i}") for i in range(len(network.heads)))]


def _stages(prefix: str, encoder: Encoder) -> Names:
    names = []
    for stage, blocks in enumerate(encoder.stages):
        for i, block in enumerate(blocks):
            parts = BOTTLENECK + (DOWNSAMPLE if block.projects else ())
            names += _joined([(f"{prefix}{stage + 1}.{i}", f"encoder/stages/{stage}/{i}")], parts)
    return names


def _joined(blocks: Names, parts: tuple[tuple[str, str], ...]) -> Names:
    return [(f"{block}.{part}", f"{path}/{ours}") for block, path in blocks for part, ours in parts]

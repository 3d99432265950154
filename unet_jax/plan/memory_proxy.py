"""How many activations a network holds for one patch: nnU-Net's stand-in for accelerator memory.

Source: dynamic_network_architectures 0.4.4, `compute_conv_feature_map_size` of the networks and their blocks.
"""

import math
from collections.abc import Sequence

from unet_jax.plan.network import Network


def activations(network: Network, patch: Sequence[int], classes: int) -> int:
    """Numbers that come out of the convolutions for a batch of one, summed over all layers.

    Channels of the image do not count, nor do the coarser outputs of deep supervision.

    Args:
        network: whose stages count.
        patch: voxels an axis.
        classes: channels of the output.
    """
    sizes = _sizes(network.strides, patch)
    maps = [width * size for width, size in zip(network.features, sizes, strict=True)]
    if network.residual:
        # Two convolutions a block, and one more for the skip of a block that changes channels or size.
        encoder = maps[0] + sum(
            each * (2 * blocks + projects)
            for each, blocks, projects in zip(maps, network.blocks, _projects(network), strict=True)
        )
    else:
        encoder = sum(each * blocks for each, blocks in zip(maps, network.blocks, strict=True))
    # The decoder's stages are listed coarsest first; one more is the transposed convolution.
    decoder = sum(each * (blocks + 1) for each, blocks in zip(maps[-2::-1], network.decoder_blocks, strict=True))
    return encoder + decoder + classes * sizes[0]


def _sizes(strides: Sequence[Sequence[int]], patch: Sequence[int]) -> list[int]:
    """Voxels of each stage."""
    sizes, left = [], list(patch)
    for stride in strides:
        left = [n // by for n, by in zip(left, stride, strict=True)]
        sizes.append(math.prod(left))
    return sizes


def _projects(network: Network) -> list[bool]:
    """For each stage, whether its first block changes channels or size; the stem has the first stage's channels."""
    before = (network.features[0], *network.features)
    return [
        one != other or max(stride) > 1
        for one, other, stride in zip(before, network.features, network.strides, strict=False)
    ]

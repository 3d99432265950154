"""The layers that every network here is built from: rank-generic (2-D and 3-D), channels last.

They alone call `models.fast`, so no network sees which implementation of a convolution runs.
"""

from unet_jax.models.layers.activations import ACTIVATIONS, LEAKY_SLOPE, activation_function, relu
from unet_jax.models.layers.blocks import DoubleConv
from unet_jax.models.layers.convolutions import PADDINGS, conv, conv_transposed, he_normal, torch_uniform
from unet_jax.models.layers.norms import NORMS, normalisation
from unet_jax.models.layers.options import INITS, LayerOptions, check_choice, each_axis
from unet_jax.models.layers.pooling import average_pool, crop, max_pool
from unet_jax.models.layers.recomputing import check_remat, recomputed
from unet_jax.models.layers.upsampling import UPS, Upsample, conv_joined, upsample_linear, upsample_nearest

__all__ = [
    "ACTIVATIONS",
    "INITS",
    "LEAKY_SLOPE",
    "NORMS",
    "PADDINGS",
    "UPS",
    "DoubleConv",
    "LayerOptions",
    "Upsample",
    "activation_function",
    "average_pool",
    "check_choice",
    "check_remat",
    "conv",
    "conv_joined",
    "conv_transposed",
    "crop",
    "each_axis",
    "he_normal",
    "max_pool",
    "normalisation",
    "recomputed",
    "relu",
    "torch_uniform",
    "upsample_linear",
    "upsample_nearest",
]

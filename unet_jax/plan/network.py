"""The network that a plan asks for, in the terms of `models.nnunet.NNUNet`."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Network:
    """Stages, the finest first.

    Attributes:
        residual: whether the encoder is residual.
        features: channels of each stage.
        kernels: samples a side of each stage's convolutions, one number an axis.
        strides: of each stage, one number an axis.
        blocks: convolutions, or residual blocks, of each stage of the encoder.
        decoder_blocks: convolutions of each stage of the decoder, from the coarsest to the finest.
    """

    residual: bool
    features: tuple[int, ...]
    kernels: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]
    blocks: tuple[int, ...]
    decoder_blocks: tuple[int, ...]

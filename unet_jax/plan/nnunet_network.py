"""How nnU-Net's plans files describe a network, in and out: the `architecture` of a configuration.

Source: nnunetv2 2.8.1, experiment_planning/experiment_planners and utilities/plans_handling/plans_handler.py.
"""

from typing import Any

from unet_jax.plan.fields import ANYTHING, LIST, Fields, Kind, one_of, sequence, whole
from unet_jax.plan.network import Network

MODULE = "dynamic_network_architectures.architectures.unet."
PLAIN, RESIDUAL = "PlainConvUNet", "ResidualEncoderUNet"
_IMPORTED = ["conv_op", "norm_op", "dropout_op", "nonlin"]


def to_json(network: Network, axes: int) -> dict[str, Any]:
    """The network as nnU-Net writes it, for patches of so many axes."""
    fixed = fixed_options(axes)
    return {
        "network_class_name": MODULE + (RESIDUAL if network.residual else PLAIN),
        "arch_kwargs": {
            "n_stages": len(network.features),
            "features_per_stage": list(network.features),
            "conv_op": fixed["conv_op"],
            "kernel_sizes": [list(kernel) for kernel in network.kernels],
            "strides": [list(stride) for stride in network.strides],
            blocks_key(network.residual): list(network.blocks),
            "n_conv_per_stage_decoder": list(network.decoder_blocks),
            **{key: value for key, value in fixed.items() if key != "conv_op"},
        },
        "_kw_requires_import": list(_IMPORTED),
    }


def blocks_key(residual: bool) -> str:
    """The option for the blocks of each stage of the encoder."""
    return "n_blocks_per_stage" if residual else "n_conv_per_stage"


def fixed_options(axes: int) -> dict[str, Any]:
    """What every network of nnU-Net's planners has, and `models.nnunet` builds."""
    return {
        "conv_op": f"torch.nn.modules.conv.Conv{axes}d",
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{axes}d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }


def _read_class(value: Any) -> str:
    name = value.rpartition(".")[2] if isinstance(value, str) else None
    if name not in (PLAIN, RESIDUAL):
        raise ValueError
    return name


def _read_counts(value: Any) -> int | tuple[int, ...]:
    if isinstance(value, list):
        return tuple(whole(1).read(each) for each in value)
    return whole(1).read(value)


CLASS = Kind(f"{MODULE}{PLAIN} or {MODULE}{RESIDUAL}", _read_class)
COUNTS = Kind("a whole number from 1, or a list of one for each stage", _read_counts)


def read(fields: Fields, axes: int) -> Network | None:
    """The network that `fields` describe, for patches of so many axes; None where they have faults."""
    name = fields.take("network_class_name", CLASS)
    fields.take("_kw_requires_import", LIST, None)
    options = fields.inner("arch_kwargs")
    fields.close()
    if name is None:
        return None
    residual = name == RESIDUAL
    stages = options.take("n_stages", whole(1))
    features = options.take("features_per_stage", sequence(whole(1), [stages or 0]))
    network = {
        "kernels": options.take("kernel_sizes", sequence(sequence(whole(1)))),
        "strides": options.take("strides", sequence(sequence(whole(1)))),
        "blocks": options.take(blocks_key(residual), COUNTS),
        "decoder_blocks": options.take("n_conv_per_stage_decoder", COUNTS),
    }
    for key, value in fixed_options(axes).items():
        # Without a patch, nobody knows how many axes there are.
        options.take(key, one_of([value]) if axes else ANYTHING)
    options.close()
    if options.faults or features is None:
        return None
    lengths = {"blocks": stages, "decoder_blocks": stages - 1}
    for key, length in lengths.items():
        if isinstance(network[key], int):
            network[key] = (network[key],) * length
    return Network(residual, features, **network)

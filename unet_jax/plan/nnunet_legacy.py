"""Configurations of nnU-Net's first releases, which describe a network by other keys.

Source: nnunetv2 2.8.1, utilities/plans_handling/plans_handler.py, `ConfigurationManager`.
"""

from unet_jax.plan.fields import LIST, Fields, one_of, whole
from unet_jax.plan.nnunet_network import PLAIN, RESIDUAL, blocks_key, fixed_options


def modernise(fields: Fields) -> None:
    """Replaces the older keys, where a configuration has them, by the `architecture` that they stand for."""
    if "UNet_class_name" not in fields or "architecture" in fields:
        return
    before = len(fields.faults)
    name = fields.take("UNet_class_name", one_of((PLAIN, RESIDUAL)))
    first, most = fields.take("UNet_base_num_features", whole(1)), fields.take("unet_max_num_features", whole(1))
    blocks, decoder = fields.take("n_conv_per_stage_encoder", LIST), fields.take("n_conv_per_stage_decoder", LIST)
    strides, kernels = fields.take("pool_op_kernel_sizes", LIST), fields.take("conv_kernel_sizes", LIST)
    fields.take("num_pool_per_axis", LIST, None)
    if len(fields.faults) > before:
        fields.put("architecture", None)
        return
    axes = len(strides[0]) if strides and isinstance(strides[0], list) else 0
    options = {
        "n_stages": len(blocks),
        "features_per_stage": [min(first * 2**stage, most) for stage in range(len(blocks))],
        "kernel_sizes": kernels,
        "strides": strides,
        blocks_key(name == RESIDUAL): blocks,
        "n_conv_per_stage_decoder": decoder,
        **fixed_options(axes),
    }
    fields.put("architecture", {"network_class_name": f"architectures.{name}", "arch_kwargs": options})

"""LGG brain MRI as volumes: a 3-D U-Net in the manner of nnU-Net's plan, made short for two CPU cores.

    python main.py --config=configs/lgg_volumes.py --config.data.fold=0

The plan for these scans is for a GPU: patches of 32×256×256 in 7 stages (docs/results.md). Here a patch holds 16 slices
of the whole head at 96×96. Slices lie further apart than pixels, which the files do not say, so the first convolutions
do not reach across them. To compare with configs/lgg_cpu.py, which sees the same scans slice by slice: on the 12
patients of fold 0 a Dice of .745 in 36 minutes on two cores, where that one reaches .830 in 20.
"""

from ml_collections import ConfigDict

from configs import default, hippocampus


def get_config() -> ConfigDict:
    """Overrides of the short recipe for the hippocampus."""
    config = hippocampus.get_config()
    config.plan.configuration = None
    config.plan.configurations = None
    config.data.source = "lgg"
    config.data.root = default.get_config().data.root
    config.data.intensity = "volume"
    # The files say 1 mm an axis, as a plan would have it.
    config.data.spacing = (1.0, 8 / 3, 8 / 3)
    config.data.patch = (16, 96, 96)
    config.model.rank = 3
    config.model.residual = False
    config.model.features = (16, 32, 64, 128, 128)
    config.model.kernels = ((1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3))
    config.model.strides = ((1, 1, 1), (2, 2, 2), (2, 2, 2), (1, 2, 2), (1, 2, 2))
    config.model.blocks = (2, 2, 2, 2, 2)
    config.model.decoder_blocks = (2, 2, 2, 2)
    config.loss.dice.per_sample = False
    config.train.steps_per_epoch = 100
    config.train.epochs = 12
    # Heads lie alike in every scan, but no two institutions' sequences look alike.
    config.augment_patches.rotation.update({"probability": 0.5, "degrees": 15.0})
    config.augment_patches.mirror.update({"probability": 0.5, "axes": (2,)})
    for change in ("brightness", "contrast", "gamma"):
        config.augment_patches[change].probability = 0.5
    return config

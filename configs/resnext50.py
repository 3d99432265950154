"""LGG brain MRI with the Kaggle kernel's U-Net on ResNeXt50-32x4d, 30,947,777 parameters.

    python main.py --config=configs/resnext50.py --config.train.initial_weights=weights/resnext50

The weights are made of torchvision's file by `python -m unet_jax.models.pretrained.torch_weights`; without them it
starts from random ones.
Source: the kernel (Adam at 5e-4, 10 epochs), here split by patient. For a GPU. Its published scores are of a split by
slice; by patient it was not trained here for want of a GPU.
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """Overrides of the default recipe."""
    config = default.get_config()
    config.data.source = "lgg"
    config.model = ConfigDict({"name": "resnext50_unet", "dtype": "float32"})
    config.optim.learning_rate = 5e-4
    config.train.epochs = 10
    return config

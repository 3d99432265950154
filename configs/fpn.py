"""LGG brain MRI with the Kaggle kernel's feature pyramid network, 25,238,593 parameters.

    python main.py --config=configs/fpn.py

Source: the kernel (128×128, Adamax, 20 epochs), here split by patient. For a GPU. Its published scores are of a split
by slice; by patient it was not trained here for want of a GPU.
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """Overrides of the default recipe."""
    config = default.get_config()
    config.data.source = "lgg"
    config.data.image_size = 128
    config.model = ConfigDict({"name": "fpn", "dtype": "float32"})
    config.optim.name = "adamax"
    return config

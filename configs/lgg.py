"""LGG brain MRI, the tutorial's recipe by patient: its U-Net at width 64 and 256×256, batch 32. For a GPU.

    python main.py --config=configs/lgg.py

Source: the tutorial and the Kaggle kernel that it comes from. Cost: 84 GFLOP a slice forwards, about three times that
in training, 20 epochs of some 2,900 slices at most. Expected: re-runs of the kernel report a test Dice of .75 to .83 by
slice, on its leaky split; by patient expect less. This recipe was not trained to its end here for want of a GPU.
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """Overrides of the default recipe."""
    config = default.get_config()
    config.data.source = "lgg"
    return config

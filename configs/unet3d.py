"""LGG brain MRI in 3-D: a U-Net of rank 3 on slabs of 16 neighbouring slices, a third of them drawn around tumour.

    python main.py --config=configs/unet3d.py

Source: the 2-D network's choices of nnU-Net (instance normalisation, leaky ReLU, transposed convolutions, tumour in a
third of each batch: Isensee et al. 2021) in a small U-Net at 128×128. For a GPU. It was not trained to its end here for
want of one.
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """Overrides of the default recipe."""
    config = default.get_config()
    config.data.source = "lgg"
    config.data.image_size = 128
    config.data.slab = 16
    config.data.tumour_share = 0.34
    config.model = ConfigDict(
        {
            "name": "tutorial",
            "rank": 3,
            "width": 16,
            "depth": 4,
            "norm": "instance",
            "activation": "leaky_relu",
            "up": "transposed",
            "remat": 0,
            "dtype": "float32",
        }
    )
    config.optim.schedule = "cosine"
    # Each slice is the middle of a slab once an epoch, so an epoch shows each of them many times.
    config.train.batch_size = 4
    config.train.epochs = 4
    config.train.patience = 0
    return config

"""LGG brain MRI with the network and the recipe of Buda, Saha and Mazurowski 2019.

    python main.py --config=configs/buda2019.py

Theirs (doi 10.1016/j.compbiomed.2019.05.002): batch normalisation, transposed convolutions, width 32, 7,763,041
parameters; Dice loss; Adam at 1e-4; batch 16; 100 epochs; scale ±5 %, rotation ±15°, flips; slices with tumour drawn
more often; the largest component alone is scored. Left out: their crop and contrast rescaling of each volume.
Cost: 100 epochs of some 2,900 slices; for a GPU. Expected, by the paper: a Dice per patient of .82 mean and .85 median
in 22-fold cross-validation. It was not trained here for want of a GPU.
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """Overrides of the default recipe."""
    config = default.get_config()
    config.data.source = "lgg"
    config.data.tumour_share = 0.5
    config.model = ConfigDict({"name": "buda2019", "width": 32, "depth": 5, "norm": "batch", "dtype": "float32"})
    config.loss = ConfigDict({"dice": 1.0})

    config.augment.flip_rows = 0.0
    config.augment.transpose = 0.0
    config.augment.rot90 = 0.0
    config.augment.affine = ConfigDict({"probability": 1.0, "shift": 0.0, "scale": 0.05, "rotate": 15.0})

    config.optim.learning_rate = 1e-4
    config.train.batch_size = 16
    config.train.epochs = 100
    config.train.patience = 0
    config.eval.postprocess.largest_component = True
    return config

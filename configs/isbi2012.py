"""Membranes in electron microscopy (ISBI 2012) with what the 2015 U-Net was made of, narrow for two CPU cores.

    python main.py --mode=crossval --config=configs/isbi2012.py --config.data.root=isbi2012
    python -m benchmarks.membranes runs/isbi2012_crossval

As Ronneberger et al. 2015: convolutions without padding and mirrored borders, the weight map that asks for the
membranes between cells, elastic deformation of each slice, flips and turns, dropout at the bottom, one slice a step.
Not theirs: 12 channels instead of 64, and Adam with a cosine instead of SGD, as there are minutes and not ten hours.

Cost: 34 minutes on two cores for the five folds. Expected: a pixel error of .104 and a Dice of membranes of .759 at the
thresholds of the other folds, and a Dice of cells of .934; see docs/results.md.

Cells are the class, as the weight map is of the gaps between objects; the second command counts membranes. The folds
are of isbi2012_folds.json, six neighbouring slices each. The slice on either side of them validates, so that none that
is trained on adjoins one that is scored; the last epoch is scored, so it decides nothing.
"""

from ml_collections import ConfigDict

from configs import unet2015


def get_config() -> ConfigDict:
    """Overrides of the recipe of 2015."""
    config = unet2015.get_config()
    config.data.source = "patterns"
    config.data.root = "data/isbi2012"
    config.data.images = "image/{case}.png"
    config.data.masks = "label/{case}.png"
    config.data.image_size = 512
    config.data.folds = 5
    config.data.split_file = __file__.removesuffix(".py") + "_folds.json"
    config.model.width = 12

    config.optim.name = "adam"
    config.optim.learning_rate = 1e-3
    config.optim.schedule = "cosine"
    config.optim.ema_decay = 0.99
    config.train.epochs = 18
    # The cosine ends where the training does.
    config.train.patience = 0
    config.eval.checkpoint = "newest"
    # On the other folds.
    config.eval.choose = ("threshold",)
    config.eval.tta = True
    return config

"""LGG brain MRI on two CPU cores: the tutorial's U-Net at width 16 and 128×128, with batch normalisation.

    python main.py --config=configs/lgg_small.py

Cost: 38 minutes on two cores for 60 patients, 45 of them to train on, before the CPU's steps became faster.
Result then, seed 0: a Dice per patient of .747 mean (95 % interval .52 to .90) and .904 median on the nine test
patients.
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """Overrides of the default recipe."""
    config = default.get_config()
    config.data.source = "lgg"
    config.data.image_size = 128
    config.model.width = 16
    config.model.norm = "batch"

    # Heads lie alike in every scan: turns by 90 degrees only make the task harder in a short training.
    config.augment.transpose = 0.0
    config.augment.rot90 = 0.0
    config.augment.affine.update({"probability": 0.5, "shift": 0.05, "scale": 0.1, "rotate": 15.0})

    config.optim.schedule = "cosine"
    config.train.batch_size = 16
    config.train.epochs = 14
    # The cosine ends where the training does: leaving early would leave the best epochs out.
    config.train.patience = 0
    # Six patients validate.
    config.eval.checkpoint = "newest"
    return config

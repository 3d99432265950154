"""Hippocampus (Medical Segmentation Decathlon, task 4) by nnU-Net's plan, made short for two CPU cores.

    python main.py --config=configs/hippocampus.py --config.data.root=Dataset004_Hippocampus --config.data.fold=0

Patch, spacing and normalisation are the plan's. The network is half as wide, a step sees 2 patches instead of 7, and
there are 1,500 steps of Adam instead of 250,000 of SGD, at 1.2 to 1.6 s each: 34 to 40 minutes. Mean Dice of both
classes on the 40 cases of fold 0: .877, see docs/results.md.
Nothing is mirrored, in training or in prediction: so short a training does better without.
"""

from ml_collections import ConfigDict

from configs import nnunet


def get_config() -> ConfigDict:
    """Overrides of nnU-Net's recipe."""
    config = nnunet.get_config()
    config.plan.configuration = "3d_fullres"
    # As measured: of these files, the patient's axes are the file's, two of them mirrored, and the plan is the same.
    config.data.axes = "patient"
    config.model.features = (16, 32, 64, 128)
    config.train.batch_size = 2
    config.train.steps_per_epoch = 150
    config.train.epochs = 10
    config.optim.name = "adam"
    config.optim.learning_rate = 2e-3
    config.optim.schedule = "cosine"
    config.optim.warmup_steps = 50
    config.optim.weight_decay = 0.0
    config.optim.coupled_decay = False
    config.optim.clip_norm = 1.0
    config.optim.ema_decay = 0.99
    config.augment_patches.mirror.probability = 0.0
    return config

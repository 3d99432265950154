"""LGG brain MRI, the recipe of lgg_cpu.py at full size: width 64, 256×256, bfloat16. For a GPU.

    python main.py --config=configs/lgg_gpu.py

It was not trained to its end, so there is no Dice to expect beyond lgg_cpu's. Cost: its network's step on 32 slices
took 17 ms and 3.1 GB on an H200 (docs/performance.md), so the steps of 80 epochs of the data set's some 2,900 training
slices take two or three minutes there, augmentation and validation not counted.
"""

from ml_collections import ConfigDict

from configs import lgg_cpu


def get_config() -> ConfigDict:
    """Overrides of the recipe for CPUs."""
    config = lgg_cpu.get_config()
    config.data.image_size = 256
    config.model.width = 64
    config.model.dtype = "bfloat16"
    config.optim.learning_rate = 1e-3
    # Over two epochs or so, as lgg_cpu's is.
    config.optim.ema_decay = 0.995
    config.train.batch_size = 32
    config.train.epochs = 80
    return config

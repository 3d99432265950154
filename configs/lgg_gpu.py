"""LGG brain MRI, the recipe of lgg_cpu.py at full size: width 64, 256×256, bfloat16. For a GPU.

    python main.py --config=configs/lgg_gpu.py

It was not trained: no GPU was at hand, so there is no Dice to expect beyond lgg_cpu's. Cost, by count: a step does
three times the 84 GFLOP a slice of the network forwards, so 80 epochs of the data set's some 2,900 training slices are
58 PFLOP: an hour at 16 TFLOP/s, which is a tenth or less of what a card of recent years does in bfloat16.
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

"""LGG brain MRI with the original U-Net: Ronneberger, Fischer and Brox 2015 (doi 10.1007/978-3-319-24574-4_28).

    python main.py --config=configs/unet2015.py

Theirs: convolutions without padding, the image mirrored at its border instead; cross-entropy weighted towards the gaps
between objects; elastic deformation, here of each image, as the paper does not say of how many; He's initialisation;
dropout at the bottom; SGD with momentum .99, one image a step. Cost: 31 million parameters and one slice a step; for a
GPU. The paper has no figure for these data, and the recipe was not trained here for want of a GPU.
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """Overrides of the default recipe."""
    config = default.get_config()
    config.data.source = "lgg"
    config.model = ConfigDict({"name": "unet2015", "width": 64, "dropout": 0.5, "dtype": "float32"})
    config.loss = ConfigDict({"bce": 1.0})
    config.border_weights.w0 = 10.0
    config.augment.elastic.probability = 1.0

    config.optim.name = "sgd"
    # With momentum .99 the steps add up to a hundred times this.
    config.optim.learning_rate = 1e-4
    config.train.batch_size = 1
    return config

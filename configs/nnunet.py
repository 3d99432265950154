"""nnU-Net's own choices for a data set in its raw layout, from the data, and the training that it does by them.

    python main.py --config=configs/nnunet.py --config.data.root=Dataset004_Hippocampus              all of it
    python main.py --mode=plan --config=configs/nnunet.py --config.data.root=Dataset004_Hippocampus  plans alone

All of it: plans, trains each configuration on each of five folds, compares, chooses, finds the post-processing; then
--mode=predict --workdir=runs/nnunet uses what was chosen. --config.plan.configuration=3d_fullres --config.data.fold=0
trains that one alone. Each value that is None here is the plan's and may be given instead:
--config.model.features="(8, 16, 32, 64)". Training is nnU-Net's 1,000 epochs of 250 steps, meant for a GPU. Planning
reads every case once: the 200 volumes of the hippocampus took 7 s of processor and 1.2 GB, of which 0.8 GB are for the
10⁸ intensities that nnU-Net draws.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs import default


def get_config() -> ConfigDict:
    """Overrides of the default recipe."""
    config = default.get_config()
    config.data.source = "nifti"
    config.data.root = "data/nnUNet_raw/Dataset004_Hippocampus"
    # nnU-Net plans and trains on the files' own axes, as --mode=plan does; "ras" where dataset.json has the reader
    # NibabelIOWithReorient.
    config.data.axes = "file"
    # Five folds by patient, as many as nnU-Net's, and no test side beside the fold's.
    config.data.folds = 5
    # nnU-Net's own four: of each data set, those that its plan has.
    config.plan.configurations = ("2d", "3d_fullres", "3d_lowres", "3d_cascade_fullres")
    config.train.batch_size = placeholder(int)
    config.train.epochs = 1000
    config.train.patience = 0
    config.model = ConfigDict(
        {
            "name": "nnunet",
            "deep_supervision": True,
            "remat": 0,
            "dtype": "float32",
            "rank": placeholder(int),
            "residual": placeholder(bool),
            **{key: placeholder(tuple) for key in ("features", "kernels", "strides", "blocks", "decoder_blocks")},
        }
    )
    config.loss = ConfigDict({"ce": 1.0, "dice": {"smooth": 1e-5, "per_sample": placeholder(bool)}})
    config.optim.name = "sgd"
    config.optim.learning_rate = 0.01
    config.optim.warmup_steps = 0
    config.optim.schedule = "poly"
    config.optim.weight_decay = 3e-5
    config.optim.coupled_decay = True
    config.optim.clip_norm = 12.0
    # nnU-Net's predictions are the last weights', averaged over mirror images.
    config.eval.checkpoint = "newest"
    config.eval.tta = True
    return config

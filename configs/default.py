"""The tutorial's U-Net on the LGG brain MRI data set: every knob there is, with its unit and its reason.

    python main.py --config=configs/default.py

With the data at data/kaggle_3m this is the tutorial's recipe at full size: meant for a GPU. Without it the same
recipe runs scaled down on the built-in phantom, in a few minutes on two CPU cores; `scaled_down` below has all that
changes then. Any knob can be set from the command line: --config.model.width=32.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config() -> ConfigDict:
    """The tutorial's recipe."""
    config = ConfigDict()

    # Decides the split, the initial parameters, the order of the slices and every augmentation.
    config.seed = 0
    # Seconds without the end of a step, or of a case in validation, after which a run ends and says where it stood; the
    # first step, which is compiled, gets four times as long. 0 waits forever. At full size, a step takes two CPU cores
    # minutes.
    config.watchdog_seconds = 900.0

    config.data = ConfigDict()
    # What lies under `root`: "lgg", the Kaggle layout; "pairs", pictures and masks; "nifti", nnU-Net's raw layout;
    # "dicom", studies with SEG or RTSTRUCT; "tfds", lgg_mri as TFDS builds it; "patterns", what `images` and `masks`
    # say; "listed", what dataset.json lists; see docs/data.md. "phantom": the built-in synthetic MRI. "auto": whatever
    # lies there, or, without such a folder, the phantom with the values of `scaled_down`.
    config.data.source = "auto"
    config.data.root = "data/kaggle_3m"
    # Where images and masks lie, as paths from `root` with fields, such as "images/{case}.png" and
    # "masks/{case}_mask*.png": they pair by equal fields. {patient} tells whose a case is, {slice} numbers the slices
    # of a scan, {channel:flair|t1} are files that are stacked; {label:left|right} of masks are classes with a file
    # each. None: a layout that is known. Of DICOM, `images` alone is the pattern of the descriptions of series, such as
    # "*{channel:FLAIR|T1}*".
    config.data.images = placeholder(str)
    config.data.masks = placeholder(str)
    # "range": 8 and 16 bits become 0 to 1, floats stay as they are. "volume": each channel of each scan is stretched
    # from its percentiles 0.5 and 99.5 to 0 and 1. "auto": range for 8 bits, volume for all else.
    config.data.intensity = "auto"
    # Which values of the masks mean what, such as "tumour=255", "tumour=1+2+4" or, for several classes, "edema=1,
    # core=2+4"; "tumour=#ff0000" takes a colour, "background=3" drops a value, and the pixels of "ignore=255" are left
    # out of loss and scores. None: 0 and 1 or 0 and 255 in pictures, and what dataset.json says of NIfTI. Classes that
    # share values overlap, such as "whole=1+2+4, core=1+4, enhancing=4": each gets a sigmoid, and scores of its own.
    config.data.labels = placeholder(str)
    # What is written for each class where they overlap, in the order of `labels`, later ones over earlier ones. None:
    # of each the first value that no smaller one has, the largest class first; (2, 1, 4) for the example.
    config.data.regions_class_order = placeholder(tuple)
    # From which value on a pixel of a mask belongs to the only class, such as 128 for masks that were saved as JPEG;
    # None takes values as they are, and refuses JPEG.
    config.data.mask_threshold = placeholder(int)
    # Whose a picture or NIfTI case is, by its name without suffix: a regular expression such as
    # "(?P<patient>[^_]+)_(?P<slice>[0-9]+)", which puts the slices of a scan together as well; or the path of a CSV
    # with the columns file, patient and, if any, slice. None: each counts as a patient, and scores say "by picture".
    config.data.patient_pattern = placeholder(str)
    config.data.patient_csv = placeholder(str)
    # Voxels an axis of the patches that are trained on, such as (40, 56, 40), or (256, 256) of slices; None trains on
    # whole slices, resized. Patches are cut from cases that are resampled, normalised and kept in `cache`, and whole
    # cases are segmented in overlapping windows of that size. `intensity` means then: "auto", 8 bits become 0 to 1 and
    # all else gets mean 0 and standard deviation 1, channel by channel of each case; "volume", all do; "range", none.
    config.data.patch = placeholder(tuple)
    # Millimetres an axis, as many as `patch` has, that cases are resampled to first; None: each keeps its own voxels.
    config.data.spacing = placeholder(tuple)
    # The share of each batch of patches, its end, that is centred on foreground, whatever class: nnU-Net's third.
    config.data.foreground_share = 0.33
    # Which axes the arrays of a volume have. "patient": by the affine, all are turned the same way, as radiologists
    # look at them. "file": slices, rows and columns of the file, whatever their directions, as SimpleITK reads them and
    # most models of nnU-Net were trained; "ras": nibabel's canonical order, for those of NibabelIOWithReorient. Masks
    # come back in the files' own axes all the same; pictures and DICOM are not turned by any.
    config.data.axes = "patient"
    # Where decoded cases are kept, to be read straight from memory; about the size of the pixels (0.8 GB for LGG).
    config.data.cache = "data/cache"
    # Pixels a side of what the network sees. Scores are taken at the files' own size. A multiple of 2**(depth - 1).
    config.data.image_size = 256
    # "patient" keeps all slices of a patient on one side. "slice" is what the tutorial did: neighbours of the test
    # slices are trained on, so its scores are inflated and are labelled as leaky. "nnunet" takes nnU-Net's own five
    # folds of the cases (folds = 5), for scores to be compared with its; a validation side is drawn from its training.
    config.data.split_by = "patient"
    # A split of your own: a CSV with the columns side (train, val or test) and case, file or patient; a split.json; or
    # nnU-Net's splits_final.json, of which `fold` is taken. None: that of folders train, val and test, if the data lie
    # in such, else one is drawn. Where there is no test side, val is it, and a validation side is drawn.
    config.data.split_file = placeholder(str)
    # What the split is drawn with; None: `seed`. With a number, runs of several seeds have the same split.
    config.data.split_seed = placeholder(int)
    # The share of all that validates, then the share of the rest that tests: the tutorial's 10 % and 15 %.
    config.data.val_fraction = 0.1
    config.data.test_fraction = 0.15
    # With folds ≥ 2 the test side is part `fold` (from 0) of that many equal parts; test_fraction is not used then.
    config.data.folds = 0
    config.data.fold = 0
    # None for a 2-D network, which sees single slices. For a 3-D one (model.rank = 3), how many neighbouring slices
    # make a patch.
    config.data.slab = placeholder(int)
    # For a 2-D network, so many slices on either side are put into the channels of a slice, from the lowest to the
    # highest ("2.5-D"); beyond a scan's end its last slice is repeated. 0: single slices.
    config.data.neighbours = 0
    # The share of each batch that is drawn from the slices with tumour; 0 takes all slices as they come.
    config.data.tumour_share = 0.0
    # Processes that read ahead; 0 reads in the training process, which is faster for decoded slices on few cores.
    config.data.workers = 0
    # Seconds without a batch from those processes after which the run ends, as one of them is stuck; four times as many
    # while they start.
    config.data.wait_seconds = 45.0
    # Batches that a thread makes and sends to the device while earlier steps run; 0: each in turn. None: 2, on a CPU 0,
    # where there is nowhere to send them.
    config.data.ahead = placeholder(int)
    # Whether the training slices stay on the device, so that only their numbers are sent: "must", "never", or "auto":
    # on an accelerator of whose free memory they take a fifth or less. Patches are cut on the host in any case. The
    # batches are the same, and their order.
    config.data.resident = "auto"

    # What is planned for, by nnU-Net's rules: docs/nnunet.md.
    config.plan = ConfigDict()
    # The plan's configuration to train, such as "3d_fullres" or "2d"; None trains without a plan. Patch, spacing,
    # normalisation, batch size, network and batch Dice are then the plan's, where this config has None for them, as
    # configs/nnunet.py has; the run's config.json says which. The plan is the run's plan.json, if --mode=plan or a run
    # wrote one there, or else `file`, or it is made.
    config.plan.configuration = placeholder(str)
    # Several of them, such as ("2d", "3d_fullres"), for one command that trains each on each of data.folds, compares
    # them, averages pairs, chooses what predicts and finds its post-processing; what the plan lacks is left out. It is
    # for `configuration` = None; None trains one run.
    config.plan.configurations = placeholder(tuple)
    # How many of data.folds that command trains, the first ones; None: all. nnU-Net has five and trains all.
    config.plan.folds = placeholder(int)
    # The folder of the first stage's masks, for the second network of a cascade; that command sets it.
    config.plan.previous = placeholder(str)
    # Which networks: "default", or with residual encoders "resenc_m", "resenc_l" or "resenc_xl".
    config.plan.preset = "default"
    # Of the accelerator, GB: patches and batches are made to fit, by nnU-Net's estimate. None: the preset's own, 8, 8,
    # 24 and 40.
    config.plan.memory_gb = placeholder(float)
    # Whether the accelerator at hand says how much memory there is, in place of memory_gb.
    config.plan.device = False
    # Millimetres an axis, in the order slices, rows, columns, to resample all cases to; None: found from the cases.
    config.plan.spacing = placeholder(tuple)
    # A plan to take instead of making one: a plan.json or a plans file of nnU-Net, also edited by hand.
    config.plan.file = placeholder(str)

    config.model = ConfigDict()
    # docs/models.md has the networks, each with its options, which then take the place of those below.
    config.model.name = "tutorial"
    # Channels of the first level, doubled at each level below. 64 gives 7,782,913 parameters.
    config.model.width = 64
    # Levels, the first included: there are depth - 1 poolings.
    config.model.depth = 4
    # After each convolution: "none" as the tutorial, "batch", "instance" or "group".
    config.model.norm = "none"
    # What doubles the size on the way up: "bilinear" as the tutorial, "nearest" or "transposed".
    config.model.up = "bilinear"
    # How many levels, from the first one on, keep no features for the gradient but compute them again: less memory for
    # more time. 0 keeps all. U-Nets have it, nnU-Net's too.
    config.model.remat = 0
    # What every layer computes in: "float32" or "bfloat16". Parameters stay float32.
    config.model.dtype = "float32"

    # Weights of the summed losses: here binary cross-entropy, and soft Dice pooled over the batch. All losses and their
    # options are in unet_jax/losses/: {"tversky": {"weight": 0.5, "alpha": 0.3, "beta": 0.7}}.
    config.loss = ConfigDict({"bce": 1.0, "dice": 1.0})

    # Weights of pixels in the loss, from the 2015 paper: both classes weigh the same, and the gap between two tumours
    # weighs up to w0 more, the narrower the more; sigma in the files' pixels. w0 = 0 weighs all pixels alike.
    config.border_weights = ConfigDict({"w0": 0.0, "sigma": 5.0})

    # Random transforms, each image by itself, in this order. A probability of 0 switches one off. These are the Kaggle
    # kernel's, from which the tutorial comes.
    config.augment = ConfigDict()
    # Upside down, and left to right.
    config.augment.flip_rows = 0.5
    config.augment.flip_columns = 0.5
    config.augment.transpose = 0.5
    # By 90, 180 or 270 degrees.
    config.augment.rot90 = 0.5
    # Shift as a share of the size, scale as a share of 1, rotation in degrees: each drawn from ± its limit.
    config.augment.affine = ConfigDict({"probability": 0.25, "shift": 0.01, "scale": 0.04, "rotate": 0.0})
    # The 2015 paper's smooth deformation: displacements of the nodes of a coarse grid, so many an axis, with a standard
    # deviation in pixels of what the network sees, and bicubic between them; the image is mirrored at its border.
    config.augment.elastic = ConfigDict({"probability": 0.0, "std": 10.0, "grid": 3})
    # A factor on all intensities; a factor on their distance from the mean; an exponent. Drawn once an image, or, with
    # per_channel, for each of its channels: sequences differ from scanner to scanner by themselves. Neighbouring slices
    # of a channel share its draw.
    config.augment.per_channel = False
    config.augment.brightness = ConfigDict({"probability": 0.0, "range": (0.75, 1.25)})
    config.augment.contrast = ConfigDict({"probability": 0.0, "range": (0.75, 1.25)})
    config.augment.gamma = ConfigDict({"probability": 0.0, "range": (0.7, 1.5)})

    # Random transforms of patches (data.patch), nnU-Net's, in this order. A probability of 0 switches one off; `each`
    # is the probability for each channel, or label, of a patch to which it happens.
    config.augment_patches = ConfigDict()
    # Degrees about each axis, either way; None: nnU-Net's for the shape of the patch.
    config.augment_patches.rotation = ConfigDict({"probability": 0.2, "degrees": placeholder(float)})
    # One factor for all axes; above 1, objects shrink.
    config.augment_patches.scaling = ConfigDict({"probability": 0.2, "range": (0.7, 1.4)})
    # Standard deviations: of the noise, and of the Gaussian in voxels.
    config.augment_patches.noise = ConfigDict({"probability": 0.1, "range": (0.0, 0.1)})
    config.augment_patches.blur = ConfigDict({"probability": 0.2, "range": (0.5, 1.0), "each": 0.5})
    config.augment_patches.brightness = ConfigDict({"probability": 0.15, "range": (0.75, 1.25)})
    config.augment_patches.contrast = ConfigDict({"probability": 0.15, "range": (0.75, 1.25)})
    # The share of voxels an axis that is left.
    config.augment_patches.low_resolution = ConfigDict({"probability": 0.25, "range": (0.5, 1.0), "each": 0.5})
    # Exponents, on the negated image and on the image.
    config.augment_patches.inverted_gamma = ConfigDict({"probability": 0.1, "range": (0.7, 1.5)})
    config.augment_patches.gamma = ConfigDict({"probability": 0.3, "range": (0.7, 1.5)})
    # The probability for each axis, counted from 0; None: all axes. With eval.tta, prediction averages over them.
    config.augment_patches.mirror = ConfigDict({"probability": 0.5, "axes": placeholder(tuple)})
    # Of a cascade's previous masks: the radius in voxels of the ball; the share of the patch that a lost part covers.
    config.augment_patches.morphology = ConfigDict({"probability": 0.4, "range": (1.0, 8.0), "each": 0.5})
    config.augment_patches.removal = ConfigDict({"probability": 0.2, "range": (0.0, 0.15), "each": 0.5})

    config.optim = ConfigDict()
    # "adam", "adamax", or "sgd" with Nesterov momentum 0.99.
    config.optim.name = "adam"
    # The highest, after the warm-up.
    config.optim.learning_rate = 1e-3
    # Factors on it for parts of the network, such as "encoder=0.1" or, level by level, "encoder=0.3, encoder/0=0.1":
    # the longest name holds. None: all parts learn alike.
    config.optim.part_rates = placeholder(str)
    # After the warm-up: "constant"; "cosine" down to 0 at the last epoch; or "poly", nnU-Net's, which takes
    # (1 - epoch / epochs)^0.9 of it for all steps of an epoch.
    config.optim.schedule = "constant"
    # Steps of linear warm-up from a hundredth of the learning rate; at most the first epoch less one step.
    config.optim.warmup_steps = 100
    # The share of each parameter that a step takes off, times the learning rate; 0 is none.
    config.optim.weight_decay = 0.0
    # False decouples that from the gradient, as AdamW does. True adds it to the gradient, once that is clipped, so that
    # momentum and moments are made of both: PyTorch's SGD, and nnU-Net.
    config.optim.coupled_decay = False
    # Gradients longer than this are scaled down to it; None leaves them. Without normalisation, single steps would
    # throw the network back to predicting nothing.
    config.optim.clip_norm = placeholder(float)
    config.optim.clip_norm = 1.0

    # How much of the weights' moving average a step keeps, such as 0.999: the average is what is validated, scored and
    # exported then, batch normalisation's statistics included. None: no average, the weights as they are.
    config.optim.ema_decay = placeholder(float)

    config.train = ConfigDict()
    # To start from: a run's folder or a pack, of which what fits is copied and what sees other channels or classes is
    # adapted (docs/share.md); or a folder that `python -m unet_jax.models.pretrained.torch_weights` made. None starts
    # from random parameters.
    config.train.initial_weights = placeholder(str)
    # Parts of the network that stay as they are, batch normalisation's statistics included, such as "encoder" or, of a
    # network with a stem, "stem, encoder"; "encoder/0" is its first block. None trains all.
    config.train.freeze = placeholder(str)
    # Passes over the training slices, at most.
    config.train.epochs = 20
    # Steps of the whole run, at most; None: as many as the epochs have. The run ends with what is reached first, a last
    # epoch cut short is validated like the others, and the learning rate's schedule is laid out over what there is.
    config.train.steps = placeholder(int)
    # Minutes of steps and validation, about: before a new run, a few steps and a case are timed, and the steps that fit
    # are fixed in the run's budget.json, so that a resumed run is the same. Reading the data, compiling, checkpoints
    # and the last scores are not part of them. None: no limit.
    config.train.minutes = placeholder(float)
    # Slices, or patches, a step, over all devices together; None, with plan.configuration, is the plan's.
    config.train.batch_size = placeholder(int)
    config.train.batch_size = 32
    # Into how many parts a batch is divided, one after the other, so that a device holds the features of one part only:
    # loss and gradient are those of the whole batch, also of Dice over a batch. Not with batch normalisation.
    config.train.accumulate = 1
    # Steps that one program does, for networks so small that the device waits for the host between steps. None: 8 on an
    # accelerator, once a step has turned out to take under 3 ms. Checkpoints, validation and a stop come between
    # programs.
    config.train.steps_per_dispatch = placeholder(int)
    config.train.steps_per_dispatch = 1
    # Into how many slabs each volume is cut along its first axis (each slice along its rows), one a device, for volumes
    # that one device cannot hold: (4,) makes groups of four devices. The axis has to be a multiple of that times the
    # network's strides. None: each device has whole ones.
    config.train.spatial = placeholder(tuple)
    # Steps that count as an epoch of patches, which are drawn without end; None: nnU-Net's 250. Of slices, an epoch is
    # one pass over all of them.
    config.train.steps_per_epoch = placeholder(int)
    # Training ends after this many epochs without a better validation Dice; 0 never ends it early.
    config.train.patience = 3
    # Besides the one at each epoch's end, a checkpoint every so many steps; 0 for none.
    config.train.checkpoint_every_steps = 200
    # What a step does whose image, loss or gradient is NaN or infinite: "stop" ends the run; "skip" leaves the network
    # as it was, and ends the run after more such steps than nonfinite_limit.
    config.train.nonfinite = "stop"
    config.train.nonfinite_limit = 10
    # A step counts as a spike in the history when its gradient is so many times as long as the usual one.
    config.train.spike_factor = 10.0
    # A line in history.jsonl every so many steps.
    config.train.log_every_steps = 20
    # Whether <workdir>/tensorboard gets the same lines as events, with pictures of validated slices after each epoch:
    # the true outline is green, the predicted one orange.
    config.train.tensorboard = True
    # What else gets the numbers of history.jsonl: "mlflow", "wandb" or both, each an extra to install by that name.
    # Neither needs a server: MLflow writes to <workdir>/mlruns unless MLFLOW_TRACKING_URI says otherwise, and Weights &
    # Biases to <workdir>/wandb, for `wandb sync`, unless WANDB_MODE does.
    config.train.loggers = ()
    # Where compiled programs are kept, so that the next start takes seconds; None compiles them at each start.
    config.train.compilation_cache = placeholder(str)
    config.train.compilation_cache = "data/compiled"

    config.eval = ConfigDict()
    # Which checkpoint is scored: "best" on validation, or the "newest": with few patients to validate on, what was best
    # is largely luck, and after a cosine the last is as good.
    config.eval.checkpoint = "best"
    # A pixel is tumour from this probability on; of several classes, it is of the likeliest.
    config.eval.threshold = 0.5
    # Whether that probability is chosen once training has ended, by the validation side's mean Dice per patient, and
    # kept in the run's threshold.json, which then takes the place of `threshold`.
    config.eval.choose_threshold = False
    # What --mode=crossval chooses for each fold, by the mean Dice of the other folds' test patients: any of "threshold"
    # and "minimum_voxels" (see postprocess), at most a quarter of these patients' smallest tumour. Each fold's
    # chosen.json then takes the place of these keys.
    config.eval.choose = ()
    # Whether the probability is the mean over the image and its flips, of those that augment.flip_rows and flip_columns
    # train for: with both, upside down, left to right and both at once, four times the work.
    config.eval.tta = False
    # For patches: which of their axes, from 0, tta mirrors: (0, 1, 2), with all combinations. None: those that
    # augment_patches.mirror trains for.
    config.eval.mirror_axes = placeholder(tuple)
    # What is done with images larger than data.image_size: False shrinks them to it, as training does; True cuts them
    # into overlapping windows of that size instead, at the files' own resolution, for networks that were trained so.
    config.eval.tiles = False
    # How far apart two outlines may lie and still count as one in the surface Dice: mm, or pixels without spacing.
    config.eval.surface_tolerance = 2.0
    # Whether cases of one slice are scored by clDice as well, how well the centre lines of vessels or membranes agree
    # (Shit et al. 2021). It is undefined for volumes.
    config.eval.cldice = False
    # Masks of a second observer, a pattern as data.masks is one: nothing is trained or chosen by them. The scores then
    # say how well the network agrees with each observer, and these with each other.
    config.eval.second_masks = placeholder(str)
    # Connected parts of a case's mask that are dropped: those under so many voxels (0: none), all but the largest.
    config.eval.postprocess = ConfigDict({"minimum_voxels": 0, "largest_component": False})

    # What --mode=benchmark measures, and for how long.
    config.benchmark = ConfigDict()
    # Of each measure: longer is steadier.
    config.benchmark.seconds = 5.0
    # Whether training is started twice, without and with compiled programs on disk, to time its first step.
    config.benchmark.first_step = True
    # Whether the other ways are measured in which batches can come: in turn with the steps, sent ahead, staying on the
    # device, and several steps as one program.
    config.benchmark.feeding = False
    # Whether <workdir>/trace gets a profile of a few steps, for xprof or TensorBoard with its profile plugin.
    config.benchmark.trace = False

    # The built-in data set, written once.
    config.phantom = ConfigDict()
    config.phantom.root = "data/phantom/kaggle_3m"
    config.phantom.seed = 0
    config.phantom.patients = 60
    # Pixels a side, and the fewest and most slices of a patient.
    config.phantom.size = 128
    config.phantom.slices = (20, 28)

    # What replaces the values above when source is "auto" and there are no data; the command line still wins.
    config.scaled_down = ConfigDict()
    config.scaled_down.data = ConfigDict({"source": "phantom", "image_size": 64})
    config.scaled_down.model = ConfigDict({"width": 16})
    config.scaled_down.train = ConfigDict({"batch_size": 8, "epochs": 9, "patience": 0})
    # So few epochs end steadier with a cosine, and then the last ones are the best: none is left out.
    config.scaled_down.optim = ConfigDict({"schedule": "cosine"})

    return config

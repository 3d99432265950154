"""Every flag of the command line."""

from absl import flags
from ml_collections import config_flags

from unet_jax.run.config_keys import accept_none

MODES = ("train", "evaluate", "predict", "export", "benchmark", "crossval", "plan", "check", "pack")

FLAGS = flags.FLAGS
accept_none()
CONFIG = config_flags.DEFINE_config_file(
    "config", help_string="The recipe; --config.model.width=32 sets one key.", lock_config=True
)
MODE = flags.DEFINE_string("mode", "train", f"One of {', '.join(MODES)}.")
WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder, or a pack; runs/<name of the config> by default.")
SPLIT = flags.DEFINE_string("split", "test", "evaluate: which side to score; train, val, test or all.")
DATA = flags.DEFINE_string(
    "data", None, "Where the run's data are now; other cases, for evaluate --split=all to score or export to try."
)
INPUT = flags.DEFINE_string("input", None, "predict: a picture, a NIfTI file, a DICOM file, or a folder of them.")
OUTPUT = flags.DEFINE_string(
    "output", None, "predict: the folder for masks and tables; evaluate: for scores; export, pack: the file."
)
OVERWRITE = flags.DEFINE_boolean(
    "overwrite",
    False,
    "predict, export, pack: replaces what is in --output already; plan: the plan in the run's folder.",
)
PROBABILITIES = flags.DEFINE_boolean("probabilities", False, "predict: also writes each pixel's probability.")
OVERLAYS = flags.DEFINE_boolean("overlays", False, "predict: also writes PNGs with the outlines.")
TTA = flags.DEFINE_boolean("tta", None, "evaluate, predict: the mean over flips, instead of config.eval.tta.")
TILES = flags.DEFINE_boolean("tiles", None, "evaluate, predict: windows or whole slices, instead of config.eval.tiles.")
CACHE_DIR = flags.DEFINE_string(
    "cache_dir", None, "Where decoded cases and compiled programs are kept, instead of the user's cache folder."
)
RESUME = flags.DEFINE_string("resume", "auto", "train: auto resumes a run or begins one; must, never: only that.")
DRY_RUN = flags.DEFINE_boolean(
    "dry_run", False, "train: two steps, one validated case, then the memory and time of the whole run; leaves no run."
)
FOLD = flags.DEFINE_integer("fold", None, "crossval: trains this fold alone, then pools all that are there.")
CONFIGURATION = flags.DEFINE_string(
    "configuration", None, "train, of config.plan.configurations: trains this one alone."
)
SHAPE = flags.DEFINE_list(
    "shape", None, "export, of a run on patches: the cases' slices, rows and columns, such as 36,50,35."
)
SPACING = flags.DEFINE_list("spacing", None, "export, of a run on patches: the cases' spacing in mm, such as 1,1,1.")
AGAINST = flags.DEFINE_string("against", None, "crossval: the folder of another one, to compare patient by patient.")
FORMAT = flags.DEFINE_string("format", "unet_jax", "plan: nnunet also writes nnU-Net's plans and fingerprint.")
DISTRIBUTED = flags.DEFINE_boolean(
    "distributed", False, "This is one process of several: SLURM, Open MPI, Kubernetes or the TPU pod says which."
)
COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "This is one of several processes, which meet at this HOST:PORT of process 0."
)
PROCESSES = flags.DEFINE_integer("processes", None, "With --coordinator: how many processes there are.")
PROCESS = flags.DEFINE_integer("process", None, "With --coordinator: this one's number, from 0.")
LICENCE = flags.DEFINE_string("licence", None, "pack: of the weights, for the model card, such as CC-BY-4.0.")
CASE_NAMES = flags.DEFINE_boolean("case_names", False, "pack: also packs the split and the names of the data's files.")
VERIFY = flags.DEFINE_boolean("verify-data", False, "Only compares the data's files with the run's, by SHA-256.")

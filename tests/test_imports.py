"""Imports run one way. This reads them from the sources, those inside functions included."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Rooms, a file or a folder of unet_jax each, in paragraphs from top to bottom: a room may import from the
# paragraphs below its own.
LEVELS = """
benchmark crossval crossval_pictures train threshold loop evaluate predict export segmenter verify __init__

from_config recipe config_keys

steps inference checkpoint compilation_cache operations first_step device_peak
benchmark_table sharding report scoring pictures packed_masks events event_pictures
report_page report_sections report_cases report_charts report_pictures markup run_folder resolve progress
identity lock out_of_memory output folds pooled_scores windows stablehlo onnx_file onnx_graph

models losses pixel_losses region_losses weight_maps
timing surroundings cpu_devices host_memory metrics surface lesions postprocess class_colours
optim preprocess augment
checkpoint_folder integrity

plan

data

command_line files signals watchdog

errors version
"""

# Imports within a paragraph that are allowed besides. A folder's files may import each other.
SIDEWAYS = {
    "crossval": ["crossval_pictures", "evaluate", "train"],
    "crossval_pictures": ["evaluate"],
    "recipe": ["from_config"],
    "first_step": ["run_folder"],
    "train": ["evaluate", "loop", "threshold"],
    "loop": ["evaluate"],
    "predict": ["evaluate"],
    "segmenter": ["evaluate", "predict"],
    "__init__": ["segmenter"],
    "onnx_file": ["onnx_graph"],
    "inference": ["windows"],
    "signals": ["watchdog"],
    "command_line": ["files"],
    "checkpoint": ["sharding"],
    "checkpoint_folder": ["integrity"],
    "report": ["scoring"],
    "identity": ["run_folder"],
    "packed_masks": ["scoring"],
    "events": ["run_folder"],
    "event_pictures": ["packed_masks", "report_pictures"],
    "report_page": ["report_cases", "report_sections", "markup", "scoring"],
    "report_sections": ["report", "report_cases", "report_charts", "markup", "run_folder", "scoring"],
    "report_cases": ["markup", "scoring"],
    "report_charts": ["markup"],
    "resolve": ["run_folder"],
    "progress": ["steps"],
    "folds": ["identity", "progress", "run_folder", "scoring"],
    "pooled_scores": ["folds", "report", "scoring"],
    "losses": ["pixel_losses", "region_losses"],
    "postprocess": ["lesions"],
}

# Packages that a room must do without: processes that only read data should not have to start jax.
WITHOUT = dict.fromkeys(["data", "plan"], ["jax", "jaxlib", "flax", "optax", "orbax"])
# clu imports TensorFlow.
NOWHERE = ["tensorflow", "clu"]

ROOMS = [paragraph.split() for paragraph in LEVELS.split("\n\n")]
SOURCES = sorted((ROOT / "unet_jax").rglob("*.py"))
PROGRAM = [ROOT / "main.py", *sorted((ROOT / "configs").glob("*.py")), *SOURCES]


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _room(path: Path) -> str:
    return path.relative_to(ROOT / "unet_jax").with_suffix("").parts[0]


def _imports(source: str) -> set[str]:
    """Dotted names of all that is imported; `from a import b` is a.b."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are written in full"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _packages(path: Path) -> set[str]:
    return {name.split(".")[0] for name in _imports(path.read_text())}


def _rooms_imported(source: str) -> set[str]:
    """Rooms of unet_jax; the package itself is the room "__init__"."""
    parts = [name.split(".") for name in _imports(source) if name.split(".")[0] == "unet_jax"]
    rooms = {_room(path) for path in SOURCES}
    return {part[1] if len(part) > 1 and part[1] in rooms else "__init__" for part in parts}


def _allowed(room: str) -> set[str]:
    [level] = [number for number, rooms in enumerate(ROOMS) if room in rooms]
    below = {other for rooms in ROOMS[level + 1 :] for other in rooms}
    return below | set(SIDEWAYS.get(room, ())) | {room}


def test_imports_are_found_wherever_they_stand():
    source = "import a.b\nfrom c import d, e\ndef f():\n    from g.h import i as j\n"
    assert _imports(source) == {"a.b", "c.d", "c.e", "g.h.i"}
    source = "from unet_jax import files, data\nfrom unet_jax.models.unet import UNet\nimport unet_jax, json\n"
    assert _rooms_imported(source) == {"files", "data", "models", "__init__"}


def test_every_room_has_one_place():
    placed = [room for rooms in ROOMS for room in rooms]
    assert len(placed) == len(set(placed))
    for path in SOURCES:
        assert _room(path) in placed, f"{_name(path)} is new: place it in LEVELS of {_name(Path(__file__))}."


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_imports_run_one_way(path):
    wrong = _rooms_imported(path.read_text()) - _allowed(_room(path))
    assert not wrong, f"{_name(path)} imports {', '.join(sorted(wrong))}, which is not below it."


def test_sideways_imports_are_within_a_level_and_in_use():
    for room, others in SIDEWAYS.items():
        [level] = [rooms for rooms in ROOMS if room in rooms]
        assert set(others) <= set(level)
        used = set().union(*(_rooms_imported(path.read_text()) for path in SOURCES if _room(path) == room))
        assert set(others) <= used, f"SIDEWAYS lets {room} import more than it does."


@pytest.mark.parametrize("path", PROGRAM, ids=_name)
def test_packages_that_are_kept_out(path):
    kept_out = [*NOWHERE, "main", "tests"]
    if path in SOURCES:
        kept_out += ["configs", *WITHOUT.get(_room(path), ())]
    assert not _packages(path) & set(kept_out)


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.py")), ids=_name)
def test_configs_import_ml_collections_and_each_other_alone(path):
    assert _packages(path) <= {"ml_collections", "configs"}

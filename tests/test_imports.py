"""Imports run one way, down one list. This reads them from the sources, those inside functions included."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Rooms, a file or a package of unet_jax each, from bottom to top: a room imports itself and what stands on a line
# before its own. Weights from elsewhere become runs, so that they stand apart from the networks.
ORDER = [
    ["errors", "version", "colours", "wording"],
    ["files"],
    ["runtime"],
    ["data"],
    ["plan"],
    ["models"],
    ["losses", "metrics"],
    ["run"],
    ["models.pretrained"],
    ["inference"],
    ["report"],
    ["evaluation"],
    ["training"],
    ["crossval", "export", "benchmark", "check"],
    ["auto"],
    ["share"],
    ["api"],
    ["__init__"],
    ["command_line"],
    ["__main__"],
]

# Packages that a room does without: what only reads data, or plans, does not start jax.
WITHOUT = {room: ["jax", "jaxlib", "flax", "optax", "orbax"] for room in ("data", "plan")}
# clu imports TensorFlow.
NOWHERE = ["tensorflow", "clu", "main", "tests", "benchmarks"]

SOURCES = sorted((ROOT / "unet_jax").rglob("*.py"))
PROGRAM = [ROOT / "main.py", *sorted((ROOT / "configs").glob("*.py")), *SOURCES]
LEVELS = {room: level for level, rooms in enumerate(ORDER) for room in rooms}


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _room(path: Path) -> str:
    return _room_of(list(path.relative_to(ROOT / "unet_jax").with_suffix("").parts))


def _room_of(parts: list[str]) -> str:
    """The room of a dotted name within unet_jax; the package itself is the room "__init__"."""
    names = [".".join(parts[:count]) for count in (2, 1)]
    return next((name for name in names if name in LEVELS), "__init__")


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


def _rooms_imported(source: str) -> set[str]:
    """Rooms of unet_jax."""
    return {_room_of(name.split(".")[1:]) for name in _imports(source) if name.split(".")[0] == "unet_jax"}


def test_imports_are_found_wherever_they_stand():
    source = "import a.b\nfrom c import d, e\ndef f():\n    from g.h import i as j\n"
    assert _imports(source) == {"a.b", "c.d", "c.e", "g.h.i"}
    source = "from unet_jax import files, data\nfrom unet_jax.models.unet import UNet\nimport unet_jax, json\n"
    assert _rooms_imported(source) == {"files", "data", "models", "__init__"}


def test_every_room_stands_in_the_list_once():
    listed = [room for rooms in ORDER for room in rooms]
    assert len(listed) == len(LEVELS)
    assert {_room(path) for path in SOURCES} == set(listed)


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_imports_run_one_way(path):
    room = _room(path)
    wrong = {other for other in _rooms_imported(path.read_text()) if other != room and LEVELS[other] >= LEVELS[room]}
    assert not wrong, f"{_name(path)} imports {', '.join(sorted(wrong))}, which does not stand before {room}."


@pytest.mark.parametrize("path", PROGRAM, ids=_name)
def test_packages_that_are_kept_out(path):
    kept_out = [*NOWHERE]
    if path in SOURCES:
        kept_out += ["configs", *WITHOUT.get(_room(path), ())]
    assert not {name.split(".")[0] for name in _imports(path.read_text())} & set(kept_out)


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.py")), ids=_name)
def test_configs_import_ml_collections_and_each_other_alone(path):
    assert {name.split(".")[0] for name in _imports(path.read_text())} <= {"ml_collections", "configs"}


@pytest.mark.parametrize("path", [path for path in SOURCES if path.name == "__init__.py"], ids=_name)
def test_every_package_says_what_lies_in_it(path):
    assert len((ast.get_docstring(ast.parse(path.read_text())) or "").split()) > 10

"""Which implementation of a convolution runs is the layers' business alone."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "unet_jax" / "models"
ELSEWHERE = [
    path
    for path in sorted((ROOT / "unet_jax").rglob("*.py"))
    if not path.is_relative_to(MODELS / "layers") and not path.is_relative_to(MODELS / "fast")
]
# Options for the compiler belong to whole programs, and so does whether devices share a sample, or other machines run
# them.
LAYOUTS = {"unet_jax.models.fast.layouts.compiler_options"}
SHARED = {"unet_jax.models.fast.tracing"}


def modules(source: str) -> set[str]:
    """Dotted names of what is imported; `from a import b` is a.b."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def imports_fast(source: str) -> bool:
    return any(f"{name}.".startswith("unet_jax.models.fast.") for name in modules(source) - LAYOUTS - SHARED)


def test_only_the_layers_import_fast_convolutions():
    assert len(ELSEWHERE) > 50
    assert [path for path in ELSEWHERE if imports_fast(path.read_text())] == []


def test_only_where_programs_are_compiled_are_layouts_chosen():
    importing = [path for path in (ROOT / "unet_jax").rglob("*.py") if modules(path.read_text()) & LAYOUTS]
    wanted = {
        ROOT / "unet_jax" / name for name in ("inference/network.py", "training/step.py", "training/validation_loss.py")
    }
    assert set(importing) == wanted


def test_the_layers_do_import_them():
    assert any(imports_fast(path.read_text()) for path in (MODELS / "layers").glob("*.py"))
    assert imports_fast("from unet_jax.models import fast")
    assert imports_fast("def f():\n    import unet_jax.models.fast.bias\n")
    assert not imports_fast("from unet_jax.models.layers import conv")

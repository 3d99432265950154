"""Where measurements are kept: one JSON a script and device."""

import json
from pathlib import Path

FOLDER = Path(__file__).parent / "results"


def write(name: str, results: dict, folder: Path = FOLDER) -> Path:
    """Keeps the results under `name`, in place of earlier ones."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(results, indent=1, allow_nan=False) + "\n")
    return path


def read(name: str, folder: Path = FOLDER) -> dict | None:
    """The results under `name`; None where nothing was measured yet."""
    path = folder / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None

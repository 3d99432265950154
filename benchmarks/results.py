"""Where measurements are kept: one JSON a script and device, and sections of pages in docs/ that are made from them."""

import re
from pathlib import Path

from unet_jax.files import read_json, write_json
from unet_jax.runtime import environment

FOLDER = Path(__file__).parent / "results"


def name_for(script: str, device: str) -> str:
    """The name of a script's results on a device, "cpu" or "gpu": CPUs are told apart by their widest vectors."""
    vectors = environment.vectors().lower().replace("-", "") if device == "cpu" else ""
    return "_".join(filter(None, (script, device, vectors)))


def write(name: str, results: dict, folder: Path = FOLDER) -> Path:
    """Keeps the results under `name`, in place of earlier ones."""
    path = folder / f"{name}.json"
    write_json(path, results)
    return path


def write_rows(name: str, origin: dict, rows: list[dict], folder: Path = FOLDER) -> Path:
    """Keeps the rows beside those of the same machine and versions, in place of rows of the same titles."""
    before = read(name, folder)
    same = before and all(before[key] == origin[key] for key in ("machine", "device", "versions"))
    titles = {row["title"] for row in rows}
    others = [row for row in before["rows"] if row["title"] not in titles] if same else []
    return write(name, {**origin, "rows": [*others, *rows]}, folder)


def read(name: str, folder: Path = FOLDER) -> dict | None:
    """The results under `name`; None where nothing was measured yet."""
    path = folder / f"{name}.json"
    return read_json(path) if path.exists() else None


def fill_section(page: str, name: str, text: str) -> str:
    """The page with `text` between the markers <!-- name --> and <!-- end of name -->, in place of what is there."""
    pattern = rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end of {re.escape(name)} -->)"
    page, count = re.subn(pattern, lambda match: f"{match[1]}{text}\n{match[2]}", page, flags=re.DOTALL)
    if count != 1:
        raise SystemExit(f"The page has {count} sections <!-- {name} -->; it needs one.")
    return page

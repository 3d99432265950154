"""Whether a folder still holds what was written: a manifest with the size and the SHA-256 of its files."""

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

MANIFEST = "manifest.json"


def write_manifest(folder: Path, facts: Mapping[str, Any]) -> None:
    """Writes `facts`, the size and SHA-256 of every file of `folder`, and the manifest's own SHA-256.

    Raises:
        OSError: a file cannot be read or the manifest not be written.
    """
    files = {
        name: {"bytes": path.stat().st_size, "sha256": _digest_of_file(path)} for name, path in _files(folder).items()
    }
    (folder / MANIFEST).write_bytes(_encoded({**facts, "files": files}))


def encode(facts: Mapping[str, Any], files: Mapping[str, bytes]) -> bytes:
    """The manifest that `write_manifest` would write beside files of these contents, by their paths in the folder."""
    listed = {name: {"bytes": len(of), "sha256": hashlib.sha256(of).hexdigest()} for name, of in sorted(files.items())}
    return _encoded({**facts, "files": listed})


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The facts and files of `folder`'s manifest; None unless it is byte for byte what was written."""
    path = folder / MANIFEST
    try:
        raw = path.read_bytes() if _is_file(path) else b""
        contents = json.loads(raw)
        del contents["sha256"]
        return contents if raw == _encoded(contents) else None
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def faults(folder: Path, manifest: Mapping[str, Any] | None) -> list[str]:
    """What is wrong with the files of `folder`, a line each.

    Only what lies in the folder is read: names in the manifest are looked up, never followed.

    Args:
        folder: of which links are not followed.
        manifest: of `read_manifest`.
    """
    if folder.is_symlink() or not folder.is_dir():
        return [f"{folder.name} is not a folder"]
    found = _files(folder)
    if manifest is None:
        verdict = "is damaged" if (folder / MANIFEST).exists() else "is missing"
        return [f"{folder.name}/{MANIFEST} {verdict}"]
    judged = ((name, _fault(found.get(name), written)) for name, written in manifest["files"].items())
    return [f"{folder.name}/{name} {fault}" for name, fault in judged if fault]


def _fault(path: Path | None, written: Mapping[str, Any]) -> str | None:
    try:
        if path is None:
            return "is missing"
        if not _is_file(path):
            return "is not a regular file"
        size = path.stat().st_size
        if size != written["bytes"]:
            return f"has {size:,} bytes instead of {written['bytes']:,}"
        return None if _digest_of_file(path) == written["sha256"] else "is not what was written (SHA-256)"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def leaf_digests(tree: Any) -> dict[str, dict[str, Any]]:
    """Type, shape and SHA-256 of the bytes of each of `tree`'s arrays, by names such as "params/head/bias"."""
    return {
        name: {**describe(leaf), "sha256": hashlib.sha256(_bytes(np.asarray(leaf))).hexdigest()}
        for name, leaf in named_leaves(tree).items()
    }


def describe(leaf: Any) -> dict[str, Any]:
    """Type and shape of an array, or of what stands for one."""
    return {"dtype": str(np.dtype(leaf.dtype)), "shape": list(leaf.shape)}


def named_leaves(tree: Any) -> dict[str, Any]:
    """The leaves of `tree` by the keys, attributes and positions that lead to them."""
    return {
        "/".join(str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _bytes(array: np.ndarray) -> np.ndarray:
    # bfloat16 has no buffer that hashlib could read.
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _encoded(contents: Mapping[str, Any]) -> bytes:
    digest = hashlib.sha256(_json(contents)).hexdigest()
    return _json({**contents, "sha256": digest}) + b"\n"


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False).encode()


def _files(folder: Path) -> dict[str, Path]:
    """All that is not a folder, the manifest aside, by its path within `folder`; links are not followed."""
    paths = [
        Path(parent, name)
        for parent, folders, files in os.walk(folder)
        for name in [*files, *(name for name in folders if Path(parent, name).is_symlink())]
    ]
    return {path.relative_to(folder).as_posix(): path for path in sorted(paths) if path != folder / MANIFEST}


def _is_file(path: Path) -> bool:
    return stat.S_ISREG(path.lstat().st_mode)


def _digest_of_file(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

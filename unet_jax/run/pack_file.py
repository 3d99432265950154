"""A pack: the folder of a run, or of several, as one zip file whose every byte is verified before it is used.

Its members are stored and not compressed, so that a pack unpacks to no more bytes than it has; `pack.json`, which is
sealed, lists the size and the SHA-256 of each of the others. Arrays are .npy members: `numpy.load` opens a pack too.
"""

import contextlib
import hashlib
import io
import json
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from unet_jax.errors import DamageError, InputError, RunError
from unet_jax.files import SEAL, json_digest, sealed_json, storage_error, write_parts

MANIFEST, LAYOUT = "pack.json", 1
# The members of a file of --mode=export, which is another thing.
EXPORTED = "network.stablehlo"
# A choice of two configurations on five folds has some thousands.
MOST_MEMBERS = 100_000
# Of pack.json, which is read into memory.
MOST_BYTES = 64 * 2**20
# One part of a member's path: never "..", nor with a backslash or a colon.
_PART = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9_.+-]{0,199}")
_CHUNK = 2**20


def write(path: Path, members: Iterable[tuple[str, bytes]], facts: Mapping[str, Any]) -> tuple[int, str]:
    """Writes a pack, whole or not at all.

    Args:
        path: of the file; one that is there is replaced.
        members: the name of each, such as "checkpoints/12/manifest.json", and what it holds.
        facts: what `pack.json` says besides.

    Returns:
        the size and the SHA-256 of the file.

    Raises:
        StorageError: the disk is full, read-only or failing; what was there before is as it was.
    """
    buffer, listed = io.BytesIO(), {}
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members:
            _check_name(name)
            listed[name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            archive.writestr(zipfile.ZipInfo(name), content)
        archive.writestr(zipfile.ZipInfo(MANIFEST), sealed_json({"layout": LAYOUT, **facts, "files": listed}))
    content = buffer.getbuffer()
    write_parts(path, [content])
    return content.nbytes, hashlib.sha256(content).hexdigest()


@contextlib.contextmanager
def opened(run: Path) -> Iterator[Path]:
    """The folder of a run within the block: `run` itself, or, of a pack, what it unpacks to, which is removed after.

    A run within a pack is named as if the pack were a folder: model.zip/fold0. Errors name the pack, too.

    Args:
        run: a folder or a pack.

    Raises:
        InputError: the file is not a pack, or is one of a later version.
        DamageError: it is not what was packed.
        StorageError: there is no room to unpack it.
    """
    parted = _parted(run)
    if parted is None:
        yield run
        return
    pack, inside = parted
    with _temporary() as base:
        # By this name of the folder a run is called in what is made of it.
        folder = Path(base, pack.stem)
        unpack(pack, folder)
        try:
            yield folder / inside
        except RunError as error:
            raise type(error)(str(error).replace(str(folder), str(pack))) from error


def is_packed(run: Path) -> bool:
    """Whether a path names a pack, or a run within one, rather than a folder."""
    return _parted(run) is not None


def beside(run: Path, side: str) -> Path | None:
    """Where the scores of a side go if nobody says where: of a pack, beside it; None for a folder, which holds them."""
    parted = _parted(run)
    if parted is None:
        return None
    pack, inside = parted
    return pack.with_name(f"{pack.stem}_evaluation") / inside / side


def _parted(run: Path) -> tuple[Path, Path] | None:
    """A pack, and where in it a run lies; None for a folder."""
    file = next((path for path in (run, *run.parents) if path.is_file()), None)
    return None if file is None else (file, run.relative_to(file))


@contextlib.contextmanager
def _temporary() -> Iterator[str]:
    try:
        base = tempfile.mkdtemp(prefix="unet_jax-")
    except OSError as error:
        raise storage_error(error, tempfile.gettempdir()) or InputError(
            f"no temporary folder can be made to unpack into ({error.strerror}): set TMPDIR."
        ) from None
    try:
        yield base
    finally:
        shutil.rmtree(base, ignore_errors=True)


def unpack(pack: Path, folder: Path) -> None:
    """Writes the members of a pack into a new folder, each verified.

    Raises:
        InputError: the file is not a pack, or is one of a later version.
        DamageError: it is not what was packed.
        StorageError: there is no room.
    """
    try:
        with open(pack, "rb") as file, zipfile.ZipFile(file) as archive:
            members = _members(pack, archive, file.seek(0, io.SEEK_END))
            listed = _listed(pack, archive, members)
            try:
                for name, digest in listed.items():
                    _extract(pack, archive, members[name], digest, folder / name)
            except OSError as error:
                raise storage_error(error, folder, sum(of.file_size for of in members.values())) or error from None
    except (zipfile.BadZipFile, EOFError, NotImplementedError, UnicodeError) as error:
        raise InputError(f"{pack} is not a pack ({error}): {_REMEDY}") from None
    except OSError as error:
        raise InputError(f"{pack} cannot be read ({error.strerror}): correct --workdir.") from None


_REMEDY = "make one with --mode=pack --workdir=RUN --output=model.zip, or copy it again."


def _members(pack: Path, archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """The archive's members by name.

    Raises:
        InputError: one has a name or a form that no pack has, or they claim more bytes than the file has.
    """
    members = archive.infolist()
    if EXPORTED in archive.namelist():
        raise InputError(
            f"{pack} is an export, for programs without this package, and not a pack: see docs/export.md, or name the "
            "run it was made of."
        )
    if len(members) > MOST_MEMBERS:
        raise InputError(f"{pack} has {len(members):,} members, and a pack has at most {MOST_MEMBERS:,}.")
    for member in members:
        _check_name(member.filename, pack)
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
            raise InputError(
                f"{pack}: {member.filename} is compressed or encrypted, and a pack is neither, so that it unpacks to "
                "no more than it is: take it as it was packed."
            )
    if len({member.filename.lower() for member in members}) < len(members):
        raise InputError(f"{pack} has two members of one name: {_REMEDY}")
    if sum(member.file_size for member in members) > size:
        raise InputError(f"{pack} has {size:,} bytes and claims to hold more: {_REMEDY}")
    return {member.filename: member for member in members}


def _check_name(name: str, pack: Path | None = None) -> None:
    """Raises InputError for a name that could lead out of a folder, or that some system reads otherwise."""
    if not all(_PART.fullmatch(part) for part in name.split("/")):
        where = "" if pack is None else f"{pack}: "
        raise InputError(f"{where}{name!r} is not a name that a pack's members have: nothing was unpacked.")


def _listed(pack: Path, archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo]) -> dict[str, str]:
    """The SHA-256 of each member, as pack.json has it."""
    if MANIFEST not in members:
        raise InputError(f"{pack} has no {MANIFEST} and is not a pack: {_REMEDY}")
    if members[MANIFEST].file_size > MOST_BYTES:
        raise InputError(f"{pack}: its {MANIFEST} has over {MOST_BYTES:,} bytes: {_REMEDY}")
    damaged = f"{pack}: its {MANIFEST} is not what was written: copy it again."
    try:
        facts = json.loads(archive.read(MANIFEST))
        seal = facts.pop(SEAL)
        listed = {str(name): (int(of["bytes"]), str(of["sha256"])) for name, of in facts["files"].items()}
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError, zipfile.BadZipFile):
        raise DamageError(damaged) from None
    if seal != json_digest(facts):
        raise DamageError(damaged)
    if facts.get("layout") != LAYOUT:
        raise InputError(f"{pack} was packed by a later version of the program: use that one.")
    sizes = {name: member.file_size for name, member in members.items() if name != MANIFEST}
    odd = [name for name in sorted(listed.keys() | sizes) if listed.get(name, (None,))[0] != sizes.get(name)]
    if odd:
        raise DamageError(f"{pack} does not hold what its {MANIFEST} lists ({odd[0]}): copy it again.")
    return {name: digest for name, (_, digest) in listed.items()}


def _extract(pack: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, digest: str, path: Path) -> None:
    damaged = f"{pack}: {member.filename} is not what was packed (SHA-256): copy it again."
    path.parent.mkdir(parents=True, exist_ok=True)
    found = hashlib.sha256()
    try:
        # "x" never follows a link, nor replaces a file.
        with archive.open(member) as source, open(path, "xb") as target:
            while chunk := source.read(_CHUNK):
                found.update(chunk)
                target.write(chunk)
    except (zipfile.BadZipFile, EOFError):  # its CRC-32, or a header that is not the list's
        raise DamageError(damaged) from None
    if found.hexdigest() != digest:
        raise DamageError(damaged)

"""Mutation fuzz of the decoder: pictures are damaged at random and decoded in a child process with little memory.

    python tests/faults/fuzz_decoder.py [--mutations=20000] [--seed=0] [--unguarded]
    python tests/faults/fuzz_decoder.py --flips

The parent watches the child, which must not die, hang for longer than HANG_SECONDS, raise anything but InputError, or
take more than MEMORY bytes of address space. Mutation number n of a seed is always the same, and each bad one is
written to the folder that the report names. `--unguarded` gives the same bytes to OpenCV alone, to show what the checks
before decoding are worth. `--flips` flips each bit of each picture instead, and counts per picture how often the flip
was refused, changed nothing, or silently gave other pixels.
"""

import argparse
import collections
import functools
import io
import json
import mmap
import re
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageCms
from PIL.PngImagePlugin import PngInfo

PROJECT = Path(__file__).parents[2]
sys.path.insert(0, str(PROJECT))

from unet_jax.data.formats.image_file import decode_image  # noqa: E402
from unet_jax.errors import InputError  # noqa: E402

HANG_SECONDS = 10
MEMORY = 2 * 2**30
INTERESTING = (0, 1, 2, 3, 4, 8, 16, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 16, 2**32 - 1)


@functools.cache
def seeds() -> list[tuple[str, bytes]]:
    """Small valid pictures, one of each sort that is read, as (name, bytes)."""
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 60, (16, 16, 3), np.uint8)
    found = []
    for compression in (1, 5, 8, 32773):
        options = [cv2.IMWRITE_TIFF_COMPRESSION, compression, cv2.IMWRITE_TIFF_ROWSPERSTRIP, 8]
        found.append((f"{compression}.tif", cv2.imencode(".tif", colour, options)[1].tobytes()))
    found += [
        ("mask.tif", cv2.imencode(".tif", (colour[..., 0] > 30) * np.uint8(255))[1].tobytes()),
        ("float.tif", cv2.imencode(".tif", colour[..., 0].astype(np.float32))[1].tobytes()),
        ("colour.png", cv2.imencode(".png", colour)[1].tobytes()),
        ("deep.png", cv2.imencode(".png", colour.astype(np.uint16) * 900)[1].tobytes()),
        ("colour.jpg", cv2.imencode(".jpg", colour)[1].tobytes()),
        ("progressive.jpg", cv2.imencode(".jpg", colour, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()),
        ("described.png", _described("PNG", colour)),
        ("described.jpg", _described("JPEG", colour)),
    ]
    return found


def _described(kind: str, colour: np.ndarray) -> bytes:
    """A picture with most of what may accompany pixels: EXIF, a colour profile, resolution, text."""
    exif, text, file = Image.Exif(), PngInfo(), io.BytesIO()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Make] = 1, "maker"
    text.add_text("Comment", "plain")
    text.add_text("Title", "compressed", zip=True)
    text.add_itxt("Author", "international", "en", "", zip=True)
    options = {"pnginfo": text} if kind == "PNG" else {"comment": b"plain"}
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(colour).save(file, kind, exif=exif, icc_profile=profile, dpi=(300, 300), **options)
    return file.getvalue()


def mutate(seed: int, number: int) -> tuple[str, bytes]:
    """Mutation `number` of `seed`: one to four changes of one of the seeds' pictures."""
    rng = np.random.default_rng([seed, number])
    pictures = seeds()
    name, whole = pictures[rng.integers(len(pictures))]
    data = bytearray(whole)
    for _ in range(rng.integers(1, 5)):
        change = (_flip, _set_byte, _set_number, _truncate, _splice, _repeat, _set_tag)[rng.integers(7)]
        data = change(data, rng) if data else data
    # Half of the damaged PNGs get valid checksums again, to reach the code behind that check.
    if name.endswith(".png") and rng.random() < 0.5:
        data = _with_right_checksums(bytes(data))
    return name, bytes(data)


def _flip(data: bytearray, rng: np.random.Generator) -> bytearray:
    data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
    return data


def _set_byte(data: bytearray, rng: np.random.Generator) -> bytearray:
    data[rng.integers(len(data))] = rng.integers(256)
    return data


def _set_number(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Sets two or four bytes to a number at which arithmetic tends to fail."""
    value, size = INTERESTING[rng.integers(len(INTERESTING))], 2 << int(rng.integers(2))
    order = "little" if rng.random() < 0.5 else "big"
    place = rng.integers(max(1, len(data) - size))
    data[place : place + size] = (value % (1 << 8 * size)).to_bytes(size, order)
    return data


def _truncate(data: bytearray, rng: np.random.Generator) -> bytearray:
    return data[: rng.integers(len(data))]


def _splice(data: bytearray, rng: np.random.Generator) -> bytearray:
    """The beginning of this picture and the end of another."""
    other = seeds()[rng.integers(len(seeds()))][1]
    return data[: rng.integers(len(data))] + other[rng.integers(len(other)) :]


def _repeat(data: bytearray, rng: np.random.Generator) -> bytearray:
    first, last = sorted(rng.integers(len(data), size=2).tolist())
    return data[:last] + data[first:last] * int(rng.integers(1, 8)) + data[last:]


def _set_tag(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Sets a field of a TIFF's directory: a tag, its kind, its count or its value."""
    if data[:4] != b"II*\0" or len(data) < 8:
        return _set_number(data, rng)
    (directory,) = struct.unpack_from("<I", data, 4)
    offset, size = ((0, 2), (2, 2), (4, 4), (8, 4))[rng.integers(4)]
    place = directory + 2 + 12 * int(rng.integers(14)) + offset
    if place + size <= len(data):
        value = INTERESTING[rng.integers(len(INTERESTING))] if rng.random() < 0.7 else int(rng.integers(400))
        data[place : place + size] = (value % (1 << 8 * size)).to_bytes(size, "little")
    return data


def _with_right_checksums(data: bytes) -> bytes:
    out, position = io.BytesIO(data), 8
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        end = position + 8 + length
        if end + 4 > len(data):
            break
        out.seek(end)
        out.write(struct.pack(">I", zlib.crc32(data[position + 4 : end])))
        position = end + 4
    return out.getvalue()


def run_child(folder: Path, seed: int, first: int, last: int, guarded: bool) -> None:
    """Decodes mutations `first` to `last` - 1; the current one is in `<folder>/at`, the counts in `<folder>/counts`."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    counts, slowest = collections.Counter(), 0.0
    with (folder / "at").open("r+b") as file, mmap.mmap(file.fileno(), 8) as at:
        for number in range(first, last):
            at[:] = struct.pack("q", number)
            name, data = mutate(seed, number)
            start = time.perf_counter()
            try:
                outcome = _outcome(name, data, decode_image if guarded else _decode_unguarded)
            except Exception as error:
                outcome = f"raised {type(error).__name__}"
                (folder / f"{number}-{name}").write_bytes(data)
                print(number, repr(error)[:200], file=sys.stderr)
            slowest = max(slowest, time.perf_counter() - start)
            counts[outcome] += 1
            # Written often, because a child that dies loses what it counted since.
            if number % 100 == 0 or number == last - 1:
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
                (folder / "counts").write_text(json.dumps({"counts": counts, "slowest": slowest, "peak": peak}))


def _outcome(name: str, data: bytes, decode: Callable[[bytes, str], np.ndarray | None]) -> str:
    try:
        pixels = decode(data, name)
    except InputError as error:
        return "refused" if re.fullmatch(f"{re.escape(name)}: .+[.]", str(error)) else f"refused with {str(error)!r}"
    return "decoded" if pixels is not None else "refused"


def _decode_unguarded(data: bytes, name: str) -> np.ndarray | None:
    del name
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None


def fuzz(mutations: int, seed: int = 0, guarded: bool = True) -> dict:
    """Runs all mutations; returns the counts of outcomes, the slowest, peak memory, and the folder of the bad ones."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    total, first, slowest, peak = collections.Counter(), 0, 0.0, 0
    while first < mutations:
        (folder / "counts").unlink(missing_ok=True)
        (folder / "at").write_bytes(struct.pack("q", first))
        arguments = [f"--child={folder}", f"--first={first}", f"--mutations={mutations}", f"--seed={seed}"]
        command = [sys.executable, __file__, *arguments, *([] if guarded else ["--unguarded"])]
        with (folder / "stderr").open("ab") as stderr:
            child = subprocess.Popen(command, stdout=stderr, stderr=stderr, cwd=PROJECT)
            verdict = watch(child, folder / "at")
        if (folder / "counts").exists():
            record = json.loads((folder / "counts").read_text())
            total.update(record["counts"])
            slowest, peak = max(slowest, record["slowest"]), max(peak, record["peak"])
        if verdict == "done":
            break
        number = _at(folder / "at")
        total[verdict] += 1
        name, data = mutate(seed, number)
        (folder / f"{number}-{name}").write_bytes(data)
        first = number + 1
    if total.keys() <= {"decoded", "refused"}:
        shutil.rmtree(folder)
    return {"counts": dict(total), "slowest_seconds": slowest, "peak_bytes": peak, "folder": str(folder)}


def flips() -> dict[str, collections.Counter]:
    """The outcomes of every single-bit flip, by picture."""
    found = {}
    for name, whole in seeds():
        pixels = decode_image(whole, name)
        found[name] = collections.Counter()
        for bit in range(8 * len(whole)):
            data = bytearray(whole)
            data[bit // 8] ^= 1 << bit % 8
            try:
                same = np.array_equal(decode_image(bytes(data), name), pixels)
                found[name]["same pixels" if same else "other pixels"] += 1
            except InputError:
                found[name]["refused"] += 1
    return found


def watch(child: subprocess.Popen, at: Path) -> str:
    """Waits for the child; returns "done", "hung" (after killing it) or what it died of."""
    last, since = None, time.monotonic()
    while True:
        try:
            code = child.wait(0.2)
        except subprocess.TimeoutExpired:
            number = _at(at)
            if number != last:
                last, since = number, time.monotonic()
            elif time.monotonic() - since > HANG_SECONDS:
                child.kill()
                child.wait()
                return "hung"
        else:
            return "done" if code == 0 else f"died with code {code}"


def _at(path: Path) -> int:
    return struct.unpack("q", path.read_bytes())[0]


def main() -> int:
    """Parses the command line; the exit code is 1 if anything happened that must not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutations", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--unguarded", action="store_true")
    parser.add_argument("--flips", action="store_true")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        run_child(given.child, given.seed, given.first, given.mutations, not given.unguarded)
        return 0
    if given.flips:
        print(json.dumps(flips(), indent=1))
        return 0
    start = time.monotonic()
    report = fuzz(given.mutations, given.seed, not given.unguarded)
    print(json.dumps(report | {"seconds": round(time.monotonic() - start, 1)}, indent=1))
    return 0 if set(report["counts"]) <= {"decoded", "refused"} else 1


if __name__ == "__main__":
    sys.exit(main())

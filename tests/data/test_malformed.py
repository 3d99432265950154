"""Every way in which a data set has been seen to be malformed: one row each, with the line that answers it.

A row spoils a copy of a small valid data set. Its expectation is either all the lines of the error, `*` standing for
anything, or a check of what is loaded, where what looks like a fault is none.
"""

import contextlib
import dataclasses
import gzip
import json
import os
import re
import shutil
import socket
import struct
import tempfile
import types
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from unet_jax.data import cache, splits
from unet_jax.data.case import Case
from unet_jax.data.formats import image_file, lgg
from unet_jax.data.formats.image_file import decode_image
from unet_jax.data.reader import CaseFiles
from unet_jax.errors import InputError

# Three patients, one of whose names begins with another's.
A, B, C = CASES = "TCGA_AA_1_19990101", "TCGA_AA_10_19990101", "TCGA_BB_2_19990101"
IMAGE, MASK = f"{A}/{A}_1.tif", f"{A}/{A}_1_mask.tif"
RESTORE = "restore it."


@dataclasses.dataclass(frozen=True)
class Row:
    """One malformed data set.

    Attributes:
        name: what is wrong.
        spoil: makes it so, in the folder it is given.
        lines: the error's lines, or None where all is well.
        check: what must hold of the cases otherwise.
        reader: for other formats than Kaggle's.
    """

    name: str
    spoil: Callable[[Path], object]
    lines: tuple[str, ...] | None
    check: Callable[[list[Case]], bool] = lambda cases: True
    reader: types.ModuleType = lgg


def refused(name, spoil, *lines, reader=lgg):
    return Row(name, spoil, lines, reader=reader)


def works(name, spoil, check):
    return Row(name, spoil, None, check)


def content(name, data, line, at=IMAGE):
    """A file whose bytes are replaced by `data`, or by what `data` makes of them."""

    def spoil(root):
        (root / at).write_bytes(data((root / at).read_bytes()) if callable(data) else data)

    return refused(name, spoil, f"{at}: {line}")


# Files as they may be. Pictures of 16x16 pixels.

COLOUR = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
GREY = COLOUR[..., 0]


def encoded(suffix, pixels, *options):
    return cv2.imencode(suffix, pixels, options)[1].tobytes()


def tiff(changes=None, strip=bytes(768), twice=(), pages=0):
    """An RGB TIFF by the book (TIFF 6.0, section 6) with other tags, {tag: (kind, values)}, or without (None)."""
    entries = {256: (4, [16]), 257: (4, [16]), 258: (3, [8, 8, 8]), 259: (3, [1]), 262: (3, [2])}
    entries |= {273: (4, [8]), 277: (3, [3]), 278: (4, [16]), 279: (4, [len(strip)])} | (changes or {})
    entries = [(tag, *entry) for tag, entry in sorted(entries.items()) if entry is not None]
    entries += [entry for entry in entries if entry[0] in twice]
    directory = 8 + len(strip)
    outside = directory + 2 + 12 * len(entries) + 4
    head, tail = struct.pack("<H", len(entries)), b""
    for tag, kind, values in entries:
        packed = struct.pack(f"<{len(values)}{'H' if kind == 3 else 'I'}", *values)
        if len(packed) > 4:
            tail, packed = tail + packed, struct.pack("<I", outside + len(tail))
        head += struct.pack("<HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    return b"II*\0" + struct.pack("<I", directory) + strip + head + struct.pack("<I", pages) + tail


def deflated(data, cut=None):
    strip = zlib.compress(data)
    return tiff({259: (3, [8])}, strip[:cut])


def png(columns, rows, bits=8, colour=2, more=(), pixels=b""):
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", columns, rows, bits, colour, 0, 0, 0)), *more]
    chunks += [(b"IDAT", zlib.compress(pixels)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def jpeg(columns=16, rows=16):
    """A JPEG whose header claims another size (T.81, B.2.2)."""
    data = bytearray(encoded(".jpg", COLOUR))
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", rows, columns)
    return bytes(data)


def rescanned(data):
    """A JPEG that passes over its pixels a thousand times."""
    start, end = data.index(b"\xff\xda"), data.rindex(b"\xff\xd9")
    return data[:start] + data[start:end] * 1000 + data[end:]


def packed_pages():
    return cv2.imencodemulti(".tif", [COLOUR, COLOUR])[1].tobytes()


def damaged_at(fraction):
    return lambda data: data[: int(len(data) * fraction)]


# What may happen to a data set.


def unlink(name):
    return lambda root: (root / name).unlink()


def rename(old, new):
    return lambda root: (root / old).rename(root / new)


def copy(old, new):
    return lambda root: shutil.copy(root / old, root / new)


def write(name, pixels):
    return lambda root: cv2.imwrite(str(root / name), pixels)


def add(name, data=b""):
    def spoil(root):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(data)

    return spoil


def replace(make, name=IMAGE):
    """Another thing in a file's place."""

    def spoil(root):
        (root / name).unlink()
        make(root / name)

    return spoil


def replace_case(make):
    def spoil(root):
        (root / A).rename(root.parent / "elsewhere")
        make(root / A)

    return spoil


def rename_case(new, old=A):
    """A scan of another name, its files too."""

    def spoil(root):
        for path in (root / old).iterdir():
            path.rename(path.with_name(path.name.replace(old, new)))
        (root / old).rename(root / new)

    return spoil


def copy_case(new, old=A):
    def spoil(root):
        (root / new).mkdir()
        for path in (root / old).iterdir():
            shutil.copy(path, root / new / path.name.replace(old, new))

    return spoil


def forbid(name):
    return lambda root: (root / name).chmod(0)


def remove(*names):
    def spoil(root):
        for name in names:
            shutil.rmtree(root / name)

    return spoil


def every_mask(value):
    def spoil(root):
        for path in root.glob("*/*_mask.tif"):
            cv2.imwrite(str(path), np.full((16, 16), value, np.uint8))

    return spoil


def many(*spoils):
    return lambda root: [spoil(root) for spoil in spoils]


def listen(path):
    # A socket's path may be no longer than about 100 bytes.
    here = os.getcwd()
    os.chdir(path.parent)
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as server:
        server.bind(path.name)
    os.chdir(here)


def one_level_up(root):
    root.rename(root.parent / "scans")
    root.mkdir()
    (root.parent / "scans").rename(root / "kaggle_3m")


def into_file(root):
    shutil.rmtree(root)
    root.write_text("")


def into_broken_link(root):
    shutil.rmtree(root)
    root.symlink_to(root.parent / "nowhere")


def into_empty(root):
    shutil.rmtree(root)
    root.mkdir()


def floats():
    """A reader of one float image without a mask."""
    reader = types.ModuleType("floats")
    reader.DECODING = "floats"
    reader.find = lambda root: [CaseFiles("one", "one", (Path("one.tif"),), ())]

    def decode(files, read):
        pixels = decode_image(read(files.images[0]), files.images[0])
        return Case("one", "one", pixels[None, :, :, None], None)

    reader.decode = decode
    return reader


def while_reading(change):
    """The LGG reader, with something happening to the files once they are listed."""
    reader = types.ModuleType("while_reading")
    reader.DECODING, reader.decode = lgg.DECODING, lgg.decode

    def find(root):
        found = lgg.find(root)
        change(root)
        return found

    reader.find = find
    return reader


def patients(cases):
    return sorted({case.patient for case in cases})


def all_there(cases):
    return sorted(case.name for case in cases) == sorted(CASES) and all(len(case.image) == 2 for case in cases)


NO_FILE = "is a folder, pipe or device, not a file: remove it or restore the file."
UNREADABLE = "mend its permissions, restore or remove it."
OUTSIDE = "outside of the data set: copy it there."
WRONG = "where {} of uint8 are needed: convert it, or restore it from the original data set."
ALIKE = "in capital letters or accents alone: rename one of them."
BROKEN_NAME = "the name has a line break, control character or broken letter: rename it."
NO_TIFF = "config.data.root={root}: no TIFF was found one level down in its *; name the folder that directly holds *"
BILLION = 31623  # its square is 10⁹
TOO_MANY = f"claims {BILLION}x{BILLION} pixels, and up to 268,435,456 are read: cut it up, or restore it."
IMPOSSIBLE = "claims 16000x16000 pixels, which * bytes of file cannot hold: restore it."
PALETTE = "has a palette: save it as grey or RGB."
PAGES = "has more than one page: save each page as a file of its own."

LISTING = [
    refused("image without mask", unlink(MASK), f"{IMAGE}: this image has no mask: add it or remove this file."),
    refused("mask without image", unlink(IMAGE), f"{MASK}: this mask has no image: add it or remove this file."),
    refused(
        "slice twice",
        copy(IMAGE, f"{A}/{A}_01.tif"),
        f"{IMAGE}: is slice 1, as is {A}/{A}_01.tif: remove one of them.",
    ),
    refused(
        "slice in two spellings of TIFF",
        copy(IMAGE, f"{A}/{A}_1.tiff"),
        f"{A}/{A}_1.tiff: is slice 1, as is {IMAGE}: remove one of them.",
    ),
    refused("slice number no number", copy(IMAGE, f"{A}/{A}_x.tif"), f"{A}/{A}_x.tif: is named neither {A}_<slice *"),
    refused("slice number negative", copy(IMAGE, f"{A}/{A}_-3.tif"), f"{A}/{A}_-3.tif: is named neither *"),
    refused(
        "slice number in other digits", copy(IMAGE, f"{A}/{A}_٣.tif"), f"{A}/{A}_٣.tif: is named neither *remove it."
    ),
    refused("copy by a file manager", copy(IMAGE, f"{A}/{A}_1 (1).tif"), f"{A}/{A}_1 (1).tif: is named neither *"),
    refused("file of another case", copy(f"{C}/{C}_1.tif", f"{A}/{C}_1.tif"), f"{A}/{C}_1.tif: is named neither *"),
    refused(
        "empty case", add(f"{A}_0/readme.txt"), f"{A}_0: the folder holds no TIFF: restore its files or delete it."
    ),
    refused(
        "no patient in the name",
        rename_case("scan1"),
        "scan1: the folder's name has fewer than three fields to tell the patient by: rename it like TCGA_CS_*",
    ),
    refused("nothing found", remove(*CASES), NO_TIFF),
    refused("empty root", into_empty, NO_TIFF),
    refused("root one level too high", one_level_up, NO_TIFF),
    refused("root missing", shutil.rmtree, "config.data.root={root}: there is no such folder; it must be a folder *"),
    refused("root is a file", into_file, "config.data.root={root}: is a file; it must be a folder that holds *"),
    refused(
        "root is a broken link", into_broken_link, "config.data.root={root}: there is no such folder; it must be *"
    ),
    refused("folder in a file's place", replace(Path.mkdir), f"{IMAGE}: {NO_FILE}"),
    refused("pipe in an image's place", replace(os.mkfifo), f"{IMAGE}: {NO_FILE}"),
    refused("pipe in a mask's place", replace(os.mkfifo, MASK), f"{MASK}: {NO_FILE}"),
    refused("socket in a file's place", replace(listen), f"{IMAGE}: {NO_FILE}"),
    refused(
        "device in a file's place",
        replace(lambda path: path.symlink_to("/dev/zero")),
        f"{IMAGE}: is a link to /dev/zero, {OUTSIDE}",
    ),
    refused(
        "broken link",
        replace(lambda path: path.symlink_to("nowhere")),
        f"{IMAGE}: cannot be read (No such file or directory): {UNREADABLE}",
    ),
    refused(
        "loop of links", replace(lambda path: path.symlink_to(path.name)), f"{IMAGE}: cannot be read (*): {UNREADABLE}"
    ),
    refused(
        "link out of the root",
        many(
            lambda root: shutil.copy(root / IMAGE, root.parent / "x.tif"),
            replace(lambda p: p.symlink_to("../../x.tif")),
        ),
        f"{IMAGE}: is a link to *x.tif, {OUTSIDE}",
    ),
    refused(
        "case is a broken link",
        replace_case(lambda path: path.symlink_to("nowhere")),
        f"{A}: cannot be read (No such file or directory): {UNREADABLE}",
    ),
    refused(
        "case is a loop of links",
        replace_case(lambda path: path.symlink_to(path.name)),
        f"{A}: cannot be read (*): {UNREADABLE}",
    ),
    refused(
        "case is a link out of the root",
        replace_case(lambda path: path.symlink_to("../elsewhere")),
        f"{A}: is a link to *elsewhere, {OUTSIDE}",
    ),
    refused("unreadable file", forbid(IMAGE), f"{IMAGE}: cannot be read (Permission denied): {UNREADABLE}"),
    refused("unreadable case", forbid(A), f"{A}: cannot be read (Permission denied): {UNREADABLE}"),
    refused("unreadable root", forbid("."), "config.data.root={root}: cannot be read (Permission denied): mend *"),
    refused(
        "names that differ in capital letters",
        copy_case(A.lower()),
        f"{A.lower()}: this case's name differs from {A} {ALIKE}",
    ),
    refused(
        "patients that differ in capital letters",
        copy_case("tcga_aa_1_20000101"),
        f"tcga_aa_1: this patient's name differs from TCGA_AA_1 {ALIKE}",
    ),
    refused(
        "names that differ in the way accents are written",
        many(copy_case("TCGA_AA_Ren\u00e9_1"), copy_case("TCGA_AA_Rene\u0301_1")),
        f"TCGA_AA_Ren\u00e9_1: this case's name differs from TCGA_AA_Rene\u0301_1 {ALIKE}",
    ),
    refused("line break in a case's name", rename_case("TCGA_AA_1\n_1"), f"TCGA_AA_1\\n_1: {BROKEN_NAME}"),
    refused("terminal's escape code in a case's name", rename_case("T_A_\033[2J_1"), f"T_A_\\x1b[2J_1: {BROKEN_NAME}"),
    refused("name that is no text", rename_case(os.fsdecode(b"T_A_\xff_1")), f"T_A_\\udcff_1: {BROKEN_NAME}"),
    refused("line break in a file's name", copy(IMAGE, f"{A}/\n.tif"), f"{A}/\\n.tif: is named neither *remove it."),
    works("spaces and other scripts in names", rename_case("TCGA_AA_José 患者 1_1"), lambda c: len(patients(c)) == 3),
    works(
        "names as long as they can be",
        rename_case("T_A_" + "x" * 237),
        lambda c: max(len(case.name) for case in c) == 241,
    ),
    works("patients 1 and 10", lambda root: None, lambda c: patients(c) == ["TCGA_AA_1", "TCGA_AA_10", "TCGA_BB_2"]),
    works(
        "a case's name that begins with another's", copy_case(f"{A}_2"), lambda c: [len(x.image) for x in c] == [2] * 4
    ),
    works("same patient twice", copy_case("TCGA_AA_1_20000101"), lambda c: len(c) == 4 and len(patients(c)) == 3),
    works("hidden copies by macOS", many(add(f"{A}/._{A}_1.tif"), add(f"{A}/.DS_Store")), all_there),
    works("leavings of editors", many(*(add(f"{A}/{n}") for n in ("Thumbs.db", f"{A}_1.tif~", "#x.tif#"))), all_there),
    works("hidden folders", many(add(".ipynb_checkpoints/x.tif"), add(f".git_a_b/{A}_1.tif")), all_there),
    works("loose files and a damaged data.csv", many(add("x.tif"), add("data.csv", b"\xff\0,")), all_there),
    works("capital suffix", rename(IMAGE, IMAGE.replace(".tif", ".TIF")), all_there),
    works("link within the root", replace(lambda path: path.symlink_to(f"{A}_2.tif")), all_there),
    works(
        "one slice",
        many(unlink(f"{A}/{A}_1.tif"), unlink(f"{A}/{A}_1_mask.tif")),
        lambda c: sorted(len(case.image) for case in c) == [1, 2, 2],
    ),
    works("no tumour anywhere", every_mask(0), lambda c: not any(case.mask.any() for case in c)),
    works("tumour everywhere", every_mask(255), lambda c: all(case.mask.all() for case in c)),
    works("mask of one bit", add(MASK, tiff({258: (3, [1]), 262: (3, [1]), 277: (3, [1])}, bytes(32))), all_there),
]

CONTENT = [
    content("image of zero bytes", b"", f"the file is empty (0 bytes): {RESTORE}"),
    content("mask of zero bytes", b"", f"the file is empty (0 bytes): {RESTORE}", at=MASK),
    content(
        "cut in the first bytes", lambda data: data[:3], "is not a TIFF, PNG or JPEG (its first bytes are b'II*'): *"
    ),
    content("cut after the first bytes", lambda data: data[:6], f"the file is damaged (6 bytes, *): {RESTORE}"),
    content("cut in the middle", damaged_at(0.5), f"the file is damaged (*): {RESTORE}"),
    content("last byte cut", lambda data: data[:-1], f"the file is damaged (*): {RESTORE}"),
    content("pixels cut", tiff({279: (4, [5000])}), "the file is damaged (*, its pixels end too soon): restore it."),
    content("zeros from a bad disk", bytes(900), "is not a TIFF, PNG or JPEG (its first bytes are b'\\x00*'): *"),
    content("PNG named TIFF", encoded(".png", COLOUR), "is a PNG and its name ends in '.tif': rename or convert it."),
    content("JPEG named TIFF", encoded(".jpg", COLOUR), "is a JPEG and its name ends in '.tif': rename or convert it."),
    content(
        "text", b"slice 1\n", "is not a TIFF, PNG or JPEG (its first bytes are b'slice 1\\n'): restore or remove it."
    ),
    content(
        "HTML of a login page", b"<!DOCTYPE html>", "is not a TIFF, PNG or JPEG (its first bytes are b'<!DOCTYP'): *"
    ),
    content(
        "pointer of git-lfs", b"version https://git-lfs", "is not a TIFF, PNG or JPEG (its first bytes are b'version*"
    ),
    content(
        "gzip", gzip.compress, "is not a TIFF, PNG or JPEG (its first bytes are b'\\x1f\\x8b*'): restore or remove it."
    ),
    content("BigTIFF", b"II+\0" + bytes(60), "the file is damaged (64 bytes, *): restore it."),
    content("mask of 0 and 1", encoded(".tif", GREY % 2), "the mask has the values 1 beside 0 and 255: *", at=MASK),
    content("label 7", encoded(".tif", np.full((16, 16), 7, np.uint8)), "the mask has the values 7 beside *", at=MASK),
    content("smoothed mask", encoded(".tif", GREY), "the mask has the values *, … beside 0 and 255: draw *", at=MASK),
    content("mask of three channels", encoded(".tif", COLOUR), f"has 3 channels of uint8, {WRONG.format(1)}", at=MASK),
    content(
        "mask of 16 bits", encoded(".tif", GREY.astype("u2")), f"has 1 channel of uint16, {WRONG.format(1)}", at=MASK
    ),
    content("image of one channel", encoded(".tif", GREY), f"has 1 channel of uint8, {WRONG.format(3)}"),
    content("image of 16 bits", encoded(".tif", COLOUR.astype("u2")), f"has 3 channels of uint16, {WRONG.format(3)}"),
    content("image of floats", encoded(".tif", COLOUR.astype("f4")), f"has 3 channels of float32, {WRONG.format(3)}"),
    content("alpha", encoded(".tif", np.dstack([COLOUR, GREY])), f"has 4 channels of uint8, {WRONG.format(3)}"),
    content(
        "grey with alpha",
        tiff({258: (3, [8, 8]), 277: (3, [2]), 262: (3, [1]), 279: (4, [512])}),
        "has 2 channels: save it with 1 (grey), 3 (RGB) or 4 (RGB and alpha).",
    ),
    content("palette", tiff({258: (3, [8]), 277: (3, [1]), 262: (3, [3]), 320: (3, [0] * 768)}), PALETTE),
    content("palette in a mask", tiff({258: (3, [8]), 277: (3, [1]), 262: (3, [3])}), PALETTE, at=MASK),
    content(
        "CMYK",
        tiff({258: (3, [8] * 4), 277: (3, [4]), 262: (3, [5])}, bytes(1024)),
        "is neither grey from black to white nor RGB (photometric 5): save it as one.",
    ),
    content("white is zero", tiff({258: (3, [8]), 277: (3, [1]), 262: (3, [0])}), "is neither grey *", at=MASK),
    content(
        "lossy TIFF", tiff({259: (3, [7])}), "is a TIFF of compression 7: save it with Deflate, LZW, PackBits, none."
    ),
    content("channels of several types", tiff({258: (3, [8, 8, 16])}), "has channels of several or unusual types: *"),
    content("four bits", tiff({258: (3, [4] * 3)}), "has 4 bits a channel: save it with 1, 8, 16 or 32."),
    content("half floats", tiff({258: (3, [16] * 3), 339: (3, [3])}), "has 16 bits a channel: *"),
    content(
        "channels of 16 bits one after the other",
        tiff({258: (3, [16] * 3), 273: (4, [8, 520, 1032]), 279: (4, [512] * 3), 284: (3, [2])}, bytes(1536)),
        "stores each channel of 16 bits by itself: save it with interleaved channels.",
    ),
    content("mirrored", tiff({274: (3, [2])}), "is stored turned or mirrored (orientation 2): save it upright."),
    content("several pages", packed_pages(), PAGES),
    content("several pages in a mask", packed_pages(), PAGES, at=MASK),
    content("pages in a loop", tiff(pages=8 + 768), "the file is damaged (*, its pages have no end): restore it."),
    content("no row", tiff({257: (4, [0])}), "the image has no pixel (0x16, 3 channels): restore or remove it."),
    content("no column", tiff({256: (4, [0])}), "the image has no pixel (16x0, 3 channels): restore or remove it."),
    content("bomb in a TIFF's header", tiff({256: (4, [BILLION]), 257: (4, [BILLION])}), TOO_MANY),
    content("bomb in a PNG's header", png(BILLION, BILLION), TOO_MANY),
    content("bomb in a JPEG's header", jpeg(BILLION, BILLION), TOO_MANY),
    content("smaller bomb in a TIFF's header", tiff({256: (4, [16000]), 257: (4, [16000])}), IMPOSSIBLE),
    content("smaller bomb in a PNG's header", png(16000, 16000), IMPOSSIBLE),
    content("smaller bomb in a JPEG's header", jpeg(16000, 16000), IMPOSSIBLE),
    content(
        "bomb of Deflate", deflated(bytes(2**26)), "the file is damaged (*, a strip or tile holds too few or too *"
    ),
    content(
        "bomb of a tile", tiff({322: (4, [2**31]), 323: (4, [2**31])}), "the file is damaged (*of no possible size): *"
    ),
    content("bomb of scans", rescanned(jpeg()), "the file is damaged (*, it has more than 100 scans): restore it."),
    content(
        "Deflate that stops", deflated(COLOUR.tobytes(), 200), "the file is damaged (*too few or too many pixels): *"
    ),
    content("Deflate of fewer pixels", deflated(bytes(700)), "the file is damaged (*too few or too many pixels): *"),
    content(
        "Deflate with a flipped bit",
        deflated(COLOUR.tobytes()).replace(zlib.compress(COLOUR.tobytes())[-4:], b"\0\0\0\0"),
        "the file is damaged (*incorrect data check): restore it.",
    ),
    content("offset below zero", tiff({273: (4, [2**32 - 16])}), "the file is damaged (*, its pixels end too soon): *"),
    content(
        "strips without lengths", tiff({279: None}), "the file is damaged (*, it does not list its strips or tiles): *"
    ),
    content(
        "thousands of strips", tiff({273: (4, [8] * 9000), 279: (4, [1] * 9000)}), "the file is damaged (*not list *"
    ),
    content("strips of no row", tiff({278: (4, [0])}), "the file is damaged (*are of no possible size): restore it."),
    content("size missing", tiff({256: None}), "the file is damaged (*, it does not say its columns): restore it."),
    content("size twice", tiff(twice=(256,)), "the file is damaged (*, its tag 256 is unusable): restore it."),
    content("size of an unknown kind", tiff({256: (13, [16])}), "the file is damaged (*, its tag 256 is unusable): *"),
    content(
        "thousands of tags",
        tiff({tag: (3, [1]) for tag in range(40000, 45000)}),
        "the file is damaged (*, its pixels cannot be decoded): restore it.",
    ),
    content("directory beyond the end", b"II*\0" + struct.pack("<I", 2**31), "the file is damaged (8 bytes, *): *"),
    content(
        "directory that is itself", b"II*\0" + struct.pack("<I", 0), "the file is damaged (8 bytes, *): restore it."
    ),
    content(
        "values beyond the end",
        tiff({258: (4, [8] * 3)})[:-12],
        "the file is damaged (*, its tags reach beyond its end): *",
    ),
    refused(
        "mask of another size",
        write(MASK, np.zeros((16, 17), np.uint8)),
        f"{MASK}: is 16x17 pixels and its image 16x16: they must be of one size; restore both from *",
    ),
    refused(
        "case of two sizes",
        many(
            write(f"{A}/{A}_2.tif", np.zeros((8, 16, 3), np.uint8)),
            write(f"{A}/{A}_2_mask.tif", np.zeros((8, 16), "u1")),
        ),
        f"{A}/{A}_2.tif: is 8x16 pixels and the case's first slice 16x16: all slices of a case must be of one size; *",
    ),
    refused(
        "NaN and infinite pixels",
        write("one.tif", np.array([[0, np.nan], [-np.inf, 1]], np.float32)),
        "one: 2 pixels of the image are NaN or infinite (slices 0, counted from 0): restore or remove it.",
        reader=floats(),
    ),
    refused(
        "file that vanishes after it was listed",
        lambda root: None,
        f"{IMAGE}: cannot be read (No such file or directory): {UNREADABLE}",
        reader=while_reading(unlink(IMAGE)),
    ),
    refused(
        "file that becomes a pipe after it was listed",
        lambda root: None,
        f"{IMAGE}: {NO_FILE}",
        reader=while_reading(replace(os.mkfifo)),
    ),
]


def split(**changes):
    """A split.json that fits the data set, with changes."""
    sides = {"train": {"TCGA_AA_1": [A]}, "val": {"TCGA_AA_10": [B]}, "test": {"TCGA_BB_2": [C]}}
    return json.dumps({"split_by": "patient", **sides, **changes})


RESTORE_SPLIT = "{path}: give the data it was made for, or train in a new workdir."
SPLITS = {
    "no JSON": ("{", "{path} is not JSON (*): restore it."),
    "empty": ("", "{path} is not JSON (*): restore it."),
    "no text": (b"\xff\xfe\0", "{path} is not JSON (*): restore it."),
    "list": ("[]", "{path}: is not a split (*): restore or delete it."),
    "null": ("null", "{path}: is not a split (*): restore or delete it."),
    "side missing": ('{"split_by": "patient"}', "{path}: is not a split (KeyError('train')): restore or delete it."),
    "side of another type": (split(val=3), "{path}: is not a split (*): restore or delete it."),
    "members of another type": (split(val={"TCGA_AA_10": 3}), "{path}: is not a split (*): restore or delete it."),
    "members of two types": (split(val={"TCGA_AA_10": [3, B]}), "{path}: is not a split (*): restore or delete it."),
    "unknown way to split": (split(split_by="hospital"), "{path}: config.data.split_by='hospital': it must be *"),
    "empty side": (split(test={}), "{path}: test: this side of the split is empty."),
    "patient on two sides": (
        split(val={"TCGA_AA_1": [A], "TCGA_AA_10": [B]}),
        "{path}: train and val share TCGA_AA_1: put each patient on one side only.",
    ),
    "unknown patient": (
        split(val={"TCGA_AA_10": [B], "TCGA_ZZ_9\n": [A]}),
        "{path}: these patients of the split are not in the data: TCGA_ZZ_9\\n.",
        RESTORE_SPLIT,
    ),
    "patient missing": (
        split(test={"TCGA_BB_3": [C]}),
        "{path}: these patients of the split are not in the data: TCGA_BB_3.",
        "{path}: these patients of the data are not in the split: TCGA_BB_2.",
        RESTORE_SPLIT,
    ),
    "case of another patient": (
        split(val={"TCGA_AA_10": [A]}),
        "{path}: the split lists other scans or slices than the data for these patients: TCGA_AA_10.",
        RESTORE_SPLIT,
    ),
    "slice out of range": (
        split(split_by="slice", train={A: [0, 1]}, val={B: [0, 1]}, test={C: [0, 1, 2]}),
        "{path}: the split lists other scans or slices than the data for these cases: " + f"{C}.",
        RESTORE_SPLIT,
    ),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The data set that every row spoils a copy of."""
    root = tmp_path_factory.mktemp("whole") / "data"
    rng = np.random.default_rng(1)
    for name in CASES:
        (root / name).mkdir(parents=True)
        for number in (1, 2):
            pixels = rng.integers(0, 256, (16, 16, 3), np.uint8)
            cv2.imwrite(str(root / name / f"{name}_{number}.tif"), pixels)
            cv2.imwrite(str(root / name / f"{name}_{number}_mask.tif"), (pixels[..., 0] > 99) * np.uint8(255))
    return root


@pytest.fixture
def folder():
    """A folder that everybody may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o777)
        yield Path(name)


@contextlib.contextmanager
def without_privileges():
    """As a user who may not read what is forbidden: root may."""
    mine = os.geteuid()
    if mine == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(mine)


def matches(line, expected):
    return re.fullmatch(re.escape(expected).replace(r"\*", ".*"), line)


@pytest.mark.parametrize("row", [*LISTING, *CONTENT], ids=lambda row: row.name)
def test_a_malformed_data_set_is_answered(row, whole, folder, cases, capfd, monkeypatch):
    del cases  # loaded before: what has no privileges cannot import
    root = folder / "data"
    shutil.copytree(whole, root)
    row.spoil(root)
    decoded = []
    decode = cv2.imdecode
    monkeypatch.setattr(cv2, "imdecode", lambda data, flags: decoded.append(bytes(data)) or decode(data, flags))

    with without_privileges() if row.name.startswith("unreadable") else contextlib.nullcontext():
        if row.lines is None:
            cases, *_ = cache.load(row.reader, root, folder / "cache")
        else:
            with pytest.raises(InputError) as caught:
                cache.load(row.reader, root, folder / "cache")

    if row.lines is None:
        assert row.check(cases)
        sides = splits.make(cases)
        assert sum(len(splits.slices_of(sides, cases, side)) for side in splits.SIDES) == sum(
            len(case.image) for case in cases
        )
    else:
        lines = str(caught.value).splitlines()
        assert len(lines) == len(row.lines), lines
        for line, expected in zip(lines, row.lines, strict=True):
            assert matches(line, expected.replace("{root}", str(root))), line
        assert not (folder / "cache").exists() or not list((folder / "cache").iterdir())
    if "bomb" in row.name:
        assert (root / IMAGE).read_bytes() not in decoded
        assert decoded
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", SPLITS)
def test_a_malformed_split_is_answered(name, whole, tmp_path, cases):
    text, *expected = SPLITS[name]
    path = tmp_path / "split.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError) as caught:
        splits.read(path, cases)
    lines = str(caught.value).splitlines()
    assert len(lines) == len(expected)
    for line, pattern in zip(lines, expected, strict=True):
        assert matches(line, pattern.replace("{path}", str(path))), line


@pytest.fixture(scope="module")
def cases(whole, tmp_path_factory):
    return cache.load(lgg, whole, tmp_path_factory.mktemp("cache"))[0]


def test_a_split_that_fits_is_read(tmp_path, cases):
    (tmp_path / "split.json").write_text(split())
    assert splits.read(tmp_path / "split.json", cases).val == {"TCGA_AA_10": [B]}


def test_a_file_that_changes_while_it_is_read_is_known_by_what_was_decoded(whole, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(whole, root)
    other = COLOUR[:, ::-1]
    cases, fingerprint, _ = cache.load(while_reading(write(IMAGE, other)), root, tmp_path / "cache")
    [changed] = [case for case in cases if case.name == A]
    np.testing.assert_array_equal(changed.image[0], other[..., ::-1])
    assert cache.load(lgg, root, tmp_path / "cache")[1] == fingerprint


def test_a_file_larger_than_the_limit_is_answered(whole, monkeypatch):
    monkeypatch.setattr(image_file, "MAX_FILE_BYTES", 100)
    with pytest.raises(InputError, match=rf"{IMAGE}: has [\d,]+ bytes, and up to 100 are read: split it\."):
        image_file.read_file(whole, Path(IMAGE))


def test_the_table_has_the_rows_that_are_promised():
    names = [row.name for row in (*LISTING, *CONTENT)]
    assert len(set(names)) == len(names)
    assert len(names) + len(SPLITS) >= 60

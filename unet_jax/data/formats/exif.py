"""Which way round a JPEG or PNG asks to be shown, in its EXIF (CIPA DC-008, tag 274)."""

import struct

ORIENTATION, SHORT = 274, 3


def orientation(exif: bytes) -> int:
    """1 where the pixels are stored as they are to be shown, 2 to 8 where a viewer turns or mirrors them.

    Args:
        exif: the block, which is laid out as a TIFF. What it does not say in a way that can be read counts as 1, as
            it does for viewers.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(f"{order}I", exif, 4)
        (entries,) = struct.unpack_from(f"{order}H", exif, directory)
        for position in range(directory + 2, directory + 2 + 12 * entries, 12):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", exif, position)
            if tag == ORIENTATION:
                return value if kind == SHORT and 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1

"""What an image without a mask may have for one: the file that lies there under another name, place or suffix."""

import bisect
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from unet_jax.data.faults import Fault
from unet_jax.data.names import shown

MASK = "_mask"


class NearMisses:
    """Files that belong to no image, looked up by the names of images.

    Attributes:
        named: paths that were named in faults, which need no fault of their own.
    """

    def __init__(self, images: Mapping[str, Path], spare: Mapping[str, Path], unread: Sequence[Path]):
        """Indexes the files.

        Args:
            images: all images by name, such as "anna/03".
            spare: masks without an image, and whatever else may be a mask, by name.
            unread: files whose suffix is not read, under the names that masks of their place would have.
        """
        self.named: set[Path] = set()
        self._images = images
        self._spare = sorted((name.casefold(), path) for name, path in spare.items())
        self._by_stem = {name.rpartition("/")[2]: path for name, path in self._spare}
        self._unread = {path.with_suffix("").as_posix().casefold(): path for path in unread}

    def fault(self, name: str, places: Sequence[str]) -> Fault:
        """The fault of an image that has no mask.

        Args:
            name: the image's.
            places: paths without suffix where its mask may lie, with one of a suffix that is not read.
        """
        path = self._images[name]
        near, remedy = self._find(name, path, [place.casefold() for place in places])
        if near is None:
            return Fault(path, "this image has no mask: add it or remove this file.")
        self.named.add(near)
        return Fault(path, f"this image has no mask; {shown(near)} {remedy}.", f"no mask: {remedy}")

    def _find(self, name: str, image: Path, places: Sequence[str]) -> tuple[Path | None, str]:
        folded = name.casefold()
        further = re.fullmatch(rf"(.+){MASK}[ _-]?[0-9]+", name)
        if further and further[1] in self._images:
            return self._images[further[1]], "may be what it is a further mask of: draw all masks of a picture in one"
        for place in places:
            if place in self._unread:
                return self._unread[place], "is of a kind that is not read as a mask: save it as PNG or TIFF"
        start = bisect.bisect_left(self._spare, (folded,))
        for other, path in self._spare[start : start + 3]:
            if path == image:
                continue
            if other == folded:
                return path, "differs from its name in capital letters: rename one of them"
            if other.startswith(folded) and not other[len(folded)].isalnum() and "/" not in other[len(folded) :]:
                return path, f"may be it: name it as the image is, or with {MASK} at the end"
        path = self._by_stem.get(folded.rpartition("/")[2], image)
        if path != image:
            return path, "lies in another folder: move it to where the image's own path leads"
        return None, ""

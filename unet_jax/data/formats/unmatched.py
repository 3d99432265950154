"""What an image without a mask may have for one, where patterns say which files are masks."""

import bisect
from collections.abc import Sequence
from pathlib import Path

from unet_jax.data.faults import Fault
from unet_jax.data.formats.folder_content import stem
from unet_jax.data.formats.patterns import CHANNEL, MASKS, Fields, Pattern
from unet_jax.data.names import shown

# Files that begin like an image's field, of which one in the mask's folder is looked for.
LOOKED_AT = 16


class Unmatched:
    """Files that are not the mask of any image, looked up by the fields of images.

    Attributes:
        named: paths that were named in faults, which need no fault of their own.
    """

    def __init__(self, paths: Sequence[Path]):
        """Indexes the files by their names."""
        self.named: set[Path] = set()
        self._by_name = sorted((path.name.casefold(), path) for path in paths)

    def of_image(self, image: Path, fields: Fields, masks: Pattern) -> Fault:
        """The fault of an image that has no mask, with the file that may be it.

        Args:
            image: its path.
            fields: of the image.
            masks: the pattern that none of the masks matches.
        """
        wanted = Path(masks.render({name: text for name, text in fields.items() if name != CHANNEL}))
        near = self._near(image, fields, wanted)
        head = f"this image has no mask ({shown(wanted)} by {MASKS})"
        if near is None:
            return Fault(image, f"{head}: add it or remove this file.", "no mask")
        self.named.add(near)
        if stem(near).casefold() == stem(wanted).casefold() and near.parent == wanted.parent:
            remedy = f"has another suffix: {MASKS} may end in {'.*' if near.suffix else '*'}"
        else:
            remedy = f"may be it: mend {MASKS}, or rename the file"
        return Fault(image, f"{head}; {shown(near)} {remedy}.", f"no mask: {remedy}")

    def _near(self, image: Path, fields: Fields, wanted: Path) -> Path | None:
        for text in sorted(
            (text.casefold() for name, text in fields.items() if name != CHANNEL), key=len, reverse=True
        ):
            start = bisect.bisect_left(self._by_name, (text,))
            alike = [
                path
                for name, path in self._by_name[start : start + LOOKED_AT]
                if name.startswith(text) and not name[len(text) : len(text) + 1].isalnum() and path != image
            ]
            if alike:
                return next((path for path in alike if path.parent == wanted.parent), alike[0])
        return None

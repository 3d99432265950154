"""Public data sets as they are published: the patterns of their files, and what their masks' values mean."""

import dataclasses
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from unet_jax.data.formats import pattern_listing, patterns


@dataclasses.dataclass(frozen=True)
class Known:
    """A layout that patterns describe.

    Attributes:
        name: what messages call it.
        images: pattern.
        masks: pattern.
        settings: other keys of config.data that such data need.
    """

    name: str
    images: str
    masks: str
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)


BRATS_2020, BRATS_2023 = ({"labels": f"necrosis=1, edema=2, enhancing={value}"} for value in (4, 3))
KIDNEYS = {"labels": "kidney=1, tumour=2, cyst=3"}
LIVER = {"labels": "liver=1, tumour=2"}
_2023 = "{patient:BraTS-[A-Za-z]+-[0-9]+}-{visit:[0-9]+}/{patient}-{visit}"

# Of many files, so many are looked at first.
FEW = 500

# The first that pairs all its files counts.
KNOWN: Sequence[Known] = (
    *(
        Known(
            "BraTS",
            f"{top}{{case}}/{{case}}_{{channel:flair|t1|t1ce|t2}}{end}",
            f"{top}{{case}}/{{case}}_seg{end}",
            BRATS_2020,
        )
        for end in (".nii.gz", ".nii")
        for top in ("", "{grade:HGG|LGG}/")
    ),
    Known("BraTS 2023", f"{_2023}-{{channel:t2f|t1n|t1c|t2w}}.nii.gz", f"{_2023}-seg.nii.gz", BRATS_2023),
    Known("KiTS", "{case}/imaging.nii.gz", "{case}/segmentation.nii.gz", KIDNEYS),
    *(
        Known("LiTS", f"**/volume-{{case:[0-9]+}}{end}", f"**/segmentation-{{case}}{end}", LIVER)
        for end in (".nii", ".nii.gz")
    ),
    Known(
        "ISIC",
        "*Training*/{case:ISIC_[0-9]+}.jpg",
        "*Training*GroundTruth/{case}_segmentation.png",
    ),
    Known("BUSI", "{sort:benign|malignant|normal}/{case}.png", "{sort}/{case}_mask*.png"),
    Known(
        "Carvana",
        "train/{patient:[0-9a-f]+}_{view:[0-9]+}.jpg",
        "train_masks/{patient}_{view}_mask.gif",
    ),
    Known("DRIVE", "{side:training|test}/images/{case}_{side}.tif", "{side}/1st_manual/{case}_manual1.gif"),
    Known("DRIVE", "training/images/{case}_training.tif", "training/1st_manual/{case}_manual1.gif"),
    Known("CHASE_DB1", "Image_{patient:[0-9]+}{eye:[LR]}.jpg", "Image_{patient}{eye}_1stHO.png"),
    Known("Montgomery", "CXR_png/{case}.png", "ManualMask/*Mask/{case}.png"),
)


def find(paths: Sequence[Path], top: Path = Path(), sides: Sequence[str] = ()) -> Known | None:
    """The layout whose patterns pair all files that they match; None where there is none.

    Args:
        paths: all files, from the data set's root.
        top: the folder that is looked into.
        sides: folders of a split that the layout lies in, such as train and val; the folder itself if there are none.
    """
    before, again = (f"{{side:{'|'.join(sides)}}}/", "{side}/") if sides else ("", "")
    layouts = [dataclasses.replace(one, images=before + one.images, masks=again + one.masks) for one in KNOWN]
    # Most layouts do not lie there, which a few of many files tell.
    few = _below(top, random.Random(0).sample(paths, min(len(paths), FEW)))
    likely = [one for one in layouts if _matches(one.images, few)]
    below = _below(top, paths) if likely else []
    return next((one for one in likely if pairs(below, one.images, one.masks)), None)


def _matches(images: str, paths: Sequence[Path]) -> bool:
    pattern = patterns.parse(images, patterns.IMAGES)
    return any(pattern.match(path) for path in paths)


def _below(top: Path, paths: Sequence[Path]) -> list[Path]:
    return [path.relative_to(top) for path in paths if path.is_relative_to(top)] if top != Path() else list(paths)


def pairs(paths: Sequence[Path], images: str, masks: str) -> int:
    """How many images these patterns pair with masks; 0 if a file is left over, lacks a channel, or is there twice."""
    one, two = patterns.parse(images, patterns.IMAGES), patterns.parse(masks, patterns.MASKS)
    matched = pattern_listing.match(paths, one, two)
    whole = not matched.faults and matched.images.keys() == matched.masks.keys()
    whole = whole and all(len(channels) == len(one.channels or channels) for channels in matched.images.values())
    return len(matched.images) if whole else 0

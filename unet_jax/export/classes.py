"""What the facts in a file say of a run's classes."""

from typing import Any

from unet_jax.data import regions
from unet_jax.data.labels import LabelMap


def describe(classes: LabelMap) -> dict[str, Any]:
    """The names of several classes; of those that overlap also their numbers in a mask, and how one is made.

    `members` are the numbers of each class. A mask is 0, and then each class that is likelier than one half is painted
    with its number of `painted`, over the classes before it.
    """
    facts = {"classes": list(classes)}
    if regions.overlap(classes):
        facts |= {"members": regions.members(classes), "painted": regions.painted(classes)}
    return facts

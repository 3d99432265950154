"""The files that pages are made of, and how they are filled in."""

import base64
import hashlib
import html
import re
from collections.abc import Mapping
from importlib import resources

from unet_jax.data.names import shown


def resource(name: str) -> str:
    """The text of a file of the pages, such as "page.css"."""
    return resources.files("unet_jax.report").joinpath(name).read_text(encoding="utf-8")


def head(title: str, script: str) -> str:
    """What a page begins with, its style included; of all scripts, it lets this one alone run."""
    parts = {
        "title": html.escape(shown(title)),
        "style": resource("page.css"),
        "script_hash": _script_hash(script),
    }
    return filled(resource("head.html"), parts)


def _script_hash(script: str) -> str:
    """What a Content-Security-Policy calls a script: what else might look like one does not run."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


def filled(template: str, parts: Mapping[str, str]) -> str:
    """A template with its parts for their names in double braces."""
    # All in one go: what is filled in is not looked through again.
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], template)

"""The page of every config key: its name, default and meaning, from the comments in configs/default.py."""

import ast
import inspect
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from configs import default

HEAD = """# Configs

Every key there is, with its default in `configs/default.py`. Other configs only override some, and so does the command
line: `--config.model.width=32`. A run keeps its own in `config.json`.
"""
TABLE = "\n| key | default | |\n|---|---|---|"
# What Markdown or HTML would take for its own.
SPECIAL = str.maketrans({letter: f"&#{ord(letter)};" for letter in "<>*_|[]"})


def page() -> str:
    """The page in Markdown: a section a group, a table row a key."""
    config, lines = default.get_config(), [HEAD, "## Of the run as a whole", TABLE]
    for key, comment in described():
        value = _value(config, key)
        if "." not in key and isinstance(value, ConfigDict):
            lines.append(f"\n## {key}")
            if not _has_own_values(key):
                lines += [f"\n{comment}" if comment else "", TABLE]
                continue
            lines.append(TABLE)
        lines.append(f"| `config.{key}` | `{_plain(value)!r}` | {comment} |")
    return "\n".join(lines) + "\n"


def described() -> Iterator[tuple[str, str]]:
    """Each key, groups included, with the comment above it or, without one, that of the key before."""
    lines = inspect.getsource(default).splitlines()
    [function] = [node for node in ast.parse("\n".join(lines)).body if isinstance(node, ast.FunctionDef)]
    seen, comment = set(), ""
    for node in function.body:
        if not (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute)):
            continue
        key = ast.unparse(node.targets[0]).removeprefix("config.")
        above = _comment_above(lines, node.lineno - 1)
        if above or "." not in key:
            comment = above
        if key not in seen:
            yield key, _escaped(comment)
        seen.add(key)


def _comment_above(lines: list[str], place: int) -> str:
    first = place
    while lines[first - 1].strip().startswith("#"):
        first -= 1
    return " ".join(line.strip().removeprefix("# ") for line in lines[first:place])


def _escaped(comment: str) -> str:
    """The comment as Markdown; what is between backticks stays as it is."""
    parts = comment.split("`")
    return "`".join(part if number % 2 else part.translate(SPECIAL) for number, part in enumerate(parts))


def _has_own_values(key: str) -> bool:
    """Whether the group is set at once, such as the weights of the losses."""
    return f"config.{key} = ConfigDict()" not in inspect.getsource(default)


def _value(config: ConfigDict, key: str) -> Any:
    for name in key.split("."):
        config = config[name]
    return config


def _plain(value: Any) -> Any:
    return value.to_dict() if isinstance(value, ConfigDict) else value

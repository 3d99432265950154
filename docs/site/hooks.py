"""What the site has besides the files in docs/: its first page, the README, config keys, API, linked files."""

import re
import sys
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import config_keys  # noqa: E402

# What stands for a file of the repository that is no page as it is.
PAGES = {"README.md": "quickstart.md", "configs/default.py": "configs.md"}
REFERENCE = """# API

What the functions take, give and raise. How they go together: [in Python](api.md).

## Runs

::: unet_jax.api.load

::: unet_jax.api.Segmenter

## Networks

::: unet_jax.models.build

## Losses

::: unet_jax.losses

::: unet_jax.losses.pixel

::: unet_jax.losses.region

## Scores

::: unet_jax.metrics

::: unet_jax.metrics.surface

::: unet_jax.inference.postprocess
"""
# Pages of the navigation that no other page need link to.
ALSO = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
LINK = re.compile(r"(\]\()(?!\w+:|#)([^)#\s]+)(#[^)\s]*)?(\))")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Leaves out of the navigation what was not measured yet."""
    if not (ROOT / "docs" / "results.md").exists():
        config.nav = [entry for entry in config.nav if "results.md" not in entry.values()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are made, and the files that pages link to."""
    made = {
        "index.md": (ROOT / "docs" / "site" / "home.md").read_text(),
        "quickstart.md": (ROOT / "README.md").read_text(),
        "configs.md": config_keys.page(),
        "reference.md": REFERENCE,
    }
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    sources = [ROOT / "README.md", *(Path(file.abs_src_path) for file in files.documentation_pages() if file.src_dir)]
    for target in sorted({*ALSO, *(target for source in sources for target in _linked(source))}):
        if target not in PAGES and not target.startswith("docs/"):
            files.append(File.generated(config, target, abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown: str, page: Page, **_) -> str:
    """Turns links, which are right where the files lie in the repository, into those of the site."""
    name = page.file.src_uri
    if name in ("index.md", "configs.md", "reference.md"):
        return markdown
    source = "README.md" if name == "quickstart.md" else name if page.file.generated_by else f"docs/{name}"
    return LINK.sub(lambda link: f"{link[1]}{_on_the_site(_target(source, link[2]))}{link[3] or ''}{link[4]}", markdown)


def _linked(source: Path) -> list[str]:
    """The files that a page links to, from the top of the repository."""
    name = source.relative_to(ROOT).as_posix()
    return [_target(name, link[2]) for link in LINK.finditer(source.read_text())]


def _target(source: str, link: str) -> str:
    parts = []
    for part in (*PurePosixPath(source).parent.parts, *PurePosixPath(link).parts):
        parts = parts[:-1] if part == ".." else [*parts, part]
    return "/".join(parts)


def _on_the_site(target: str) -> str:
    return PAGES.get(target, target.removeprefix("docs/"))

"""Build the documents as a site, which needs no network.

python -m tools.site DIRECTORY

The pages are those of the repository, at the same paths, so that their links hold; and the manual
pages, from the files that the package installs.  Pages that mkdocs.yml does not name are added to
its navigation.  What links to nothing is an error.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).parent.parent
MANUALS = ROOT / "packaging/man"
TOP = ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "DECISIONS.md")
MANUAL = "manual"
"""The folder of the manual pages in the site."""
RENDER = ("groff", "-man", "-Tutf8", "-P-cbou", "-rLL=90n")
"""How a manual page becomes plain text: without escapes, and no wider than that (grotty(1))."""


def stage(directory: Path) -> None:
    """Gather the pages and the configuration of mkdocs in an empty directory."""
    pages = directory / "pages"
    ignored = shutil.ignore_patterns("__pycache__", "*.py", "pyproject.toml")
    shutil.copytree(ROOT / "docs", pages / "docs", ignore=ignored)
    for name in TOP:
        shutil.copy(ROOT / name, pages)
    for folder in (pages / "docs").iterdir():
        if folder.is_dir():
            (folder / "index.md").write_text(_index(folder))
    (pages / MANUAL).mkdir()
    manuals = sorted(path for path in MANUALS.iterdir() if path.suffix.lstrip(".").isdigit())
    for path in manuals:
        (pages / MANUAL / f"{path.name}.md").write_text(manual_page(path))
    config = (ROOT / "mkdocs.yml").read_text()
    (directory / "mkdocs.yml").write_text(f"{config}{''.join(_further(pages, config))}")


def manual_page(path: Path) -> str:
    """Return a manual page as one of the site.  Raises CalledProcessError."""
    text = subprocess.run([*RENDER, path], check=True, capture_output=True, text=True).stdout  # noqa: S603  # a page of ours
    return f"# {path.stem}({path.suffix[1:]})\n\n```text\n{text.strip()}\n```\n"


def _index(folder: Path) -> str:
    """Return a page with what a folder has: a site shows no folder."""
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return "".join((f"# {folder.name}\n\n", *(f"- [{name}]({name})\n" for name in names)))


def _further(pages: Path, config: str) -> Iterator[str]:
    """Yield the lines of the navigation for pages that it does not name."""
    found = (str(path.relative_to(pages)) for path in sorted(pages.rglob("*.md")))
    rest = [one for one in found if f" {one}\n" not in config and not one.endswith("/index.md")]
    groups = {
        "How to": [one for one in rest if one.startswith("docs/how-to/")],
        "Manual": [one for one in rest if one.startswith(f"{MANUAL}/")],
    }
    known = {one for names in groups.values() for one in names}
    groups["About it"] = [one for one in rest if one not in known]
    for title, names in groups.items():
        yield f"  - {title}:\n"
        yield from (f"      - {name}\n" for name in names)


def build(directory: Path) -> None:
    """Build the site into a directory.

    Raises CalledProcessError, where mkdocs has complained; ValueError, where a link is dead.
    """
    with TemporaryDirectory() as staging:
        stage(Path(staging))
        words = ("build", "--strict", "--quiet", "--site-dir", str(directory.resolve()))
        command = [sys.executable, "-m", "mkdocs", *words]
        subprocess.run(command, cwd=staging, check=True)  # noqa: S603  # mkdocs
    if dead := list(dead_links(directory)):
        raise ValueError("\n".join(dead))


class Page(HTMLParser):
    """What a page of the site links to, loads, and has as anchors."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        """Note what a tag has."""
        found = {name: value or "" for name, value in attrs}
        self.anchors.update(found[name] for name in ("id", "name") if name in found)
        target = found.get("href", found.get("src", ""))
        if tag == "a":
            self.links.append(target)
        elif tag in ("link", "script", "img", "iframe"):
            self.loads.append(target)


def read(directory: Path) -> dict[Path, Page]:
    """Return the pages of a site, by their paths."""
    return {path: Page(path.read_text()) for path in sorted(directory.rglob("*.html"))}


def dead_links(directory: Path) -> Iterator[str]:
    """Yield links inside a site that lead nowhere, and files that it loads from elsewhere."""
    pages = read(directory)
    for path, page in pages.items():
        for target in page.loads:
            if urlsplit(target).netloc:
                yield f"{path.name} loads {target}"
        yield from (f"{path.name}: {one}" for one in _dead(path, page.links, pages))


def _dead(path: Path, links: Iterable[str], pages: dict[Path, Page]) -> Iterator[str]:
    for link in links:
        parts = urlsplit(link)
        if (
            parts.scheme or parts.netloc or path.name == "404.html"
        ):  # which is at no path of its own
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        if target.is_dir():
            target /= "index.html"
        anchors = pages[target].anchors if target in pages else {parts.fragment}
        if not target.exists() or (parts.fragment and parts.fragment not in anchors):
            yield link


if __name__ == "__main__":
    build(Path(sys.argv[1]))

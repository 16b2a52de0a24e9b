"""The documents are a site: it builds, loads nothing from elsewhere, and no link in it is dead."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

from tests.support.lacking import give_up
from tools import site

TOP = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("mkdocs") is None or shutil.which("groff") is None:
        give_up("mkdocs or groff is not installed")
    directory = tmp_path_factory.mktemp("site")
    site.build(directory)  # fails where a link is dead
    return directory


def test_it_has_every_document_and_every_manual_page(built: Path) -> None:
    pages = {str(path.relative_to(built)) for path in built.rglob("*.html")}
    documents = [path for path in (TOP / "docs").rglob("*.md") if "examples" not in path.parts]
    assert {str(path.relative_to(TOP).with_suffix(".html")) for path in documents} <= pages
    manuals = [path.name for path in (TOP / "packaging/man").glob("*.[1-8]")]
    assert len(manuals) > 8
    assert {f"manual/{name}.html" for name in manuals} <= pages
    text = (built / "manual/gatewayctl.1.html").read_text()
    assert "permit-join" in text
    assert "\x1b" not in text


def test_each_cloud_has_its_way_to_the_first_child() -> None:
    clouds = {"alibaba", "huawei", "broker"}
    assert {path.stem for path in (TOP / "docs/first-child").glob("*.md")} == clouds
    for path in (TOP / "docs/consoles").glob("*.md"):
        assert "\n## Sources\n" in path.read_text()


def test_dead_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<a href="b.html#there">1</a><a href="b.html#nowhere">2</a><a href="c.html">3</a>'
        '<a href="https://example.org/">4</a><script src="https://cdn.example/x.js"></script>'
    )
    (tmp_path / "b.html").write_text('<h1 id="there">B</h1><a href="#there">1</a>')
    assert list(site.dead_links(tmp_path)) == [
        "a.html loads https://cdn.example/x.js", "a.html: b.html#nowhere", "a.html: c.html",
    ]  # fmt: skip

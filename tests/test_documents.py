"""The documents agree with the code."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_architecture import LAW
from tools.lifecycle_diagram import lines

TOP = Path(__file__).parent.parent
PACKAGE = TOP / "gatewayd"
DOCUMENTS = sorted(path for pattern in ("*.md", "docs/**/*.md") for path in TOP.glob(pattern))
EVERY_DOCUMENT = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: str(path.relative_to(TOP))
)

ARCHITECTURE = (TOP / "ARCHITECTURE.md").read_text()
GLOSSARY = [
    tuple(cell.strip() for cell in line.strip("|").split("|"))
    for line in (TOP / "docs/glossary.md").read_text().splitlines()
    if line.startswith("| ") and not line.startswith("| noun ")
]
"""The cells of each line: noun, meaning, and where."""


def paths(text: str) -> Iterator[str]:
    """Yield what looks like a path: of this repository, or of a module below gatewayd/."""
    tops = (path.name for folder in (TOP, PACKAGE) for path in folder.iterdir() if path.is_dir())
    folders = "|".join(re.escape(name) for name in sorted(tops) if not name.startswith("."))
    yield from re.findall(rf"`((?:{folders})/[\w./-]*)`", text)


def test_the_diagram_is_drawn_from_the_table() -> None:
    assert "```mermaid\n" + "\n".join(lines()) + "\n```" in ARCHITECTURE, (
        "run python -m tools.lifecycle_diagram, and paste what it prints"
    )


@EVERY_DOCUMENT
def test_every_file_that_is_named_exists(document: Path) -> None:
    """Names in backquotes that look like a path."""
    for name in paths(document.read_text()):
        assert (TOP / name).exists() or (PACKAGE / name).exists() or _is_example(name), name


def _installed() -> dict[Path, str]:
    """Return the documents that the package has, and where below its directory of documents."""
    listed = (TOP / "packaging/debian/gatewayd.docs").read_text().split()
    found = {TOP / name: Path(name).name for name in listed if name.endswith(".md")}
    for name in (name for name in listed if not name.endswith(".md")):
        found |= {path: f"{Path(name).name}/{path.name}" for path in (TOP / name).iterdir()}
    for line in (TOP / "packaging/debian/gatewayd.install").read_text().splitlines():
        source, _, to = line.partition(" usr/share/doc/gatewayd/")
        found |= {TOP / source: f"{to}/{Path(source).name}"} if to else {}
    return found


@pytest.mark.parametrize("document", _installed(), ids=lambda path: path.name)
def test_an_installed_document_refers_to_installed_ones(document: Path) -> None:
    installed = _installed()
    for link in re.findall(r"\]\(([\w./-]+\.md)", document.read_text()):
        there = (document.parent / link).resolve()
        assert there in installed, f"add {link} to packaging/debian/gatewayd.docs"
        assert os.path.normpath(Path(installed[document]).parent / link) == installed[there]


@pytest.mark.parametrize("name", ["debian/control", "man/gatewayd.8"])
def test_what_an_operator_sees_first_leads_to_the_quick_start(name: str) -> None:
    text = (TOP / "packaging" / name).read_text().replace("\\-", "-")
    begin = text.partition(".SH SEE ALSO")[0]
    assert re.search(r"gatewayd-quickstart ?\(7\)", begin)


def test_the_manual_names_the_documents_of_sources() -> None:
    page = (TOP / "packaging/man/gatewayd.8").read_text()
    assert "/usr/share/doc/gatewayd/sources" in page
    assert {path.stem for path in _installed() if path.parent.name == "sources"} == {
        path.stem for path in (TOP / "docs/sources").iterdir()
    }


def _is_example(name: str) -> bool:
    """Whether a name stands for many: gatewayd/cloud/NAME/."""
    return "NAME" in name


@EVERY_DOCUMENT
def test_every_link_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), target


def test_architecture_names_every_module_of_the_top_and_every_folder() -> None:
    for module in PACKAGE.glob("*.py"):
        assert module.name == "__init__.py" or f"`{module.name}`" in ARCHITECTURE, module.name
    for folder in PACKAGE.iterdir():
        if (folder / "__init__.py").exists():
            assert f"`gatewayd/{folder.name}/`" in ARCHITECTURE, folder.name


def test_architecture_has_the_import_law() -> None:
    stated = {}
    for folders, imported in re.findall(r"^\| (`[^|]+) \| ([^|]+) \|$", ARCHITECTURE, re.M):
        for folder in re.findall(r"`([\w/]+)`", folders):
            if folder in LAW:
                stated[folder] = {*re.findall(r"`([\w.]+)`", imported), "errors"}
    assert stated == LAW


def test_decisions_are_numbered_and_each_is_in_the_index() -> None:
    text = (TOP / "DECISIONS.md").read_text()
    numbers = [int(number) for number in re.findall(r"^\*\*(\d+)\. ", text, re.M)]
    assert numbers == list(range(1, len(numbers) + 1))
    index = text.partition("## By topic")[2].partition("## All")[0]
    assert sorted(map(int, re.findall(r"\d+", index))) == numbers


def test_the_glossary_has_each_noun_once_in_order() -> None:
    nouns = [noun for noun, *_ in GLOSSARY if not noun.startswith("---")]
    assert len(nouns) > 50
    assert nouns == sorted(set(nouns))


@pytest.mark.parametrize("entry", GLOSSARY[1:], ids=lambda entry: entry[0])
def test_a_noun_of_the_glossary_is_where_it_says(entry: tuple[str, str, str]) -> None:
    module, name = re.fullmatch(r"`([\w/.]+)` `(\w+)`", entry[2]).groups()  # type: ignore[union-attr]  # it matches
    assert re.search(rf"\b{name}\b", (PACKAGE / module).read_text()), f"{module} has no {name}"

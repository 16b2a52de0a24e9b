"""The documents say what is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.lifecycle_diagram import lines

TOP = Path(__file__).parent.parent
DOCUMENTS = sorted(TOP.glob("*.md"))


def test_the_diagram_is_drawn_from_the_table() -> None:
    text = (TOP / "ARCHITECTURE.md").read_text()
    assert "```mermaid\n" + "\n".join(lines()) + "\n```" in text, (
        "run python -m tools.lifecycle_diagram, and paste what it prints"
    )


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_that_is_named_exists(document: Path) -> None:
    """Names in backquotes that look like a path of this repository."""
    tops = "|".join(re.escape(p.name) for p in TOP.iterdir() if p.is_dir())
    for name in re.findall(rf"`((?:{tops})/[\w./-]*)`", document.read_text()):
        assert (TOP / name).exists(), f"{document.name} names {name}"


def test_architecture_tells_of_every_module_of_the_frame() -> None:
    text = (TOP / "ARCHITECTURE.md").read_text()
    for module in (TOP / "gatewayd").glob("*.py"):
        assert module.name.startswith("__") or f"`{module.name}`" in text, module.name

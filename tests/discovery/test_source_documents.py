"""What the documents of sources print can be used as it is printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gatewayd.admission.rules import read_rules
from gatewayd.config import check
from gatewayd.settings.files import ConfigPaths, Problems
from tools.config_sample import ours

SOURCES = Path(__file__).parents[2] / "docs/sources"
DOCUMENTS = sorted(SOURCES.glob("*.md"))
EACH = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda one: one.name)

VAULT = '[secretstore.vault]\nkey = "development-file"\n'
"""What every configuration needs."""


def examples(document: Path) -> list[str]:
    """Return the blocks of TOML."""
    return re.findall(r"^```toml\n(.*?)^```$", document.read_text(), re.M | re.S)


@EACH
def test_a_document_says_how_its_source_is_switched_on(document: Path) -> None:
    switched_on = [one for one in examples(document) if one.startswith("[discovery.")]
    assert any(f'kind = "{document.stem}"' in one for one in switched_on)


@EACH
def test_its_settings_are_valid(document: Path, tmp_path: Path) -> None:
    for number, text in enumerate(examples(document)):
        if "[[rule]]" not in text:
            path = tmp_path / f"{number}.toml"
            path.write_text(VAULT + text)
            assert check(ConfigPaths.of(path), ours()) == []


@EACH
def test_its_rules_are_valid(document: Path, tmp_path: Path) -> None:
    for number, text in enumerate(examples(document)):
        if "[[rule]]" in text:
            path = tmp_path / f"{number}.toml"
            path.write_text(text)
            problems = Problems()
            found = read_rules([path], problems)
            found.check(problems)
            assert found.rules
            assert [str(one) for one in problems.found] == []

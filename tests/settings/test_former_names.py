"""A setting of an earlier version is refused, and its new name is said."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gatewayd.config import check
from gatewayd.settings.build import unknown_key
from gatewayd.settings.files import ConfigPaths
from gatewayd.settings.former_names import GONE, SETTINGS, WORDS, renamed, renamed_word
from tests.support.former_gatewayd import COMMIT, git
from tools.config_sample import ours

MISSING = re.compile(r"lacks '|is not used|must name|is not known|needs ")
"""Problems of a sample in which everything is set, whatever its version."""


def test_every_setting_of_the_earlier_version_is_read_or_named(tmp_path: Path) -> None:
    """Its own sample, with each setting uncommented."""
    shown = git("show", f"{COMMIT}:etc/gatewayd/gatewayd.toml").decode()
    text = re.sub(r"(?m)^(\w+ =)$", r"#\1", re.sub(r"(?m)^#(?=\S)", "", shown))
    file = tmp_path / "gatewayd.toml"
    file.write_text(text)
    problems = [one for one in check(ConfigPaths.of(file), ours()) if not MISSING.search(one.text)]
    lines = text.splitlines()
    named = set()
    for problem in problems:
        found = re.match(r"'(\w+)' in .* is a setting of an earlier version: ", problem.text)
        assert found, problem
        assert lines[problem.line - 1].startswith(f"{found[1]} =")
        named.add(found[1])
    assert named == {*SETTINGS, *GONE}


@pytest.mark.parametrize("key", SETTINGS)
def test_the_new_name_is_said_where_there_is_such_a_setting(key: str) -> None:
    new = SETTINGS[key]
    assert f"'{new}'" in unknown_key(key, [new, "other"], ("table",))
    assert renamed(key, ["other"]) == ""


def test_what_is_no_more_is_to_be_removed() -> None:
    for key in GONE:
        assert unknown_key(key, ["other"], ()).endswith("remove it")


def test_a_word_of_before_is_translated() -> None:
    for word, new in WORDS.items():
        assert renamed_word(word, [new]) == new
        assert renamed_word(word, ["other"]) == ""
    assert renamed_word(7, ["claimed"]) == ""

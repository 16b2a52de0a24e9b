"""Plug-ins are loaded by name, and only then; what cannot be used says what to do."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from gatewayd.errors import PluginError
from gatewayd.plugins import CLOUDS, DISCOVERERS, GROUPS, Plugins

GOOD = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Cloud:
    @dataclass(frozen=True)
    class Settings:
        host: str = ""

class Bare:
    pass

def function():
    pass
"""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "gwt_good.py").write_text(GOOD)
    (tmp_path / "gwt_broken.py").write_text("raise RuntimeError('CANARY')")
    (tmp_path / "gwt_needy.py").write_text("import gwt_that_is_not_installed")
    return tmp_path


def plugins(*values: tuple[str, str]) -> Plugins:
    return Plugins(EntryPoint(name, value, CLOUDS) for name, value in values)


def test_a_named_plugin_is_loaded_and_no_other(modules: Path) -> None:
    installed = plugins(("good", "gwt_good:Cloud"), ("broken", "gwt_broken:Cloud"))
    assert installed.load(CLOUDS, "good").__name__ == "Cloud"
    assert "gwt_broken" not in sys.modules
    assert installed.names(CLOUDS) == ("broken", "good")
    assert installed.names(DISCOVERERS) == ()


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("godo", "no plug-in 'godo' in gatewayd.clouds; installed: bare, broken, function, gone"),
        ("\x1b[2J", r"no plug-in '\\x1b\[2J' in"),
        ("broken", r"gwt_broken:X of \?\) cannot be imported \(RuntimeError\): install"),
        (
            "needy",
            r"imported \(ModuleNotFoundError gwt_that_is_not_installed\): install what it needs",
        ),
        ("gone", r"cannot be imported \(AttributeError\)"),
        ("bare", "no class with a dataclass `Settings`"),
        ("function", "no class with a dataclass `Settings`"),
    ],
)
def test_what_cannot_be_used_says_what_to_do(modules: Path, name: str, remedy: str) -> None:
    installed = plugins(
        ("broken", "gwt_broken:X"), ("needy", "gwt_needy:X"), ("gone", "gwt_good:Gone"),
        ("bare", "gwt_good:Bare"), ("function", "gwt_good:function"),
    )  # fmt: skip
    with pytest.raises(PluginError, match=remedy) as raised:
        installed.load(CLOUDS, name)
    assert "CANARY" not in str(raised.value)


def test_a_name_with_two_claimants_is_neither(modules: Path) -> None:
    installed = plugins(("good", "gwt_good:Cloud"), ("good", "gwt_other:Cloud"))
    both = r"claimed by gwt_good:Cloud of \? and gwt_other:Cloud of \?: remove all but one"
    with pytest.raises(PluginError, match=both):
        installed.load(CLOUDS, "good")


def test_the_same_plugin_found_twice_is_one(modules: Path) -> None:
    installed = plugins(("good", "gwt_good:Cloud"), ("good", "gwt_good:Cloud"))
    assert installed.load(CLOUDS, "good").__name__ == "Cloud"


def test_our_own_come_through_the_same_door() -> None:
    installed = Plugins.installed()
    assert [bool(installed.names(group)) for group in GROUPS] == [True, True, True]

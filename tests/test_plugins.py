"""Plug-ins are loaded by name, and only then; what cannot be used says what to do."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from gatewayd.errors import PluginError
from gatewayd.plugins import CLOUDS, DISCOVERERS, GROUPS, PORTS, Plugins, PortVersion, port_fault
from tools import ports

TOP = Path(__file__).parent.parent
RECORD = "python -m tools.ports > tests/ports.txt"

GOOD = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Cloud:
    port_version = "1.0"

    @dataclass(frozen=True)
    class Settings:
        host: str = ""

class Later(Cloud):
    port_version = "2.0"

class Silent(Cloud):
    pass

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
        (
            "later",
            r"Later of \?\) was written for version 2.0 of gatewayd.clouds, .* has 1.0: upgrade",
        ),
        ("silent", "does not state `port_version`.* this gatewayd has 1.0: ask its author"),
    ],
)
def test_what_cannot_be_used_says_what_to_do(modules: Path, name: str, remedy: str) -> None:
    installed = plugins(
        ("broken", "gwt_broken:X"), ("needy", "gwt_needy:X"), ("gone", "gwt_good:Gone"),
        ("bare", "gwt_good:Bare"), ("function", "gwt_good:function"),
        ("later", "gwt_good:Later"), ("silent", "gwt_good:Silent"),
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


@pytest.mark.parametrize("group", GROUPS)
def test_our_own_come_through_the_same_door(group: str) -> None:
    installed = Plugins.installed()
    assert installed.names(group)
    for name in installed.names(group):
        assert installed.load(group, name).port_version == str(PORTS[group])


def test_another_version_of_a_port_is_refused() -> None:
    def fault(stated: object) -> str:
        return port_fault(CLOUDS, PortVersion(3, 4), stated, "gatewayd-x")

    assert [fault(good) for good in ("3.0", "3.4")] == ["", ""]
    other = "install a release of gatewayd-x for version 3"
    for stated, remedy in (
        ("2.9", other),
        ("3.5", f"upgrade gatewayd, or {other}"),
        ("4.0", f"upgrade gatewayd, or {other}"),
    ):
        said = f"was written for version {stated} of gatewayd.clouds, and this gatewayd has 3.4"
        assert fault(stated) == f"{said}: {remedy}"
    for unreadable in (None, 3, "3", "3.4.1", "03.4", "3.\u0664", "3.4\n", "3." + "4" * 9):
        assert "does not state" in fault(unreadable)


def test_what_a_plugin_was_written_for_is_as_it_was_or_has_another_version() -> None:
    recorded, present = set((TOP / "tests/ports.txt").read_text().splitlines()), set(ports.lines())
    broken = recorded - present
    broken |= {line for line in present - recorded if _implemented(line) in ports.IMPLEMENTED}
    major = {f"{group} {version.major}" for group, version in PORTS.items()}
    assert {line.partition(":")[0] for line in recorded} == major, RECORD
    assert not broken, f"plug-ins of before do not work: raise the first number, then {RECORD}"


def _implemented(line: str) -> str:
    return line.partition(": ")[2].partition(".")[0]

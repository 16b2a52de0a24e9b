"""The page in Cockpit, without a browser: what it decides, and what it agrees with.

tests/system/test_cockpit.py works it in one.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gatewayd.cli.output import CONFLICT_TEXTS, PROTECTION_TEXTS
from gatewayd.dbus.glib import Gio
from gatewayd.dbus.interfaces import read_xml
from gatewayd.dbus.names import MANAGER, PROVIDER, SECRET_STORE, SITE
from gatewayd.dbus.objects import FILTERS, MAX_PATTERN, PATTERNS
from gatewayd.device.lifecycle import State
from gatewayd.device.views import GatewayStanding, SiteState

TOP = Path(__file__).parents[2]
PAGE = TOP / "packaging/cockpit"
MODULES = sorted(PAGE.glob("*.js"))
ESLINT = TOP / ".node-lint"


def _run(*command: str | Path) -> str:
    ended = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def _model(expression: str) -> Any:  # JSON
    """Return the value of an expression, in which the model is `model`."""
    script = f"""import * as model from "{PAGE}/model.js";
        console.log(JSON.stringify({expression}));"""
    return json.loads(_run("node", "--input-type=module", "--eval", script))


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def test_what_the_page_decides() -> None:
    _run("node", "--test", *sorted(Path(__file__).parent.glob("*.test.mjs")))


def test_the_linter_of_javascript_is_content() -> None:
    config = ("--config", ESLINT / "eslint.config.mjs", "--max-warnings", "0")
    _run(ESLINT / "node_modules/.bin/eslint", *config, "packaging/cockpit", "tests/cockpit")


def test_the_policy_of_cockpit_for_content_is_kept() -> None:
    """All scripts and styles are files of their own: `default-src 'self'` forbids others."""
    document = (PAGE / "index.html").read_text()
    assert re.findall(r"<script(?![^>]* src=)[^>]*>|<style|\sstyle=|\son\w+=", document) == []
    assert "content-security-policy" not in json.loads((PAGE / "manifest.json").read_text())
    for module in MODULES:
        assert not re.search(r"\.style\.|cssText|[{ ]style:", module.read_text()), module.name


def test_every_module_that_is_loaded_is_there() -> None:
    loaded = {"index.js"}
    for module in MODULES:
        loaded |= set(re.findall(r'from "\./([\w.]+)"', module.read_text()))
    assert loaded == {module.name for module in MODULES}
    named = re.findall(r'(?:src|href)="([\w./]+)"', (PAGE / "index.html").read_text())
    assert [name for name in named if not (PAGE / name).exists()] == ["../base1/cockpit.js"]


def test_the_states_and_words_are_those_of_the_daemon() -> None:
    states = {state.shown for state in State if state is not State.FORGOTTEN}
    assert set(_model("[...model.STATES.keys()]")) == states
    protections = {word: _model(f"model.protection({word!r})")[1] for word in PROTECTION_TEXTS}
    assert protections == {word: _sentence(text) for word, text in PROTECTION_TEXTS.items()}
    conflicts = {word: _sentence(text) for word, text in CONFLICT_TEXTS.items()}
    assert _model("Object.fromEntries(model.CONFLICTS)") == conflicts
    assert set(_model('Object.keys(model.filters({state: "a", provider: "b", text: "c"}))')) <= {
        *FILTERS, *PATTERNS,
    }  # fmt: skip
    assert _model("model.MAX_SEARCH") == MAX_PATTERN
    words = sorted({*SiteState, *GatewayStanding})
    tones = _model(f"{json.dumps(words)}.map(word => model.partState(word)[1])")
    assert "neutral" not in tones


def _calls() -> Iterator[tuple[str, str | None]]:
    """Yield each method of the Manager that the page calls, with its signature if it is given."""
    for module in MODULES:
        text = module.read_text()
        yield from re.findall(r'\.change\("(\w+)", "([^"]*)"', text)
        yield from ((name, None) for name in re.findall(r'\.ask\("(\w+)"', text))


def _interface(name: str) -> Gio.DBusInterfaceInfo:
    return Gio.DBusNodeInfo.new_for_xml(read_xml(name)).lookup_interface(name)


def test_every_method_that_the_page_calls_is_there() -> None:
    known = {
        method.name: "".join(one.signature for one in method.in_args)
        for method in _interface(MANAGER).methods
    }
    called = list(_calls())
    assert len(called) > 8
    for name, signature in called:
        assert signature in (None, known[name]), name


@pytest.mark.parametrize(("interface", "holder"), [
    (MANAGER, "manager"), (SECRET_STORE, "store"), (PROVIDER, "cloud"), (SITE, "site"),
])  # fmt: skip
def test_every_property_that_the_page_shows_is_there(interface: str, holder: str) -> None:
    text = "".join(module.read_text() for module in MODULES)
    shown = set(re.findall(rf"\b{holder}\.([A-Z]\w+)", text))
    assert shown
    assert shown <= {one.name for one in _interface(interface).properties}

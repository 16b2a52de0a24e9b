"""Which module may import what: the rules of ARCHITECTURE.md, made to fail."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "gatewayd"
MODULES = sorted(PACKAGE.rglob("*.py"))

MAY_IMPORT: dict[str, set[str]] = {
    "cloud": {"device"},
    "device": set(),
    "discovery": {"device", "glib"},
    "policy": {"device"},
    "registration": {"device", "cloud.provider"},
    "secretstore": {"device"},
    "sessions": {"device", "cloud.provider"},
    "status": {"device", "glib"},
}
"""What of ours each folder may import.  The stages of the flow do not know one another."""

HOME: dict[str, set[str]] = {
    "aiohttp": {"testing/simulator/huawei/management.py"},
    "paho": {"cloud/mqtt.py"},
    "gi": {"glib.py"},
    "pydbus": {"ctl_client.py", "discovery/avahi.py"},
    "keyring": {"secretstore/keyring*.py"},
    "tpm2_pytss": {"secretstore/tpmlib.py"},
    "systemd": {"log.py", "status/notify.py"},
    "cryptography": {
        "cloud/authority.py",
        "cloud/x509_*.py",
        "cloud/huawei/certificate_request.py",
        "cloud/huawei/identity.py",
        "cloud/huawei/subject.py",
        "secretstore/*.py",
        "testing/simulator/huawei/x509.py",
        "testing/simulator/pki.py",
    },
    "tomli": {"config.py", "policy/load.py", "configfile.py"},
    "zeroconf": {"discovery/mdns_zeroconf.py"},
}
"""The only modules that may import each foreign package."""

PURE = {"device", "policy"}
IO = {"asyncio", "socket", "ssl", "os", "threading", "subprocess", "time", "random", "logging"}


def imports(module: Path) -> Iterator[str]:
    """Yield the full dotted name of everything a module imports."""
    here = ("gatewayd", *module.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + 1] if node.level else ()
            stem = [*base, *([node.module] if node.module else [])]
            yield from (".".join([*stem, alias.name]) for alias in node.names)


@pytest.mark.parametrize("module", MODULES, ids=lambda m: str(m.relative_to(PACKAGE)))
def test_imports(module: Path) -> None:
    path = module.relative_to(PACKAGE)
    folder = path.parts[0] if len(path.parts) > 1 else ""
    for name in imports(module):
        top, _, rest = name.partition(".")
        if top == "gatewayd" and folder in MAY_IMPORT:
            allowed = {folder, "backoff", "clocks", "errors", "settings", *MAY_IMPORT[folder]}
            assert any(f"{rest}.".startswith(f"{a}.") for a in allowed), f"{path} imports {name}"
        if top in HOME:
            assert any(path.match(home) for home in HOME[top]), f"{path} is not a home of {top}"
        if folder in PURE:
            assert top not in IO, f"{path} is pure, and may not import {top}"


CLOUDS = {"alibaba", "huawei"}


@pytest.mark.parametrize("module", sorted(PACKAGE.glob("cloud/**/*.py")), ids=lambda m: str(m.name))
def test_no_cloud_knows_another(module: Path) -> None:
    """Nor does what they share know any of them."""
    own = module.relative_to(PACKAGE / "cloud").parts[0]
    for name in imports(module):
        top, *rest = name.split(".")
        if (top, *rest[:1]) == ("gatewayd", "cloud") and len(rest) > 1:
            assert rest[1] not in CLOUDS - {own}, f"{module.name} imports {name}"


def test_the_folders_tell_the_story_in_order() -> None:
    told = [
        "cloud", "device",
        "discovery", "policy", "registration", "secretstore", "sessions", "status",
        "testing",
    ]  # fmt: skip
    assert told == sorted(told)
    folders = {p.name for p in PACKAGE.iterdir() if p.is_dir()}
    assert folders - {"__pycache__"} == set(told)


@pytest.mark.parametrize("module", MODULES, ids=lambda m: str(m.relative_to(PACKAGE)))
def test_modules_and_functions_stay_small(module: Path) -> None:
    text = module.read_text()
    assert len(text.splitlines()) <= 250
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            length = node.end_lineno - node.lineno + 1
            assert length <= 50, f"{module.name}:{node.lineno} {node.name} has {length} lines"

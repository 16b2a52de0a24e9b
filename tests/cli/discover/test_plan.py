"""`gatewayctl discover --dry-run`: what would be sent, by the configuration alone."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from gatewayd.cli import main
from gatewayd.cli.discover.commands import COMMANDS
from gatewayd.cli.discover.plan import UNSAID, sent_by
from gatewayd.config import ConfiguredPlugin
from gatewayd.discovery.probing.protocol import Transmission
from gatewayd.discovery.static import StaticSettings
from tests.support.gatewayctl import validate

CONFIG = """
[secretstore.vault]
key = "development-file"
[discovery.mdns]
kind = "mdns"
interfaces = ["lan0"]
types = ["_gatewayd-child._tcp"]
[discovery.media]
kind = "ssdp"
interfaces = ["lan0", "lan1"]
probe_every = 900
[discovery.listed]
kind = "static"
devices = [
    { key = "plc", host = "plc1", port = 502 },
    { key = "meter", serial = "PM-1" },
]
[proof.camera]
port = 443
"""


def run(*words: str) -> int:
    """Run the command where no bus is."""
    return main.main(words, {"GATEWAYD_BUS": "unix:path=/nowhere"})


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "gatewayd.toml"
    path.write_text(CONFIG)
    return str(path)


def test_people_see_to_whom_how_often_how_much_and_why(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("discover", "--dry-run", "--config", config) == 0
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert [one for one in lines if one.endswith(":")] == [
        "mdns on lan0:", "media on lan0:", "media on lan1:", "listed:", "proof camera:",
    ]  # fmt: skip
    assert (
        "  before a rule admits a device by this proof, at its returns, and at another address: "
        "to port 443 of the device, by TCP: a handshake of TLS that proves its key"
    ) in lines
    search = "every 900 s: 101 bytes to 239.255.255.250 port 1900 by UDP: root devices of UPnP"
    assert lines.count(f"  {search} (2 times)") == 2
    assert "to 224.0.0.251 port 5353 by UDP: all names of _gatewayd-child._tcp" in shown
    assert "to the resolver: plc1: where a listed device is" in shown
    assert "port 502 by TCP" in shown
    assert lines[-1].startswith("Nothing was sent")


def test_programs_get_what_is_documented(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--json", "discover", "--dry-run", "--config", config) == 0
    printed = capsys.readouterr().out
    validate(printed, COMMANDS[0].fields, 0)
    rows = [json.loads(line) for line in printed.splitlines()]
    assert {(row["Discoverer"], row["Interface"]) for row in rows} == {
        ("mdns", "lan0"), ("media", "lan0"), ("media", "lan1"), ("listed", ""),
        ("proof camera", ""),
    }  # fmt: skip
    assert all(bool(row["Every"]) != bool(row["Occasion"]) for row in rows)


def test_a_configuration_that_cannot_be_used_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "gatewayd.toml"
    bad.write_text(CONFIG + "probe = 1\n")
    assert run("discover", "--dry-run", "--config", str(bad)) == 1
    assert "unknown key 'probe'" in capsys.readouterr().err


class Silent:
    """A discoverer of others, which does not say what it sends."""

    def __init__(self, name: str, settings: object) -> None:
        del name, settings


def test_a_discoverer_that_does_not_say_what_it_sends_is_named() -> None:
    plugin = ConfiguredPlugin("bus", "other", Silent, StaticSettings())
    assert list(sent_by(plugin)) == [Transmission("", "", 0.0, 0, UNSAID)]


def test_no_socket_is_opened(config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a dry run opens no socket")

    monkeypatch.setattr(socket, "socket", refuse)
    assert run("discover", "--dry-run", "--config", config) == 0

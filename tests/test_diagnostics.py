"""The dump: what is in it, and that it cannot be changed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from gatewayd import config
from gatewayd.config import Config, ConfiguredPlugin
from gatewayd.dbus.names import GATEWAY, OUTBOX
from gatewayd.device.identity import DeviceId
from gatewayd.device.reason import Reason
from gatewayd.device.views import MessageCounts, MessagesView
from gatewayd.diagnostics import dump, in_memory
from gatewayd.plugins import Plugins
from gatewayd.settings.files import ConfigPaths
from tests.dbus.support import CANARY, view
from tests.dbus.support import GATEWAY as SHOWN

MESSAGES = MessagesView(
    "ready",
    total=MessageCounts(dropped={"rate": 2}),
    children={DeviceId("child-1"): MessageCounts(waiting=3)},
    refusals={DeviceId("child-1"): Reason("no-such-topic")},
)
REFUSED = (1_700_000_000_000_000, "mdns", "lan0", "10.0.0.9", "Lamp", "unresolved", 2)


def configuration(directory: Path) -> Config:
    file = directory / "gatewayd.toml"
    file.write_text(
        f'[cloud.ali]\nkind = "alibaba"\nhost = "h"\n[cloud.ali.products.a1]\n'
        f'secret_credential = "{CANARY}"\n'
    )
    return config.load(ConfigPaths.of(file), Plugins.installed())


def test_a_report_tells_all_that_is_shown_and_no_setting_of_a_plugin(tmp_path: Path) -> None:
    made = configuration(tmp_path)
    assert isinstance(made.clouds[0], ConfiguredPlugin)
    one = view("child-1", name="Kamera \u00fc\x1b[31m")
    shown = {GATEWAY: SHOWN, OUTBOX: MESSAGES}
    descriptor = dump(made, shown, [("cameras", "register", "ali", 7)], [one], [REFUSED])
    with os.fdopen(descriptor, "rb") as file:
        text = file.read()
    assert text.isascii()
    assert b"\x1b" not in text
    assert CANARY.encode() not in text
    report = json.loads(text)
    assert report["objects"]["/org/gatewayd1"]["state"] == "running"
    counted = report["objects"]["/org/gatewayd1/messages"]
    assert counted["children"]["child-1"]["waiting"] == 3
    assert counted["total"]["dropped"] == {"rate": 2}
    assert counted["refusals"]["child-1"]["code"] == "no-such-topic"
    assert report["devices"][0]["name"] == one.name
    assert report["devices"][0]["history"][0]["event"] == "Seen"
    assert report["plugins"]["cloud"] == ["ali (alibaba)"]
    assert report["rules"] == [["cameras", "register", "ali", 7]]
    (refused,) = report["refused"]
    assert (refused["sender"], refused["cause"], refused["times"]) == ("10.0.0.9", "unresolved", 2)
    assert report["settings"]["log"] == {"level": "info"}
    assert report["machine"]["memory"].endswith("kB")


def test_a_file_in_memory_cannot_be_changed() -> None:
    descriptor = in_memory(b"text")
    try:
        with pytest.raises(PermissionError):
            os.write(descriptor, b"x")
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, 0)
        assert os.read(descriptor, 9) == b"text"
    finally:
        os.close(descriptor)

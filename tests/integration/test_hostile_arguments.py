"""Every method of every object on the bus, with hostile arguments: refused, and never more."""

from __future__ import annotations

import asyncio
import os
import random
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gatewayd.dbus.glib import Gio, GLib, Variant
from gatewayd.simulator.site import MANAGER, Site
from tests.dbus.support import connect

pytestmark = pytest.mark.integration

SEED = "1315"  # children that no other test has: all share the loopback interface
CALLS = 4
"""Of each method that has arguments."""
TIMEOUT_MS = 60_000
SPARED = {"Forget", "Reject", "Retry", "Reregister"}
"""What may change the one child that there is: called with the ids of others alone."""

TEXTS = (
    "", " ", "0", "-1", "child-", "gateway-huawei", "../../etc/passwd", "/", "a" * 300, "x" * 4000,
    "\x1b[31m", "\u202egnp", "\U0001f980", "\r\nREADY=1", "'; DROP TABLE record; --", "%s%n{0}",
    "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
    "-----BEGIN CERTIFICATE REQUEST-----\n" * 50, "credential", "tpm2", "nonsense", "debug", "mdns",
)  # fmt: skip
VALUES = (
    Variant("s", "x" * 300), Variant("i", -1), Variant("t", 2**64 - 1), Variant("b", True),
    Variant("d", float("nan")), Variant("v", Variant("v", Variant("s", ""))),
    Variant("as", [""] * 50), Variant("a{sv}", {}), Variant("u", 0), Variant("s", "rsa-1"),
)  # fmt: skip
OPTIONS = (
    "days", "algorithm", "replace", "common-name", "country", "product", "node-id", "interface",
    "protocol", "rule", "max-devices", "state", "glob", "",
)  # fmt: skip
NUMBERS: Mapping[str, tuple[int, ...]] = {
    "u": (0, 1, 900, 901, 2**32 - 1), "i": (-(2**31), 0, 2**31 - 1),
    "b": (0, 1), "t": (0, 2**64 - 1), "x": (-(2**63), 2**63 - 1), "y": (0, 255), "q": (0, 65535),
}  # fmt: skip


class Target(NamedTuple):
    """One method of one object."""

    path: str
    interface: str
    name: str
    signature: str


def targets(bus: Any, paths: list[str]) -> Iterator[Target]:
    """Yield what the objects say that they have."""
    for path in paths:
        introspectable = "org.freedesktop.DBus.Introspectable"
        answer = call(bus, Target(path, introspectable, "Introspect", ""), [], [])
        node = ET.fromstring(answer.unpack()[0])  # noqa: S314  # ours
        for interface in node.findall("interface"):
            for method in interface.findall("method"):
                given = [a for a in method.findall("arg") if a.get("direction", "in") == "in"]
                signature = "".join(str(a.get("type")) for a in given)
                yield Target(path, str(interface.get("name")), str(method.get("name")), signature)


def call(bus: Any, target: Target, values: list[object], files: list[int]) -> Any:
    """Call a method.  Raises GLib.Error."""
    sent = Gio.UnixFDList.new()
    for file in files:
        sent.append(file)
    answer, _ = bus.call_with_unix_fd_list_sync(
        MANAGER[0], target.path, target.interface, target.name,
        Variant(f"({target.signature})", tuple(values)), None, Gio.DBusCallFlags.NONE, TIMEOUT_MS,
        sent, None,
    )  # fmt: skip
    return answer


def value(chance: random.Random, kind: str, texts: tuple[str, ...]) -> object:
    """Return a hostile value of a type; of a descriptor, its place among those that are sent."""
    some = [chance.choice(texts) for _ in range(1 + chance.randrange(20))]
    options = {chance.choice(OPTIONS): chance.choice(VALUES) for _ in range(chance.randrange(4))}
    number = chance.choice(NUMBERS.get(kind, (0,)))
    made = {"b": number > 0, "s": some[0], "as": some, "v": chance.choice(VALUES), "a{sv}": options}
    return made.get(kind, number)


def kinds(signature: str) -> list[str]:
    return re.findall(r"a\{sv\}|as|[a-z]", signature)


def assault(address: str, paths: list[str], child: str) -> Counter[str]:
    """Call everything; return how often each error came, and "" for none."""
    chance, bus, errors = random.Random(15), connect(address), Counter[str]()
    (ended, first), (second, unread) = os.pipe(), os.pipe()
    os.close(first)  # one pipe has no writer, the other no reader
    os.close(second)
    files = [os.open("/dev/null", os.O_RDWR), os.open("/", os.O_RDONLY), ended, unread]
    try:
        for target in targets(bus, paths):
            on_child = target.path.endswith(child.replace("-", "_2d"))
            if target.name in SPARED and on_child:
                continue
            texts = TEXTS if target.name in SPARED else (*TEXTS, child)
            for _ in range(CALLS if target.signature else 1):
                values = [value(chance, kind, texts) for kind in kinds(target.signature)]
                given = [chance.choice(files)] if "h" in target.signature else []
                try:
                    call(bus, target, values, given)
                    errors[""] += 1
                except GLib.Error as error:
                    errors[Gio.DBusError.get_remote_error(error) or error.message] += 1
                    if "Internal error" in error.message:
                        errors[f"internal: {target} {values!r:.200}"] += 1
    finally:
        for file in files:
            os.close(file)
        bus.close_sync(None)
    return errors


async def test_no_argument_is_more_than_refused(tmp_path: Path) -> None:
    site = Site(tmp_path, cloud="huawei", plant_options=("--children", "1", "--seed", SEED))
    async with site.open():
        (serial,) = site.plant["serials"]
        await site.start()

        async def known() -> bool:
            return serial in await site.devices()

        await site.until(known, "the child to be seen")
        child, _ = (await site.devices())[serial]
        tree = await site.busctl("tree", "--list", MANAGER[0])
        paths = [line.strip() for line in tree.splitlines() if line.startswith("/org/gatewayd1")]
        assert len(paths) > 3
        errors = await asyncio.to_thread(assault, site.bus, paths, child)
        assert not [name for name in errors if name.startswith("internal")]
        assert errors[""] > 20, errors
        assert errors.total() > 200, errors
        assert "org.freedesktop.DBus.Error.NoReply" not in errors, errors
        assert "A D-Bus method failed" not in site.log()
        assert serial in await site.devices()
        assert await site.stop() == 0

"""Who a device is, on a real LAN: whatever it is called, and whatever its factory gave it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gatewayd.simulator.site import Site
from gatewayd.simulator.site_files import config
from tests.dbus.support import run
from tests.integration.lan import CHILDREN, NETWORK, namespaces
from tests.support.gatewayctl import GATEWAYCTL
from tests.support.responder import Announced, Responder, responder

pytestmark = pytest.mark.namespace

KINDS: Mapping[str, tuple[Announced, str, str]] = {
    "shelly": (
        Announced("_shelly._tcp", "shellyplus1pm-a8032abe54dc", "shellyplus1pm-a8032abe54dc", "",
                  {"gen": "2", "app": "Plus1PM"}),
        "mac", r"host ~ [a-z0-9]{1,20}-([0-9a-f]{12})(?:\.local)?",
    ),
    "homekit": (
        Announced("_hap._tcp", "Lamp", "lamp", "", {"id": "1F:2C:7E:01:9A:44", "md": "LS1"}),
        "serial", "txt.id",
    ),
    "elgato": (
        Announced("_elg._tcp", "Key Light", "key-light", "", {"id": "3C:6A:9D:14:D0:8A"}),
        "mac", "txt.id",
    ),
    "cast": (
        Announced("_googlecast._tcp", "Den", "den", "", {"id": "7d9f0e0a3c1b4f5e8a6d2b9c0e1f4a57"}),
        "uuid", "txt.id",
    ),
    "enphase": (
        Announced("_enphase-envoy._tcp", "envoy", "envoy", "", {"serialnum": "122108055123"}),
        "serial", "txt.serialnum",
    ),
    "lutron": (
        Announced("_lutron._tcp", "Lutron Status", "Lutron-01f2ab34", "", {"CODEVER": "8.7"}),
        "serial", r"host ~ (?:L|l)utron-([0-9A-Fa-f]{8})(?:\.local)?",
    ),
    "matter": (
        Announced("_matter._tcp", "87E1B004E235A130-8FC7772401CD0696", "B0E4C2D1A301", ""),
        "mac", r"host ~ ([0-9A-Fa-f]{12,16})(?:\.local)?",
    ),
    "workstation": (
        Announced("_workstation._tcp", "nas [00:0c:29:7b:02:03]", "nas", ""),
        "mac", r"instance ~ .{0,60}\[([0-9a-f:]{17})\]",
    ),
    "opcua": (
        Announced("_opcua-tcp._tcp", "UAServer@line 4", "plc-7731", "", {"path": "/UA"}),
        "serial", r"host ~ plc-([0-9]{4})(?:\.local)?",
    ),
    "openthread": (
        Announced("_meshcop._udp", "OpenThread BR", "ot8ad0c2a8f4c3b1e2", "", {"rv": "1"}),
        "serial", r"host ~ o.([0-9a-f]{16})(?:\.local)?",
    ),
}  # fmt: skip
"""What devices announce whose identity only a rule knows; the field, and where it is."""
RENAMED = {"workstation": "disks [00:0c:29:7b:02:03]"}
"""The other name of those whose name has their identity."""
PRINTER = {"UUID": "2f402f80-da50-11e1-9b23-00112233aa77", "ty": "Laser 9"}
METER = "_meter._tcp"
FACTORY = "0815-FACTORY"

RULE = """\
[[rule]]
name = "{name}"
match = {{ service = {services} }}
extract = {{ {field} = '{where}' }}
action = "ask"
provider = "alibaba"
product = "{product}"
route = "direct-preregistration-free"
device_name = "{name}-{{{field}|hash12}}"
"""


def rule(one: Site, name: str, services: list[str], field: str, where: str) -> str:
    product = one.plant["product"]
    return RULE.format(
        name=name, services=json.dumps(services), field=field, where=where, product=product
    )


@contextlib.asynccontextmanager
async def site(
    tmp_path: Path, *rules: tuple[str, list[str], str, str], more: str = "", listed: str = ""
) -> AsyncIterator[tuple[Site, Responder]]:
    """Yield a site with these rules, and devices on its LAN; gatewayd runs.

    more: rules, to be formatted.  listed: devices in the configuration.
    """
    options = ("--children", "0", "--interface", CHILDREN, "--address", CHILDREN)
    with namespaces() as (gateway, children):
        one = Site(tmp_path, gateway, children, "lan0", (*options, "--network", NETWORK))
        async with one.open(), responder(children, CHILDREN) as devices:
            services = sorted({service for _, of, _, _ in rules for service in of})
            types = f"types = {json.dumps(services)}"
            text = config(one).replace('types = ["_gatewayd-child._tcp"]', types)
            made = "".join(rule(one, *each) for each in rules)
            one.configure(text + listed, more.format(product=one.plant["product"]) + made)
            await one.start()
            yield one, devices


async def shown(one: Site) -> dict[str, dict[str, Any]]:
    """Return what is shown of each device, by its id."""
    ids = [row[0] for row in await one.call("ListDevices")]
    found = {}
    for each in ids:
        with contextlib.suppress(RuntimeError):  # it has left between the two calls
            described = await one.call("DescribeDevice", "s", each)
            found[each] = {key: value["data"] for key, value in described.items()}
    return found


async def until_shown(one: Site, what: str, **wanted: Any) -> str:
    """Wait for a device of which this is shown; return its id."""

    async def is_there() -> str:
        for device, facts in (await shown(one)).items():
            if all(facts[key] == value for key, value in wanted.items()):
                return device
        return ""

    return str(await one.until(is_there, what))


async def admitted(one: Site, name: str) -> str:
    """Approve the device of a name; return its id once it is online."""
    device = await until_shown(one, f"{name} to wait", Name=name, State="pending")
    await one.call("Approve", "ss", device, "")
    await until_shown(one, f"{name} to be online", Id=device, State="online")
    return device


async def ctl(one: Site, *words: str) -> str:
    """Return what gatewayctl prints."""
    status, printed = await run(*GATEWAYCTL, "--bus", one.bus, *words)
    assert status == 0, printed
    return printed


async def restarted(one: Site) -> None:
    assert await one.stop() == 0
    await one.start()


async def test_a_device_that_is_renamed_stays_the_child_it_is(tmp_path: Path) -> None:
    """Ten kinds that were known by their names alone; and one printer under three services."""
    rules = [(name, [one.service], field, where) for name, (one, field, where) in KINDS.items()]
    printing = ["_ipp._tcp", "_ipps._tcp", "_uscan._tcp"]
    async with site(tmp_path, *rules, ("printer", printing, "uuid", "txt.uuid")) as (one, lan):
        devices = {
            name: replace(device, address=f"10.77.1.{n}")
            for n, (name, (device, *_)) in enumerate(KINDS.items(), 10)
        }
        printers = [
            Announced(service, "Laser 9", "laser9", "10.77.1.40", PRINTER | extra)
            for service, extra in zip(
                printing, ({}, {"UUID": PRINTER["UUID"].upper()},
                           {"UUID": PRINTER["UUID"].replace("-", "")}), strict=True,
            )
        ]  # fmt: skip
        await lan.add(*devices.values(), *printers)
        ids = {name: await admitted(one, device.instance) for name, device in devices.items()}
        ids["printer"] = await admitted(one, "Laser 9")
        assert len(await one.call("ListDevices")) == len(ids)
        for name, device in devices.items():
            await lan.add(replace(device, instance=RENAMED.get(name, f"New {name}"),
                                  address=f"10.77.1.{100 + len(name)}"))  # fmt: skip
            await lan.remove(device)
        await lan.remove(*printers[:2])
        await restarted(one)

        async def all_online() -> bool:
            found = await shown(one)
            return {facts["State"] for facts in found.values()} == {"online"}

        await one.until(all_online, "all children to be online")
        found = await shown(one)
        assert set(found) == set(ids.values())
        assert {facts["Conflict"] for facts in found.values()} == {""}


def meter(n: int, serial: str = FACTORY, **more: str) -> Announced:
    txt = {"serial": serial, "mac": f"24:0a:c4:00:00:{n:02x}"} | more
    return Announced(METER, f"Meter {n}", f"meter{n}", f"10.77.1.{n}", txt)


async def test_two_with_one_serial_wait_for_an_operator_who_splits_or_merges_them(
    tmp_path: Path,
) -> None:
    async with site(tmp_path, ("meter", [METER], "mac", "txt.mac")) as (one, lan):
        await lan.add(meter(1), meter(3, "OLD-7"))
        first, third = await admitted(one, "Meter 1"), await admitted(one, "Meter 3")
        await lan.add(meter(2), meter(4, "OLD-7"))
        second = await until_shown(one, "Meter 2 to wait", Name="Meter 2", State="pending")
        fourth = await until_shown(one, "Meter 4 to wait", Name="Meter 4", State="pending")
        for here, there in ((first, second), (second, first), (third, fourth), (fourth, third)):
            wanted = {"Conflict": "identity-conflict", "ConflictWith": [there]}
            await until_shown(one, f"{here} to be in conflict", Id=here, **wanted)
        warned = f"The identity of device {first} is in question"
        await one.until(lambda: logged(one, warned), "the warning")
        said = await ctl(one, "explain", first)
        assert f"gatewayctl merge {first} {second}" in said
        assert f"gatewayctl split {first} {second}" in said
        assert "serial 0815-factory" in str(
            await one.call("Consequences", "ss", first, f"Split {second}")
        )

        await ctl(one, "split", first, second, "--yes")
        assert await admitted(one, "Meter 2") == second
        await ctl(one, "merge", third, fourth, "--yes")
        await three_are_left(one, first, second, third)
        assert one.daemon is not None
        one.daemon.kill()
        await one.stop()
        await one.start()
        await three_are_left(one, first, second, third)
        await until_at(one, third, "10.77.1.3", "10.77.1.4")
        await three_are_left(one, first, second, third)
        decided = await ctl(one, "log")
        assert "split" in decided
        assert "merged" in decided


async def three_are_left(one: Site, *ids: str) -> None:
    """Wait until these and no others are there, online and without a conflict."""

    async def undisputed() -> bool:
        found = await shown(one)
        facts = {(one["State"], one["Conflict"]) for one in found.values()}
        listed = {row[0] for row in await one.call("ListDevices")}
        return set(found) == listed == set(ids) and facts == {("online", "")}

    await one.until(undisputed, f"{ids} to be all there are")


async def until_at(one: Site, child: str, *addresses: str) -> None:
    async def is_there() -> bool:
        return {*addresses} == set((await shown(one))[child]["Addresses"])

    await one.until(is_there, f"{child} to be at {addresses}")


async def logged(one: Site, text: str) -> bool:
    return text in one.log()


async def test_a_serial_that_three_show_is_a_factorys_and_each_is_a_child(tmp_path: Path) -> None:
    async with site(tmp_path, ("meter", [METER], "mac", "txt.mac")) as (one, lan):
        await lan.add(meter(1), meter(2), meter(3))
        ids = {await admitted(one, f"Meter {n}") for n in (1, 2, 3)}
        assert len(ids) == 3
        await restarted(one)
        for each in ids:
            await until_shown(one, f"{each} to be online", Id=each, State="online")
        found = await shown(one)
        assert {facts["Conflict"] for facts in found.values()} == {""}
        assert set(found) == ids


async def test_two_devices_of_one_name_are_two_children(tmp_path: Path) -> None:
    """Neither gives way, as firmware that does not probe for its name (RFC 6762, 8.1)."""
    async with (
        site(tmp_path, ("meter", [METER], "serial", "txt.serial")) as (one, lan),
        responder(one.children, CHILDREN) as others,
    ):
        await lan.add(replace(meter(1, "A-1"), instance="ESP"))
        await others.add(replace(meter(2, "A-2"), instance="ESP"))
        found = set()
        for serial in ("a-1", "a-2"):
            device = await until_shown(one, f"{serial} to be seen", Identity=f"serial {serial}")
            await one.call("Approve", "ss", device, "")
            await until_shown(one, f"{serial} to be online", Id=device, State="online")
            found.add(device)
        assert len(found) == 2


FACTS = """\
[[rule]]
name = "facts"
match = {{ service = "_meter._tcp", subnet = "10.77.0.0/16", model = "PM-9", vendor = "acme" }}
extract = {{ serial = "txt.serial" }}
action = "ask"
provider = "alibaba"
product = "{product}"
route = "direct-preregistration-free"
device_name = "facts-{{serial}}"
[[rule]]
name = "listed"
match = {{ source = "static", serial = "HAL-*" }}
extract = {{ serial = "serial", mac = "mac" }}
action = "register"
provider = "alibaba"
product = "{product}"
route = "direct-preregistration-free"
device_name = "listed-{{serial}}"
"""
LISTED = """\
[[discovery.static.devices]]
key = "hall"
serial = "HAL-7"
mac = "24:0a:c4:00:00:77"
"""


async def test_rules_match_any_address_and_the_model_that_is_shown_and_what_is_listed(
    tmp_path: Path,
) -> None:
    other = ("other", [METER], "serial", "txt.none")
    async with site(tmp_path, other, more=FACTS, listed=LISTED) as (one, lan):
        txt = {"md": "PM-9", "manufacturer": "ACME"}
        device = replace(meter(1, "A-1", **txt), address="10.9.0.1 10.77.1.60")
        await lan.add(device, replace(meter(2, "A-2", **txt), address="10.9.0.2"))
        wanted = {"Reason": "approval-required", "Model": "PM-9", "Vendor": "ACME"}
        child = await until_shown(one, "the meter to be asked for", Name="Meter 1", **wanted)
        assert set((await shown(one))[child]["Addresses"]) == {"10.9.0.1", "10.77.1.60"}
        await until_shown(one, "the other meter", Name="Meter 2", Reason="name-unusable")
        name = f"{one.plant['product']}/listed-HAL-7"
        await until_shown(one, "the listed device", State="online", CloudId=name)

"""The objects beside the manager and the children, on a real bus."""

from __future__ import annotations

import asyncio
import os
import pwd
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gatewayd.dbus.bus import Bus
from gatewayd.dbus.glib import MAX_VALUES, BusThread, Gio, Variant
from gatewayd.dbus.intake import LARGEST, STANDARD
from gatewayd.dbus.methods import (
    AUTHORITY_METHODS,
    LOG_METHODS,
    PROVIDER_METHODS,
    SECRET_STORE_METHODS,
)
from gatewayd.dbus.names import (
    AUTHORITY,
    DEVICE,
    DEVICES,
    LOG,
    PROVIDER,
    STORE,
    ObjectInterface,
    device_path,
    provider_path,
)
from gatewayd.dbus.objects import ExportedObject
from gatewayd.device.identity import DeviceId
from gatewayd.device.views import Facts, LogView, ProviderView, StoreView
from gatewayd.errors import CloudUnreachable, InvalidArgs
from gatewayd.simulator.bus import PrivateBus
from gatewayd.testing.waiting import until
from tests.dbus.support import (
    OTHERS,
    RecordingCommands,
    UnsupportedStore,
    error_of,
    recorded_signals,
    run,
    served,
    view,
)

pytestmark = pytest.mark.integration

CLOUD = ObjectInterface(provider_path("ali-1"), PROVIDER)
OWN_USER = pwd.getpwuid(os.getuid()).pw_name
VAULT = StoreView("vault", "none", "sealed", "There is no key.", n_secrets=2)


class Store(UnsupportedStore):
    """A store that can do one thing."""

    async def export(self, target: int, caller: str) -> None:
        await asyncio.to_thread(os.write, target, f"secrets for {caller}".encode())


class Cloud:
    """A cloud that is out of reach."""

    async def test(self, caller: str) -> None:
        raise CloudUnreachable("h refuses connections. Check the firewall.")


class Ca:
    """A CA that returns its arguments."""

    async def make(self, options: Mapping[str, object], caller: str) -> str:
        if "key" in options:
            raise InvalidArgs("There is no option of this name")
        return f"made with days={options['days']}"

    async def import_authority(self, source: int, caller: str) -> str:
        return (await asyncio.to_thread(os.read, source, 100)).decode()

    async def prove(self, code: str, caller: str) -> str:
        return f"{code} {caller}"

    async def list_revoked(self) -> str:
        return "lists"

    async def renew(self, device: str, caller: str) -> None:
        raise InvalidArgs(device)

    async def issue(
        self, device: str, request: str, options: Mapping[str, object], caller: str
    ) -> str:
        return f"{device} {request} {caller}"

    async def import_certificate(
        self, device: str, source: int, options: Mapping[str, object], caller: str
    ) -> Facts:
        read = (await asyncio.to_thread(os.read, source, 100)).decode()
        return {"Id": device, "Subject": f"{read} {options['product']}", "Renewing": False}

    async def remove_certificate(
        self, device: str, options: Mapping[str, object], caller: str
    ) -> None:
        raise InvalidArgs(f"{device}{options['product']}")

    async def show(self) -> Facts:
        return {"Subject": "CN=gw", "NotAfterTimestamp": 7, "Proven": True, "Names": ["a", "b"]}


class Log:
    """A log whose level is shown."""

    def __init__(self) -> None:
        self.bus: Bus | None = None

    async def set_level(self, level: str, caller: str) -> None:
        if level not in ("debug", "info"):
            raise InvalidArgs("No such level")
        assert self.bus is not None
        self.bus.show_at(LOG, LogView(level, "journal", "gatewayd"))


@pytest.fixture
async def service(bus: PrivateBus) -> AsyncIterator[Bus]:
    log, cloud = Log(), ProviderView("ali-1", "alibaba", "h:8883", "ready")
    further = (
        ExportedObject(STORE, VAULT, SECRET_STORE_METHODS.bind(Store())),
        ExportedObject(CLOUD, cloud, PROVIDER_METHODS.bind(Cloud()), "ali-1"),
        ExportedObject(
            ObjectInterface(CLOUD.path, AUTHORITY), None, AUTHORITY_METHODS.bind(Ca()), "ali-1"
        ),
        ExportedObject(ObjectInterface(provider_path("other"), PROVIDER), cloud),
        ExportedObject(LOG, LogView("info", "journal", "gatewayd"), LOG_METHODS.bind(log)),
    )
    async with served(
        bus, RecordingCommands("child-1a"), view("child-1a"), further=further, gather=0.02
    ) as up:
        log.bus = up
        yield up


class Client:
    """A client on a thread of its own, that passes descriptors too."""

    def __init__(self, thread: BusThread, bus: Any) -> None:
        self._thread, self._bus = thread, bus

    async def call(self, place: ObjectInterface, method: str, arguments: Variant, *fds: int) -> Any:
        """What a method returns, and the descriptors that came with it."""
        return await self._thread.run(self._call, place, method, arguments, fds)

    def _call(
        self, place: ObjectInterface, method: str, arguments: Variant, fds: tuple[int, ...]
    ) -> Any:
        sent = Gio.UnixFDList.new_from_array([os.dup(fd) for fd in fds])
        answer, came = self._bus.call_with_unix_fd_list_sync(
            "org.gatewayd1", place.path, place.interface, method, arguments, None,
            Gio.DBusCallFlags.NONE, 10_000, sent, None,
        )  # fmt: skip
        return answer.unpack(), came.steal_fds() if came else []


@pytest.fixture
async def client(bus: PrivateBus, service: Bus) -> AsyncIterator[Client]:
    thread = BusThread(asyncio.get_running_loop())
    thread.start()
    flags = Gio.DBusConnectionFlags
    kind = flags.AUTHENTICATION_CLIENT | flags.MESSAGE_BUS_CONNECTION
    connect = Gio.DBusConnection.new_for_address_sync
    connection = await thread.run(connect, bus.address, kind, None, None)
    yield Client(thread, connection)
    await thread.run(connection.close_sync, None)
    await thread.stop()


async def busctl(bus: PrivateBus, *words: str, prefix: tuple[str, ...] = ()) -> str:
    _, printed = await run(*prefix, "busctl", f"--address={bus.address}", *words)
    return printed.strip()


async def get(bus: PrivateBus, place: tuple[str, str], *names: str) -> str:
    return await busctl(bus, "get-property", "org.gatewayd1", *place, *names)


async def call(bus: PrivateBus, place: ObjectInterface, *words: str) -> str:
    return await busctl(bus, "call", "org.gatewayd1", *place, *words)


async def test_properties_and_their_changes(bus: PrivateBus, service: Bus) -> None:
    assert await get(bus, STORE, "State", "Explanation", "NSecrets") == (
        's "sealed"\ns "There is no key."\nu 2'
    )
    assert await get(bus, CLOUD, "Endpoint", "CertificateExpiryTimestamp") == 's "h:8883"\nt 0'
    async with recorded_signals(bus) as listener:
        service.show_at(STORE, replace(VAULT, state="unsealed", explanation="", n_secrets=5))
        await until(lambda: listener.named("PropertiesChanged"))
    ((path, result),) = listener.named("PropertiesChanged")
    assert (path, result[0]) == STORE
    assert result[1] == {"State": "unsealed", "Explanation": ""}
    assert await get(bus, STORE, "NSecrets") == "u 5"


async def test_introspection_shows_each_interface_where_it_is(
    bus: PrivateBus, service: Bus
) -> None:
    tree = await busctl(bus, "--list", "tree", "org.gatewayd1")
    assert {STORE.path, CLOUD.path, LOG.path} <= set(tree.split())
    faces = await busctl(bus, "introspect", "org.gatewayd1", CLOUD.path)
    assert "org.gatewayd1.Provider" in faces
    assert "org.gatewayd1.Authority" in faces
    other = await busctl(bus, "introspect", "org.gatewayd1", provider_path("other"))
    assert "org.gatewayd1.Authority" not in other


async def test_methods_reach_their_port(bus: PrivateBus, service: Bus) -> None:
    assert await call(bus, CLOUD, "Test") == (
        "Call failed: h refuses connections. Check the firewall."
    )
    authority = ObjectInterface(CLOUD.path, AUTHORITY)
    made = await call(bus, authority, "Make", "a{sv}", "1", "days", "u", "30")
    assert made == 's "made with days=30"'
    printed = await call(bus, authority, "Make", "a{sv}", "1", "key", "s", "x")
    assert printed == "Call failed: There is no option of this name"
    issued = await call(bus, authority, "Issue", "ssa{sv}", "child-1a", "csr", "0")
    assert issued == f's "child-1a csr {OWN_USER}"'
    shown = await call(bus, authority, "Show")
    assert shown == (
        'a{sv} 4 "Subject" s "CN=gw" "NotAfterTimestamp" t 7 "Proven" b true "Names" as 2 "a" "b"'
    )


async def test_what_cannot_be_done_is_not_supported(bus: PrivateBus, service: Bus) -> None:
    nowhere = ObjectInterface(provider_path("other"), PROVIDER)
    for location, method in ((STORE, "Rotate"), (nowhere, "Test")):
        name, _ = await error_of(bus, location, method)
        assert name == "org.freedesktop.DBus.Error.NotSupported"


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_descriptors_go_both_ways_and_none_is_left(client: Client, service: Bus) -> None:
    before = descriptors()
    for _ in range(3):
        read, write = os.pipe()
        await client.call(STORE, "Export", Variant("(h)", (0,)), write)
        os.close(write)
        with os.fdopen(read, "rb") as pipe:  # at its end: no other process can write
            text = await asyncio.to_thread(pipe.read)
        assert text.decode() == f"secrets for {OWN_USER}"
        read, write = os.pipe()
        await asyncio.to_thread(os.write, write, b"PEM")
        ca = ObjectInterface(CLOUD.path, AUTHORITY)
        assert (await client.call(ca, "Import", Variant("(h)", (0,)), read))[0] == ("PEM",)
        os.close(read)
        os.close(write)
        gateway = ObjectInterface("/org/gatewayd1", "org.gatewayd1.Manager")
        (index,), came = await client.call(gateway, "Dump", Variant("()", ()))
        with os.fdopen(came[index], "rb") as dump:
            assert await asyncio.to_thread(dump.read) == b"{}"
    await until(lambda: descriptors() <= before)


async def test_the_log_level_can_be_set_by_root(bus: PrivateBus, service: Bus) -> None:
    where = ("org.gatewayd1", *LOG)
    assert await get(bus, LOG, "LogLevel", "LogTarget", "SyslogIdentifier") == (
        's "info"\ns "journal"\ns "gatewayd"'
    )
    assert await busctl(bus, "set-property", *where, "LogLevel", "s", "debug") == ""
    assert await get(bus, LOG, "LogLevel") == 's "debug"'
    printed = await busctl(bus, "set-property", *where, "LogLevel", "s", "loud")
    assert "No such level" in printed
    printed = await busctl(bus, "set-property", *where, "LogTarget", "s", "console")
    assert "not writable" in printed
    assert await get(bus, LOG, "LogLevel") == 's "debug"'


@pytest.mark.parametrize("other", OTHERS, ids=["nobody"] * len(OTHERS))
async def test_no_other_user_sets_a_property(
    bus: PrivateBus, service: Bus, other: tuple[str, ...]
) -> None:
    where = ("org.gatewayd1", *LOG)
    printed = await busctl(bus, "set-property", *where, "LogLevel", "s", "debug", prefix=other)
    assert "denied" in printed
    assert await get(bus, LOG, "LogLevel") == 's "info"'


async def test_large_arguments_are_refused_before_they_are_kept(client: Client) -> None:
    gateway = ObjectInterface("/org/gatewayd1", "org.gatewayd1.Manager")
    for method, arguments in (
        ("GetDevice", Variant("(s)", ("x" * LARGEST,))),
        ("Discover", Variant("(uas)", (5, ["mdns"] * 2 * MAX_VALUES))),
        ("PermitJoin", Variant("(ua{sv})", (5, {"a": Variant("au", [1] * 4 * MAX_VALUES)}))),
    ):
        with pytest.raises(Exception, match="InvalidArgs"):
            await client.call(gateway, method, arguments)


async def test_descriptors_that_a_call_does_not_take_are_refused(client: Client) -> None:
    gateway = ObjectInterface("/org/gatewayd1", "org.gatewayd1.Manager")
    for place, method, arguments, count in (
        (gateway, "GetDevice", Variant("(s)", ("child-1a",)), 1),
        (STORE, "Export", Variant("(h)", (0,)), 2),
    ):
        with pytest.raises(Exception, match="InvalidArgs"):
            await client.call(place, method, arguments, *range(count))


async def test_gdbus_knows_the_children_that_were_called_and_shows_all(
    client: Client, service: Bus
) -> None:
    async def known() -> int:
        return await service._thread.run(lambda: len(service._server._registrations))

    async def described(path: str) -> str:
        place = ObjectInterface(path, "org.freedesktop.DBus.Introspectable")
        (text,), _ = await client.call(place, "Introspect", Variant("()", ()))
        return str(text)

    for number in range(3):
        service.show(view(f"child-{number}"))
    await until(lambda: not service._views)
    assert await known() == 0
    properties = ObjectInterface(device_path("child-2"), "org.freedesktop.DBus.Properties")
    (shown,), _ = await client.call(properties, "GetAll", Variant("(s)", (DEVICE,)))
    assert (shown["Id"], await known()) == ("child-2", 1)

    (found,) = re.findall(r'<node name="(child.*1)"', await described(DEVICES))
    assert (f"{DEVICES}/{found}", await known()) == (device_path("child-1"), 4)
    service.remove(DeviceId("child-1"))
    async with asyncio.timeout(60):
        while await known() > 3:  # it is removed on the D-Bus thread
            await asyncio.sleep(0.01)
    names = re.findall(r'<node name="(child[^"]*)"', await described(DEVICES))
    assert (sorted(names), await known()) == (["child_2d0", "child_2d1a", "child_2d2"], 3)
    assert DEVICE not in await described(device_path("child-1"))


async def test_a_client_that_looks_at_many_objects_is_not_taken_for_a_flood(
    client: Client, service: Bus
) -> None:
    introspectable = "org.freedesktop.DBus.Introspectable"
    place = ObjectInterface("/org/gatewayd1/device/child_2d1a", introspectable)
    for _ in range(2 * STANDARD.messages_of_one):  # GDBus answers them on its own thread
        (described,), _ = await client.call(place, "Introspect", Variant("()", ()))
        assert "org.gatewayd1.Device" in described

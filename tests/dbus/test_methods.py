"""The tables of methods, against the interfaces' own files and the ports."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import pytest

from gatewayd.dbus import methods, ports
from gatewayd.dbus.interfaces import load_all
from gatewayd.dbus.methods import (
    AUTHORITY_METHODS,
    BROKER_METHODS,
    CREDENTIAL_METHODS,
    DEVICE_METHODS,
    LOG_METHODS,
    MANAGER_METHODS,
    MESSAGE_METHODS,
    METHOD_TABLES,
    PROVIDER_METHODS,
    SECRET_STORE_METHODS,
    SITE_METHODS,
    Method,
    MethodArguments,
    MethodTable,
    variants,
)
from gatewayd.dbus.names import DEVICE, LOG_CONTROL, MANAGER, MESSAGES, OBJECT_MANAGER
from gatewayd.device.decision_log import DecisionKind
from gatewayd.errors import InvalidArgs

SERVED_FROM_VIEWS = {
    (MANAGER, "ListDevices"), (MANAGER, "ListDevicesFiltered"), (MANAGER, "CountDevices"),
    (MANAGER, "ListNextAttempts"),
    (OBJECT_MANAGER, "GetManagedObjects"), (MESSAGES, "ListChildren"),
}  # fmt: skip
"""Answered on the D-Bus thread."""
WRITABLE = {(LOG_CONTROL, "LogLevel")}
PORTS: Mapping[MethodTable[Any], Any] = {
    MANAGER_METHODS: ports.ManagerCommands, DEVICE_METHODS: ports.ManagerCommands,
    SECRET_STORE_METHODS: ports.StoreCommands, PROVIDER_METHODS: ports.ProviderCommands,
    AUTHORITY_METHODS: ports.AuthorityCommands, LOG_METHODS: ports.LogCommands,
    MESSAGE_METHODS: ports.MessageCommands, BROKER_METHODS: ports.BrokerCommands,
    CREDENTIAL_METHODS: ports.CredentialCommands, SITE_METHODS: ports.OwnershipCommands,
}  # fmt: skip
EXAMPLES: Mapping[str, object] = {"s": "text", "u": 7, "h": 3, "as": ["a", "b"], "a{sv}": {}}
INTERFACES = load_all()
METHODS = [(table, method) for table in METHOD_TABLES for method in table]


class SignaturePort:
    """A port whose methods take what the protocol declares; other arguments raise TypeError."""

    def __init__(self, protocol: type) -> None:
        self._protocol = protocol
        self.calls: list[tuple[str, tuple[object, ...]]] = []

    def __getattr__(self, name: str) -> Any:
        declared = getattr(self._protocol, name)
        nothing = {} if inspect.signature(declared).return_annotation == "Facts" else ""

        def call(*arguments: object) -> object:
            inspect.signature(declared).bind(self, *arguments)
            self.calls.append((name, arguments))
            if inspect.iscoroutinefunction(declared):
                return result()
            return nothing

        async def result() -> object:
            return nothing

        return call


def test_every_method_is_served_in_one_way() -> None:
    served = [(table.interface, method.name) for table, method in METHODS]
    assert len(served) == len(set(served))
    assert not set(served) & SERVED_FROM_VIEWS
    described = {(one.name, method) for one in INTERFACES.values() for method in one.results}
    assert described == set(served) - WRITABLE | SERVED_FROM_VIEWS


NO_DECISION = {"Retry", "Discover", "Test", "LogLevel", "Renew", "Prove", "ListDecisions"}
"""What needs authorization and decides nothing that anyone asks about later."""


def test_every_method_that_changes_something_is_logged() -> None:
    for _, method in METHODS:
        expected = method.permission is not methods.EVERYBODY and method.name not in NO_DECISION
        assert (method.logged is not None) == expected, method.name


def test_a_note_is_a_text_or_seconds() -> None:
    for table, method in METHODS:
        note = method.logged.note if method.logged else None
        if isinstance(note, int):
            info = INTERFACES[table.interface].info.lookup_method(method.name)
            own = ["s"] if table.interface == DEVICE else []
            assert [*own, *(a.signature for a in info.in_args)][note] in ("s", "u")


def test_no_method_shares_a_name_with_a_property() -> None:
    for interface in INTERFACES.values():
        assert not set(interface.results) & set(interface.properties)


def test_no_property_can_be_written_but_the_log_level() -> None:
    written = {(one.name, p.name) for one in INTERFACES.values()
               for p in one.info.properties if int(p.flags) != 1}  # fmt: skip  # READABLE
    assert written == WRITABLE


@pytest.mark.parametrize(
    ("table", "method"), METHODS, ids=[f"{t.interface}.{m.name}" for t, m in METHODS]
)
async def test_a_method_passes_the_arguments_that_the_file_names(
    table: MethodTable[Any], method: Method[Any]
) -> None:
    info = next(
        (m for m in INTERFACES[table.interface].info.methods if m.name == method.name), None
    )
    signatures = [a.signature for a in info.in_args] if info is not None else ["s"]
    own = ["s"] if table.interface == DEVICE else []
    values = [EXAMPLES[signature] for signature in own + signatures]
    port = SignaturePort(PORTS[table])
    await table.bind(port)[method.name].run(MethodArguments(values, "olga"))
    ((name, passed),) = port.calls
    takes_caller = "caller" in inspect.signature(getattr(PORTS[table], name)).parameters
    expected = [value for value in values if value != {} or name != "reregister"]
    assert list(passed) == expected + ["olga"] * takes_caller


def test_an_argument_of_another_type_is_a_fault() -> None:
    arguments = MethodArguments(["text", 7], "olga")
    for wrong in (
        lambda: arguments.number(0),
        lambda: arguments.text(1),
        lambda: arguments.texts(0),
    ):
        with pytest.raises(TypeError):
            wrong()


async def test_reregister_takes_no_options() -> None:
    port = SignaturePort(ports.ManagerCommands)
    arguments = MethodArguments(["a", "a", {"force": True}], "olga")
    with pytest.raises(InvalidArgs):
        await MANAGER_METHODS.bind(port)["Reregister"].run(arguments)
    assert not port.calls


def test_without_an_implementation_nothing_is_served() -> None:
    assert SECRET_STORE_METHODS.bind(None) == {}


@pytest.mark.parametrize(("fact", "signature"), [
    ("x", "s"), (7, "t"), (True, "b"), (["a"], "as"), ((), "as"),
])  # fmt: skip
def test_facts_have_their_types(fact: Any, signature: str) -> None:
    (value,) = variants({"x": fact}).values()
    assert value.get_type_string() == signature
    assert value.unpack() == (list(fact) if isinstance(fact, tuple) else fact)


def test_no_kind_of_decision_is_without_what_logs_it() -> None:
    assert {method.logged.kind for _, method in METHODS if method.logged} == set(DecisionKind)

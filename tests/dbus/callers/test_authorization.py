"""Who may change something: what polkit is asked, and how its answer is read."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from gatewayd.dbus.callers import authorization as auth
from gatewayd.dbus.callers.authorization import (
    INTERACTIVE_PATIENCE_MS,
    PATIENCE_MS,
    AuthorizationRequest,
    AuthorizationResult,
    Polkit,
)
from gatewayd.dbus.glib import NO_REPLY, MethodReply, RemoteCaller, RemoteMethod, Variant
from gatewayd.dbus.interfaces import SERVED, load
from gatewayd.dbus.methods import (
    CONFIGURE,
    LOG_METHODS,
    METHOD_TABLES,
    PERMIT_JOIN,
    ROOT_ONLY,
    Permission,
)
from gatewayd.dbus.names import AUTHORITY, BROKER, CREDENTIALS, DEVICE, MANAGER, MESSAGES
from gatewayd.errors import AccessDenied, InteractionRequired

POLKIT = Path(__file__).parents[3] / "packaging/polkit"
BUS_POLICY = POLKIT.parent / "dbus/org.gatewayd1.conf"
ACTIONS = ET.parse(POLKIT / "org.gatewayd1.policy").getroot().findall("action")  # noqa: S314  # ours
RULE = (POLKIT / "org.gatewayd1.rules").read_text()
OPERATORS = {"approve-device", "permit-join", "manage-devices", "read-log"}
PERMISSIONS = {
    (table.interface, method.name): method.permission
    for table in METHOD_TABLES
    for method in table
    if method.permission is not None
}
APPROVE = Permission("org.gatewayd1.approve-device", device=0, provider=1)
REQUEST = AuthorizationRequest(
    ":1.7", "org.gatewayd1.forget-device", {"device": "cam-1"}, interactive=True
)


def test_the_bus_lets_every_user_call_each_interface_that_has_methods() -> None:
    (everybody,) = ET.parse(BUS_POLICY).getroot().findall("policy[@context='default']")  # noqa: S314  # ours
    allowed = {one.get("send_interface") for one in everybody.findall("allow")}
    assert {name for name in SERVED if load(name).info.methods} <= allowed


def test_the_log_level_is_for_root_only() -> None:
    assert [method.permission for method in LOG_METHODS] == [ROOT_ONLY]


@pytest.mark.parametrize(("result", "expected"), [
    (AuthorizationResult.CHALLENGE, InteractionRequired),
    (AuthorizationResult.NOT_AUTHORIZED, AccessDenied),
    (AuthorizationResult.NO_ANSWER, AccessDenied),
])  # fmt: skip
def test_one_result_alone_authorizes(
    result: AuthorizationResult, expected: type[Exception]
) -> None:
    auth.demand(AuthorizationResult.AUTHORIZED, "x")
    with pytest.raises(expected, match=r"org\.gatewayd1\.forget-device"):
        auth.demand(result, REQUEST.action)


def test_children_and_clouds_are_named_where_they_are_arguments() -> None:
    for (interface, name), permission in PERMISSIONS.items():
        methods = {m.name: m for m in load(interface).info.methods}
        own = ["id"] if interface == DEVICE else []
        arguments = own + [a.name for a in methods[name].in_args] if name in methods else []
        named = {"id": permission.device, "provider": permission.provider}
        for argument, position in named.items():
            assert position == (arguments.index(argument) if argument in arguments else None)
    assert {i for (i, _), p in PERMISSIONS.items() if p.device is not None} == {
        MANAGER, DEVICE, AUTHORITY, BROKER, CREDENTIALS, MESSAGES,
    }  # fmt: skip


@pytest.mark.parametrize(("permission", "arguments", "provider", "expected"), [
    (APPROVE, ("cam", "alibaba"), "", {"device": "cam-1", "provider": "alibaba"}),
    (APPROVE, ("cam", "\x1b[31m"), "", {"device": "cam-1"}),
    (CONFIGURE, (), "huawei", {"provider": "huawei"}),
    (CONFIGURE, (), "", {}),
])  # fmt: skip
def test_details_for_polkit(
    permission: Permission, arguments: tuple[str, ...], provider: str, expected: object
) -> None:
    device = "cam-1" if auth.device_name(permission, arguments) else ""
    assert auth.details(permission, arguments, device, provider) == expected


def test_the_gateway_itself_is_rejected_by_an_administrator_alone() -> None:
    for interface in (MANAGER, DEVICE):
        permission = PERMISSIONS[interface, "Reject"]
        assert permission.action_on("gateway-west") == "org.gatewayd1.reject-gateway"
        assert permission.action_on("child-1a") == "org.gatewayd1.manage-devices"
        assert permission.action_on("") == "org.gatewayd1.manage-devices"
    assert APPROVE.action_on("gateway-west") == APPROVE.action


def test_the_name_of_a_device() -> None:
    assert auth.device_name(APPROVE, ("cam", "")) == "cam"
    assert auth.device_name(PERMIT_JOIN, (60, {})) == ""


def test_polkit_knows_the_actions_and_no_others() -> None:
    used = {
        action
        for permission in PERMISSIONS.values()
        for action in (permission.action, permission.gateway)
        if action
    }
    assert {action.get("id") for action in ACTIONS} == used


@pytest.mark.parametrize("action", ACTIONS, ids=lambda a: str(a.get("id")))
def test_each_action_belongs_to_us_and_needs_an_administrator(action: ET.Element) -> None:
    annotations = {a.get("key"): a.text for a in action.findall("annotate")}
    assert annotations == {"org.freedesktop.policykit.owner": "unix-user:gatewayd"}
    defaults = [d.text for d in action.iterfind("defaults/*")]
    assert defaults[:2] == ["auth_admin", "auth_admin"]
    name = str(action.get("id")).rpartition(".")[2]
    keeps = name in OPERATORS | {"configure", "move-device"}
    assert defaults[2] == ("auth_admin_keep" if keeps else "auth_admin")
    assert action.findtext("message")
    assert (f'"{action.get("id")}"' in RULE) is (name in OPERATORS)


class FakeRemote(RemoteCaller):
    """Records what is called; a test sets the reply."""

    def __init__(self) -> None:
        self.called: list[tuple[str, Any, int]] = []
        self.reply: asyncio.Future[MethodReply] = asyncio.get_running_loop().create_future()

    async def call(
        self, method: RemoteMethod, arguments: Variant, patience: int, *, activate: bool = True
    ) -> MethodReply:
        self.called.append((method.name, arguments.unpack(), patience))
        return await self.reply

    def send(self, method: RemoteMethod, arguments: Variant) -> None:
        self.called.append((method.name, arguments.unpack(), 0))


async def check(reply: MethodReply, *, interactive: bool = True) -> tuple[FakeRemote, object]:
    """What is called, and the result."""
    remote = FakeRemote()
    remote.reply.set_result(reply)
    request = AuthorizationRequest(":1.7", "a", {}, interactive)
    return remote, await Polkit(remote, lambda: "c1").check(request)


@pytest.mark.parametrize(("values", "expected"), [
    (((True, False, {}),), AuthorizationResult.AUTHORIZED),
    (((True, True, {}),), AuthorizationResult.AUTHORIZED),
    (((False, True, {}),), AuthorizationResult.CHALLENGE),
    (((False, False, {}),), AuthorizationResult.NOT_AUTHORIZED),
    (None, AuthorizationResult.NO_ANSWER), ((), AuthorizationResult.NO_ANSWER),
    (("yes",), AuthorizationResult.NO_ANSWER),
])  # fmt: skip
def test_results(values: tuple[Any, ...] | None, expected: AuthorizationResult) -> None:
    assert auth.parse_result(values) is expected


def test_the_caller_is_named_by_its_name_on_the_bus() -> None:
    arguments = auth.check_arguments(REQUEST, "c1")
    assert arguments.get_type_string() == "((sa{sv})sa{ss}us)"
    subject = ("system-bus-name", {"name": ":1.7"})
    assert arguments.unpack() == (subject, REQUEST.action, {"device": "cam-1"}, 1, "c1")


@pytest.mark.parametrize(("interactive", "flags", "patience"), [
    (True, 1, INTERACTIVE_PATIENCE_MS), (False, 0, PATIENCE_MS),
])  # fmt: skip
async def test_a_password_is_asked_for_only_where_the_caller_allows_it(
    interactive: bool, flags: int, patience: int
) -> None:
    remote, result = await check(MethodReply(((True, False, {}),)), interactive=interactive)
    assert result is AuthorizationResult.AUTHORIZED
    ((name, arguments, waited),) = remote.called
    assert (name, arguments[3], waited) == ("CheckAuthorization", flags, patience)


async def test_a_prompt_without_an_answer_is_withdrawn() -> None:
    remote, result = await check(MethodReply(None, NO_REPLY))
    assert result is AuthorizationResult.NO_ANSWER
    assert remote.called[1][:2] == ("CancelCheckAuthorization", ("c1",))


async def test_a_prompt_that_is_not_awaited_is_withdrawn() -> None:
    remote = FakeRemote()
    checking = asyncio.create_task(Polkit(remote, lambda: "c1").check(REQUEST))
    await asyncio.sleep(0)
    checking.cancel()
    await asyncio.gather(checking, return_exceptions=True)
    assert remote.called[1][:2] == ("CancelCheckAuthorization", ("c1",))


async def test_an_absent_polkit_does_not_authorize() -> None:
    remote, result = await check(MethodReply(None, "org.freedesktop.DBus.Error.ServiceUnknown"))
    assert result is AuthorizationResult.NO_ANSWER
    assert len(remote.called) == 1

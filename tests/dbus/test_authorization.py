"""Who may change something, and what polkit is told of it."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from gatewayd.dbus import authorization as auth
from gatewayd.dbus.authorization import AuthorizationResult
from gatewayd.dbus.names import AUTHORITY, CHANGES, DEVICE, LOG_CONTROL, MANAGER, PROVIDER, load
from gatewayd.errors import AccessDenied, InteractionRequired

POLKIT = Path(__file__).parents[2] / "packaging/polkit"
ACTIONS = ET.parse(POLKIT / "org.gatewayd1.policy").getroot().findall("action")  # noqa: S314  # ours
RULE = (POLKIT / "org.gatewayd1.rules").read_text()
FORGET = (MANAGER, "Forget")
OPERATORS = {"approve-device", "permit-join", "manage-devices"}


def test_every_change_has_its_action() -> None:
    assert set(auth.ACTIONS) == set(CHANGES)


def test_what_is_not_in_the_table_nobody_may() -> None:
    with pytest.raises(AccessDenied, match="Nobody"):
        auth.action((MANAGER, "Explode"))


def test_the_log_is_roots_alone() -> None:
    with pytest.raises(AccessDenied, match="Only root"):
        auth.action((LOG_CONTROL, "LogLevel"))


@pytest.mark.parametrize(("answer", "expected"), [
    (AuthorizationResult.CHALLENGE, InteractionRequired), (AuthorizationResult.NO, AccessDenied),
    (AuthorizationResult.SILENCE, AccessDenied),
])  # fmt: skip
def test_only_yes_is_yes(answer: AuthorizationResult, expected: type[Exception]) -> None:
    auth.demand(AuthorizationResult.YES, "x")
    with pytest.raises(expected, match=r"org\.gatewayd1\.forget-device"):
        auth.demand(answer, auth.action(FORGET))


def test_children_and_clouds_are_named_where_they_are_arguments() -> None:
    for names, position in ((auth.DEVICE_FIRST, 0), (auth.PROVIDER_SECOND, 1)):
        for interface, method in names:
            (info,) = (m for m in load(interface).info.methods if m.name == method)
            arguments = ["id"] * (interface == DEVICE) + [a.name for a in info.in_args]
            assert arguments[position] == ("id", "provider")[position]
    first = {(i, m.name) for i in (MANAGER, AUTHORITY) for m in load(i).info.methods
             if m.in_args and m.in_args[0].name == "id"}  # fmt: skip
    assert first & set(CHANGES) == {key for key in auth.DEVICE_FIRST if key[0] != DEVICE}


def test_details_for_polkit() -> None:
    approve = (MANAGER, "Approve")
    assert auth.details(approve, ("cam", "alibaba"), "cam-1", "") == {
        "device": "cam-1", "provider": "alibaba",
    }  # fmt: skip
    assert auth.details(approve, ("cam", "\x1b[31m"), "cam-1", "") == {"device": "cam-1"}
    assert auth.details((PROVIDER, "Test"), (), "", "huawei") == {"provider": "huawei"}
    assert auth.details((MANAGER, "Reload"), (), "", "") == {}
    assert auth.named(approve, ("cam", "")) == "cam"
    assert auth.named((MANAGER, "PermitJoin"), (60, {})) == ""


def test_polkit_knows_the_actions_and_no_others() -> None:
    asked = {action for action in auth.ACTIONS.values() if action != auth.ROOT_ALONE}
    assert {action.get("id") for action in ACTIONS} == asked


@pytest.mark.parametrize("action", ACTIONS, ids=lambda a: str(a.get("id")))
def test_each_action_belongs_to_us_and_wants_an_administrator(action: ET.Element) -> None:
    annotations = {a.get("key"): a.text for a in action.findall("annotate")}
    assert annotations == {"org.freedesktop.policykit.owner": "unix-user:gatewayd"}
    defaults = [d.text for d in action.iterfind("defaults/*")]
    assert defaults[:2] == ["auth_admin", "auth_admin"]
    name = str(action.get("id")).rpartition(".")[2]
    keeps = name in OPERATORS | {"configure"}
    assert defaults[2] == ("auth_admin_keep" if keeps else "auth_admin")
    assert action.findtext("message")
    assert (f'"{action.get("id")}"' in RULE) is (name in OPERATORS)

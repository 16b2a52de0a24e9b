"""Who may do what over D-Bus: everybody looks, an operator admits, root alone destroys."""

from __future__ import annotations

import pytest

from gatewayd.simulator.site import MANAGER
from tests.system.conftest import CHILDREN
from tests.system.gateway import BUSCTL, Gateway

pytestmark = pytest.mark.system

OPERATOR, STRANGER = "olga", "mallory"
SET_LEVEL = (
    *BUSCTL, "set-property", "org.gatewayd1", "/org/freedesktop/LogControl1",
    "org.freedesktop.LogControl1", "LogLevel", "s", "debug",
)  # fmt: skip


@pytest.fixture
def staffed(new: Gateway) -> Gateway:
    """A gateway whose children wait for a yes, with an operator and somebody else."""
    new.box.run("useradd", "--groups", "gatewayd-operator", OPERATOR)
    new.box.run("useradd", STRANGER)
    new.configure(action="ask")
    new.box.until(lambda: new.counts().get("pending") == CHILDREN, "the children to wait")
    return new


def _refused(gateway: Gateway, user: str, method: str, *arguments: str) -> str:
    return gateway.refused(*BUSCTL, "call", *MANAGER, method, *arguments, user=user)


def test_everybody_looks_an_operator_admits_and_root_alone_destroys(staffed: Gateway) -> None:
    _everybody_looks(staffed)
    _an_operator_opens_the_window_and_destroys_nothing(staffed)
    _an_operator_admits_and_a_stranger_looks_on(staffed)
    _root_destroys(staffed)


def _everybody_looks(staffed: Gateway) -> None:
    child = min(staffed.children())
    for user in (OPERATOR, STRANGER):
        assert staffed.property("NPending", user=user) == CHILDREN
        assert len(staffed.box.run("gatewayctl", "list", user=user).splitlines()) == CHILDREN + 1
        assert staffed.box.run("gatewayctl", "explain", child, user=user)
        waiting = ("ListDevicesFiltered", "a{sv}su", "1", "state", "s", "pending", "", "50")
        assert len(staffed.call(*waiting, user=user)) == CHILDREN
        assert staffed.call("DescribeDevice", "s", child, user=user)["State"]["data"] == "pending"
        path = staffed.call("GetDevice", "s", child, user=user)
        shown = staffed.box.run(*BUSCTL, "introspect", "org.gatewayd1", path, user=user)
        assert '"awaiting-approval"' in shown
        cloud = ("/org/gatewayd1/provider/alibaba", "org.gatewayd1.Provider", "Kind")
        told = staffed.box.run(*BUSCTL, "get-property", "org.gatewayd1", *cloud, user=user)
        assert told == 's "alibaba"'


def _an_operator_admits_and_a_stranger_looks_on(staffed: Gateway) -> None:
    children = sorted(staffed.children())
    for child in children:
        told = _refused(staffed, STRANGER, "Approve", "ss", child, "")
        assert "org.gatewayd1.approve-device" in told
        assert staffed.children()[child] == "pending"
        staffed.call("Approve", "ss", child, "", user=OPERATOR)
    staffed.await_online(CHILDREN)
    told = _refused(staffed, OPERATOR, "Approve", "ss", children[0], "")
    assert f"{children[0]} is online, not pending" in told
    staffed.await_entry(f"Approved by {OPERATOR}")


def _an_operator_opens_the_window_and_destroys_nothing(staffed: Gateway) -> None:
    child = min(staffed.children())
    window = ("PermitJoin", "ua{sv}", "60", "1", "interface", "s", "lan0")
    assert "org.gatewayd1.permit-join" in _refused(staffed, STRANGER, *window)
    staffed.call(*window, user=OPERATOR)
    assert staffed.property("JoinState") == "open"

    assert "org.gatewayd1.forget-device" in _refused(staffed, OPERATOR, "Forget", "s", child)
    again = ("Reregister", "ssa{sv}", child, child, "0")
    assert "org.gatewayd1.reregister-device" in _refused(staffed, OPERATOR, *again)
    assert "org.gatewayd1.configure" in _refused(staffed, OPERATOR, "Reload")
    assert child in staffed.children()
    assert "ccess denied" in staffed.refused(*SET_LEVEL, user=OPERATOR)


def _root_destroys(staffed: Gateway) -> None:
    staffed.call("Reload")
    staffed.call("Forget", "s", min(staffed.children()))
    staffed.box.run(*SET_LEVEL)
    staffed.refused("busctl", "set-property", *MANAGER, "State", "s", "running")

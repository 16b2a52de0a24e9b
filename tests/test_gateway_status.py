"""What the gateway reports of itself, gathered from the parts that know it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

from gatewayd import __version__
from gatewayd.cloud.provider import ProviderStatus
from gatewayd.device.identity import DeviceId
from gatewayd.device.lifecycle import State
from gatewayd.device.reason import NONE, Reason
from gatewayd.device.views import (
    MessageCounts,
    MessageStatistics,
    MessagesView,
    ShardView,
    SiteMode,
    SiteView,
)
from gatewayd.gateway_status import GatewayStatus
from gatewayd.secretstore.store import Protection, StoreState
from tests.support.fakes import MemoryRecords

NOW, DAY = 1_764_444_000_000_000, 86_400_000_000
COUNTS = MessageCounts(waiting=3, bytes=300)


class FakeProvider:
    """A provider that knows when a certificate ends.  Implements SupportsStatus."""

    def __init__(self, expiry: int) -> None:
        self._expiry = expiry

    def status(self) -> ProviderStatus:
        return ProviderStatus(certificate_expiry=self._expiry)


def status(providers: dict[str, object], **states: State) -> GatewayStatus:
    """The status of a gateway with these clouds, and children in these states."""
    children = {
        DeviceId(name.replace("_", "-")): SimpleNamespace(state=state, reason=NONE)
        for name, state in states.items()
    }
    store = SimpleNamespace(state=StoreState.UNSEALED, protection=Protection.KEYRING)
    parts: Any = {
        "config": None, "monitor": None, "window": None, "discovery_counters": dict,
        "statistics": None, "started": 0, "log_target": "console", "wall": lambda: NOW,
        "faults": tuple, "children": children, "providers": providers,
        "storage": SimpleNamespace(store=store, sealed=False, degraded=False, faults=()),
        "messages": SimpleNamespace(total=lambda: COUNTS),
    }  # fmt: skip
    return GatewayStatus(**parts)


def test_facts() -> None:
    providers = {
        "a": FakeProvider(0),
        "b": FakeProvider(NOW + DAY),
        "c": FakeProvider(NOW + 9 * DAY),
    }
    found = status(
        cast("dict[str, object]", providers),
        gateway_a=State.ONLINE, child_1=State.ONLINE, child_2=State.PENDING,
    ).facts()  # fmt: skip
    assert found.version == __version__
    assert (found.state, found.store, found.protection) == (
        "running",
        "unsealed",
        Protection.KEYRING,
    )
    assert list(found.children) == [State.ONLINE, State.PENDING]
    assert (found.messages, found.certificate_expiry, found.now) == (COUNTS, NOW + DAY, NOW)


def test_what_waits_for_a_restart_is_in_the_line() -> None:
    waiting = replace(status({}), restart_needed=lambda: ("clouds", "bus"))
    assert waiting.line().endswith("restart needed for clouds and bus")
    assert "restart" not in status({}).line()


def test_children_that_are_logged_in_elsewhere_are_counted() -> None:
    one = status({}, child_1=State.ONLINE, child_2=State.ONLINE, child_3=State.ONLINE)
    codes = ("session-yielded", "session-taken-over", "throttled")
    for child, code in zip(one.children.values(), codes, strict=True):
        child.reason = Reason(code)
    assert (one.site_view().yielded, one.site_view().contested) == (1, 2)


def test_a_site_on_etcd_is_in_the_line() -> None:
    view = SiteView(mode=SiteMode.ETCD, name="plant", shards=(ShardView(0),), owned=1)
    shown = replace(status({}), site=lambda: view)
    assert shown.line().endswith("site plant: 1 of 1 shards, 0 of 0 gateways live")


def test_a_gateway_without_certificates() -> None:
    assert status({"a": object()}).facts().certificate_expiry == 0


def test_which_of_its_own_devices_are_online() -> None:
    one = status(
        {"a": object(), "b": object(), "c": object()},
        gateway_a=State.ONLINE, gateway_b=State.OFFLINE, gateway_other=State.ONLINE,
        child_1=State.ONLINE,
    )  # fmt: skip
    assert list(one.online_gateways()) == ["gateway-a"]


def test_figures_leave_out_the_gateways_own_devices() -> None:
    one = status(
        {"a": object(), "b": object()},
        gateway_a=State.ONLINE, child_1=State.PENDING, child_2=State.DISCOVERED,
        child_3=State.PENDING,
    )  # fmt: skip
    messages: Any = SimpleNamespace(view=MessagesView, statistics=MessageStatistics)
    config: Any = SimpleNamespace(clouds=(), store=SimpleNamespace(kind="vault"))
    statistics: Any = SimpleNamespace(secrets=7)
    monitor: Any = SimpleNamespace(contents=None)
    storage: Any = SimpleNamespace(**vars(one.storage), records=MemoryRecords())
    found = replace(
        one,
        messages=messages,
        config=config,
        statistics=statistics,
        monitor=monitor,
        storage=storage,
    ).figures()
    assert found.children == {("", "pending"): 2, ("", "discovered"): 1}
    assert (found.pending, found.discovered) == (["child-1", "child-3"], ["child-2"])
    assert found.own == {"a": True}
    assert (found.store, found.secrets, found.now) == ("unsealed", 7, NOW)

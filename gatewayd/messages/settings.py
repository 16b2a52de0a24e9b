"""The settings of messages: what is kept of them, for how long, and how they leave."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gatewayd.device.message import Acceptance, AfterOutage, OnFull
from gatewayd.messages.broker.settings import BrokerSettings
from gatewayd.messages.door_settings import DoorSettings, door_name_problem
from gatewayd.settings.declare import setting, table

KIB, MIB = 1024, 1024 * 1024
SHORTEST_REPORT = 10
"""Seconds between two reports of the gateway itself, at least."""


@dataclass(frozen=True, slots=True)
class ChildMessageSettings:
    """[messages.child]"""

    share: int = setting(
        16 * MIB,
        "what is kept of one child's messages; 48 bytes a message count for storing it",
        unit="bytes", low=64 * KIB, high=100_000_000_000,
    )  # fmt: skip
    rate: float = setting(
        50.0,
        "messages of one child in a second, and ten times as many at once; more are dropped, but "
        "for what a broker has kept while gatewayd was away",
        low=0.01, high=10_000,
    )  # fmt: skip
    window: int = setting(
        8, "messages of one child under way to the cloud", low=1, high=100
    )  # fmt: skip
    on_full: OnFull = setting(
        OnFull.DROP_OLDEST,
        "what is dropped where there is no room: the child's oldest message, or the new one",
        choices=tuple(OnFull),
    )
    after_outage: AfterOutage = setting(
        AfterOutage.LIVE_FIRST,
        "what leaves first after an outage: new messages, or those that have waited",
        choices=tuple(AfterOutage),
    )
    accepted: Acceptance = setting(
        Acceptance.PUBACK,
        "what counts as the cloud's receipt: MQTT's acknowledgement, or the cloud's own reply, "
        "where it sends one",
        choices=tuple(Acceptance),
    )
    down_keep: float = setting(
        3600.0,
        "how long a message of the cloud, which awaits no answer, may wait at gatewayd's own "
        "broker for a child that is away, and has a session there; commands never wait longer than "
        "their cloud",
        unit="s", low=3, high=604_800,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class CloudBudget:
    """[messages.clouds.NAME]"""

    bytes_per_day: int = setting(
        0,
        "bytes that messages may cost on the way to this cloud in a day, UTC, where 100 a message "
        "count for headers; later ones wait for the next day; 0 for any",
        unit="bytes", low=0, high=100_000_000_000,
    )  # fmt: skip
    messages_per_day: int = setting(
        0,
        "messages that are sent to this cloud in a day, UTC; later ones wait for the next day; "
        "0 for any",
        low=0, high=10**9,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class MessageSettings:
    """[messages]"""

    enabled: bool = setting(
        False,
        "whether children can send messages to their clouds through gatewayd; those that wait are "
        "on the disk, not encrypted",
    )
    keep: int = setting(
        256 * MIB,
        "what is kept of all children's messages, and never more than half of what is free on the "
        "disk at the start",
        unit="bytes", low=MIB, high=100_000_000_000,
    )  # fmt: skip
    keep_age: float = setting(
        604_800.0, "how long a message is kept", unit="s", low=60, high=31_536_000
    )
    commit_delay: float = setting(
        0.02,
        "how long a message waits for others, to be written to the disk with them; a longer wait "
        "spares the processor and a flash disk",
        unit="s", low=0, high=1,
    )  # fmt: skip
    report_gateway: float = setting(
        0.0,
        "how often the gateway reports itself where a cloud knows it as a device: version, "
        "children by state, what waits, store and certificates; 0 for never",
        unit="s", low=0, high=604_800,
    )  # fmt: skip
    child: ChildMessageSettings = table(ChildMessageSettings)
    broker: BrokerSettings = table(BrokerSettings)
    doors: Mapping[str, DoorSettings] = table(dict)
    clouds: Mapping[str, CloudBudget] = table(dict)

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with the settings as a whole."""
        if self.child.share > self.keep:
            yield "child.share is more than keep, which is for all children: lower it"
        yield from filter(None, map(door_name_problem, self.doors))
        if 0 < self.report_gateway < SHORTEST_REPORT:
            yield f"report_gateway is less than {SHORTEST_REPORT} s: raise it, or set it to 0"

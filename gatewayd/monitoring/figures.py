"""The figures of the gateway at one moment: plain data, of which metrics and notices are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gatewayd.device.identity import DeviceId
from gatewayd.device.views import (
    ALONE_VIEW,
    CommandStatistics,
    DoorView,
    MessageStatistics,
    ProviderView,
    SiteView,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayFigures:
    """The figures of the gateway.  Times are microseconds since the epoch.

    now, started: the time of these figures, and of the daemon's start.
    state, store: words of the gateway and of its secret store.
    explanation: a sentence, why the store is not as it should be; "" where it is.
    children: how many there are, by cloud ("" for none) and state, without the gateway's own.
    pending: those that wait for an operator.  discovered: those that are being judged.
    own: whether the gateway's own device is online, by cloud; only clouds that have one.
    messages, doors, commands: what is on its way.
    discovery: the counters of discovery, as "mdns:dropped:oversized".
    """

    now: int
    started: int
    version: str
    state: str
    store: str
    explanation: str = ""
    secrets: int = 0
    children: Mapping[tuple[str, str], int] = field(default_factory=dict)
    pending: Sequence[DeviceId] = ()
    discovered: Sequence[DeviceId] = ()
    clouds: Sequence[ProviderView] = ()
    own: Mapping[str, bool] = field(default_factory=dict)
    messages: MessageStatistics = field(default_factory=MessageStatistics)
    doors: Sequence[DoorView] = ()
    commands: CommandStatistics = field(default_factory=CommandStatistics)
    discovery: Mapping[str, int] = field(default_factory=dict)
    site: SiteView = ALONE_VIEW

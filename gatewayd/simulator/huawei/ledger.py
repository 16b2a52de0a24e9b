"""The ledgers of devices: what happened between them and a simulated Huawei instance."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from gatewayd.simulator.huawei.exchange.product_model import Misfit

MAX_LEDGERS, REMEMBERED = 200_000, 100
_SHOWN = 200
"""Characters of a reason that are kept."""


@dataclass(slots=True)
class HuaweiDeviceLedger:
    """The counts of one device.

    registrations: all; self_registrations: those by itself.
    certificates: SHA-256 of those it has logged in with, the newest last.
    refused: logins, by CONNACK code.  reasons: likewise, by reason.
    lasting: logins with a session that is not clean.
    takeovers: connections that ended an older one.
    reports: of its status, by a gateway.  properties: reports of its properties, likewise.
    published: messages, by kind.  stray: those on topics of others.
    discards: of what it sent, or its gateway for it, and the platform did not accept, by reason.
    last_discard: the newest of them, with what it was about.
    late_responses: to no request that waited.  throttled: messages over the limit of a connection.
    refused_topics: filters answered 0x80.  refused_messages: to topics that it may not use.
    faults: strikes, by name.  last_login: seconds since 1970.
    """

    registrations: int = 0
    self_registrations: int = 0
    certificates: dict[str, None] = field(default_factory=dict)
    logins: int = 0
    refused: Counter[int] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    lasting: int = 0
    takeovers: int = 0
    reports: Counter[str] = field(default_factory=Counter)
    properties: int = 0
    published: Counter[str] = field(default_factory=Counter)
    stray: int = 0
    discards: Counter[str] = field(default_factory=Counter)
    last_discard: str = ""
    late_responses: int = 0
    throttled: int = 0
    refused_topics: int = 0
    refused_messages: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    last_login: float | None = None

    def logged_in(self, now: float, sha256: str) -> None:
        """Count a login.  sha256: of the certificate, or ""."""
        self.logins, self.last_login = self.logins + 1, now
        if sha256:
            self.certificates.pop(sha256, None)
            self.certificates[sha256] = None
            if len(self.certificates) > REMEMBERED:
                del self.certificates[next(iter(self.certificates))]

    def discard(self, misfit: Misfit) -> None:
        """Count what the platform did not accept."""
        self.discards[misfit.reason] += 1
        self.last_discard = str(misfit)[:_SHOWN]

    def truth(self) -> dict[str, object]:
        """Return the counts, for JSON."""
        return {
            "registrations": self.registrations,
            "self_registrations": self.self_registrations,
            "certificates_sha256": list(self.certificates),
            "logins": self.logins,
            "refused_logins": {str(code): count for code, count in self.refused.items()},
            "reasons": dict(self.reasons),
            "takeovers": self.takeovers,
            "status_reports": dict(self.reports),
            "property_reports": self.properties,
            "published": dict(self.published),
            "stray": self.stray,
            "discards": dict(self.discards),
            "last_discard": self.last_discard,
            "late_responses": self.late_responses,
            "throttled": self.throttled,
            "refused_topics": self.refused_topics,
            "refused_messages": self.refused_messages,
            "faults": dict(self.faults),
            "last_login": self.last_login,
        }


@dataclass(slots=True)
class HuaweiGatewayLedger:
    """The counts of one gateway.

    requests: about children, by name.  answers: name → error code → devices; "0" for success.
    malformed, ignored: unreadable events, and those that are not about children.
    pushed, undelivered: by name.
    """

    requests: Counter[str] = field(default_factory=Counter)
    answers: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    malformed: int = 0
    ignored: int = 0
    pushed: Counter[str] = field(default_factory=Counter)
    undelivered: Counter[str] = field(default_factory=Counter)

    def truth(self) -> dict[str, object]:
        """Return the counts, for JSON."""
        return {
            "requests": dict(self.requests),
            "answers": {name: dict(codes) for name, codes in self.answers.items()},
            "malformed": self.malformed,
            "ignored": self.ignored,
            "pushed": dict(self.pushed),
            "undelivered": dict(self.undelivered),
        }


class HuaweiLedgers:
    """The ledgers of all devices and gateways, former ones included.

    strangers: logins of unknown devices, by reason.
    gateways: by device id.
    """

    def __init__(self) -> None:
        self.strangers: Counter[str] = Counter()
        self.gateways: dict[str, HuaweiGatewayLedger] = {}
        self._devices: dict[str, HuaweiDeviceLedger] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._devices)

    def of(self, device_id: str) -> HuaweiDeviceLedger:
        """Return a device's ledger; the oldest of `MAX_LEDGERS` makes room for a new one."""
        if (found := self._devices.get(device_id)) is None:
            if len(self._devices) >= MAX_LEDGERS:
                oldest = next(iter(self._devices))
                del self._devices[oldest]
                self.gateways.pop(oldest, None)
            found = self._devices[device_id] = HuaweiDeviceLedger()
        return found

    def known(self, device_id: str) -> HuaweiDeviceLedger | None:
        """Return a device's ledger, if it ever was registered."""
        return self._devices.get(device_id)

    def gateway(self, device_id: str) -> HuaweiGatewayLedger:
        """Return the ledger of a gateway, which has one as a device too."""
        self.of(device_id)
        return self.gateways.setdefault(device_id, HuaweiGatewayLedger())

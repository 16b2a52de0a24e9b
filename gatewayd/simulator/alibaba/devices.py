"""A device of the simulated Alibaba cloud: its state, and its ledger."""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from gatewayd.simulator.alibaba.thing.specification import ThingModel
from gatewayd.simulator.rate_window import RateWindow

Name: TypeAlias = tuple[str, str]
"""productKey and deviceName."""

REMEMBERED = 16
"""The number of the newest secrets whose digests are kept."""


class AlibabaNodeType(StrEnum):
    """The node type of a product, as chosen at its creation."""

    DIRECT = "direct"
    GATEWAY = "gateway"
    SUB_DEVICE = "sub-device"


@dataclass(slots=True)
class AlibabaDeviceLedger:
    """The counts of one device.  Times are those of the registry's clock, in seconds.

    refused_registrations, refused_logins: by CONNACK code.
    secrets: SHA-256 of the secrets issued, the newest last, in hexadecimal.
    refused_topics: filters that were answered 0x80.
    discarded: messages that the cloud does not take, by why: foreign-topic, rate, size, unreadable.
    faults: by name, how often a fault struck.
    """

    registrations: int = 0
    secrets: deque[str] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    refused_registrations: Counter[int] = field(default_factory=Counter)
    logins: int = 0
    refused_logins: Counter[int] = field(default_factory=Counter)
    takeovers: int = 0
    published: int = 0
    discarded: Counter[str] = field(default_factory=Counter)
    refused_topics: int = 0
    over_rate: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    last_registration: float | None = None
    activation: float | None = None
    last_login: float | None = None

    def issued(self, secret: str, now: float) -> None:
        """Count one registration that ended with a secret."""
        self.registrations += 1
        self.last_registration = now
        self.secrets.append(hashlib.sha256(secret.encode()).hexdigest())

    def logged_in(self, now: float) -> None:
        """Count one login."""
        self.logins += 1
        self.last_login = now
        if self.activation is None:
            self.activation = now

    def refused(self, code: int, *, registration: bool) -> None:
        """Count one CONNECT that was refused."""
        (self.refused_registrations if registration else self.refused_logins)[code] += 1

    def truth(self) -> dict[str, object]:
        """Return the counts, for JSON."""
        return {
            "registrations": self.registrations,
            "secrets_sha256": list(self.secrets),
            "refused_registrations": by_code(self.refused_registrations),
            "logins": self.logins,
            "refused_logins": by_code(self.refused_logins),
            "takeovers": self.takeovers,
            "published": self.published,
            "discarded": dict(self.discarded),
            "refused_topics": self.refused_topics,
            "over_rate": self.over_rate,
            "faults": dict(self.faults),
            "last_registration": self.last_registration,
            "activation": self.activation,
            "last_login": self.last_login,
        }


@dataclass(slots=True)
class AlibabaDevice:
    """One device of the cloud.

    secret: the newest; no other is valid.
    created: when, by the registry's clock.
    spent: whether a login used it; the vendor says "activated".
    reopened: whether a reset lets the device register again.
    tokens: client id → token, of devices registered without creation.
    connects: direct ones.  logins: its own through a gateway, or those of its sub-devices.
    messages: those that it published, by QoS 0 and 1.
    """

    secret: str | None = field(default=None, repr=False)
    created: float = 0.0
    spent: bool = False
    reopened: bool = False
    disabled: bool = False
    tokens: dict[str, str] = field(default_factory=dict, repr=False)
    connects: RateWindow = field(default_factory=RateWindow)
    logins: RateWindow = field(default_factory=RateWindow)
    messages: tuple[RateWindow, RateWindow] = field(
        default_factory=lambda: (RateWindow(), RateWindow())
    )
    ledger: AlibabaDeviceLedger = field(default_factory=AlibabaDeviceLedger)

    @property
    def may_register(self) -> bool:
        """Whether a new secret may replace the one there is, if any."""
        return not self.disabled and (self.reopened or not self.spent)

    def issue(self, secret: str, now: float) -> None:
        """Give the device its newest secret."""
        self.secret, self.spent, self.reopened = secret, False, False
        self.ledger.issued(secret, now)

    def truth(self, *, online: bool) -> dict[str, object]:
        """Return state and counts, for JSON; without secrets."""
        states = {"activated": self.spent, "disabled": self.disabled, "online": online}
        return states | self.ledger.truth()


@dataclass(slots=True)
class SimulatedAlibabaProduct:
    """One product.

    dynamic: whether its devices may register.  model: its TSL.
    name, description: as its owner has chosen them; "" for the productKey, and for none.
    protocol: by which devices are behind a gateway, where the owner has chosen it.
    draft, tsl: the model as an owner's call imported it, and as one published it; "" for none.
    """

    secret: str = field(repr=False)
    node: AlibabaNodeType = AlibabaNodeType.DIRECT
    dynamic: bool = True
    model: ThingModel = field(default_factory=ThingModel)
    name: str = ""
    description: str = ""
    protocol: str = ""
    draft: str = ""
    tsl: str = ""
    created: float = 0.0


def by_code(counts: Counter[int]) -> dict[str, int]:
    """Return counts by code for JSON, whose keys are texts."""
    return {str(int(code)): count for code, count in counts.items()}

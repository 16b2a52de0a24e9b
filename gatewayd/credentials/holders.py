"""Who asks for a credential, and the child whose it may have: the decision, without the socket.

systemd reads what a unit's LoadCredential= names before it starts the unit.  Where that is a
socket, it connects from the abstract address `@RANDOM/unit/UNIT/CREDENTIAL` (systemd.exec(5),
LoadCredential=).  Any process can take such an address; only together with uid 0 it is believed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from gatewayd.credentials.settings import SUFFIX, CredentialSettings
from gatewayd.device.identity import DeviceId
from gatewayd.device.record import Record, RecordStore

_ADDRESS = re.compile(rb"\x00[0-9a-f]{1,32}/unit/([!-.0-~]{1,255})/([!-.0-~]{1,255})")

LASTING = 0.1
"""Seconds for which the names of all children are used, once read."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A program that asks for a credential.

    unit: of systemd, without .service; "" for a user.  user: its name or uid; "" for a unit.
    """

    unit: str = ""
    user: str = ""

    def __str__(self) -> str:
        return f"unit {self.unit}{SUFFIX}" if self.unit else f"user {self.user}"


@dataclass(frozen=True, slots=True)
class ChildSelector:
    """What says which child a holder may have: `child` names it, `rule` has admitted it."""

    child: str
    rule: str

    def selects(self, record: Record) -> bool:
        """Whether a child is meant, which is admitted now."""
        return (
            record.is_in_force and self.rule in ("", record.rule) and self.child in names_of(record)
        )


def names_of(record: Record) -> frozenset[str]:
    """Return the names by which a child can be meant: its id and, alone and whole, its name at
    the cloud; none for a child that has no such name."""
    cloud = record.cloud
    return frozenset() if cloud is None else frozenset((record.device, cloud.device, str(cloud)))


class ChildFinder:
    """A finder of the children that holders may have.

    Many ask at once, as at a boot, and there are 10,000 records: so their names are read once for
    all who ask within LASTING seconds.
    """

    def __init__(self, records: RecordStore) -> None:
        self._records = records
        self._named: dict[str, list[DeviceId]] = {}
        self._until = -math.inf

    def find(self, selector: ChildSelector, now: float) -> Sequence[Record]:
        """Return the children that are meant: none gets anything where there is more than one.

        now: seconds of a clock that only goes forward.
        """
        if now >= self._until:
            self._named, self._until = {}, now + LASTING
            for record in self._records.all():
                for name in names_of(record):
                    self._named.setdefault(name, []).append(record.device)
        known = map(self._records.get, self._named.get(selector.child, ()))
        return [record for record in known if record is not None and selector.selects(record)]

    def forget(self) -> None:
        """Read the names again for the next that asks: there may be others."""
        self._until = -math.inf


def unit_of(address: bytes | str, uid: int) -> Holder | None:
    """Return the unit for which systemd has connected; None for any other peer.

    address: of the peer, as accept(2) returns it.  uid: of the peer, as the kernel says.
    """
    named = address if isinstance(address, bytes) else address.encode("ascii", "replace")
    found = _ADDRESS.fullmatch(named)
    if uid != 0 or found is None:
        return None
    unit = found[1].decode("ascii")
    return Holder(unit=unit.removesuffix(SUFFIX)) if unit.endswith(SUFFIX) else None


def selector_of(holder: Holder, settings: CredentialSettings) -> ChildSelector | None:
    """Return which child a holder may have; None where it may have none."""
    if holder.user:
        user = settings.users.get(holder.user)
        return None if user is None else ChildSelector(user.child, user.rule)
    if (unit := settings.units.get(holder.unit)) is not None:
        return ChildSelector(unit.child, unit.rule) if unit.child else None
    template, at, instance = holder.unit.partition("@")
    unit = settings.units.get(f"{template}{at}") if at and instance else None
    return None if unit is None else ChildSelector(instance, unit.rule)

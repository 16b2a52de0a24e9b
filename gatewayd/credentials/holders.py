"""Who asks for a credential, and the child whose it may have: the decision, without the socket.

systemd reads what a unit's LoadCredential= names before it starts the unit.  Where that is a
socket, it connects from the abstract address `@RANDOM/unit/UNIT/CREDENTIAL` (systemd.exec(5),
LoadCredential=).  Any process can take such an address; only together with uid 0 it is believed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gatewayd.credentials.settings import SUFFIX, CredentialSettings
from gatewayd.device.record import Record

_ADDRESS = re.compile(rb"\x00[0-9a-f]{1,32}/unit/([!-.0-~]{1,255})/([!-.0-~]{1,255})")


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
        """Whether a child is meant."""
        if self.rule not in ("", record.rule) or record.cloud is None:
            return False
        return self.child in (record.device, record.cloud.device, str(record.cloud))

    def find(self, records: Iterable[Record]) -> Sequence[Record]:
        """Return the children that are meant: none gets anything where there is more than one."""
        return [record for record in records if self.selects(record)]


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

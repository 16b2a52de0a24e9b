"""What a cloud can do whose devices prove who they are by certificates that are issued here."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from gatewayd.cloud.authority_keeper import AuthorityKeeper
from gatewayd.device.record import CloudName


class Issuer(Protocol):
    """Issues certificates of one authority, for devices of one cloud."""

    authority: AuthorityKeeper

    async def certify(self, request: bytes, name: CloudName | None, days: int) -> str:
        """Return the certificate for a request (PKCS #10, PEM), and that of its authority, PEM.

        name: the device whose subject it gets; None to take the request's own, if the cloud would
        take it.  days: 0 for as many as are configured.
        Raises InvalidArgs, WrongState, StoreError, ConfigError.
        """


@runtime_checkable
class Issuing(Protocol):
    """A provider that may have an issuer; None where that is not configured."""

    issuer: Issuer | None

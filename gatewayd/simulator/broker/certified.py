"""A broker as the cloud of a plant, whose children have certificates of a device CA.

It serves them once it was given the CA, and the list of what that has revoked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from gatewayd.simulator.account import AccountOptions
from gatewayd.simulator.broker.account import (
    OBSERVER,
    PRODUCT,
    BrokerAccount,
    free_port,
    write_private,
)

_CONFIG = """\
allow_anonymous false
password_file {directory}/passwords
acl_file {directory}/access
listener {observing} 127.0.0.1
log_dest stderr
log_type notice
log_type warning
log_type error
log_type information
"""
_CHILDREN = """\
listener {port} 127.0.0.1
certfile {directory}/server.pem
keyfile {directory}/server.key
cafile {directory}/devices-ca.pem
crlfile {directory}/revoked.pem
require_certificate true
use_identity_as_username true
"""
_ACCESS = f"""\
user {OBSERVER}
topic readwrite devices/#
pattern readwrite devices/%u/up/#
pattern read devices/%u/down/#
"""


class CertifiedBrokerAccount(BrokerAccount):
    """A broker with one user that has a password, and watches.

    Implements CloudAccount.  A child is named by its serial number.
    """

    def __init__(self, options: AccountOptions) -> None:
        super().__init__(options)
        self.verbs = {**self.verbs, "trust": self._trust}
        self._observing = 0
        self._trusted = False

    def _write_users(self, directory: Path) -> None:  # noqa: ARG002  # gatewayd needs no password
        """Write the broker's file of users, and its access list."""
        user = self.hashed(OBSERVER)
        line = f"{OBSERVER}:$7${user['iterations']}${user['salt']}${user['password']}\n"
        write_private(self._directory / "passwords", line)
        write_private(self._directory / "access", _ACCESS)

    async def __aenter__(self) -> Self:
        self._inner = await asyncio.to_thread(free_port)
        self._observing = await asyncio.to_thread(free_port)
        await self._run(self._text(), self._observing)
        await self._link()
        return self

    def _text(self) -> str:
        """Return the configuration of the broker: children once their CA is there."""
        own = _CONFIG.format(directory=self._directory, observing=self._observing)
        children = _CHILDREN.format(directory=self._directory, port=self._inner)
        return own + (children if self._trusted else "")

    async def _trust(self, request: Mapping[str, Any]) -> object:
        """Trust a CA, but for what is on its list.  Do what an operator does at the broker."""
        (self._directory / "devices-ca.pem").write_text(request["pem"])
        (self._directory / "revoked.pem").write_text(request["revoked"])
        if self._trusted and self._broker is not None:
            self._broker.reload()
        else:
            self._trusted = True
            await self._end()
            await self._run(self._text(), self._inner)
        return True

    def facts(self) -> Mapping[str, object]:
        """Return what gatewayd's configuration needs."""
        return {
            "host": "localhost",
            "port": self.port,
            "product": PRODUCT,
            "identity": "certificate",
        }

    def kept(self) -> object:
        """Return nothing: the CA is gatewayd's."""
        return None

    def _user(self, child: str) -> str:
        return f"{PRODUCT}/{child}"

    def _counts(self, children: Sequence[str]) -> Mapping[str, int]:
        """Return whether each child has been there: nothing registers it."""
        return {child: int(self._user(child) in self._log.seen) for child in children}

    def _where(self, user: str) -> Sequence[str]:
        return (
            "-h", "127.0.0.1", "-p", str(self._observing), "-u", user, "-P", self.password(user)
        )  # fmt: skip

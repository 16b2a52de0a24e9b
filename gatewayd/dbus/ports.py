"""The ports behind the D-Bus methods: one protocol for each interface that has any.

They are called on the asyncio thread, once the caller is authorized.  They raise CallerError or
StoreError, whose sentence the caller receives.  caller: the user, as "uid 1000", for the record.
A file descriptor is open, and the dispatcher closes it when the command has ended.  It may be a
pipe, so it is read and written off the event loop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias

from gatewayd.device.identity import DeviceId

Facts: TypeAlias = Mapping[str, "str | int | bool | Sequence[str]"]
"""Named facts: texts, numbers of at least 0, booleans, and lists of texts."""


class ManagerCommands(Protocol):
    """org.gatewayd1.Manager and Device.

    device: an id, a unique beginning of one, or a cloud id ("product/name").
    """

    async def approve(self, device: str, provider: str, caller: str) -> None:
        """Admit a pending child; provider "" takes the rule's.  On record when it returns."""

    async def reject(self, device: str, reason: str, caller: str) -> None:
        """Reject a child.  On record when it returns."""

    async def retry(self, device: str, caller: str) -> None:
        """Retry now what waits or has failed."""

    async def reregister(self, device: str, again: str, caller: str) -> None:
        """Register a child again after it was reset at the cloud; `again` repeats the id."""

    async def rename(self, device: str, label: str, caller: str) -> None:
        """Give a child another name to show."""

    async def forget(self, device: str, caller: str) -> None:
        """Remove a child's record and its secrets."""

    async def permit_join(self, seconds: int, options: Mapping[str, object], caller: str) -> None:
        """Open the join window for so many seconds, at most 900; 0 closes it.

        options: its scope: the texts "interface", "protocol" and "rule", the number "max-devices".
        """

    async def reload(self, caller: str) -> None:
        """Read the configuration again.  Raises ConfigError; then the old one stays."""

    async def discover(self, seconds: int, protocols: Sequence[str], caller: str) -> None:
        """Look for devices now, and again for so many seconds, at most 900; 0 ends it.

        protocols: names of discoverers, as "mdns"; none for all.  Returns at once.
        """

    async def dump(self, caller: str) -> int:
        """Return a descriptor from which diagnostics can be read; the caller closes it."""

    def resolve(self, device: str) -> DeviceId:
        """Return the id meant.  Raises NoSuchDevice, AmbiguousId."""

    def test_admission(self, device: str) -> tuple[str, str, tuple[str, ...]]:
        """Return action, rule and reasons that policy would give a child now."""

    def list_rules(self) -> tuple[tuple[str, str, str, int], ...]:
        """Return name, action, provider and hits of each rule, in order."""


class StoreCommands(Protocol):
    """org.gatewayd1.SecretStore.  All raise NotSupported where the store cannot do it."""

    async def rotate(self, caller: str) -> None:
        """Make a new data key, and encrypt every secret with it.  Durable when it returns."""

    async def reseal(self, key: str, caller: str) -> None:
        """Bind the data key again to what protects it now, as after a change of firmware.

        key: a kind that the store knows; "" for the one that is configured.
        """

    async def add_recovery_key(self, public_key: str, caller: str) -> None:
        """Let the owner of a key open the store too.

        public_key: as the operator gave it, not checked yet.  Raises InvalidArgs.
        """

    async def export(self, target: int, caller: str) -> None:
        """Write all secrets, readable for the recovery keys alone, to a file descriptor."""

    async def accept_rollback(self, caller: str) -> None:
        """Go on with a store that may be older than the newest that was written."""


class ProviderCommands(Protocol):
    """org.gatewayd1.Provider."""

    async def test(self, caller: str) -> None:
        """Check whether the cloud can be used now; registers nothing.  Raises CloudUnreachable."""


class AuthorityCommands(Protocol):
    """org.gatewayd1.Authority: the device CA of one cloud.  No private key is ever returned.

    Certificates are PEM.  options: texts, numbers, booleans and lists of texts; an unknown key
    raises InvalidArgs.
    """

    async def make(self, options: Mapping[str, object], caller: str) -> str:
        """Make the CA's key and certificate; return the certificate."""

    async def import_authority(self, source: int, caller: str) -> str:
        """Import a CA that was made elsewhere; return its certificate.  source: to be read."""

    async def prove(self, code: str, caller: str) -> str:
        """Return a certificate that holds the cloud's code, as a proof of possession."""

    async def issue(
        self, device: str, request: str, options: Mapping[str, object], caller: str
    ) -> str:
        """Return a certificate, with its chain, for a child, or for a request (PKCS #10, PEM).

        device: as in `ManagerCommands`, or "".  request: "" where the key is to be made here.
        """

    async def show(self) -> Facts:
        """Return what is public about the CA; numbers that are times end in "Timestamp"."""

    async def renew(self, device: str, caller: str) -> None:
        """Replace the certificate of a child before its time."""


class LogCommands(Protocol):
    """org.freedesktop.LogControl1."""

    async def set_level(self, level: str, caller: str) -> None:
        """Set the log level, in the words of syslog(3), "debug" to "emerg"."""

"""The ports behind the D-Bus methods: a protocol for each interface that has any.

A port is called on the asyncio thread, once the caller is authorized.  It raises CallerError or
StoreError, whose sentence the caller receives.  caller: the user, as "olga", for the record.  A
file descriptor is open, and the dispatcher closes it when the command has ended.  It may be a pipe,
so it is read and written off the event loop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from gatewayd.device.identity import DeviceId
from gatewayd.device.views import Facts, MoveRow


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

    async def repin(self, device: str, caller: str) -> None:
        """Pin the other key that a frozen child has shown.  On record when it returns."""

    async def move(
        self, device: str, provider: str, options: Mapping[str, object], caller: str
    ) -> None:
        """Have a child move to another cloud.  On record when it returns.

        options: the texts "product" and "route".
        """

    async def cancel_move(self, device: str, caller: str) -> None:
        """Call the move of a child off: it stays where it is.  On record when it returns."""

    async def forget_dormant(self, device: str, provider: str, caller: str) -> None:
        """Remove what a child has at a cloud where it is dormant, with the secret."""

    async def list_moves(self, limit: int) -> Sequence[MoveRow]:
        """Return the moves that are under way or were refused; limit: 0 for 1000."""

    async def split(self, device: str, other: str, caller: str) -> None:
        """Have two children that are in conflict be two; other: "" for one at two places."""

    async def merge(self, kept: str, gone: str, caller: str) -> None:
        """Have one child be another, too, which is forgotten; gone: "" for what is in question."""

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

    async def record(self, seconds: int, options: Mapping[str, object], caller: str) -> int:
        """Return a descriptor from which a recording of the LAN can be read; the caller closes it.

        options: the number "max-bytes".  Raises Busy, InvalidArgs, WrongState.
        """

    async def list_refused(self) -> Sequence[tuple[int, str, str, str, str, str, int]]:
        """Return what discovery has refused, the newest first.

        Of each: microseconds since the epoch, discoverer, interface, sender, name, cause, times.
        """

    async def dump(self, caller: str) -> int:
        """Return a descriptor from which diagnostics can be read; the caller closes it."""

    def resolve(self, device: str) -> DeviceId:
        """Return the id meant.  Raises NoSuchDevice, AmbiguousId."""

    def test_admission(self, device: str) -> tuple[str, str, tuple[str, ...]]:
        """Return action, rule and reasons that policy would give a child now."""

    def list_rules(self) -> tuple[tuple[str, str, str, int], ...]:
        """Return name, action, provider and hits of each rule, in order."""

    def suggest_rule(self, device: str, purpose: str, options: Mapping[str, object]) -> Facts:
        """Return a rule for a child: its Name and Text, the file of its List, and an Entry for it.

        purpose: a word of `RulePurpose`.  options: the texts "provider", "product" and "route".
        """

    def consequences(self, device: str, command: str) -> Sequence[str]:
        """Return what a command would do that cannot be undone, a sentence each.

        command: "Forget", "Reject" or "Repin"; "Split" or "Merge", with the id of the other child
        after a space; "ForgetDormant", with the cloud after a space.
        """

    async def list_decisions(
        self, wanted: Mapping[str, object], limit: int
    ) -> Sequence[tuple[int, int, str, str, str, str, str]]:
        """Return decisions, the newest first: the fields of `LoggedDecision`.

        wanted: "device", the beginning of an id; "since", microseconds since the epoch; "before",
        the number of a decision.  limit: 0 for 500, at most 1000.
        """


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

    async def accept_machine(self, caller: str) -> None:
        """Let a store that belonged to another machine belong to this one."""


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

    async def import_certificate(
        self, device: str, source: int, options: Mapping[str, object], caller: str
    ) -> Facts:
        """Import a certificate with its key for a device; return what is public about it.

        device: as in `ManagerCommands`, or "".  source: to be read, PEM, the key in the clear.
        """

    async def remove_certificate(
        self, device: str, options: Mapping[str, object], caller: str
    ) -> None:
        """Remove a certificate that was imported; a session that has begun with it goes on."""

    async def show(self) -> Facts:
        """Return what is public about the CA; numbers that are times end in "Timestamp"."""

    async def list_revoked(self) -> str:
        """Return a list of what is revoked for each CA that has not ended, PEM."""

    async def renew(self, device: str, caller: str) -> None:
        """Replace the certificate of a child before its time."""


class MessageCommands(Protocol):
    """org.gatewayd1.Messages.  device: as in `ManagerCommands`."""

    def resolve(self, device: str) -> DeviceId:
        """Return the id meant.  Raises NoSuchDevice, AmbiguousId."""

    async def follow(self, device: str, caller: str) -> int:
        """Return a descriptor from which the messages of a child can be read; the caller closes it.

        Raises NoSuchDevice, AmbiguousId, Busy.
        """


class BrokerCommands(Protocol):
    """org.gatewayd1.Broker: the users of gatewayd's own broker.

    device: as in `ManagerCommands`.  A password leaves by a descriptor, once, with a line end.
    A change is durable when a method returns, and in force a moment later.
    """

    async def set_password(self, device: str, target: int, caller: str) -> None:
        """Make a password for a child, in place of any other, and write it to a descriptor."""

    async def issue_certificate(
        self, device: str, request: str, options: Mapping[str, object], caller: str
    ) -> str:
        """Return a certificate for a child's key, and that of the CA.

        request: PKCS #10, PEM.  options: the number "days".
        """

    async def add_program(
        self, name: str, devices: Sequence[str], target: int, caller: str
    ) -> None:
        """Let a program of this machine speak for children, in place of any others.

        Its password is written to a descriptor.
        """

    async def revoke(self, name: str, caller: str) -> None:
        """Take the password and the certificates of a child or a program."""

    async def authority(self) -> str:
        """Return the certificate of the CA that has issued the broker's."""

    def list_users(self) -> Sequence[tuple[str, str, Sequence[str], Sequence[str]]]:
        """Return name, kind, ways to log in, and the children it speaks for, of each user."""


class CredentialCommands(Protocol):
    """org.gatewayd1.Credentials.  device: as in `ManagerCommands`."""

    async def read(self, device: str, target: int, caller: str) -> None:
        """Write what a child's holder logs in with to a descriptor, as one JSON object.

        Raises WrongState where the child is not handed over.
        """


class OwnershipCommands(Protocol):
    """org.gatewayd1.Site.  device: as in `ManagerCommands`.

    Those that take a caller raise NotSupported where there is no etcd.
    """

    async def owner(self, device: str) -> Facts:
        """Return which gateway has a child, and why.  Raises NoSuchDevice, AmbiguousId."""

    async def found(self, caller: str) -> str:
        """Make the site, with this gateway as its first member; return its fingerprint."""

    async def join(self, fingerprint: str, caller: str) -> None:
        """Ask to be a member of the site with this fingerprint."""

    async def accept(self, gateway: str, fingerprint: str, caller: str) -> None:
        """Let a gateway into the site whose public key has this fingerprint."""

    async def remove(self, gateway: str, caller: str) -> None:
        """Remove a gateway from the site, and replace the key of the site."""

    async def harm_of(self, command: str) -> Sequence[str]:
        """Return what a command would do that is easily overlooked, one sentence for each.

        command: "Drain".  Raises InvalidArgs for another one, NotSupported.
        """

    async def drain(self, options: Mapping[str, object], caller: str) -> None:
        """Give all children of this gateway to the others.

        options: offline, a bool: do it also where no other gateway lives.
        Raises WrongState where none does, InvalidArgs.
        """

    async def resume(self, caller: str) -> None:
        """Let this gateway have children again."""


class LogCommands(Protocol):
    """org.freedesktop.LogControl1."""

    async def set_level(self, level: str, caller: str) -> None:
        """Set the log level, in the words of syslog(3), "debug" to "emerg"."""

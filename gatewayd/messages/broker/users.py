"""Who may use gatewayd's own broker: the list that is kept, and what mosquitto reads.  Pure.

A child speaks for itself, a program of this machine for several children.  The list holds no
password, only what a password is checked by; mosquitto-passwd(5) and mosquitto.conf(5) have the
formats.  A name is a user, a client id and a level of a topic at once, so none has `+ # /` or `:`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any

from gatewayd.device.identity import DeviceId
from gatewayd.device.secret import Secret
from gatewayd.errors import InvalidArgs, StoreUnavailable

GATEWAYD = "gatewayd"
"""The user that is gatewayd itself."""

VERSION = 1
"""Of the list, as it is kept."""

MAX_USERS = 20_000
MAX_CHILDREN = 2_000
"""Of one program."""
MAX_CERTIFICATES = 8
"""Of one child that are valid at a time."""
MAX_REVOKED = 20_000
MAX_BYTES = 32 << 20
"""Of the list, as it is kept."""

ROUNDS = 1
"""Of PBKDF2.  The passwords have 256 random bits, so more would protect nothing; and mosquitto
checks the password of each open connection whenever it reads its files, and serves no one
meanwhile: 2,000 took 1 s with the 101 rounds of mosquitto_passwd(1), and 40 ms with one."""
SALT_BYTES = 12
PASSWORD_BYTES = 32
"""Of randomness in a password."""

_CHILD = re.compile(r"child-[0-9a-f]{12,64}|gateway-[a-z][a-z0-9_-]{0,31}")
_PROGRAM = re.compile(r"[a-z][a-z0-9-]{0,31}")
_RESERVED = re.compile(rf"{GATEWAYD}.*|child-.*|gateway-.*")


class Standing(IntEnum):
    """How gatewayd stands to a child that has a password or a certificate."""

    OUT = 0  # it may not log in
    UNDECIDED = 1  # it may log in, and so prove itself; what it says is not passed on
    ADMITTED = 2


@dataclass(frozen=True, slots=True)
class BrokerUser:
    """One user of the broker.

    password: as mosquitto keeps it; "" for none.
    certificates: serial number to the end of its validity, seconds since the epoch.
    children: for which a program speaks; none for a child, which speaks for itself.
    """

    name: str
    password: str = ""
    certificates: Mapping[int, float] = field(default_factory=dict)
    children: tuple[DeviceId, ...] = ()

    @property
    def is_program(self) -> bool:
        """Whether it is a program of this machine."""
        return not _CHILD.fullmatch(self.name)

    @property
    def ways(self) -> tuple[str, ...]:
        """The ways in which it may log in, as words."""
        ways = (("password", self.password), ("certificate", self.certificates))
        return tuple(way for way, has in ways if has)

    @property
    def speaks_for(self) -> tuple[DeviceId, ...]:
        """The children whose topics it may use."""
        return self.children if self.is_program else (DeviceId(self.name),)


@dataclass(frozen=True, slots=True)
class BrokerUsers:
    """All users, by name, and the certificates that are revoked, as in `BrokerUser`."""

    users: Mapping[str, BrokerUser] = field(default_factory=dict)
    revoked: Mapping[int, float] = field(default_factory=dict)

    def get(self, name: str) -> BrokerUser:
        """Return a user, or one that may do nothing yet."""
        return self.users.get(name) or BrokerUser(name)

    def with_user(self, user: BrokerUser) -> BrokerUsers:
        """Return the list with a user, new or changed.  Raises InvalidArgs."""
        if user.name not in self.users and len(self.users) >= MAX_USERS:
            raise InvalidArgs(f"The broker has {MAX_USERS} users already: revoke one")
        return replace(self, users={**self.users, user.name: user})

    def with_certificate(self, name: str, serial: int, ends: float, now: float) -> BrokerUsers:
        """Return the list with one more certificate of a child.  Raises InvalidArgs.

        ends, now: seconds since the epoch.
        """
        user = self.get(name)
        valid = {one: end for one, end in user.certificates.items() if end > now}
        if len(valid) >= MAX_CERTIFICATES:
            raise InvalidArgs(
                f"{name} has {MAX_CERTIFICATES} valid certificates already: revoke them first"
            )
        return self.with_user(replace(user, certificates={**valid, serial: ends}))

    def without(self, name: str, now: float) -> BrokerUsers:
        """Return the list without a user, and with its certificates revoked.  Raises InvalidArgs.

        now: seconds since the epoch; certificates that have ended need not be revoked.
        """
        user = self.users.get(name)
        if user is None:
            raise InvalidArgs(f"The broker has no user {name}")
        ended = {**self.revoked, **user.certificates}
        revoked = {one: end for one, end in ended.items() if end > now}
        if len(revoked) > MAX_REVOKED:
            raise InvalidArgs(f"{MAX_REVOKED} certificates are revoked already: wait for their end")
        users = {one: kept for one, kept in self.users.items() if one != name}
        return BrokerUsers(users, revoked)

    def without_child(self, device: DeviceId, now: float) -> BrokerUsers:
        """Return the list in which a child neither speaks nor is spoken for.  now: as above."""
        found = self.without(device, now) if device in self.users else self
        users = {
            name: replace(user, children=tuple(c for c in user.children if c != device))
            for name, user in found.users.items()
        }
        return replace(found, users=users)

    def revoked_from(self, before: BrokerUsers) -> tuple[str, ...]:
        """Return the users whose certificates were valid before, and are not now."""
        return tuple(
            user.name
            for user in before.users.values()
            if any(serial in self.revoked for serial in user.certificates)
        )

    @property
    def children(self) -> frozenset[DeviceId]:
        """All children that speak or are spoken for."""
        return frozenset(child for user in self.users.values() for child in user.speaks_for)

    def effective(self, standing: Callable[[DeviceId], Standing]) -> BrokerUsers:
        """Return what takes effect: a child that is out is no user now.

        Its certificates count as revoked, and programs speak for admitted children alone.
        """
        users: dict[str, BrokerUser] = {}
        revoked = dict(self.revoked)
        for user in self.users.values():
            if user.is_program:
                spoken_for = (c for c in user.children if standing(c) is Standing.ADMITTED)
                users[user.name] = replace(user, children=tuple(spoken_for))
            elif standing(DeviceId(user.name)) is not Standing.OUT:
                users[user.name] = user
            else:
                revoked |= user.certificates
        return BrokerUsers(users, revoked)


def child_name(device: str) -> str:
    """Return the user name of a child.  Raises InvalidArgs for what cannot be one."""
    if not _CHILD.fullmatch(device):
        raise InvalidArgs("This is no child that can be a user of the broker")
    return device


def program_name(name: str) -> str:
    """Return the user name of a program.  Raises InvalidArgs for what cannot be one."""
    if not _PROGRAM.fullmatch(name) or _RESERVED.fullmatch(name):
        raise InvalidArgs(
            "The name of a program has 1 to 32 lower-case letters, digits and hyphens, a letter "
            "first, and does not begin with gatewayd, child- or gateway-"
        )
    return name


def new_password(randomness: bytes) -> Secret:
    """Return a password that can be typed.  randomness: PASSWORD_BYTES."""
    return Secret(base64.urlsafe_b64encode(randomness).rstrip(b"="))


def password_line(password: Secret, salt: bytes, rounds: int = ROUNDS) -> str:
    """Return what mosquitto checks a password by (mosquitto 2, PBKDF2 with HMAC-SHA512).

    salt: SALT_BYTES of randomness.
    """
    digest = hashlib.pbkdf2_hmac("sha512", password.reveal(), salt, rounds, 64)
    encoded = (base64.b64encode(one).decode("ascii") for one in (salt, digest))
    return "$".join(("", "7", str(rounds), *encoded))


def password_file(users: BrokerUsers, more: Mapping[str, str]) -> str:
    """Return mosquitto's password file.  more: name to password line, as of gatewayd itself."""
    kept = {user.name: user.password for user in users.users.values() if user.password}
    return "".join(f"{name}:{line}\n" for name, line in sorted({**kept, **more}.items()))


def access_list(users: BrokerUsers) -> str:
    """Return mosquitto's access list.

    A child's rights follow from its name alone, so that the list has no line for each.
    """
    return "\n".join(_access_lines(users)) + "\n"


def _access_lines(users: BrokerUsers) -> Iterator[str]:
    yield from (f"user {GATEWAYD}", "topic read c/+/up/#", "topic write c/+/down/#")
    for user in sorted(users.users.values(), key=lambda user: user.name):
        if user.is_program:
            yield f"user {user.name}"
            for child in user.children:
                yield from (f"topic write c/{child}/up/#", f"topic read c/{child}/down/#")
    yield from ("pattern write c/%u/up/#", "pattern read c/%u/down/#")


# The list, as it is kept.


def encode(users: BrokerUsers) -> bytes:
    """Return the list as it is kept: JSON, a user a line."""
    lines = [json.dumps(_fields(user)) for _, user in sorted(users.users.items())]
    head = json.dumps({"version": VERSION, "revoked": _serials(users.revoked)})
    return "".join(f"{line}\n" for line in (head, *lines)).encode("ascii")


def decode(data: bytes) -> BrokerUsers:
    """Return the list that was kept.  Raises StoreUnavailable, whose text says what to do."""
    try:
        head, *lines = data.decode("ascii").splitlines()
        first = json.loads(head)
        version, revoked = int(first["version"]), first["revoked"]
        if version == VERSION:
            found = [_user(json.loads(line)) for line in lines]
            return BrokerUsers({user.name: user for user in found}, _ends(revoked))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        raise StoreUnavailable(
            "The list of the broker's users is damaged: restore a copy of it, or remove it and "
            "make their passwords again"
        ) from None
    raise StoreUnavailable(
        f"The list of the broker's users has version {version}, of a newer gatewayd: install that"
    )


def _fields(user: BrokerUser) -> Mapping[str, object]:
    return {
        "name": user.name,
        "password": user.password,
        "certificates": _serials(user.certificates),
        "children": list(user.children),
    }


_LINE = re.compile(r"\$7\$[0-9]{1,6}\$[A-Za-z0-9+/]{16}\$[A-Za-z0-9+/=]{88}|")


def _user(fields: Mapping[str, Any]) -> BrokerUser:
    """Return a user.  Raises ValueError, and what a wrong type raises.

    All is checked again: a line in mosquitto's files must not become two.
    """
    name, password = fields["name"], fields["password"]
    children = tuple(DeviceId(child) for child in fields["children"])
    fits = _CHILD.fullmatch(name) or (_PROGRAM.fullmatch(name) and not _RESERVED.fullmatch(name))
    if not (fits and _LINE.fullmatch(password) and all(map(_CHILD.fullmatch, children))):
        raise ValueError("no user")
    return BrokerUser(name, password, _ends(fields["certificates"]), children)


def _serials(certificates: Mapping[int, float]) -> Mapping[str, float]:
    return {f"{serial:x}": ends for serial, ends in sorted(certificates.items())}


def _ends(certificates: Mapping[str, Any]) -> Mapping[int, float]:
    return {int(serial, 16): float(ends) for serial, ends in certificates.items()}

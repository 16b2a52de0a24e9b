"""The settings of a site of several gateways: a fixed share of it, or etcd."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gatewayd.admission.ownership import ALONE, Ownership, parse_share, share
from gatewayd.settings import grammar
from gatewayd.settings.declare import (
    FileUse,
    credential_problems,
    given_credential,
    given_file,
    setting,
)

MAX_ENDPOINTS = 9
"""Addresses of members of etcd: its own documents advise against more than seven."""
PORT = 2379
"""Of etcd for clients, as IANA has it."""

_ENDPOINT = re.compile(
    r"https://(?:\[([0-9A-Fa-f:.]+)\]|([^/:\[\]@]+))(?::([0-9]{1,5}))?/?", re.ASCII
)
_MAX_PORT = 0xFFFF
_USER = re.compile(r"[A-Za-z0-9_.@-]{1,64}", re.ASCII)


def parse_endpoint(text: str) -> tuple[str, int] | None:
    """Return host and port of an endpoint, as https://192.0.2.1:2379; None for what is none."""
    found = _ENDPOINT.fullmatch(text)
    if found is None or not 0 < (port := int(found[3] or PORT)) <= _MAX_PORT:
        return None
    name = found[1] or found[2]
    return None if grammar.host(name) else (name, port)


def endpoint(text: str) -> str:
    """Return the rule that an endpoint breaks (a grammar of settings/grammar.py)."""
    wrong = "must be https://HOST:PORT: "
    if text.startswith("http://"):
        return f"{wrong}etcd is used by TLS alone, on the loopback interface too: see gatewayd(8)"
    if "@" in text:
        return f"{wrong}put the user into user, and the password into a credential"
    return "" if parse_endpoint(text) else f"{wrong}write scheme, host and port, and nothing else"


def _user(text: str) -> str:
    return "" if _USER.fullmatch(text) else "must be 1 to 64 letters, digits and _ . @ -"


@dataclass(frozen=True, slots=True)
class SiteSettings:
    """[site]"""

    share: str = setting(
        "",
        'the part of the children that this gateway has, as "1/3" on the first of three gateways'
        " that see the same LAN (default: all of them)",
        grammar=share,
    )
    endpoints: tuple[str, ...] = setting(
        (),
        "members of etcd by which the gateways of the site share all children, as "
        '"https://192.0.2.1:2379" (default: none is used)',
        grammar=endpoint,
    )
    name: str = setting("", "name of the site, the same at all its gateways", grammar=grammar.label)
    gateway: str = setting(
        "",
        "name of this gateway, which no other of the site has (default: the host name up to its "
        "first dot)",
        grammar=grammar.label,
    )
    user: str = setting("", "user name at etcd (default: none)", grammar=_user)
    password_credential: str = given_credential("the password")
    password_file: Path | None = given_file("the password", "password_credential")
    ca_file: Path | None = setting(
        None,
        "PEM file of the roots that are trusted for etcd (default: those of the system)",
        file=FileUse.LATER,
    )
    certificate_file: Path | None = setting(
        None, "PEM file of the certificate to show (default: none is shown)", file=FileUse.LATER
    )
    private_key_credential: str = given_credential("the private key of certificate_file, PEM")
    private_key_file: Path | None = given_file("that key", "private_key_credential")

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with the settings as a whole."""
        if self.share and self.endpoints:
            yield "share and endpoints exclude each other: leave one out"
        if not self.endpoints:
            yield from self._problems_without_etcd()
            return
        yield from self._problems_of_names()
        yield from credential_problems(self)
        has_password = bool(self.password_credential) or self.password_file is not None
        if has_password is not bool(self.user):
            yield "user needs a password, by password_credential or password_file, and it a user"

    def _problems_of_names(self) -> Iterator[str]:
        """Yield what is wrong with the names of the members, the site and this gateway."""
        if len(self.endpoints) > MAX_ENDPOINTS:
            yield f"endpoints has more than {MAX_ENDPOINTS}: name one for each member of etcd"
        if len(set(map(parse_endpoint, self.endpoints))) < len(self.endpoints):
            yield "endpoints names one member twice: leave it out"
        if not self.name:
            yield "endpoints needs a name of the site: set name, to the same at all its gateways"
        if not self.gateway and grammar.label(self.own_name):
            yield f"the host name of this machine {grammar.label(self.own_name)}: set gateway"

    def _problems_without_etcd(self) -> Iterator[str]:
        """Yield what is set for an etcd that is not named."""
        for name in (
            "name", "gateway", "user", "password_credential", "password_file", "ca_file",
            "certificate_file", "private_key_credential", "private_key_file",
        ):  # fmt: skip
            if getattr(self, name):
                yield f"{name} is for endpoints: add them, or leave it out"

    def warnings(self) -> Iterator[str]:
        """Yield what may be a mistake."""
        if self.share == "1/1":
            yield 'share "1/1" is all children, as without it: leave it out'
        if len(self.endpoints) == 1:
            yield "endpoints names one member: while it is away, no child can change its gateway"
        elif self.endpoints and len(self.endpoints) % 2 == 0:
            yield "endpoints names an even number: an odd number of members survives as much"

    @property
    def own_name(self) -> str:
        """The name of this gateway in the site."""
        return self.gateway or socket.gethostname().partition(".")[0]

    def ownership(self) -> Ownership:
        """Return what the settings say without etcd: a share, or everything."""
        return parse_share(self.share) or ALONE

"""Grammars of settings: what is a host name, a bus address, the name of a credential.  Pure.

A setting names its grammar where it is declared, `setting(…, grammar=grammar.host)`.  A value that
breaks it is refused with file, line, key and remedy, before anything is opened, run or written
with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from ipaddress import ip_address, ip_network
from pathlib import PurePosixPath
from typing import TypeAlias

MAX_NAME = 255
"""Bytes of a file's name (NAME_MAX of Linux), and of a credential's (systemd, FDNAME_MAX)."""

MAX_INTERFACE = 15
"""Bytes of the name of a network interface (IFNAMSIZ of Linux, with its final null)."""


Grammar: TypeAlias = Callable[[str], str]
"""Returns the rule that a text breaks, "must …" with a remedy; "" for none.

It never repeats the text, which may be a secret in the wrong place.
"""


# Names on the network.

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.IGNORECASE | re.ASCII)
MAX_HOST = 253
"""Characters of a host name (RFC 1035, 2.3.4, without the final dot)."""


def is_address(text: str) -> bool:
    """Whether a text is an IPv4 or IPv6 address, without brackets; fe80::1%lan0 has a zone."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def host(text: str) -> str:
    """Return the rule that a host name or IP address breaks, as getaddrinfo(3) and TLS take it."""
    if any(one.isspace() for one in text):
        return "must be a host name or an IP address: leave out the white space"
    if is_address(text):
        return ""
    if "://" in text:
        return "must be a host name or an IP address: leave out the scheme, as mqtts://"
    if text.startswith("[") and text.endswith("]"):
        return "must be a host name or an IP address: leave out the brackets"
    if re.fullmatch(r".*:[0-9]+", text):
        return "must be a host name or an IP address: leave out the port, which is a setting itself"
    return _name(text)


def _name(text: str) -> str:
    """Return the rule of RFC 1123, 2.1, that a host name breaks, in the form of IDNA (RFC 3490)."""
    wrong = "must be a host name or an IP address: "
    if text.endswith("."):
        # OpenSSL compares it with the names in a certificate, and those have no dot there
        return f"{wrong}leave out the dot at its end"
    labels = _ascii(text).split(".")
    if len(".".join(labels)) > MAX_HOST or not all(map(_LABEL.fullmatch, labels)):
        return f"{wrong}each part has 1 to 63 letters, digits and hyphens, all of it {MAX_HOST}"
    if re.fullmatch(r"[0-9]+|0x[0-9a-f]*", labels[-1], re.IGNORECASE):
        return f"{wrong}a name does not end with a number, and this is no address"
    return ""


def _ascii(text: str) -> str:
    """Return a name in the form in which it is looked up; "" where there is none."""
    try:
        return text.encode("idna").decode("ascii") if len(text) <= MAX_HOST else ""
    except UnicodeError:
        return ""


PROXY_SCHEME = "http://"
_PROXY = re.compile(r"(?:\[([0-9A-Fa-f.]*:[^\]]+)\]|([^:\[\]]+)):([0-9]{1,5})/?")
"""In brackets is an IPv6 address and nothing else, as in any URL (RFC 3986, 3.2.2)."""
_MAX_PORT = 0xFFFF


def proxy_address(text: str) -> tuple[str, int] | None:
    """Return host and port of a proxy, as http://192.0.2.7:3128; None for what is not one."""
    found = _PROXY.fullmatch(text.removeprefix(PROXY_SCHEME))
    if found is None or not text.startswith(PROXY_SCHEME) or not 0 < int(found[3]) <= _MAX_PORT:
        return None
    name = found[1] or found[2]
    return None if host(name) else (name, int(found[3]))


def proxy(text: str) -> str:
    """Return the rule that the address of an HTTP proxy breaks."""
    wrong = f"must be {PROXY_SCHEME}HOST:PORT: "
    if "@" in text:
        return f"{wrong}put user and password into proxy_file or proxy_credential instead"
    if "://" in text and not text.startswith(PROXY_SCHEME):
        return f"{wrong}CONNECT in plain HTTP is supported, neither https to the proxy nor SOCKS"
    return "" if proxy_address(text) else f"{wrong}write scheme, host and port, and nothing else"


def ip(text: str) -> str:
    """Return the rule that an IP address breaks."""
    return "" if is_address(text) else "must be an IPv4 or IPv6 address, as 192.0.2.7"


def network(text: str) -> str:
    """Return the rule that an IP address or network breaks."""
    try:
        ip_network(text)
    except ValueError:
        return ip(text) and (
            "must be an IP address, as 192.0.2.7, or a network without host bits, as 192.0.2.0/28"
        )
    return ""


def at_least_one(key: str, names: Collection[str], wanted: str) -> Iterator[str]:
    """Yield what is wrong with a list that is empty, as `problems` of settings does.

    key: of the list.  wanted: what it is to name.
    """
    if not names:
        yield f"{key} must name at least one: {wanted}"


def interface(text: str) -> str:
    """Return the rule of the kernel that a name breaks (net/core/dev.c, dev_valid_name)."""
    plain = re.fullmatch(r"[^\s/:]+", text) and text not in (".", "..")
    if plain and len(text.encode()) <= MAX_INTERFACE:
        return ""
    return (
        f"must be the name of a network interface, as ip link shows it: 1 to {MAX_INTERFACE} "
        "bytes without slash, colon and white space"
    )


def label(text: str) -> str:
    """Return the rule that one part of a host name breaks (RFC 1123, 2.1)."""
    return "" if _LABEL.fullmatch(text) else "must be 1 to 63 letters, digits and hyphens"


# Names of files and of credentials.

_CREDENTIAL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+=,-]*", re.ASCII)


def credential_name(text: str) -> str:
    """Return the rule that the name of a credential breaks.

    systemd takes what is both a file name and printable ASCII without a colon (creds-util.c,
    credential_name_valid).  Here it is narrower: the name is written into unit files, where a
    percent sign, a quote, a backslash or white space has a meaning of its own.
    """
    if _CREDENTIAL.fullmatch(text) and len(text) <= MAX_NAME:
        return ""
    return (
        f"must be the name of a systemd credential: at most {MAX_NAME} letters, digits and "
        "_ . - @ + = , with a letter, a digit or _ first; it is no path"
    )


def file_name(text: str) -> str:
    """Return the rule that the name of a file inside a known directory breaks."""
    printable = text.isprintable() and text not in ("", ".", "..")
    if printable and "/" not in text and len(text.encode()) <= MAX_NAME:
        return ""
    return f"must be the name of a file, at most {MAX_NAME} bytes: leave out its directory"


def path_inside(text: str) -> str:
    """Return the rule that a path breaks which is relative to a known directory, and stays there.

    An absolute path may lead anywhere.
    """
    parts = PurePosixPath(text).parts
    if text and ".." not in parts and all(len(part.encode()) <= MAX_NAME for part in parts):
        return ""
    return "must not lead out of the directory by '..': write an absolute path instead"


# Names of code.

_BACKEND = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_ATTRIBUTE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}", re.ASCII)
_OF_A_SECRET = re.compile(r"(?i).*(key|pass|secret|token)")


def backend_name(text: str) -> str:
    """Return the rule that the name of a keyring backend breaks: an entry point, or a class."""
    if _BACKEND.fullmatch(text):
        return ""
    return "must be the name of an entry point of keyring.backends, or module.Class"


def attribute_name(text: str) -> str:
    """Return the rule that the name of an attribute breaks which is set to a text."""
    if not _ATTRIBUTE.fullmatch(text):
        return "must be the name of a public attribute: letters, digits and _, a letter first"
    return "must not be a secret: none belongs here" if _OF_A_SECRET.match(text) else ""


# Addresses that open a connection, or run a program.

SYSTEM_BUS = "system"
_BUS_KEYS = frozenset({"path", "abstract", "guid"})
_BUS_VALUE = re.compile(r"(?:[-0-9A-Za-z_/.\\*]|%[0-9A-Fa-f]{2})+", re.ASCII)


def bus_address(text: str) -> str:
    """Return the rule that the address of a message bus breaks.

    Of the transports of the D-Bus specification ("Server Addresses") only unix is taken, with the
    keys by which a client can connect, path and abstract: the bus says which user a caller is, and
    one that is reached by tcp, nonce-tcp or a program (unixexec, autolaunch) could say that it is
    root.  dir, tmpdir and runtime are for servers.  Of several addresses the first that answers
    would be taken, so there may be one only.
    """
    if text == SYSTEM_BUS:
        return ""
    transport, _, rest = text.partition(":")
    keys = [item.partition("=") for item in rest.split(",")]
    names = [name for name, _, _ in keys]
    usable = (
        transport == "unix"
        and len(set(names) & {"path", "abstract"}) == 1
        and _BUS_KEYS.issuperset(names)
        and len(set(names)) == len(names)
        and all(_BUS_VALUE.fullmatch(value) for _, _, value in keys)
    )
    if usable:
        return ""
    return (
        f'must be "{SYSTEM_BUS}" or one address of a Unix socket, as "unix:path=/run/bus" or '
        '"unix:abstract=bus": the process that serves the bus says which user a caller is'
    )


_TPM_DEVICE = re.compile(r"device:/dev/tpm(?:rm)?[0-9]{1,4}", re.ASCII)
_SWTPM = (
    re.compile(r"swtpm:path=/[^\s,:;%]+"),
    re.compile(r"swtpm:(?:host=(?:127\.0\.0\.1|::1|localhost),)?port=[0-9]{1,5}", re.ASCII),
)


def emulated(tcti: str) -> bool:
    """Whether a TCTI names a TPM emulated by software, on this machine."""
    return any(form.fullmatch(tcti) for form in _SWTPM)


def tcti(text: str) -> str:
    """Return the rule that the address of a TPM breaks (tpm2-tss, Tss2_TctiLdr_Initialize).

    A device that the kernel names, and which nothing but the kernel answers on; or swtpm on this
    machine, for development.  libtss2 would also load any library, run a program (cmd:), and
    connect to other hosts (mssim:, swtpm:host=); and the path of a device is written into a
    drop-in of the service, where a colon names a second path.
    """
    if _TPM_DEVICE.fullmatch(text) or emulated(text):
        return ""
    return (
        'must be a TPM of this machine, as "device:/dev/tpmrm0", or one emulated for development, '
        'as "swtpm:path=/run/swtpm.sock"'
    )

"""The DHCP servers whose leases can be read: their files, and who may read them on Debian."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from pathlib import Path

from gatewayd.discovery.leases.isc import parse_isc
from gatewayd.discovery.leases.lease import Lease, ParseLeases, live
from gatewayd.discovery.leases.lines import parse_dnsmasq, parse_kea
from gatewayd.discovery.leases.networkd import parse_networkd

MAX_FILE = 1 << 20
"""Bytes that are read of one file: ten thousand leases of dnsmasq, if clients have usual names."""

EXAMPLES = "/usr/share/doc/gatewayd/examples"


class LeaseServer(StrEnum):
    """A DHCP server."""

    DNSMASQ = "dnsmasq"
    KEA = "kea"
    ISC = "isc-dhcp"
    NETWORKD = "systemd-networkd"


class Overlong(Enum):
    """What counts of a file of more than MAX_FILE bytes.

    Its length is in the hands of clients, who choose their names and identifiers: a stranger must
    not hide the others.
    """

    BEGINNING = auto()
    END = auto()  # the newest of a journal
    HEAD_AND_END = auto()  # with the first line, which names the columns
    NOTHING = auto()


@dataclass(frozen=True, slots=True)
class LeaseFiles:
    """How a server writes its leases.

    path: the file on Debian, or the directory of a file for each interface.
    suffixes: of the files beside it, in the order in which they are read; "" is the file itself.
    remedy: what lets the discovery helper read them.
    overlong: what counts of a file that is too long.
    """

    parse: ParseLeases
    path: Path
    remedy: str
    overlong: Overlong
    suffixes: Sequence[str] = ("",)
    is_directory: bool = False

    def place(self, path: Path, interfaces: Collection[str]) -> tuple[Path, Sequence[str]]:
        """Return the directory to watch, and the names of the files in it, the oldest first."""
        if self.is_directory:
            return path, tuple(dict.fromkeys(interfaces))
        return path.parent, [f"{path.name}{suffix}" for suffix in self.suffixes]


_READABLE = "Let all users read it, as Debian does"

SERVERS: Mapping[LeaseServer, LeaseFiles] = {
    LeaseServer.DNSMASQ: LeaseFiles(
        parse_dnsmasq, Path("/var/lib/misc/dnsmasq.leases"), _READABLE, Overlong.BEGINNING
    ),
    LeaseServer.KEA: LeaseFiles(
        parse_kea,
        Path("/var/lib/kea/kea-leases4.csv"),
        f"Let the helper join the group _kea, by the drop-in {EXAMPLES}/discovery-kea.conf",
        Overlong.HEAD_AND_END,
        # What kea-lfc has put together, or is about to: the former file, and that of before.
        (".2", ".completed", ".1", ""),
    ),
    LeaseServer.ISC: LeaseFiles(
        parse_isc, Path("/var/lib/dhcp/dhcpd.leases"), _READABLE, Overlong.END
    ),
    LeaseServer.NETWORKD: LeaseFiles(
        parse_networkd,
        Path("/var/lib/systemd/network/dhcp-server-lease"),
        "Show it to the helper at another place, by the drop-in "
        f"{EXAMPLES}/discovery-networkd.conf, and set path to that",
        Overlong.NOTHING,
        is_directory=True,
    ),
}
"""What is known of each, of the releases of Debian 12 and 13."""


@dataclass(frozen=True, slots=True)
class LeasesRead:
    """What the files of a server hold.

    unreadable: rows of which nothing could be read, and files that were not read to the end.
    """

    leases: Sequence[Lease]
    unreadable: int


def read_leases(files: LeaseFiles, paths: Collection[Path], now: float) -> LeasesRead:
    """Read the files of a server; one that is not there holds nothing.  Blocks.

    now: seconds since 1970.  Raises OSError, with the file's name.
    """
    rows: list[Lease] = []
    unreadable = 0
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            content, is_whole = _read(path, files.overlong)
            unreadable += not is_whole
            for row in files.parse(content):
                if row is None:
                    unreadable += 1
                else:
                    rows.append(row)
    return LeasesRead(live(rows, now), unreadable)


def _read(path: Path, overlong: Overlong) -> tuple[bytes, bool]:
    """Return what counts of a file, and whether it is all of it."""
    with open(path, "rb", opener=_open) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if found.st_size <= MAX_FILE:
            return file.read(MAX_FILE), True
        match overlong:
            case Overlong.NOTHING:
                return b"", False
            case Overlong.BEGINNING:
                return file.read(MAX_FILE), False  # the last line is cut, and left out
        head = file.readline(MAX_FILE) if overlong is Overlong.HEAD_AND_END else b""
        file.seek(found.st_size - MAX_FILE)
        return head + file.read(MAX_FILE).partition(b"\n")[2], False


def _open(path: str, flags: int) -> int:
    # a pipe in this place must not block before the check what it is
    return os.open(path, flags | os.O_NONBLOCK)

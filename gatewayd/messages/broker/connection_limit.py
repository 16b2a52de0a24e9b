"""How many connections one address may have to the broker: a table of nftables.

mosquitto has no such limit, and keeps a connection that says nothing for 90 seconds: one host
could use up all that it accepts.  Here a connection beyond the limit is refused before the broker
accepts it.  This runs in a unit of its own that may change the firewall, and nothing else; it
believes nothing of the file but numbers: gatewayd, which writes it, must not be able to change
anything else there.

The table belongs to a socket that systemd has opened.  So the unit has no network, no other program
changes the table, as by `nft flush ruleset`, and it goes with the socket, whatever was killed.

python3 -m gatewayd.messages.broker.connection_limit FILE, with that socket passed by systemd
"""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from gatewayd.messages.broker import nftables as nft
from gatewayd.runtime.descriptors import passed_sockets

TABLE = "gatewayd_broker"
MOST_PORTS = 16
_MOST = 65535
_MAX_BYTES = 4096

Request: TypeAlias = "tuple[int, nft.Attributes]"

REMOVED: Request = (nft.DELETE_TABLE, ((1, TABLE),))

_TCP, _PORT, _FLAGS = bytes([6]), 2, 13  # the protocol, and offsets in its header (RFC 9293, 3.1)
_SYN_ACK, _SYN = bytes([0x12]), bytes([0x02])
_NETWORK, _TRANSPORT = 1, 2  # NFT_PAYLOAD_*_HEADER
_PROTOCOL, _FAMILY = 16, 15  # NFT_META_L4PROTO, NFT_META_NFPROTO
_STATE, _NEW = 0, 8  # NFT_CT_STATE; a bit of it, in the order of the host
_SIZE = 65535
_DYNAMIC = 0x20  # NFT_SET_EVAL
_SETS = (
    # name, NFPROTO_*, nft's number of the type, and of the source address its offset and bytes
    # (RFC 791, 3.1; RFC 8200, 3)
    ("addresses4", 2, 7, 12, 4),
    ("addresses6", 10, 8, 8, 16),
)
_INPUT, _NEW_CONNECTION = "input", "new_connection"


def check(ports: Sequence[int], most: int) -> None:
    """Raise ValueError for what cannot be ports or a limit."""
    numbers = (*ports, most)
    if not all(type(number) is int and 0 <= number <= _MOST for number in numbers) or 0 in ports:
        raise ValueError("ports and a limit, whole numbers up to 65535, are needed")
    if len(ports) > MOST_PORTS:
        raise ValueError(f"at most {MOST_PORTS} ports can be limited")


def requests(ports: Sequence[int], most: int) -> tuple[Request, ...]:
    """Return what makes the table, which does not exist; nothing where nothing is limited.

    most: connections from one address to all ports together; 0 for any number.
    Raises ValueError for what cannot be a port or a limit.
    """
    check(ports, most)
    return tuple(_table(sorted(set(ports)), most)) if ports and most else ()


def _table(ports: Sequence[int], most: int) -> Iterator[Request]:
    yield nft.NEW_TABLE, ((1, TABLE), (2, nft.OWNED))
    # before all that the packet filter does: NF_INET_LOCAL_IN at priority 0, by default accepted
    hook = ((1, 1), (2, 0))
    yield nft.NEW_CHAIN, ((1, TABLE), (3, _INPUT), (7, "filter"), (5, 1), (4, hook))
    yield nft.NEW_CHAIN, ((1, TABLE), (3, _NEW_CONNECTION))
    for number, (name, _, kind, _, length) in enumerate(_SETS, 1):
        described = ((4, kind), (5, length), (10, number), (9, ((1, _SIZE),)))
        yield nft.NEW_SET, ((1, TABLE), (2, name), (3, _DYNAMIC), *described)
    for port in ports:
        yield _rule(
            _INPUT,
            *_is_tcp(),
            nft.payload(_TRANSPORT, _PORT, 2), nft.equals(port.to_bytes(2, "big")),
            nft.payload(_TRANSPORT, _FLAGS, 1), nft.masked(_SYN_ACK), nft.equals(_SYN),
            nft.jump(_NEW_CONNECTION),
        )  # fmt: skip
    new = _NEW.to_bytes(4, sys.byteorder)
    for name, family, _, offset, length in _SETS:
        yield _rule(
            _NEW_CONNECTION,
            *_is_tcp(),
            nft.connection(_STATE), nft.masked(new), nft.equals(bytes(4), same=False),
            nft.meta(_FAMILY), nft.equals(bytes([family])),
            nft.payload(_NETWORK, offset, length), nft.counted_above(name, most),
            nft.reset(),
        )  # fmt: skip


def _is_tcp() -> tuple[nft.Attributes, ...]:
    return nft.meta(_PROTOCOL), nft.equals(_TCP)


def _rule(chain: str, *expressions: nft.Attributes) -> Request:
    listed = tuple((nft.LIST_ELEMENT, one) for one in expressions)
    return nft.NEW_RULE, ((1, TABLE), (2, chain), (4, listed))


def limit(sock: socket.socket, ports: Sequence[int], most: int) -> None:
    """Replace the table by one for these ports.  Blocks.  Raises ValueError, OSError.

    sock: as `nftables.apply` takes it; the table lives as long as it.
    """
    wanted = requests(ports, most)
    try:
        nft.apply(sock, [REMOVED])
    except nft.NftablesError as error:
        if error.code != errno.ENOENT:
            raise
    if wanted:
        nft.apply(sock, wanted)


def main(arguments: Sequence[str], environ: Mapping[str, str], pid: int) -> int:
    """Put the limits in a file into force; return the exit status.

    environ, pid: of the process, to which systemd has passed one socket.
    """
    with Path(arguments[0]).open("rb") as file:
        found = json.loads(file.read(_MAX_BYTES))
    ((_, sock),) = passed_sockets(environ, pid)
    with sock:
        try:
            limit(sock, found["ports"], found["connections"])
        except nft.NftablesError as error:
            sys.stderr.write(
                f"Failed to limit the connections of an address: nftables: {error}.  Load the "
                "modules nf_tables, nft_ct, nft_connlimit and nft_reject_inet of the kernel.\n"
            )
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ, os.getpid()))

"""How many connections one address may have to the broker: a table of nftables.

mosquitto has no such limit, and keeps a connection that says nothing for 90 seconds: one host
could use up all that it accepts.  Here a connection beyond the limit is refused before the broker
accepts it.  This runs in a unit of its own that may change the firewall, and nothing else; it
believes nothing of the file but numbers: gatewayd, which writes it, must not be able to change
anything else there.

python3 -m gatewayd.messages.broker.connection_limit FILE | nft -f -
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

TABLE = "gatewayd_broker"
_MOST = 65535
_MAX_BYTES = 4096

_RULESET = """\
table inet {table}
delete table inet {table}
table inet {table} {{
    set addresses4 {{ type ipv4_addr; size 65535; flags dynamic; }}
    set addresses6 {{ type ipv6_addr; size 65535; flags dynamic; }}
    chain input {{
        type filter hook input priority filter; policy accept;
        tcp dport {{ {ports} }} tcp flags & (syn | ack) == syn jump new_connection
    }}
    chain new_connection {{
        ct state new add @addresses4 {{ ip saddr ct count over {most} }} reject with tcp reset
        ct state new add @addresses6 {{ ip6 saddr ct count over {most} }} reject with tcp reset
    }}
}}
"""
_NONE = """\
table inet {table}
delete table inet {table}
"""


def ruleset(ports: Sequence[int], most: int) -> str:
    """Return what replaces the table.

    most: connections from one address to all ports together; 0 for any number.
    Raises ValueError for what cannot be a port or a limit.
    """
    numbers = (*ports, most)
    if not all(type(number) is int and 0 <= number <= _MOST for number in numbers) or 0 in ports:
        raise ValueError("ports and a limit, whole numbers up to 65535, are needed")
    if not (ports and most):
        return _NONE.format(table=TABLE)
    return _RULESET.format(table=TABLE, ports=", ".join(map(str, sorted(set(ports)))), most=most)


def main(arguments: Sequence[str]) -> int:
    """Print the table for the limits in a file; return the exit status."""
    with Path(arguments[0]).open("rb") as file:
        found = json.loads(file.read(_MAX_BYTES))
    sys.stdout.write(ruleset(found["ports"], found["connections"]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

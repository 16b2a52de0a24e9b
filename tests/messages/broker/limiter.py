"""A limit of connections in the network where this runs, until its input ends.

python3 limiter.py MOST PORT...
"""

from __future__ import annotations

import socket
import sys

from gatewayd.messages.broker.connection_limit import limit

NETFILTER = 12
"""NETLINK_NETFILTER, which systemd opens for ListenNetlink=netfilter."""

if __name__ == "__main__":
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER) as sock:
        ports = [int(port) for port in sys.argv[2:]]
        limit(sock, ports, int(sys.argv[1]))
        limit(sock, ports, int(sys.argv[1]))
        print("limited", flush=True)
        sys.stdin.read()

"""The command of the link helper: it serves one connection, its standard input, and ends."""

from __future__ import annotations

import os
import socket
import sys
import time

from gatewayd.discovery.raw_link.helper import LinkHelper, open_link


def main() -> int:
    """Serve until the client closes the connection; return the exit status."""
    with socket.socket(fileno=os.dup(sys.stdin.fileno())) as client:
        try:
            LinkHelper(client, open_link, time.monotonic, _xid).run()
        except ConnectionError:
            return 0
        except (OSError, ValueError) as error:
            sys.stderr.write(f"The link helper ends: {error}.\n")
            return 1
    return 0


def _xid() -> int:
    return int.from_bytes(os.urandom(4), "big")


if __name__ == "__main__":
    sys.exit(main())

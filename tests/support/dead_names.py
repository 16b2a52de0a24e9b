"""python3 -m tests.support.dead_names …: gatewayd, where the name servers of one domain are dead.

A look-up of a name below DEAD never returns; all others are those of the system.
"""

from __future__ import annotations

import socket
import sys
import threading
from typing import Any

from gatewayd.__main__ import run

DEAD = "dead.example"


def main() -> int:
    """Run gatewayd with these arguments."""
    real = socket.getaddrinfo

    def look_up(host: Any, *arguments: Any, **options: Any) -> Any:
        if str(host).endswith(DEAD):
            threading.Event().wait()
        return real(host, *arguments, **options)

    socket.getaddrinfo = look_up
    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())

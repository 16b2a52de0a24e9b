"""A host that opens connections and says nothing: python silent.py SOURCE HOST PORT COUNT.

It prints how many were not refused, and holds those until its input ends.
"""

from __future__ import annotations

import socket
import sys


def main(source: str, host: str, port: int, count: int) -> None:
    """Open connections, each within a second."""
    opened = []
    for _ in range(count):
        one = socket.socket()
        one.bind((source, 0))
        one.settimeout(1.0)
        try:
            one.connect((host, port))
        except OSError:
            one.close()
        else:
            opened.append(one)
    print(len(opened), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))

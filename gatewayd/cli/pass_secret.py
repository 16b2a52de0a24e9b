"""python3 -m gatewayd.cli.pass_secret: decrypt the credential that systemd has asked a socket for.

gatewayd-secret@.service runs it for each line LoadCredential=NAME:/run/gatewayd-secret.socket of
gatewayd.service.  systemd puts the unit and the name into the address of its end of the connection
(systemd.exec(5), LoadCredential=).  Where the file cannot be decrypted, systemd gets nothing, and
gatewayd starts all the same: it is on a machine with another key, and says so itself.
"""

from __future__ import annotations

import os
import re
import socket
import sys
from pathlib import Path

from gatewayd.settings import grammar

DIRECTORY = Path("/etc/credstore.encrypted")
_PEER = re.compile(rb"\0[0-9a-f]{1,16}/unit/gatewayd\.service/([^/]{1,255})")


def requested(peer: bytes | str) -> str:
    """Return the name of the credential that a peer asks for; "" where it is not for gatewayd.

    peer: the address of its socket.
    """
    found = _PEER.fullmatch(os.fsencode(peer))
    name = os.fsdecode(found[1]) if found else ""
    return "" if grammar.credential_name(name) else name


def command(name: str, directory: Path = DIRECTORY) -> list[str]:
    """Return the command that decrypts a credential to the standard output."""
    return ["systemd-creds", f"--name={name}", "decrypt", str(directory / name), "-"]


def main() -> str:
    """Become systemd-creds; return why there is nothing to decrypt."""
    with socket.socket(fileno=os.dup(sys.stdin.fileno())) as connection:
        name = requested(connection.getpeername())
    if name:
        words = command(name)
        os.execvp(words[0], words)  # noqa: S606  # a fixed program, and a name that was checked
    return "this is no request of gatewayd.service for a credential"


if __name__ == "__main__":
    sys.exit(main())

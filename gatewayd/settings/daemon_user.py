"""The daemon's user, as whom a check of the configuration looks at files.

Root can read every file, so that a check that root makes would approve what gatewayd cannot use.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

DAEMON_USER = "gatewayd"

HIDDEN = tuple(map(Path, ("/home", "/root", "/run/user", "/tmp", "/var/tmp")))  # noqa: S108  # what is looked for, not used
"""What the unit does not see of the machine: ProtectHome=, PrivateTmp= (systemd.exec(5))."""


@contextmanager
def acting_as_daemon(name: str = DAEMON_USER) -> Iterator[bool]:
    """Let root look at files as the daemon's user inside; yield whether this is that user now.

    Any other user stays, and so does root where there is no such user.  For a program with one
    thread: all of the process changes.  name: of the user.
    """
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        yield False
        return
    if os.geteuid() != 0:
        yield os.geteuid() == user.pw_uid
        return
    groups, group = os.getgroups(), os.getegid()
    os.setgroups(os.getgrouplist(name, user.pw_gid))
    os.setegid(user.pw_gid)
    os.seteuid(user.pw_uid)
    try:
        yield True
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


def hiding_directory(path: Path, hidden: Sequence[Path] = HIDDEN) -> Path | None:
    """Return the directory below which the service does not see a file, whatever its mode."""
    return next((one for one in hidden if one in path.absolute().parents), None)

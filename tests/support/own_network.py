"""A network of its own for each process that runs tests, so that several may use the loopback."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import time
from pathlib import Path

PATIENCE = 60.0
"""Seconds in which an interface runs."""
_POLL = 0.005
_GET_FLAGS = 0x8913  # SIOCGIFFLAGS, linux/sockios.h
_UP, _RUNNING = 0x1, 0x40  # IFF_*, netdevice(7)
_TENTATIVE = 0x40  # IFA_F_TENTATIVE, linux/if_addr.h
_REQUEST = struct.Struct("16sH22x")  # ifreq: name, flags

CLONE_NEWNET = 0x40000000  # <linux/sched.h>
NAMED = Path("/run/netns")
"""Where `ip netns` has its namespaces, ip-netns(8)."""


def enter() -> None:
    """Move this thread, and what it starts from now on, into a new network namespace.

    The namespace has a loopback interface and nothing else, and ends with the process.
    Needs root.  Raises OSError.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        raise _no_namespace()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def join(name: str) -> None:
    """Move this thread, and what it starts from now on, into a network that `ip netns` has made.

    Its mounts stay: /sys shows the interfaces of before.  Needs root.  Raises OSError.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    with (NAMED / name).open() as network:
        if libc.setns(network.fileno(), CLONE_NEWNET):
            raise _no_namespace()


def _no_namespace() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"no network namespace: {os.strerror(number)}")


def await_running(interface: str) -> None:
    """Return once an interface of this thread's namespace runs, if it is up.

    The kernel says so some time after its carrier has come: it processes such events once in a
    second, of all namespaces together.  Raises TimeoutError.
    """
    end = time.monotonic() + PATIENCE
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        while not _is_settled(asking, interface):
            if time.monotonic() > end:
                raise TimeoutError(f"{interface} does not run")
            time.sleep(_POLL)


def _is_settled(asking: socket.socket, interface: str) -> bool:
    answer = fcntl.ioctl(asking, _GET_FLAGS, _REQUEST.pack(interface.encode(), 0))
    flags: int = _REQUEST.unpack(answer)[1]
    return not flags & _UP or bool(flags & _RUNNING and not _has_tentative(interface))


def _has_tentative(interface: str) -> bool:
    """Whether an address of IPv6 may not be used yet."""
    rows = map(str.split, Path("/proc/thread-self/net/if_inet6").read_text().splitlines())
    return any(name == interface and int(flags, 16) & _TENTATIVE for *_, flags, name in rows)

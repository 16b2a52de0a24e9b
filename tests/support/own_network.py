"""A network of its own for each process that runs tests, so that several may use the loopback."""

from __future__ import annotations

import ctypes
import os
import subprocess

CLONE_NEWNET = 0x40000000  # <linux/sched.h>


def enter() -> None:
    """Move this thread, and what it starts from now on, into a new network namespace.

    The namespace has a loopback interface and nothing else, and ends with the process.
    Needs root.  Raises OSError.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, f"no network namespace: {os.strerror(number)}")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)

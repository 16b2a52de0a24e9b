"""A booted gateway whose disk takes no writes at its start: no command is needed but to mend it."""

from __future__ import annotations

import pytest

from gatewayd.runtime.journal import MESSAGE_IDS
from tests.system.conftest import CHILDREN
from tests.system.gateway import Gateway

pytestmark = pytest.mark.system

STATE = "/var/lib/gatewayd"
SMALL = f"""
    cp -a {STATE} /root/kept &&
    mount -t tmpfs -o size=8m,mode=0700,uid=$(id -u gatewayd),gid=$(id -g gatewayd) tmpfs {STATE} &&
    cp -a /root/kept/. {STATE}
"""
"""Puts what is stored onto a small disk of its own."""
FULL = (f"! cat /dev/zero 2>/dev/null >{STATE}/filler", f"rm {STATE}/filler", "is full")
READ_ONLY = (f"mount -o remount,ro {STATE}", f"mount -o remount,rw {STATE}", "is read-only")
"""What breaks the disk, what mends it, and what is said of it."""


def test_children_come_online_from_what_can_be_read(gateway: Gateway) -> None:
    gateway.systemctl("stop")
    gateway.box.run("sh", "-c", SMALL)
    for fault, mending, said in (FULL, READ_ONLY):
        _come_online(gateway, fault, mending, said)


def _come_online(gateway: Gateway, fault: str, mending: str, said: str) -> None:
    gateway.systemctl("stop")
    gateway.box.run("sh", "-c", fault)
    gateway.systemctl("start")
    gateway.await_online(CHILDREN)
    gateway.await_state("degraded")
    gateway.await_status(said)
    entry = f"MESSAGE_ID={MESSAGE_IDS['disk-not-writable']}"
    gateway.await_entry(said, "--boot", "--catalog", entry)
    gateway.box.run("sh", "-c", mending)
    gateway.await_state("running")
    gateway.await_online(CHILDREN)
    # a unit's view of a disk that was mounted read-only stays so, until it is started again
    assert gateway.shown("NRestarts") == ("1" if "remount" in mending else "0")
    assert set(gateway.plant.secrets_issued().values()) == {1}

"""Neighbours that stop and files that are wrong for a while, beside a booted gateway.

Each ends as it came, and no command is given to gatewayd: its children are online then, and it
has not ended.  tests/system/test_attacks.py plays them after the attacks, on the same machine.
What needs a machine of its own is played elsewhere: a disk that takes no writes at the start by
tests/system/test_bad_disk.py; a message bus and a journal that hang, processes that are killed
again and again by test_service.py; a discovery helper that is stopped by test_discovery.py; a TPM
that is stopped by tests/integration/test_stopped_neighbours.py; an etcd by script/soak site.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from gatewayd.ca.authority import make_authority
from gatewayd.ca.certificates import common_name
from gatewayd.runtime.clock import BUILT
from gatewayd.simulator.site import MANAGER
from script.attacking.booted import AttackedGateway
from tests.support.keyrings import BUS, SecretService
from tests.system.gateway import BUSCTL, STATE

STRANGER = "nobody"
"""A user who needs polkit's answer for a change."""
ALONE = "--allow-interactive-authorization=no"
"""No password may be asked for: polkit has 5 seconds then, and two minutes otherwise."""
WAITS = """\
[discovery]
probe_wait = 0
probe_spread = 0
probe_gap = 1
[sessions]
retry_last = 4
"""
"""A child that leaves is asked as often as by default, and sooner; none waits long for its turn."""
CA_FILE = "/etc/gatewayd/ca.pem"
"""The root by which the cloud is trusted, as the configuration of these gateways names it."""
BROKER, DOOR_OPEN = "gatewayd-broker.service", "is connected to the broker"
MESSAGES = "[messages]\nenabled = true\n"
KEYRING_BUS = "/run/gatewayd-keyring"
"""Where the manual has the bus of the keyring."""
KEYRING = """\
[secretstore]
backend = "keyring"
[secretstore.keyring]
backend = "SecretService"
"""
ON_ITS_BUS = f"[Service]\nEnvironment=DBUS_SESSION_BUS_ADDRESS=unix:path={KEYRING_BUS}/bus\n"
LATE = "/run/clock-is-not-set"
"""While this file is there, gatewayd's clock shows 1970."""
PACKAGES = "/usr/lib/python3/dist-packages"
LATE_CLOCK = f"""\
import os, time
shown = time.time_ns
time.time_ns = lambda: shown() - ({BUILT} * 1000 if os.path.exists("{LATE}") else 0)
"""
"""A clock as after a boot without a battery, for the gateway alone: a container has none of its
own, and nothing of the machine is to be changed.  Certificates are verified by the real one."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong beside a gateway for a while.

    play: brings it, and takes it away when its block ends.
    said: what the journal says while it lasts; "" where there is nothing that an operator could do.
    ended: what it says once it is over.
    reason: why a child that comes back meanwhile is not online before it ends; "" where it is.
    of_release: whether what is wrong belongs to the release, so that each is tried.
    """

    name: str
    play: Callable[[AttackedGateway], AbstractContextManager[None]]
    said: str = ""
    ended: str = ""
    reason: str = ""
    of_release: bool = False


@dataclass(frozen=True, slots=True)
class Aftermath:
    """How a gateway was when a trouble had ended.

    online: seconds until the child that came back meanwhile was online, from there or from the end
    of the trouble.  unharmed: whether it never ended by itself.
    """

    trouble: Trouble
    online: float
    unharmed: bool

    def __str__(self) -> str:
        verdict = "held" if self.unharmed else "gatewayd has ended"
        return f"{self.trouble.name:44} child {self.online:5.1f} s  {verdict}"


def outlast(target: AttackedGateway, trouble: Trouble) -> Aftermath:
    """Play a trouble, in which a child leaves and comes back.  Raises TimeoutError."""
    box, child = target.gateway.box, next(iter(target.gateway.plant.facts["serials"]))
    box.write("/etc/gatewayd/conf.d/60-waits.toml", WAITS)
    target.begin()
    with trouble.play(target):
        if trouble.said:
            box.until(lambda: target.says(trouble.said), f"{trouble.said!r} to be logged")
        target.gateway.plant.ask(do="leave", child=child)
        box.until(lambda: not target.is_online(child), "the child to leave")
        target.gateway.plant.ask(do="announce", child=child)
        began = time.monotonic()
        if not trouble.reason:
            box.until(lambda: target.is_online(child), "the child to come online meanwhile")
            online = time.monotonic() - began
        else:
            box.until(lambda: _is_kept_off(target, trouble.reason), "the child to be kept off")
            began = time.monotonic()
    if trouble.reason:
        box.until(lambda: target.is_online(child), "the child to come online by itself")
        online = time.monotonic() - began
    target.gateway.await_online(target.online)
    target.gateway.await_state("running")
    box.until(lambda: target.says(trouble.ended), f"{trouble.ended!r} to be logged")
    return Aftermath(trouble, online, target.gateway.shown("NRestarts") == "0")


def _is_kept_off(target: AttackedGateway, reason: str) -> bool:
    """Whether a child is not online for this reason."""
    children = target.gateway.children()
    found = (target.gateway.call("DescribeDevice", "s", one) for one in children)
    return any(one["Reason"]["data"] == reason for one in found)


@contextmanager
def stop_systemd(target: AttackedGateway) -> Iterator[None]:
    """Stop what reads the notify socket: from outside, since nothing inside can."""
    inside = target.gateway.box.inside
    leader = int(inside[inside.index("--target") + 1])
    os.kill(leader, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(leader, signal.SIGCONT)


@contextmanager
def stop_polkit(target: AttackedGateway) -> Iterator[None]:
    """Stop polkit, and have a user ask for what only it may allow, all the while."""
    box = target.gateway.box
    box.run("systemctl", "start", "polkit.service")
    box.run("systemctl", "kill", "--signal=SIGSTOP", "polkit.service")
    call = " ".join((*BUSCTL, ALONE, "call", *MANAGER, "PermitJoin", "'ua{sv}' 1 0"))
    asked = f"while :; do {call}; done"
    asker = (*box.inside, "runuser", "-u", STRANGER, "--", "sh", "-c", f"{asked} >/dev/null 2>&1")
    try:
        with target.running(*asker):
            yield
    finally:
        box.run("systemctl", "kill", "--signal=SIGCONT", "polkit.service")


@contextmanager
def stop_broker(target: AttackedGateway) -> Iterator[None]:
    """Stop its own broker, which has children's passwords to read meanwhile."""
    gateway, box = target.gateway, target.gateway.box
    box.write("/etc/gatewayd/conf.d/60-messages.toml", MESSAGES)
    gateway.systemctl("restart")
    box.until(lambda: target.says(DOOR_OPEN), "gatewayd to be connected to its broker")
    box.run("systemctl", "kill", "--signal=SIGSTOP", BROKER)
    box.run("gatewayctl", "door", "password", next(iter(gateway.children())))
    try:
        yield
    finally:
        box.run("systemctl", "kill", "--signal=SIGCONT", BROKER)
        box.path("/etc/gatewayd/conf.d/60-messages.toml").unlink()


@contextmanager
def stop_keyring(target: AttackedGateway) -> Iterator[None]:
    """Stop the keyring that keeps the secrets: from here on it is the store, and not the vault."""
    gateway, box = target.gateway, target.gateway.box
    gateway.systemctl("stop")
    box.run("mv", STATE, f"{STATE}.vault")
    for child in gateway.plant.facts["serials"]:
        gateway.plant.ask(do="reset", child=child)
    box.write("/etc/gatewayd/conf.d/60-keyring.toml", KEYRING)
    gateway.drop_in("keyring", ON_ITS_BUS)
    with _keyring(target) as keyring:
        gateway.systemctl("start")
        gateway.await_online(target.online)
        keyring.signal(signal.SIGSTOP)
        gateway.plant.ask(do="announce", child=next(target.late))  # its secret is to be kept
        try:
            yield
        finally:
            keyring.signal(signal.SIGCONT)
        target.online += 1
        gateway.await_online(target.online)  # the keyring ends with this block
        gateway.await_state("running")


@contextmanager
def _keyring(target: AttackedGateway) -> Iterator[SecretService]:
    """Run a keyring for gatewayd: its bus as the manual has it, the rest outside of the gateway."""
    box = target.gateway.box
    box.run("install", "--directory", "--owner=gatewayd", KEYRING_BUS)
    box.write(f"{KEYRING_BUS}/bus.conf", BUS.format(directory=KEYRING_BUS))
    bus = ("dbus-daemon", "--nofork", f"--config-file={KEYRING_BUS}/bus.conf")
    keyring = SecretService(box.path(KEYRING_BUS))
    with target.running(*box.inside, "runuser", "-u", "gatewayd", "--", *bus):
        box.until(box.path(f"{KEYRING_BUS}/bus").exists, "the keyring's bus")
        keyring.start()
        try:
            yield keyring
        finally:
            keyring.stop()


@contextmanager
def exchange_root(target: AttackedGateway) -> Iterator[None]:
    """Start with another root than the cloud's in the file that names it."""
    file = target.gateway.box.path(CA_FILE)
    own = file.read_text()
    file.write_text(make_authority(common_name("another"), "ec-p256", 30, time.time()).pem)
    try:
        target.gateway.systemctl("restart")
        yield
    finally:
        file.write_text(own)


@contextmanager
def start_without_clock(target: AttackedGateway) -> Iterator[None]:
    """Start with a clock that is not set; a child that is new waits until it is."""
    box, gateway = target.gateway.box, target.gateway
    box.write(f"{PACKAGES}/late_clock.py", LATE_CLOCK)
    box.write(f"{PACKAGES}/late_clock.pth", "import late_clock\n")
    box.write(LATE, "")
    new = next(target.late)
    try:
        gateway.systemctl("restart")
        gateway.plant.ask(do="announce", child=new)
        box.until(lambda: target.says("clock is not set"), "the clock to be missed")
        yield
        assert not target.is_online(new), "it would be registered at a time that never was"
    finally:
        box.path(LATE).unlink()
    box.until(lambda: target.is_online(new), "the new child to come online")
    target.online += 1
    for name in ("py", "pth"):
        box.path(f"{PACKAGES}/late_clock.{name}").unlink()


TROUBLES: Sequence[Trouble] = (
    Trouble("a neighbour that is stopped: systemd", stop_systemd),
    Trouble("a neighbour that is stopped: polkit", stop_polkit, "Polkit does not answer"),
    Trouble("a file that is wrong at the start: a root", exchange_root, reason="tls-unknown-ca"),
    Trouble("a clock that is not set at the start", start_without_clock),
    Trouble("a neighbour that is stopped: its own broker", stop_broker),
    Trouble(
        "a neighbour that is stopped: the keyring", stop_keyring, "The keyring is sealed",
        "The keyring is unsealed now", reason="store-unavailable", of_release=True,
    ),
)  # fmt: skip
"""The last one leaves a gateway whose secrets are in a keyring that has ended."""

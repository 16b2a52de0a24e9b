"""Attacks on a booted gateway from its LAN, its message bus and its clouds, and what each costs.

tests/system/test_attacks.py boots the gateways: `script/attack booted` plays all, CI a few.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from gatewayd.manager.manager import STRANGERS_LOGGED
from gatewayd.simulator.lan import dns, records
from gatewayd.simulator.lan.child import LanChild
from gatewayd.simulator.lan.floods import FLOODS
from script.attacking import hostile_cloud
from tests.integration.lan import CHILDREN, FORGED, NETWORK
from tests.support import bus_attacker
from tests.system.box import Failed
from tests.system.gateway import Gateway

TOP = Path(__file__).parents[2]
GROWTH = 20 << 20
"""Bytes by which gatewayd may grow, and its discovery helper."""
ONLINE = 10.0
"""Seconds in which a child that is switched on during an attack has to be online."""
SOON, LATER = 1.0, 5.0
"""Seconds in which other callers are answered: during attacks by the LAN and clouds, by the bus."""
LINES = STRANGERS_LOGGED + 20
"""Lines of the journal that an attack may cause, with those about strangers that wait."""
DOOMED = 2
"""Children that a hostile cloud gets."""
LASTS = 3.0
"""Seconds for which an attack goes on, at least."""
PATIENCE = 60.0
_LOOK = 0.1

FLOODED, REFUSING = "is flooded", "Refusing D-Bus calls"

_RULE = """\
[[rule]]
name = "doomed-{number}"
match = {{ service = "_gatewayd-child._tcp", "txt.serial" = "{serial}" }}
extract = {{ serial = "txt.serial" }}
list = "/etc/gatewayd/serials.txt"
action = "register"
provider = "hostile"
product = "{product}"
device_name = "{{serial}}"
"""
_CLOUD = """\
[cloud.hostile]
kind = "alibaba"
host = "{host}"
{address}port = {port}
ca_file = "/etc/gatewayd/{ca}"
connect_timeout = 5
[cloud.hostile.products.{product}]
secret_credential = "product"
"""
_IPV6_FLOOD = """
import itertools, socket, sys, time
packet, interface = bytes.fromhex(sys.argv[1]), socket.if_nametoindex("lan0")
senders = []
for number in range(1, 51):
    sender = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sender.bind((f"fd77::{number:x}", 0))
    sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, interface)
    senders.append(sender)
print("attacking", flush=True)
end = time.monotonic() + 120
for sender in itertools.cycle(senders):
    if time.monotonic() > end:
        break
    sender.sendto(packet, ("ff02::fb", 5353, 0, interface))
    time.sleep(0.001)
"""
"""Sends one announcement again and again to the group of IPv6, from 50 addresses in turn."""


class AttackedGateway:
    """A booted gateway, and the children that are not switched on yet.

    late: their serial numbers; each attack uses some of them up.
    """

    def __init__(self, gateway: Gateway, directory: Path, online: int) -> None:
        self.gateway, self.directory = gateway, directory
        self.late: Iterator[str] = iter(gateway.plant.facts["serials"][online:])
        self.online = online
        self._cursor = ""
        self._processes: Sequence[str] = ()
        self._before: Sequence[int] = ()

    @property
    def outside(self) -> tuple[str, ...]:
        """What a command line begins with, to be run where the children are."""
        return ("ip", "netns", "exec", self.gateway.namespace.replace("gw-", "children-"))

    def begin(self) -> None:
        """Start gatewayd once more: what came before weighs nothing."""
        self.gateway.systemctl("restart")
        self.gateway.await_online(self.online)
        self._cursor = self.gateway.box.run(
            "journalctl", "--quiet", "-n1", "--show-cursor", "--output=cat"
        ).rpartition("cursor: ")[2]
        self._processes = self.processes()
        self._before = self.resident()

    def processes(self) -> Sequence[str]:
        """Return the process ids of gatewayd and of its discovery helper."""
        units = ("gatewayd.service", "gatewayd-discovery@*.service")
        shown = self.gateway.box.run("systemctl", "show", "--value", "--property=MainPID", *units)
        return shown.split()

    def is_unharmed(self) -> bool:
        """Whether both are those from before the attack."""
        return self.processes() == self._processes

    def resident(self) -> Sequence[int]:
        """Return the memory of each, bytes; 0 for one that has ended."""
        found = []
        for process in self._processes:
            try:
                status = self.gateway.box.path(f"/proc/{process}/status").read_text()
                found.append(int(status.partition("VmRSS:")[2].split()[0]) << 10)
            except OSError:
                found.append(0)
        return found

    def growth(self) -> int:
        """Return the bytes by which that of them has grown which has grown most."""
        return max(now - before for now, before in zip(self.resident(), self._before, strict=True))

    def journal(self) -> Sequence[str]:
        """Return what both have logged since the beginning."""
        return self.gateway.box.run(
            "journalctl", "--no-pager", "--output=cat", f"--after-cursor={self._cursor}",
            "_SYSTEMD_UNIT=gatewayd.service", "+", "SYSLOG_IDENTIFIER=gatewayd",
        ).splitlines()  # fmt: skip

    def says(self, text: str) -> bool:
        """Whether they have logged this since the beginning."""
        return any(text in line for line in self.journal())

    def is_online(self, child: str) -> bool:
        """Whether the cloud has a session of a child."""
        return bool(self.gateway.plant.ask(do="ledger", child=child).get("online"))

    @contextmanager
    def running(self, *command: str) -> Iterator[subprocess.Popen[str]]:
        """Run a command, with all that it starts, until the block ends."""
        process = subprocess.Popen(
            command, cwd=TOP, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@dataclass(frozen=True, slots=True)
class BootedAttack:
    """An attack on a booted gateway.

    play: begins, and attacks until its block ends.
    said: what the journal says about it, once; "" where there is nothing that an operator could do.
    answered: seconds in which other callers are answered.
    """

    name: str
    play: Callable[[AttackedGateway], AbstractContextManager[None]]
    said: str = ""
    answered: float = SOON


@dataclass(slots=True)
class Toll:
    """What an attack has cost.

    growth: bytes of memory, at most.  online, answered: seconds, at most.  said, lines: of the
    journal.
    """

    attack: BootedAttack
    unharmed: bool = True
    growth: int = 0
    online: float = float("inf")
    answered: float = 0.0
    lines: Sequence[str] = field(default_factory=list)

    @property
    def said(self) -> int:
        """How often the journal names the attack."""
        return sum(self.attack.said in line for line in self.lines) if self.attack.said else 0

    def harm(self) -> list[str]:
        """Say what it has done that it must not, on a machine of any speed."""
        found = {
            "gatewayd or its helper has ended": not self.unharmed,
            "it has grown too much": self.growth > GROWTH,
            "the child never came online": self.online > PATIENCE,
            "the journal says it not once": self.said != bool(self.attack.said),
            "the journal says too much": len(self.lines) > LINES,
        }
        return [what for what, is_so in found.items() if is_so]

    def delay(self) -> list[str]:
        """Say what took longer than it may on a machine that does nothing else."""
        found = {
            "the child came online late": self.online > ONLINE,
            "others waited": self.answered > self.attack.answered,
        }
        return [what for what, is_so in found.items() if is_so]

    def __str__(self) -> str:
        verdict = "; ".join([*self.harm(), *self.delay()]) or "held"
        return (
            f"{self.attack.name:44} {self.growth / (1 << 20):6.1f} MiB"
            f"  child {self.online:5.1f} s  others {self.answered:5.2f} s"
            f"  journal {self.said} of {len(self.lines):>2} lines  {verdict}"
        )


def suffer(target: AttackedGateway, attack: BootedAttack) -> Toll:
    """Play an attack, and switch a child on meanwhile; return what it has cost."""
    toll = Toll(attack)
    with attack.play(target):
        child, began = next(target.late), time.monotonic()
        target.gateway.plant.ask(do="announce", child=child)
        while (passed := time.monotonic() - began) < PATIENCE:
            if toll.online > passed and target.is_online(child):
                toll.online = time.monotonic() - began
            toll.growth = max(toll.growth, target.growth())
            asked = time.monotonic()
            target.gateway.counts()
            toll.answered = max(toll.answered, time.monotonic() - asked)
            if toll.online <= passed and passed > LASTS:
                break
            time.sleep(_LOOK)
        toll.growth = max(toll.growth, target.growth())
    target.online += toll.online <= PATIENCE
    toll.unharmed, toll.lines = target.is_unharmed(), target.journal()
    return toll


@contextmanager
def flood_lan(target: AttackedGateway, kind: str, rate: int, forge: str) -> Iterator[None]:
    """Flood the LAN by mDNS.  rate: packets a second.  forge: whose addresses they have."""
    over = threading.Event()
    target.begin()

    def flood() -> None:
        while not over.is_set():
            target.gateway.plant.ask(do="attack", kind=kind, count=rate, rate=rate, forge=forge)

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        target.gateway.box.until(lambda: target.says(FLOODED), "its burst to be spent")
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def flood_ipv6(target: AttackedGateway) -> Iterator[None]:
    """Flood the LAN by mDNS over IPv6, from many addresses."""
    for number in range(1, 51):
        added = [*target.outside, "ip", "addr", "replace", f"fd77::{number:x}/64", "dev", "lan0"]
        subprocess.run([*added, "nodad"], check=True)
    stranger = LanChild("x", "TH20-0000FF", "24:0a:c4:00:00:01", "x", "10.77.1.200")
    packet = dns.encode(records.announcement(stranger)).hex()
    target.begin()
    with target.running(*target.outside, sys.executable, "-c", _IPV6_FLOOD, packet) as flood:
        _await(flood)
        yield


@contextmanager
def flood_bus(target: AttackedGateway, kind: str, count: int) -> Iterator[None]:
    """Flood gatewayd's bus name as a user without rights.  count: messages of one connection."""
    shutil.copy(bus_attacker.__file__, target.gateway.box.path("/opt/bus_attacker.py"))
    socket = "unix:path=/run/dbus/system_bus_socket"
    target.begin()
    loop = f"while :; do python3 /opt/bus_attacker.py {socket} {kind} {count}; done"
    with target.running(*target.gateway.box.inside, "sh", "-c", f"{loop} 2>&1") as flood:
        _await(flood, "sending")
        reader = threading.Thread(target=flood.stdout.read if flood.stdout else None)
        reader.start()
        yield
    reader.join()


@contextmanager
def serve_hostile_cloud(target: AttackedGateway, kind: str) -> Iterator[None]:
    """Have a second cloud, which has children too, attack.  kind: of hostile_cloud."""
    box, product = target.gateway.box, target.gateway.plant.facts["product"]
    doomed = [next(target.late) for _ in range(DOOMED)]
    command = ("-m", "script.attacking.hostile_cloud", kind, CHILDREN, str(target.directory))
    dead = kind == hostile_cloud.NAMES
    with target.running(*target.outside, sys.executable, *command) as cloud:
        port = _await(cloud, "")
        files = {
            "conf.d/40-hostile.toml": _CLOUD.format(
                host="iot.dead.example" if dead else "localhost",
                address="" if dead else f'address = "{CHILDREN}"\n',
                port=1883 if dead else port, product=product,
                ca="ca.pem" if dead else "hostile-ca.pem",
            ),
            "rules.d/40-hostile.toml": "".join(
                _RULE.format(number=number, serial=serial, product=product)
                for number, serial in enumerate(doomed)
            ),
            "hostile-ca.pem": "" if dead else (target.directory / "ca.pem").read_text(),
        }  # fmt: skip
        for name, text in files.items():
            box.write(f"/etc/gatewayd/{name}", text)
        if dead:
            box.write("/etc/resolv.conf", f"nameserver {CHILDREN}\noptions timeout:30\n")
        try:
            target.begin()
            for serial in doomed:
                target.gateway.plant.ask(do="announce", child=serial)
            _await(cloud)
            yield
        finally:
            for serial in doomed:  # else they were the usual cloud's
                target.gateway.plant.ask(do="leave", child=serial)
            for name in files:
                box.path(f"/etc/gatewayd/{name}").unlink()
            box.write("/etc/resolv.conf", "")


def _await(process: subprocess.Popen[str], line: str = "attacking") -> str:
    """Return the next line that a process prints.  Raises Failed for another one than this."""
    assert process.stdout is not None, "it is a pipe"
    timer = threading.Timer(PATIENCE, os.killpg, (process.pid, signal.SIGKILL))
    timer.start()
    found = process.stdout.readline().strip()
    timer.cancel()
    if not found or (line and found != line):
        raise Failed(f"{process.args!r}: {found!r} instead of {line!r}")
    return found


def _of_the_lan() -> Iterator[BootedAttack]:
    rates = dict.fromkeys(FLOODS, 60) | {"impersonate": 1000, "malform": 1000}
    senders = {"": "one host", FORGED: "new addresses", NETWORK: "addresses of children"}
    for kind, rate in rates.items():
        for forge, whose in senders.items():
            if kind == "malform" and forge:
                continue
            play = partial(flood_lan, kind=kind, rate=rate, forge=forge)
            yield BootedAttack(f"mDNS: {kind}, {whose}", play, FLOODED)
    yield BootedAttack("mDNS: over IPv6, from 50 addresses", flood_ipv6)


def _of_the_bus() -> Iterator[BootedAttack]:
    counts = {
        "small": 20_000, "string": 500, "texts": 150, "options": 150, "values": 1500,
        "denied": 1500,
        "list": 3000, "descriptors": 1500, "senders": 20_000, "describe": 5000,
        "properties": 5000,
    }  # fmt: skip
    for kind, count in counts.items():
        play = partial(flood_bus, kind=kind, count=count)
        yield BootedAttack(f"D-Bus: {kind}", play, REFUSING, LATER)
    for kind, count in {"signals": 1500, "unread": 5000, "names": 100}.items():
        yield BootedAttack(f"D-Bus: {kind}", partial(flood_bus, kind=kind, count=count), "", LATER)


def _of_clouds() -> Iterator[BootedAttack]:
    for kind in (*hostile_cloud.KINDS, hostile_cloud.NAMES):
        play = partial(serve_hostile_cloud, kind=kind)
        yield BootedAttack(f"a cloud: {kind}", play)


def booted_attacks() -> Sequence[BootedAttack]:
    """Return all of them."""
    return (*_of_the_lan(), *_of_the_bus(), *_of_clouds())


FEW = (
    "mDNS: many-names, addresses of children", "D-Bus: options", "a cloud: unread",
)  # fmt: skip
"""Those that CI plays: one of each kind."""

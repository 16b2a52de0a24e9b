"""Named faults: what goes wrong, for which devices and how often; parsed from a line of text.

    plan     = fault *( (" " / ",") fault )
    fault    = [stage "."] name [":" number] [":" share "%"] [":x" times] ["@" glob]
             / name [":" number] [":" share "%"] [":x" times] "@" request ["/" glob]
    stage    = "register" / "login"      a fault without a stage concerns registrations
    request  = "*" / the cloud's name of a request: thing.sub.register

    silent                      nothing is ever answered
    hang-up                     the connection is closed instead of an answer
    refuse:CODE                 CONNACK with this return code, 1 to 5; nothing is issued
    garbage                     bytes that are no MQTT, instead of CONNACK
    slow:SECONDS                everything works, that much later
    hang-up-after-connack       CONNACK 0, then closed: what was issued is lost
    lose-connack                all is done, and the connection is closed instead of CONNACK
    no-push                     CONNACK 0, and never a push: what was issued is lost
    late:SECONDS                CONNACK 0 at once, the push that much later
    secret-then-hang-up         the push arrives, and the connection is closed behind it
    answer-twice                two pushes with two secrets: only the second is valid
    foreign-name                the push names another device; what was issued is lost
    empty-secret                the push holds an empty secret; likewise
    bad-json                    the push is cut off; likewise
    down                        nothing listens; has no stage, share, times or glob

Those from `no-push` on are for registrations only, and for a cloud that pushes secrets.  For a
cloud with several instances, distinguished by the name in the TLS handshake, these strike the
handshakes of the matching names, without a stage:

    tls-alert:NUMBER            the server ends the handshake with this alert (RFC 8446, 6)
    tls-expired                 the server's certificate ended long ago
    tls-foreign                 an authority unknown to the client issued the server's certificate
    tls-misnamed                the server's certificate is for another name

These are for the messages of devices, but not for requests about children:

    lose-message                the message is acknowledged, and lost, as over a limit
    lose-puback                 the message is kept, and never acknowledged
    message-hang-up             the connection is closed, and the message lost
    puback-hang-up              the message is kept, and the connection closed instead of PUBACK

These are for commands to devices, by the device, which for a sub-device is itself:

    command-twice               the command comes twice
    command-garbled             the command is cut off
    lose-command                the command is sent by the cloud, and lost

These are for requests:

    reply:CODE                  nothing is done, and the reply says this code
    partial:CODE                the devices that match fail with this code, in a batch of others
    lose-request                nothing is done, and nothing is answered
    lose-reply                  all is done, and nothing is answered
    reply-late:SECONDS          all is done, and answered that much later
    reply-last                  the reply comes behind that of the sender's next request
    reply-twice                 the reply comes twice
    reply-mixed                 the reply's id is a number and its code a text, or other events join
    reply-garbled               the reply is cut off
    reply-hang-up               all is done, and the connection is closed instead of a reply
    refuse-topic                the subscription to the topic of the reply is refused

share: percent of the matching attempts, chosen by the seed.  times: how often for each device; for
a request, for each sender, but with `partial` for each device in it.  glob: of device names, with
*, ? and [] as the only special characters; a request matches by any device that it names, and by
its sender if it names none; a message by its sender, which for a sub-device is the gateway.  The
first matching fault that strikes counts; a request can suffer a `partial` besides another fault.

    refuse:3:x2  late:4:10%@TH20-*  login.refuse:5@TH20-0001
    reply:6288:x1@thing.sub.register/TH20-*  lose-reply:5%@*
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TypeAlias

from gatewayd.errors import ConfigError

NUMBERS: Mapping[str, tuple[float, float] | None] = {
    "silent": None,
    "hang-up": None,
    "refuse": (1, 5),
    "garbage": None,
    "slow": (0, 3600),
    "hang-up-after-connack": None,
    "no-push": None,
    "late": (0, 3600),
    "secret-then-hang-up": None,
    "answer-twice": None,
    "foreign-name": None,
    "empty-secret": None,
    "bad-json": None,
    "lose-connack": None,
    "down": None,
    "tls-alert": (0, 255),
    "tls-expired": None,
    "tls-foreign": None,
    "tls-misnamed": None,
    "lose-message": None,
    "lose-puback": None,
    "message-hang-up": None,
    "puback-hang-up": None,
    "command-twice": None,
    "command-garbled": None,
    "lose-command": None,
    "reply": (100, 999_999),
    "partial": (100, 999_999),
    "lose-request": None,
    "lose-reply": None,
    "reply-late": (0, 3600),
    "reply-last": None,
    "reply-twice": None,
    "reply-mixed": None,
    "reply-garbled": None,
    "reply-hang-up": None,
    "refuse-topic": None,
}
"""Fault to the range of its number; None for a fault without a number."""

AT_LOGIN = frozenset(
    {"silent", "hang-up", "refuse", "garbage", "slow", "hang-up-after-connack", "lose-connack"}
)
"""Faults of logins."""

IN_TLS = frozenset(name for name in NUMBERS if name.startswith("tls-"))
"""Faults of handshakes: the server name that a client sends stands for the device."""

PARTIAL, SUBSCRIBING = frozenset({"partial"}), frozenset({"refuse-topic"})
WHOLE = frozenset({"reply", "lose-request", "lose-reply", *(n for n in NUMBERS if "reply-" in n)})
"""Faults of some devices in a request, of the subscription to its reply, of the whole request."""
OF_MESSAGES = frozenset({"lose-message", "lose-puback", "message-hang-up", "puback-hang-up"})
"""Faults of messages of devices."""
OF_COMMANDS = frozenset({"command-twice", "command-garbled", "lose-command"})
"""Faults of commands to devices."""


Stage: TypeAlias = str
"""Where a fault strikes: "register", "login", "tls", "message", "command", a request, or "*" for
any request."""

_NO_REQUESTS = frozenset({"register", "login", "tls", "message", "command"})

_CODES = frozenset({"refuse", "reply", "partial", "tls-alert"})

MAX_FAULTS, MAX_TALLIES = 100, 100_000

_FAULT = re.compile(
    r"(?:(?P<stage>register|login)\.)?"
    r"(?P<name>[a-z]+(?:-[a-z]+)*)"
    r"(?::(?P<number>\d{1,6}(?:\.\d{1,3})?))?"
    r"(?::(?P<share>\d{1,3}(?:\.\d{1,3})?)%)?"
    r"(?::x(?P<times>\d{1,6}))?"
    r"(?:@(?P<glob>.+))?"
)
_ALL = 100.0


@dataclass(frozen=True, slots=True)
class SimulatedFault:
    """A planned fault.

    number: the code, or the seconds; 0 where there is none.
    share: percent.  times: for each device; None for no limit.
    """

    name: str
    stage: Stage = "register"
    number: float = 0.0
    share: float = _ALL
    times: int | None = None
    glob: str = "*"

    def concerns(self, stage: Stage, devices: Sequence[str]) -> bool:
        """Whether the fault can strike an attempt of one of these devices at this stage."""
        if self.stage == "*":
            here = stage not in _NO_REQUESTS
        else:
            here = stage == self.stage and self.name != "down"
        return here and any(fnmatchcase(device, self.glob) for device in devices)


def parse(text: str, requests: Container[str] = ()) -> tuple[SimulatedFault, ...]:
    """Parse a plan; the empty text is a plan without faults.  Raises ConfigError.

    requests: the names of the cloud's requests.
    """
    words = re.split(r"[\s,]+", text.strip())
    if len(words) > MAX_FAULTS:
        raise ConfigError(f"The plan has more than {MAX_FAULTS} faults.")
    return tuple(_fault(word, requests) for word in words if word)


def _fault(word: str, requests: Container[str]) -> SimulatedFault:
    if (found := _FAULT.fullmatch(word)) is None or found["name"] not in NUMBERS:
        raise ConfigError(f"Unknown fault: {word!r}.")
    _check(found, word)
    stage, glob = found["stage"] or "register", found["glob"] or "*"
    if found["name"] in WHOLE | PARTIAL | SUBSCRIBING:
        stage, _, rest = glob.partition("/")
        glob = rest or "*"
        if found["stage"] or (stage != "*" and stage not in requests):
            raise ConfigError(f"The fault {word!r} needs the name of a request.")
    elif found["name"] in IN_TLS:
        stage = "tls"
    elif found["name"] in OF_MESSAGES:
        stage = "message"
    elif found["name"] in OF_COMMANDS:
        stage = "command"
    return SimulatedFault(
        found["name"],
        stage,
        float(found["number"] or 0),
        float(found["share"] or _ALL),
        int(found["times"]) if found["times"] else None,
        glob,
    )


def _check(found: re.Match[str], word: str) -> None:
    name, number, limits = found["name"], found["number"], NUMBERS[found["name"]]
    if (number is None) != (limits is None):
        raise ConfigError(f"The fault {word!r} {'needs a' if limits else 'takes no'} number.")
    if limits and not limits[0] <= float(number) <= limits[1]:
        raise ConfigError(f"The number of {word!r} must be from {limits[0]} to {limits[1]}.")
    if name in _CODES and not float(number).is_integer():
        raise ConfigError(f"The code of {word!r} must be a whole number.")
    if not 0 < float(found["share"] or _ALL) <= _ALL:
        raise ConfigError(f"The share of {word!r} must be from 0 to 100.")
    if found["stage"] and name in IN_TLS | OF_MESSAGES | OF_COMMANDS:
        raise ConfigError(f"The fault {word!r} takes no stage.")
    if found["stage"] == "login" and name not in AT_LOGIN:
        raise ConfigError(f"The fault {name!r} is not for logins.")
    if name == "down" and word != name:
        raise ConfigError("The fault 'down' takes no number, share, times or glob.")


@dataclass(slots=True)
class _Tally:
    """The counts of one fault and one device: attempts considered, and struck."""

    tries: int = 0
    strikes: int = 0


@dataclass(slots=True)
class FaultPlan:
    """A plan that chooses the fault of each attempt.  The same seed chooses the same faults.

    Whether a share strikes depends on the seed, the fault, the device and the number of its
    attempt, never on the order of devices.
    """

    faults: tuple[SimulatedFault, ...] = ()
    seed: int = 0
    _tallies: dict[tuple[SimulatedFault, str], _Tally] = field(default_factory=dict)

    @property
    def down(self) -> bool:
        """Whether the cloud is down."""
        return any(fault.name == "down" for fault in self.faults)

    def replace(self, faults: tuple[SimulatedFault, ...], seed: int = 0) -> None:
        """Replace the plan, and reset its counts."""
        self.faults, self.seed = faults, seed
        self._tallies.clear()

    def choose(
        self,
        stage: Stage,
        device: str,
        among: Container[str] = NUMBERS,
        about: Sequence[str] = (),
    ) -> SimulatedFault | None:
        """Return the fault that strikes this attempt of a device, and count it.

        among: names of faults.  about: the devices that the attempt names.
        """
        for fault in self.faults:
            wanted = fault.name in among and fault.concerns(stage, about or (device,))
            if wanted and self._strikes(fault, device):
                return fault
        return None

    def _strikes(self, fault: SimulatedFault, device: str) -> bool:
        if len(self._tallies) >= MAX_TALLIES and (fault, device) not in self._tallies:
            return False
        tally = self._tallies.setdefault((fault, device), _Tally())
        if fault.times is not None and tally.strikes >= fault.times:
            return False
        tally.tries += 1
        struck = self._draw(fault, device, tally.tries) < fault.share
        tally.strikes += struck
        return struck

    def _draw(self, fault: SimulatedFault, device: str, attempt: int) -> float:
        """Return a number from 0 to 100, 100 excluded."""
        text = f"{self.seed}|{fault}|{device}|{attempt}"
        digest = hashlib.sha256(text.encode()).digest()
        return int.from_bytes(digest[:6], "big") / (1 << 48) * _ALL

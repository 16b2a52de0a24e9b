"""Named faults: what goes wrong, for whom and how often; parsed from a line of text.

    plan   = fault *( (" " / ",") fault )
    fault  = [stage "."] name [":" number] [":" share "%"] [":x" times] ["@" glob]
    stage  = "register" / "login"        a fault without stage spoils registrations

    silent                      nothing is ever answered
    hang-up                     the connection is closed instead of an answer
    refuse:CODE                 CONNACK with this return code, 1 to 5; nothing is issued
    garbage                     bytes that are no MQTT, instead of CONNACK
    slow:SECONDS                all is well, and comes that much later
    hang-up-after-connack       CONNACK 0, then closed: what was issued is lost
    no-push                     CONNACK 0, and never a push: what was issued is lost
    late:SECONDS                CONNACK 0 at once, the push that much later
    secret-then-hang-up         the push arrives, and the connection is closed behind it
    answer-twice                two pushes with two secrets: only the second is valid
    foreign-name                the push names another device; what was issued is lost
    empty-secret                the push holds an empty secret; likewise
    bad-json                    the push is cut off; likewise
    down                        nothing listens; has no stage, share, times or glob

Those from `no-push` on are for registrations only.  share: of the attempts that match, so many
percent, chosen by the seed.  times: for each device, only so often.  glob: of device names, in
which only *, ? and [] are special.  The first fault that matches, and strikes, is the one.

    refuse:3:x2  late:4:10%@TH20-*  login.refuse:5@TH20-0001
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal, TypeAlias

from gatewayd.errors import ConfigError

Stage: TypeAlias = Literal["register", "login"]

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
    "down": None,
}
"""Every fault, with the range of the number it needs; None where it takes none."""

AT_LOGIN = frozenset({"silent", "hang-up", "refuse", "garbage", "slow", "hang-up-after-connack"})
"""Those that a login can suffer."""

MAX_FAULTS, MAX_TALLIES = 100, 100_000

_FAULT = re.compile(
    r"(?:(?P<stage>register|login)\.)?"
    r"(?P<name>[a-z]+(?:-[a-z]+)*)"
    r"(?::(?P<number>\d{1,4}(?:\.\d{1,3})?))?"
    r"(?::(?P<share>\d{1,3}(?:\.\d{1,3})?)%)?"
    r"(?::x(?P<times>\d{1,6}))?"
    r"(?:@(?P<glob>.+))?"
)
_ALL = 100.0


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    number: of `refuse` the code, of `slow` and `late` the seconds; 0 otherwise.
    share: percent.  times: for each device; None for always.
    """

    name: str
    stage: Stage = "register"
    number: float = 0.0
    share: float = _ALL
    times: int | None = None
    glob: str = "*"

    def concerns(self, stage: Stage, device: str) -> bool:
        """Whether an attempt of this device, at this stage, can be struck."""
        return stage == self.stage and self.name != "down" and fnmatchcase(device, self.glob)


def parse(text: str) -> tuple[Fault, ...]:
    """Read a plan; the empty text is a plan without faults.  Raises ConfigError."""
    words = re.split(r"[\s,]+", text.strip())
    if len(words) > MAX_FAULTS:
        raise ConfigError(f"More than {MAX_FAULTS} faults are planned.")
    return tuple(_fault(word) for word in words if word)


def _fault(word: str) -> Fault:
    if (found := _FAULT.fullmatch(word)) is None or found["name"] not in NUMBERS:
        raise ConfigError(f"There is no fault {word!r}.")
    _check(found, word)
    return Fault(
        found["name"],
        "login" if found["stage"] == "login" else "register",
        float(found["number"] or 0),
        float(found["share"] or _ALL),
        int(found["times"]) if found["times"] else None,
        found["glob"] or "*",
    )


def _check(found: re.Match[str], word: str) -> None:
    name, number, limits = found["name"], found["number"], NUMBERS[found["name"]]
    if (number is None) != (limits is None):
        raise ConfigError(f"The fault {word!r} {'needs a' if limits else 'takes no'} number.")
    if limits and not limits[0] <= float(number) <= limits[1]:
        raise ConfigError(f"The number of {word!r} is not from {limits[0]} to {limits[1]}.")
    if name == "refuse" and not float(number).is_integer():
        raise ConfigError(f"The code of {word!r} is not a whole number.")
    if not 0 < float(found["share"] or _ALL) <= _ALL:
        raise ConfigError(f"The share of {word!r} is not from 0 to 100.")
    if found["stage"] == "login" and name not in AT_LOGIN:
        raise ConfigError(f"A login cannot suffer {name!r}.")
    if name == "down" and word != name:
        raise ConfigError("The fault 'down' is for everybody, always.")


@dataclass(slots=True)
class _Tally:
    """Of one fault and one device: how often it was considered, and how often it struck."""

    tries: int = 0
    strikes: int = 0


@dataclass(slots=True)
class FaultPlan:
    """Chooses, attempt by attempt, what goes wrong.  The same seed chooses the same.

    Whether a share strikes depends on the seed, the fault, the device and the number of its
    attempt, never on the order in which devices come.
    """

    faults: tuple[Fault, ...] = ()
    seed: int = 0
    _tallies: dict[tuple[Fault, str], _Tally] = field(default_factory=dict)

    @property
    def down(self) -> bool:
        """Whether nothing is to listen."""
        return any(fault.name == "down" for fault in self.faults)

    def replace(self, faults: tuple[Fault, ...], seed: int = 0) -> None:
        """Plan anew; what was counted is forgotten."""
        self.faults, self.seed = faults, seed
        self._tallies.clear()

    def choose(self, stage: Stage, device: str) -> Fault | None:
        """Return the fault that strikes this attempt, and count it."""
        for fault in self.faults:
            if fault.concerns(stage, device) and self._strikes(fault, device):
                return fault
        return None

    def _strikes(self, fault: Fault, device: str) -> bool:
        if len(self._tallies) >= MAX_TALLIES and (fault, device) not in self._tallies:
            return False
        tally = self._tallies.setdefault((fault, device), _Tally())
        if fault.times is not None and tally.strikes >= fault.times:
            return False
        tally.tries += 1
        struck = self._draw(fault, device, tally.tries) < fault.share
        tally.strikes += struck
        return struck

    def _draw(self, fault: Fault, device: str, attempt: int) -> float:
        """Return a number from 0 to 100, the latter not included."""
        text = f"{self.seed}|{fault}|{device}|{attempt}"
        digest = hashlib.sha256(text.encode()).digest()
        return int.from_bytes(digest[:6], "big") / (1 << 48) * _ALL

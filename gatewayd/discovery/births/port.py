"""The port of births: what comes from a door, what a dialect makes of it, what may be asked.

gatewayd's main process holds the connection to the broker and its credential, and passes what is
published there as data; all of it is hostile.  A dialect is pure, and reads it in the discovery
helper.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias, runtime_checkable

from gatewayd.discovery.probing.protocol import Found

USUAL_PAYLOAD: Final = 64 << 10
"""Bytes of a birth that is read; lists of bridges have a bound of their own."""
MAX_TOPIC: Final = 512
"""Characters of a topic."""


# What passes between gatewayd and the helper.


@dataclass(frozen=True, slots=True)
class Birth:
    """One message of a broker.

    source: the discoverer that is to read it.  door: where it came in.
    retained: whether the broker had kept it: then it may be years old.
    at: when it came, seconds of the event loop's clock.
    """

    source: str
    door: str
    topic: str
    payload: bytes
    retained: bool
    at: float


@dataclass(frozen=True, slots=True)
class DoorLink:
    """Whether a door is connected; at the beginning of a connection, all that is kept comes."""

    source: str
    door: str
    is_open: bool


@dataclass(frozen=True, slots=True)
class BirthRequest:
    """What a discoverer asks of gatewayd, which may refuse.

    dialect: whose question is to be asked; "" to have what the broker keeps read again.
    names: what fills the question's topic; none for the question to all devices.
    """

    source: str
    door: str
    dialect: str = ""
    names: tuple[str, ...] = ()


BirthMessage: TypeAlias = Birth | DoorLink


@runtime_checkable
class BirthReceiver(Protocol):
    """A discoverer that reads births.  The helper joins it to gatewayd."""

    def attach(self, request: Callable[[BirthRequest], None]) -> None:
        """Use this for requests.  Called once, before all else."""

    async def receive(self, message: BirthMessage) -> None:
        """Accept one message.  Waits while too many do; returns at once if it does not run."""


# What a dialect is.


@dataclass(frozen=True, slots=True)
class Subscription:
    """What is read of a broker.

    filter: of topics (MQTT 5.0, 4.7).  largest: bytes of a payload; a larger one is dropped.
    names_only: whether the topic alone counts, once in a connection: the payload is left out.
    """

    filter: str
    largest: int = USUAL_PAYLOAD
    names_only: bool = False


@dataclass(frozen=True, slots=True)
class BirthQuestion:
    """What may be published, so that devices announce themselves.

    topic: "{}" stands for a name, which is one level.  every: least seconds between two with the
    same names.  purpose: in a few words, for operators.
    """

    topic: str
    payload: bytes
    every: float
    purpose: str


@dataclass(frozen=True, slots=True)
class Words:
    """What a topic says of a device that is connected, and of one that is not."""

    online: str = "online"
    offline: str = "offline"


@dataclass(frozen=True, slots=True)
class Announced:
    """One device, as one message shows it.

    found: its key is unique at the broker.
    part: the topic of the message; several parts may make up one device.
    aliases: what else means the same device in this dialect.
    availability: topics that say whether it is connected.
    any_topic: whether one of them is enough; else it is not connected where one says so.
    question: the names for its dialect's question; () if it cannot be asked.
    is_lasting: whether its end is announced, so that it is there until then.
    session: the number of its session, which the end has to repeat; None if it has none.
    """

    found: Found
    part: str
    aliases: tuple[str, ...] = ()
    availability: Mapping[str, Words] = field(default_factory=dict)
    any_topic: bool = False
    question: tuple[str, ...] = ()
    is_lasting: bool = False
    session: int | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """All devices of a bridge.  is_whole: False if the list was too long, and was cut."""

    part: str
    devices: tuple[Announced, ...]
    is_whole: bool = True


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """A message that was kept is removed: what it announced is no longer there."""

    part: str


@dataclass(frozen=True, slots=True)
class Status:
    """What a topic says of whether something is connected."""

    topic: str
    text: str


@dataclass(frozen=True, slots=True)
class Departed:
    """A device is no longer connected.

    session: of Sparkplug; only the end of the newest session counts.
    others: whether all behind it are gone, too.  itself: False if only those are.
    """

    key: str
    session: int | None = None
    others: bool = False
    itself: bool = True


@dataclass(frozen=True, slots=True)
class Alive:
    """A device that is asked by these names has just published something."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """Something can be asked by these names, and is worth it if it is not known."""

    names: tuple[str, ...]


BirthNews: TypeAlias = Announced | Listed | Withdrawn | Status | Departed | Alive | Candidate


@dataclass(frozen=True, slots=True)
class Dialect:
    """One way in which firmware announces itself.

    subscriptions: what is read; `asked` only where questions are allowed.
    read: returns what a message of this topic says.  Raises UnreadableAnswer, and nothing else.
    all_question, one_question: None if there is none.
    """

    name: str
    subscriptions: tuple[Subscription, ...]
    read: Callable[[str, bytes], Iterable[BirthNews]]
    asked: tuple[Subscription, ...] = ()
    all_question: BirthQuestion | None = None
    one_question: BirthQuestion | None = None

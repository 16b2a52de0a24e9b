"""The tap: an operator follows the messages of one child, a line of JSON for each step of each.

A line is ASCII, so that no terminal obeys what a child has sent.  It goes into a pipe, whole or not
at all: a line fits into PIPE_BUF bytes, and what a slow reader has no room for is dropped and
counted, so that delivery never waits for a reader.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gatewayd.cloud.provider import MessageAccepted, MessageDelayed, MessageRefused, Publication
from gatewayd.device.identity import DeviceId
from gatewayd.device.message import DropReason, Message
from gatewayd.errors import Busy
from gatewayd.messages.intake import IncomingMessage, MessageIntake, Settled

MAX_FOLLOWERS = 16
"""Readers at the same time."""
LINE = select.PIPE_BUF
"""Bytes of a line, at most: a pipe takes them whole (pipe(7))."""
CUTS = (2048, 512, 0)
"""Bytes of a payload that are shown, at most; fewer where they need much escaping."""
MAX_TOPIC = 128
"""Characters of a topic that are shown, at most."""

Entry = Mapping[str, str | int]


@dataclass(slots=True, eq=False)
class _Follower:
    """A reader of a child's messages.  lost: lines since the last one that it had room for."""

    child: DeviceId
    pipe: int
    lost: int = 0


class MessageTap:
    """The readers, and the lines that they get.  Used on the event loop.

    now: milliseconds since the epoch.
    """

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._followers: list[_Follower] = []

    def follow(self, child: DeviceId) -> int:
        """Return a descriptor from which the steps of a child's messages can be read from now on.

        The caller closes it.  Raises Busy.
        """
        if len(self._followers) >= MAX_FOLLOWERS:
            raise Busy("Too many readers follow messages, try again later")
        source, pipe = os.pipe()
        os.set_blocking(pipe, False)
        follower = _Follower(child, pipe)
        self._followers.append(follower)
        # a pipe whose reader has gone becomes "readable": epoll(7), EPOLLERR
        asyncio.get_running_loop().add_reader(pipe, self._drop, follower)
        return source

    def follows(self, child: DeviceId) -> bool:
        """Whether the messages of a child are followed: what costs nothing where they are not."""
        return any(one.child == child for one in self._followers)

    def show(
        self, child: DeviceId, step: str, topic: str, payload: bytes = b"", **more: str | int
    ) -> None:
        """Write a line to the readers of a child.

        step: what has happened to the message.  payload: shown where it is given.
        more: further members of the line.
        """
        if not self.follows(child):
            return
        entry: Entry = {"at": self._now(), "step": step, "topic": topic[:MAX_TOPIC], **more}
        for one in [f for f in self._followers if f.child == child]:
            self._write(one, entry, payload)

    def published(self, child: DeviceId, message: Message, result: Publication) -> None:
        """Show how the publication of a message ended."""
        match result:
            case MessageAccepted():
                self.show(child, "sent", message.topic, received=message.at)
            case MessageRefused(reason):
                self.show(child, "refused", message.topic, reason=reason.code)
            case MessageDelayed(reason):
                self.show(child, "delayed", message.topic, reason=reason.code)

    def close(self) -> None:
        """End what the readers read."""
        for one in tuple(self._followers):
            self._drop(one)

    def _write(self, follower: _Follower, entry: Entry, payload: bytes) -> None:
        lost = {"lost": follower.lost} if follower.lost else {}
        try:
            os.write(follower.pipe, line({**entry, **lost}, payload))
        except BlockingIOError:
            follower.lost += 1
        except OSError:  # the reader has gone
            self._drop(follower)
        else:
            follower.lost = 0

    def _drop(self, follower: _Follower) -> None:
        if follower in self._followers:
            self._followers.remove(follower)
            asyncio.get_running_loop().remove_reader(follower.pipe)
            os.close(follower.pipe)


def line(entry: Entry, payload: bytes) -> bytes:
    """Return a line with as much of the payload as fits: "cut" says that it is not all.  Pure."""
    shown = {**entry, "payload": _text(payload)} if payload else entry
    whole = _packed(shown)
    for most in CUTS:
        if len(whole) <= LINE:
            break
        whole = _packed({**entry, "payload": _text(payload[:most]), "cut": len(payload) - most})
    return whole


def _text(payload: bytes) -> str:
    return payload.decode("utf-8", "backslashreplace")


def _packed(entry: Entry) -> bytes:
    return json.dumps(entry).encode("ascii") + b"\n"


class TappedIntake:
    """The `MessageIntake` of another, whose messages the tap shows as they arrive."""

    def __init__(self, intake: MessageIntake, tap: MessageTap) -> None:
        self._intake, self._tap = intake, tap

    @property
    def blocked(self) -> bool:
        return self._intake.blocked

    def session_begun(self, door: str) -> None:
        self._intake.session_begun(door)

    def was_away(self, door: str, seconds: float) -> None:
        self._intake.was_away(door, seconds)

    def on_ready(self, resume: Callable[[], None]) -> None:
        self._intake.on_ready(resume)

    @property
    def gathers(self) -> bool:
        return self._intake.gathers

    def on_due(self, gather: Callable[[], None]) -> None:
        self._intake.on_due(gather)

    def offer(self, message: IncomingMessage, settled: Settled) -> None:
        """Pass a message on, and show that it was received, and how that ended."""
        if self._tap.follows(message.child):
            size = len(message.payload)
            about: Entry = {"door": message.door, "size": size}
            self._tap.show(message.child, "received", message.topic, message.payload, **about)
            settled = self._shown(message, settled)
        self._intake.offer(message, settled)

    def _shown(self, message: IncomingMessage, settled: Settled) -> Settled:
        child, topic = message.child, message.topic

        def show(dropped: DropReason | None) -> None:
            if dropped is None:
                self._tap.show(child, "stored", topic)
            else:
                self._tap.show(child, "dropped", topic, reason=dropped.value)
            settled(dropped)

        return show

"""What is looked at before anything is asked of a cloud: the port of a preflight.

A class of a provider may have a `preflight`, of the type Preflight.  It registers nothing.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from gatewayd.cloud.credential import ReadSecret


class Verdict(StrEnum):
    """How a check ended."""

    OK = "ok"
    UNSURE = "unsure"  # it could not be looked at, or may do
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Check:
    """One step that was looked at.

    step: one word.  text: what was found, a sentence.  remedy: what to do, as an imperative;
    "" where there is nothing to do.  None holds a secret.
    """

    step: str
    verdict: Verdict
    text: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a preflight is given of the machine.

    user: who looks; gatewayd runs as a user of its own, which may read less, or more.
    read_secret: see credential.py.  credentials: whether those of systemd can be looked at here.
    time: seconds since the epoch.  synchronised: whether the clock is kept in step with others;
    None where that is not known.
    """

    user: str
    read_secret: ReadSecret
    credentials: bool
    time: Callable[[], float]
    synchronised: Callable[[], bool | None]


Preflight: TypeAlias = Callable[[Any, Surroundings], AsyncGenerator[Check, None]]
"""Takes the provider's settings; yields the checks as they are made.

Cancelled, or not read to its end: leaves nothing open.
"""

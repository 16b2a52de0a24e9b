"""Why a child is in its state: a code for programs, a sentence for people, and a remedy."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Reason:
    """A cause, in three forms.

    code: kebab-case, part of the D-Bus API: it never changes its meaning.
    text: one sentence without secrets or raw text from the LAN; "" where the code says all.
    remedy: what to do about it, as an imperative; "" where there is nothing to do.  In a command,
    CHILD stands for the id of the child, and CLOUD for the name of its cloud: see `addressed`.
    substate: what the child does meanwhile, kebab-case; "" leaves the state's own.
    """

    code: str
    text: str = ""
    remedy: str = ""
    substate: str = ""

    def __str__(self) -> str:
        return " ".join(part for part in (self.text or self.code, self.remedy) if part)


def addressed(reason: Reason, child: str, cloud: str) -> Reason:
    """Return a reason whose remedy can be run as it is printed.

    child, cloud: what stands for CHILD and CLOUD in it; where the cloud is "", that stays.
    """
    remedy = reason.remedy.replace("CHILD", child)
    if cloud:
        remedy = remedy.replace("CLOUD", cloud)
    return reason if remedy == reason.remedy else replace(reason, remedy=remedy)


NONE = Reason("")
"""Nothing is wrong."""

CLOCK_NOT_SET = Reason(
    "clock-not-set",
    "The gateway's clock is not set, so that nothing can be dated.",
    "Check the time service with timedatectl.",
    "waiting",
)

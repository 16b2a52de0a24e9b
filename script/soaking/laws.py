"""What must hold of secrets, whatever is killed when.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

Digest = str
"""SHA-256 of a secret, in hexadecimal: all that is compared."""


@dataclass(frozen=True, slots=True)
class StoredFacts:
    """What the disk says of one child.

    attempt: the newest.  stored: the attempt whose secret is in use; 0 where none is.
    stale: how often the cloud has refused a fresh secret.  secrets: of each attempt that opens.
    """

    attempt: int
    stored: int
    stale: int
    activated: bool
    secrets: Mapping[int, Digest]

    @property
    def secret(self) -> Digest | None:
        """The one in use, if it opens."""
        return self.secrets.get(self.stored)


@dataclass(frozen=True, slots=True)
class CloudFacts:
    """What the cloud says of one child.  secrets: issued, the newest last."""

    secrets: tuple[Digest, ...]
    activated: bool
    online: bool


@dataclass(slots=True)
class LossDetector:
    """A memory of what was acknowledged, which finds what is gone."""

    seen: dict[str, StoredFacts] = field(default_factory=dict)

    def compare(self, now: Mapping[str, StoredFacts]) -> list[str]:
        """Compare what the disk says after a kill; return what was lost since the last time."""
        lost = [text for child, before in self.seen.items() for text in _gone(child, before, now)]
        lost += [f"{child} has no secret, and says that it has" for child in _without(now)]
        self.seen = dict(now)
        return lost


def _gone(child: str, before: StoredFacts, now: Mapping[str, StoredFacts]) -> Iterator[str]:
    """Yield what a child had on record, and has no more."""
    after = now.get(child)
    if after is None:
        yield f"{child} is not on record any more"
    elif after.attempt < before.attempt:
        yield f"{child} went back from attempt {before.attempt} to {after.attempt}"
    elif before.activated and not after.activated:
        yield f"{child} was activated, and is no more"
    elif before.secret and after.secret != before.secret and not _replaced(before, after):
        yield f"{child} has lost the secret of attempt {before.stored}"


def _replaced(before: StoredFacts, after: StoredFacts) -> bool:
    """Whether the cloud has refused a secret that was never activated."""
    return not before.activated and after.stale > before.stale


def _without(now: Mapping[str, StoredFacts]) -> Iterator[str]:
    return (child for child, held in now.items() if held.stored and held.secret is None)


def stranded(held: Mapping[str, StoredFacts], counted: Mapping[str, CloudFacts]) -> list[str]:
    """Return the children that the cloud knows by a secret which the disk does not have.

    One to whom a secret was issued must be on record, too: its intent came first.
    """
    return [
        child
        for child, one in counted.items()
        if (one.secrets and child not in held)
        or (one.activated and held[child].secret != one.secrets[-1])
    ]

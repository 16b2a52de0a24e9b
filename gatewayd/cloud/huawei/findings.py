"""What is found wrong with a template or a certificate, as data.  Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

_SHOWN = 64
"""Characters of a value that are shown."""


class Kind(StrEnum):
    """What a finding is about."""

    TOO_LARGE = "too-large"
    NOT_JSON = "not-json"
    WRONG_TYPE = "wrong-type"
    REPEATED_KEY = "repeated-key"
    UNKNOWN_KEY = "unknown-key"
    MISSING = "missing"
    UNKNOWN_PARAMETER = "unknown-parameter"
    WRONG_SPELLING = "wrong-spelling"  # of ref
    FUNCTION = "function"
    UNDECLARED = "undeclared"
    STATIC = "static"  # a text where only a reference may be
    ILLEGAL = "illegal"  # a text that its field does not take
    TOO_MANY = "too-many"
    ATTRIBUTE_MISSING = "attribute-missing"
    ATTRIBUTE_REPEATED = "attribute-repeated"
    OTHERWISE = "otherwise"  # the template settles it, and not as wanted
    CONFLICT = "conflict"  # one attribute would need two values
    UNREFERENCED = "unreferenced"
    UNWISE = "unwise"


WARNINGS = frozenset({Kind.UNREFERENCED, Kind.UNWISE})


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding.

    place: the keys that lead there, as resources.device.node_id; "" for the whole.
    what: what is wrong there, without the place.  remedy: what to do.
    parameter: the full name of the template's parameter that is concerned; "" for none.
    """

    kind: Kind
    place: str
    what: str
    remedy: str = ""
    parameter: str = ""

    @property
    def fatal(self) -> bool:
        """Whether the template or certificate cannot be used so."""
        return self.kind not in WARNINGS

    def __str__(self) -> str:
        level = "error" if self.fatal else "warning"
        where = f"{self.place} " if self.place else ""
        return f"{level}: {where}{self.what}" + (f"; {self.remedy}" if self.remedy else "")


def fatal(findings: Iterable[Finding]) -> bool:
    """Whether any of the findings is."""
    return any(finding.fatal for finding in findings)


def quoted(value: object) -> str:
    """Return a value as it may stand in a finding: bounded, and nothing that does not print."""
    text = str(value)
    return ascii(text[:_SHOWN]) + "..." * (len(text) > _SHOWN)

"""Takes the parts of a template one by one, and notes what is wrong with them.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from gatewayd.cloud.huawei.findings import Finding, Kind, quoted
from gatewayd.cloud.huawei.names import Field
from gatewayd.cloud.huawei.subject import ATTRIBUTES, KNOWN
from gatewayd.cloud.huawei.template import Ref, Value
from gatewayd.cloud.huawei.template_text import join

_AS_REFERENCE = 'write {"ref": "<a declared parameter>"}'
_TYPES: Mapping[type, str] = {dict: "an object", list: "a list", str: "a text"}
_T = TypeVar("_T", dict[str, Any], list[Any], str)


@dataclass(slots=True)
class Reader:
    """Reads one template.

    declared: its parameters.  used: those that are referred to.
    """

    findings: list[Finding]
    declared: Sequence[str] = ()
    used: set[str] = field(default_factory=set)

    def note(
        self, kind: Kind, place: str, what: str, remedy: str = "", parameter: str = ""
    ) -> None:
        """Note a finding."""
        self.findings.append(Finding(kind, place, what, remedy, parameter))

    def keys(
        self,
        raw: Mapping[str, Any],
        place: str,
        required: Sequence[str],
        optional: Sequence[str] = (),
    ) -> None:
        """Note which keys an object lacks, and which it should not have."""
        for key in required:
            if key not in raw:
                self.note(Kind.MISSING, join(place, key), "is missing")
        known = (*required, *optional)
        for key in raw:
            if key not in known:
                remedy = "known are " + ", ".join(known)
                self.note(Kind.UNKNOWN_KEY, join(place, key), "is no known key", remedy)

    def take(self, raw: Mapping[str, Any], place: str, key: str, kind: type[_T]) -> _T | None:
        """Return what an object has under a key; None if nothing, or nothing of this kind."""
        told = raw.get(key)
        if isinstance(told, kind):
            return told
        if key in raw:
            self.note(Kind.WRONG_TYPE, join(place, key), f"must be {_TYPES[kind]}")
        return None

    def text(self, raw: Mapping[str, Any], key: str, rule: Field) -> str:
        """Return a text at the top; "" if there is none."""
        told = self.take(raw, "", key, str)
        return "" if told is None else self._static(told, key, rule)

    def value(self, raw: Mapping[str, Any], place: str, key: str, rule: Field) -> Value | None:
        """Return a text or a reference; None if there is neither."""
        told = raw.get(key)
        if isinstance(told, str):
            return self._static(told, join(place, key), rule)
        return self._reference(raw, join(place, key), key, "must be a text or a reference")

    def reference(self, raw: Mapping[str, Any], place: str, key: str) -> Ref | None:
        """Return a reference; None if there is none."""
        if isinstance(raw.get(key), str):
            what = "must be a reference, not a text"
            self.note(Kind.STATIC, join(place, key), what, _AS_REFERENCE)
            return None
        return self._reference(raw, join(place, key), key, "must be a reference")

    def unreferenced(self) -> None:
        """Note the parameters to which nothing refers."""
        remedy = "remove it, as a certificate must have all that is declared"
        for parameter in self.declared:
            if parameter not in self.used:
                place, what = join("parameters", parameter), "is declared and not used"
                self.note(Kind.UNREFERENCED, place, what, remedy, parameter)

    def _static(self, told: str, place: str, rule: Field) -> str:
        if fault := rule.fault(told):
            self.note(Kind.ILLEGAL, place, f"is {quoted(told)}, and {fault}")
        return told

    def _reference(self, raw: Mapping[str, Any], place: str, key: str, what: str) -> Ref | None:
        told = raw.get(key)
        if not isinstance(told, dict):
            if key in raw:
                self.note(Kind.WRONG_TYPE, place, what, _AS_REFERENCE)
            return None
        self.used |= {one for one in told.values() if isinstance(one, str)}
        if any(one.startswith("Fn::") for one in told):
            self.note(Kind.FUNCTION, place, "has a function, but may have none", _AS_REFERENCE)
        elif "Ref" in told:
            self.note(Kind.WRONG_SPELLING, place, 'has "Ref"', 'write "ref", in small letters')
        elif set(told) != {"ref"} or not isinstance(told["ref"], str):
            self.note(Kind.WRONG_TYPE, place, what, _AS_REFERENCE)
        else:
            return self._resolved(told["ref"], place)
        return None

    def _resolved(self, parameter: str, place: str) -> Ref:
        if parameter in self.declared:
            return Ref(parameter)
        what = f"refers to {quoted(parameter)}, which "
        if parameter in ATTRIBUTES:
            what, remedy = f"{what}is not declared", "add it to parameters"
            self.note(Kind.UNDECLARED, place, what, remedy, parameter)
        else:
            what = f"{what}the platform does not know"
            self.note(Kind.UNKNOWN_PARAMETER, place, what, KNOWN, parameter)
        return Ref(parameter)

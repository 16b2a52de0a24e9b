"""Builds typed settings from tables, by the type hints and the metadata of a frozen dataclass.

A message names the key and what is valid.  It never repeats a value, which may be a secret.
"""

from __future__ import annotations

import difflib
import math
import re
import types
from collections.abc import Collection, Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from gatewayd.settings.files import KeyPath, Problems, SettingsSource, shown
from gatewayd.settings.former_names import renamed, renamed_word

T = TypeVar("T")

MAX_TEXT = 4096
_SECRET = re.compile(
    r"(?i)(.*[_-])?(secret|password|passwd|passphrase|token)|key|(private|api|access|master)[_-]key"
)
_WORDS: Mapping[type, str] = {
    str: "a text",
    bool: "true or false",
    int: "a whole number, without quotes and unit",
    float: "a number, without quotes and unit",
    Path: "an absolute path",
}
_LARGEST = 1 << 63
"""TOML has whole numbers of 64 bits; the library reads larger ones, which no float can hold."""
_NO_TABLE = "must be a table, as { key = value }"
_MEANT: Mapping[type, tuple[Any, ...]] = {list: (tuple,), dict: (Mapping, dict)}


class _InvalidValue(Exception):
    """A value is invalid; the text completes the sentence "<key> …"."""


@dataclass(frozen=True, slots=True)
class SettingsBuilder:
    """A builder of settings from the tables of one source, which notes every problem.

    Settings may have a method `problems`, which yields a sentence for each problem with them as a
    whole, and a method `warnings`, for what may be wrong and does not keep them from being used.
    """

    source: SettingsSource
    problems: Problems

    def note(self, at: KeyPath, text: str) -> None:
        """Note one problem with a value."""
        self.problems.add(self.source.where(at), text)

    def build(self, cls: type[T], table: object, at: KeyPath) -> T | None:
        """Return an instance of the dataclass; None if there was a problem, which is noted."""
        if not isinstance(table, Mapping):
            self.note(at, f"{dotted(at)} {_NO_TABLE}")
            return None
        before = self.problems.errors
        hints = get_type_hints(cls)
        declared = {one.name: one for one in fields(cls) if one.init}  # type: ignore[arg-type]  # T is a dataclass
        self.refuse_unknown(table, declared, at)
        values = {
            name: self._field(hints[name], one, table[name], (*at, name))
            for name, one in declared.items()
            if name in table
        }
        for name, one in declared.items():
            if name not in table and one.default is MISSING and one.default_factory is MISSING:
                self.note(at, f"{dotted(at) or 'the file'} lacks '{name}': add it")
        if self.problems.errors > before:
            return None
        made = cls(**values)
        self._note_own_problems(made, at)
        return None if self.problems.errors > before else made

    def _note_own_problems(self, made: object, at: KeyPath) -> None:
        """Note what the settings' methods `problems` and `warnings` yield, if they have them."""
        for method, fatal in (("problems", True), ("warnings", False)):
            found = getattr(made, method, None)
            for text in found() if found else ():
                self.problems.add(self.source.where(at), f"[{dotted(at)}]: {text}", fatal=fatal)

    def refuse_unknown(self, table: Mapping[str, Any], known: Collection[str], at: KeyPath) -> None:
        """Note each unknown key."""
        for key in table:
            if key in known:
                continue
            if looks_secret(key):
                self.note((*at, key), secret_refused(key))
            else:
                self.note((*at, key), unknown_key(key, known, at))

    def _field(self, hint: Any, one: Field[Any], raw: object, at: KeyPath) -> Any:  # noqa: ANN401  # a hint is any type
        value = self._value(hint, raw, at)
        try:
            for item in value if isinstance(value, tuple) else (value,):
                _check(item, one)
        except _InvalidValue as error:
            self.note(at, f"{dotted(at)} {error}")
        return value

    def _value(self, hint: Any, raw: object, at: KeyPath) -> Any:  # noqa: ANN401  # a hint is any type
        kind = get_origin(hint) or hint
        if kind in (Union, types.UnionType):
            return self._value(_alternative(hint, raw), raw, at)
        if kind is tuple:
            return self._array(get_args(hint)[0], raw, at)
        if kind in (Mapping, dict):
            return self._mapping(get_args(hint)[1], raw, at)
        if isinstance(kind, type) and is_dataclass(kind):
            return self.build(kind, raw, at)
        try:
            return _scalar(kind, raw)
        except _InvalidValue as error:
            self.note(at, f"{dotted(at)} {error}")
            return None

    def _array(self, hint: Any, raw: object, at: KeyPath) -> tuple[Any, ...]:  # noqa: ANN401  # a hint is any type
        if not isinstance(raw, list):
            self.note(at, f"{dotted(at)} {_no_array(hint, at)}")
            return ()
        return tuple(self._value(hint, item, (*at, n)) for n, item in enumerate(raw))

    def _mapping(self, hint: Any, raw: object, at: KeyPath) -> Mapping[str, Any]:  # noqa: ANN401  # a hint is any type
        if not isinstance(raw, Mapping):
            self.note(at, f"{dotted(at)} {_NO_TABLE}")
            return {}
        for key in raw:
            if not key.isprintable() or not key:
                self.note(at, f"{dotted((*at, key))} is not a name: use letters and digits")
        return {key: self._value(hint, item, (*at, key)) for key, item in raw.items()}


def _no_array(hint: Any, at: KeyPath) -> str:  # noqa: ANN401  # a hint is any type
    """Return what is wrong with a value that has to be an array of this type."""
    if not is_dataclass(hint):
        return "must be an array, as [ … ]"
    header = ".".join(shown(part) for part in at if isinstance(part, str))
    return f"must be an array of tables: write [[{header}]]"


def unknown_key(key: str, known: Iterable[str], at: KeyPath) -> str:
    """Return the problem of an unknown key, with its newer name, or the most similar known one."""
    known = sorted(known)
    table = f" in [{dotted(at)}]" if at else ""
    if became := renamed(key, known):
        return f"'{key}'{table} is a setting of an earlier version: {became}"
    near = difflib.get_close_matches(key, known, 1)
    hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known) or 'none'}"
    return f"unknown key '{shown(key)}'{table}: {hint}"


def looks_secret(key: str) -> bool:
    """Whether the value of such a key would be a secret."""
    return bool(_SECRET.fullmatch(key))


def secret_refused(key: str) -> str:
    """Return the problem of a secret in the configuration."""
    return (
        f"'{shown(key)}' looks like a secret, and the configuration must not hold any: remove it, "
        "and pass it as a systemd credential or in a separate file"
    )


def dotted(at: KeyPath) -> str:
    """Return a key as it is written in a file; elements of arrays are numbered from 1."""
    text = ""
    for part in at:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{shown(part)}"
    return text.removeprefix(".")


def _alternative(hint: Any, raw: object) -> Any:  # noqa: ANN401  # a hint is any type
    """Return the alternative of a union that fits a value of this type best."""
    kinds = [one for one in get_args(hint) if one is not type(None)]
    wanted = _MEANT.get(type(raw), (type(raw),))
    return next((one for one in kinds if (get_origin(one) or one) in wanted), kinds[0])


def _scalar(kind: type, raw: object) -> Any:  # noqa: ANN401  # a hint is any type
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return _member(kind, raw)
    if type(raw) is int and not -_LARGEST <= raw < _LARGEST:
        raise _InvalidValue("must be a number of 64 bits")
    if kind is float and type(raw) is int:
        raw = float(raw)
    if type(raw) is not (str if kind is Path else kind):
        raise _InvalidValue(f"must be {_WORDS[kind]}")
    if isinstance(raw, str) and (len(raw) > MAX_TEXT or not (raw.isprintable() or not raw)):
        raise _InvalidValue(f"must be {_WORDS[kind]} of at most {MAX_TEXT} printable characters")
    if kind is Path:
        return _absolute(str(raw))
    return raw


def _absolute(text: str) -> Path:
    if not text.startswith("/"):
        raise _InvalidValue("must be an absolute path: begin it with /")
    return Path(text)


def _member(kind: type[StrEnum], raw: object) -> StrEnum:
    words = [str(one) for one in kind]
    if raw not in words:
        raise _InvalidValue(f"must be {_one_of(words, raw)}")
    return kind(raw)


def _check(value: object, one: Field[Any]) -> None:
    """Raise _InvalidValue where a value is outside the limits of the field's metadata."""
    meta = one.metadata
    choices, grammar = meta.get("choices") or (), meta.get("grammar")
    if choices and isinstance(value, str) and value not in choices:
        raise _InvalidValue(f"must be {_one_of(choices, value)}")
    if grammar and isinstance(value, str) and value != one.default and (rule := grammar(value)):
        raise _InvalidValue(rule)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    low, high, unit = meta.get("low"), meta.get("high"), meta.get("unit", "")
    if not math.isfinite(value):
        raise _InvalidValue("must be a finite number")
    if low is not None and value < low:
        raise _InvalidValue(f"must be at least {low:.12g} {unit}".rstrip())
    if high is not None and value > high:
        raise _InvalidValue(f"must be at most {high:.12g} {unit}".rstrip())


def _one_of(words: Iterable[str], raw: object) -> str:
    words = [word for word in words if word]
    if new := renamed_word(raw, words):
        return f"one of {', '.join(words)}: what was '{raw}' in an earlier version is '{new}' now"
    near = difflib.get_close_matches(raw, words, 1) if isinstance(raw, str) else []
    return f"one of {', '.join(words)}" + (f": did you mean '{near[0]}'?" if near else "")

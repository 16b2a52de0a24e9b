"""Declarations of settings: a frozen dataclass whose fields carry help, unit and limits.

settings/build.py builds such a dataclass from a table of the configuration, and refuses invalid
values.  The sample etc/gatewayd/gatewayd.toml and gatewayd.toml(5) are generated from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, TypedDict

from gatewayd.settings.grammar import Grammar, credential_name

REQUIRED: Any = MISSING
"""The default of a setting that must be set."""


class FileUse(StrEnum):
    """When a file that a setting names is read."""

    START = "start"  # gatewayd does not start without it
    LATER = "later"  # by each child that needs it, which waits for it
    DIRECTORY = "directory"  # it holds files that are read so


class SettingMetadata(TypedDict):
    """The metadata of a field.

    help: a phrase; where the default is empty and stands for something, it ends "(default: …)".
    low, high: the smallest and the largest valid number; None for no limit.
    choices: the only valid words; empty for any.
    grammar: of a text, or of each in a list; None for any text.  The default is not judged by it.
    file: how the file is used that the setting names; None where it names none.
    """

    help: str
    unit: str
    low: float | None
    high: float | None
    choices: tuple[str, ...]
    grammar: Grammar | None
    file: FileUse | None


def setting(  # noqa: PLR0913  # by keyword: what may be said of a setting
    default: Any,  # noqa: ANN401  # a value of any type
    help: str,  # noqa: A002  # the word argparse uses
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    grammar: Grammar | None = None,
    file: FileUse | None = None,
) -> Any:  # noqa: ANN401  # a value of any type
    """Declare one setting; an empty list or table as default is created for each instance."""
    meta = SettingMetadata(
        help=help, unit=unit, low=low, high=high, choices=choices, grammar=grammar, file=file
    )
    if default is MISSING:
        return field(metadata=dict(meta))
    if isinstance(default, dict | list):
        return field(default_factory=type(default), metadata=dict(meta))
    return field(default=default, metadata=dict(meta))


def given_credential(what: str) -> Any:  # noqa: ANN401  # a value of any type
    """Declare the name of a systemd credential.  what: is in it."""
    return setting("", f"name of the systemd credential with {what}", grammar=credential_name)


def given_file(what: str, credential: str) -> Any:  # noqa: ANN401  # a value of any type
    """Declare the file of a secret.  credential: the setting that goes before it."""
    text = f"file with {what}, mode 0600; used where {credential} is empty"
    return setting(None, text, file=FileUse.LATER)


class ClientCredentials(Protocol):
    """Settings of a client that may show a certificate, and log in with a password."""

    @property
    def certificate_file(self) -> Path | None: ...
    @property
    def private_key_credential(self) -> str: ...
    @property
    def private_key_file(self) -> Path | None: ...
    @property
    def password_credential(self) -> str: ...
    @property
    def password_file(self) -> Path | None: ...


def credential_problems(given: ClientCredentials) -> Iterator[str]:
    """Yield where a key lacks its certificate, or a secret is given in two ways."""
    has_key = bool(given.private_key_credential) or given.private_key_file is not None
    if (given.certificate_file is not None) is not has_key:
        yield (
            "certificate_file needs a key, by private_key_credential or private_key_file, and "
            "a key needs certificate_file"
        )
    for name in ("private_key", "password"):
        if getattr(given, f"{name}_credential") and getattr(given, f"{name}_file") is not None:
            yield f"has both {name}_credential and {name}_file: leave one out"


def table(kind: type[Any]) -> Any:  # noqa: ANN401  # a value of any type
    """Declare a table inside: a dataclass with a default for each field; dict for a Mapping."""
    meta = SettingMetadata(
        help="", unit="", low=None, high=None, choices=(), grammar=None, file=None
    )
    return field(default_factory=kind, metadata=dict(meta))


@dataclass(frozen=True, slots=True)
class RetrySettings:
    """The settings of a back-off, for the sections that have one."""

    retry_first: float = setting(
        15.0,
        "wait after the first failure; doubled after each further one",
        unit="s",
        low=0.1,
        high=3600,
    )
    retry_last: float = setting(
        600.0, "longest wait between two tries", unit="s", low=1, high=86400
    )

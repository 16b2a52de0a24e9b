"""What a command becomes for a device at a site's broker, and what its answer says.  Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase

from gatewayd.device.command import ChildCommand, CommandAnswer, CommandKind, CommandOutcome
from gatewayd.messages.door_settings import CommandSettings, PayloadFormat, ValueSettings
from gatewayd.messages.doors.site.json_path import (
    ABSENT,
    BadDocument,
    JsonValue,
    Path,
    find,
    parse_path,
    put,
    read_document,
)
from gatewayd.messages.doors.site.values import Scalar, converted, from_text, reverted, scalar
from gatewayd.runtime.text import one_line

MAX_TEXT = 256
"""Characters of the reason that a device gives."""
_OF_PROPERTIES = (CommandKind.SET, CommandKind.GET)
_PLAIN = ValueSettings("$")


class Inexpressible(Exception):
    """A command cannot be said to this device; the text is a phrase."""


def fitting_name(settings: CommandSettings, command: ChildCommand) -> bool:
    """Whether an entry is for a command of this name; properties have no name."""
    return command.kind in _OF_PROPERTIES or fnmatchcase(command.name, settings.name)


class CommandPayload:
    """The payload of the commands of one entry of the table."""

    def __init__(self, settings: CommandSettings) -> None:
        self._settings, self._values = settings, settings.all_values()
        self._paths = {name: _path(one) for name, one in self._values.items()}
        self._id_path = parse_path(settings.id_path) if settings.id_path else None

    def make(self, command: ChildCommand) -> tuple[bytes, Mapping[str, Scalar]]:
        """Return the payload, and the values in it as the device's answer shows them to the cloud.

        Raises Inexpressible.
        """
        form, sent = self._settings.format, dict(self._sent(command))
        if form is PayloadFormat.RAW:
            return command.payload, {}
        values = {name: self._of_device(name, value) for name, value in sent.items()}
        shown = {name: self._as_shown(name, value) for name, value in values.items()}
        if form is PayloadFormat.PLAIN:
            return self._text(command, values).encode(), shown
        if command.kind is CommandKind.GET:  # names alone, as zigbee2mqtt wants them
            values = dict.fromkeys(command.arguments or self._values, "")
        document = self._document(values, command.identifier)
        return json.dumps(document, separators=(",", ":")).encode(), shown

    def _document(self, values: Mapping[str, Scalar], identifier: str) -> JsonValue:
        """Return the document with values and the identifier.

        A cloud replaces what the configuration has written, such as a method, only where that
        lists the argument.
        """
        document: JsonValue = json.loads(self._settings.payload or "{}")
        ours = {*document, *(self._id_path or ())[:1]} - set(self._paths)
        for name, value in values.items():
            if name in ours:
                raise Inexpressible(f"{one_line(name, 64)} is no argument of this device")
            document = put(document, self._paths.get(name, (name,)), value)
        if self._id_path is not None:
            document = put(document, self._id_path, identifier)
        return document

    def _sent(self, command: ChildCommand) -> Iterator[tuple[str, Scalar]]:
        """Yield the values of a command; of one that reads properties there are none."""
        if command.kind is CommandKind.GET or self._settings.format is PayloadFormat.RAW:
            return
        for name, value in command.arguments.items():
            plain = scalar(value)
            if plain is None:
                raise Inexpressible(f"{one_line(name, 64)} is no single value")
            yield name, plain

    def _of_device(self, name: str, value: Scalar) -> Scalar:
        made = reverted(value, self._values.get(name, _PLAIN))
        if made is None:
            raise Inexpressible(f"the value of {one_line(name, 64)} does not fit its unit")
        return made

    def _as_shown(self, name: str, value: Scalar) -> Scalar:
        shown = converted(value, self._values.get(name, _PLAIN))
        return value if shown is None else shown

    def _text(self, command: ChildCommand, values: Mapping[str, Scalar]) -> str:
        if command.kind is CommandKind.GET or (not values and self._settings.payload):
            return self._settings.payload
        if len(values) != 1:
            raise Inexpressible("this device takes one value at a time")
        (value,) = values.values()
        return value if isinstance(value, str) else json.dumps(value)


class DeviceAnswer:
    """The answer that a device owes to one command.

    sent: the values that were set.  confirms: whether it has to show them.
    """

    def __init__(
        self, settings: CommandSettings, command: ChildCommand, sent: Mapping[str, Scalar]
    ) -> None:
        self._settings, self._command, self._sent = settings, command, sent
        self.confirms = settings.confirm
        self._wanted = list(_wanted(settings, command))

    def read(self, payload: bytes) -> CommandAnswer | None:
        """Return what a message of the device says; None where it is no answer to the command."""
        settings = self._settings
        if settings.answer_format is PayloadFormat.RAW:
            return CommandAnswer(CommandOutcome.DONE, raw=payload)
        try:
            is_json = settings.answer_format is PayloadFormat.JSON
            document = read_document(payload) if is_json else from_text(payload)
        except BadDocument:
            return None
        if settings.answer_id_path:
            identifier = find(document, parse_path(settings.answer_id_path))
            if str(identifier) != self._command.identifier:
                return None
        if (why := self._failure(document)) is not None:
            return CommandAnswer(CommandOutcome.FAILED, why)
        values = {
            name: value
            for name, path, one in self._wanted
            if (value := converted(find(document, path), one)) is not None
        }
        return CommandAnswer(CommandOutcome.DONE, result=values) if self._answers(values) else None

    def _failure(self, document: JsonValue) -> str | None:
        """Return why the device could not; None where it says nothing of that."""
        if not self._settings.failed:
            return None
        why = find(document, parse_path(self._settings.failed))
        if why is ABSENT or why is None or why is False:
            return None
        return one_line(str(why), MAX_TEXT) or "the device could not do it"

    def _answers(self, values: Mapping[str, Scalar]) -> bool:
        """Whether these values are those of the answer."""
        if self._command.kind is CommandKind.GET and self._wanted:
            return bool(values)
        if len(values) < len(self._wanted):
            return False
        return not self.confirms or all(
            _is_same(values.get(name), value) for name, value in self._sent.items()
        )


def _wanted(
    settings: CommandSettings, command: ChildCommand
) -> Iterator[tuple[str, Path, ValueSettings]]:
    """Yield name, path and settings of each value that the answer has."""
    results, values, asked = settings.all_results(), settings.all_values(), command.arguments
    of_properties = command.kind in _OF_PROPERTIES
    if results:
        # of properties those that are meant; what else a device says belongs to any answer
        wanted = {
            n: one for n, one in results.items() if not asked or n in asked or n not in values
        }
    elif of_properties and settings.answer_format is settings.format:
        wanted = {name: values.get(name, _PLAIN) for name in asked or values}
    else:
        return
    for name, one in wanted.items():
        if settings.answer_format is PayloadFormat.PLAIN:
            yield name, (), one  # the payload is the value
        else:
            yield name, (name,) if one is _PLAIN else _path(one), one


def _path(settings: ValueSettings) -> Path:
    return parse_path(settings.path)


def _is_same(shown: Scalar | None, sent: Scalar) -> bool:
    """Whether a device shows a value that was set; numbers may have lost their last digits."""
    if isinstance(shown, int | float) and isinstance(sent, int | float):
        return math.isclose(shown, sent, rel_tol=1e-6, abs_tol=1e-9)
    return shown == sent

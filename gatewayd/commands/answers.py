"""What a child's answer says: in the cloud's own form, or in the neutral one.  Pure.

The neutral form is a JSON object of values by name, or nothing at all.  A member `error`, a text,
says that the child could not do it, and why; null and false say that it could.
"""

from __future__ import annotations

import json
import math
from sys import getsizeof
from typing import Any

from gatewayd.cloud.provider import SupportsAnswers
from gatewayd.device.command import ChildCommand, CommandAnswer, CommandKind, CommandOutcome
from gatewayd.runtime.text import one_line

MAX_ANSWER = 256 * 1024
"""Bytes of an answer."""
MAX_VALUES = 256
"""Members of an answer in the neutral form."""
MAX_TEXT = 256
"""Characters of a sentence of a child that its cloud is given to show."""
ERROR = "error"

TOO_LARGE = CommandAnswer(
    CommandOutcome.FAILED, "gatewayd: the answer of the child is larger than 256 KiB"
)
UNREADABLE = CommandAnswer(
    CommandOutcome.FAILED, "gatewayd: the answer of the child is no flat JSON object"
)


def in_cloud_form(
    form: SupportsAnswers | None, command: ChildCommand, payload: bytes
) -> CommandAnswer:
    """Return an answer that passes unchanged; whether the child could do it is for the log.

    form: of the child's cloud; None where that has none.
    """
    if len(payload) > MAX_ANSWER:
        return TOO_LARGE
    done = form is None or form.is_success(command, payload)
    return CommandAnswer(CommandOutcome.DONE if done else CommandOutcome.FAILED, raw=payload)


def in_neutral_form(command: ChildCommand, payload: bytes) -> CommandAnswer:
    """Return what an answer in the neutral form says; bytes in any form pass unchanged."""
    if len(payload) > MAX_ANSWER:
        return TOO_LARGE
    if command.kind is CommandKind.REQUEST:
        return CommandAnswer(CommandOutcome.DONE, raw=payload)
    if not payload.strip():
        return CommandAnswer(CommandOutcome.DONE)
    content = _document(payload)
    if (
        content is None
        or len(content) > MAX_VALUES
        or not all(_is_member(*one) for one in content.items())
    ):
        return UNREADABLE
    why = content.pop(ERROR, None)
    if why is None or why is False:
        return CommandAnswer(CommandOutcome.DONE, result=content)
    text = one_line(str(why), MAX_TEXT) or "the child could not do it"
    return CommandAnswer(CommandOutcome.FAILED, text, content)


def size_of(answer: CommandAnswer) -> int:
    """Return how many bytes of memory an answer holds, at least."""
    if answer.raw is not None:
        return len(answer.raw)
    return sum(getsizeof(name) + getsizeof(value) for name, value in answer.result.items())


def _document(payload: bytes) -> dict[str, Any] | None:
    """Return the JSON object that a payload is; None where it is none."""
    try:
        content = json.loads(payload) if len(payload) <= MAX_ANSWER else None
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _is_member(name: str, value: object) -> bool:
    """Whether a cloud can be given this: a text, a finite number, or true and false."""
    if name == ERROR and value is None:
        return True  # a child's way to say that there is none
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, str | int)

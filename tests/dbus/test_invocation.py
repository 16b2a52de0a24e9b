"""Which errors callers receive, and with which text."""

from __future__ import annotations

import inspect

import pytest

from gatewayd import errors
from gatewayd.dbus.invocation import MAX_TEXT, NAMES, failure, sentence
from tests.dbus.support import CANARY

CALLERS = [e for _, e in inspect.getmembers(errors, inspect.isclass)
           if issubclass(e, errors.CallerError)]  # fmt: skip
NO_CALLERS = (errors.PluginError, errors.BusError, errors.DiscoveryError, errors.ConsoleError)
"""Errors of the start, of sources, and of a tool that calls no method: no caller receives them."""
SHOWN = [e for _, e in inspect.getmembers(errors, inspect.isclass)
         if issubclass(e, errors.GatewayError) and not issubclass(e, NO_CALLERS)
         and e is not errors.GatewayError]  # fmt: skip


def failed(error: Exception, *arguments: object) -> tuple[str, str]:
    return failure(error, arguments, lambda: "f00d")


@pytest.mark.parametrize("kind", CALLERS)
def test_every_error_of_a_caller_has_a_name(kind: type[errors.CallerError]) -> None:
    assert kind in NAMES
    assert failed(kind("No.")) == (NAMES[kind], "No.")


@pytest.mark.parametrize("kind", SHOWN)
def test_a_caller_receives_what_the_operator_can_mend(kind: type[errors.GatewayError]) -> None:
    name, text = failed(kind("etcd does not answer."))
    assert name != "org.freedesktop.DBus.Error.Failed" or kind is errors.CallerError
    assert text == "etcd does not answer."


def test_a_class_stands_for_its_subclasses() -> None:
    assert failed(errors.StoreFull("Full."))[0] == "org.gatewayd1.Error.StoreFailed"
    assert failed(errors.StoreSealed("No key."))[0] == "org.gatewayd1.Error.StoreSealed"


@pytest.mark.parametrize("kind", [ValueError, OSError, errors.GatewayError, errors.PluginError])
def test_the_text_of_any_other_error_stays_here(
    kind: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    name, text = failed(kind(CANARY))
    assert name == "org.freedesktop.DBus.Error.Failed"
    assert text == "Internal error, see the journal (id f00d)"
    assert "f00d" in caplog.records[0].getMessage()
    assert caplog.records[0].exc_info is not None


@pytest.mark.parametrize(("text", "shown"), [
    ("cam-99", "No 'cam-99'"),
    ("\x1b[31m", "No '...'"),
    ("two words", "No '...'"),
    ("x" * 65, "No '...'"),
    ("\u202ecam", "No '...'"),
    ("", "No ''"),
])  # fmt: skip
def test_a_callers_text_is_repeated_only_if_plain(text: str, shown: str) -> None:
    assert sentence(f"No '{text}'", [text, 7]) == shown


def test_a_sentence_is_one_printable_line() -> None:
    assert sentence("a.toml:3: no\n\tkey\x1b\u2066.", ()) == "a.toml:3: no key ."
    assert len(sentence("x" * 5000, ())) == MAX_TEXT

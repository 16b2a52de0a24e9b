"""The page of reasons has every reason in the code, with its sentence and remedy."""

from __future__ import annotations

import re
from functools import cache
from itertools import chain

import pytest

from gatewayd.admission.policy.engine import NO_RULE
from gatewayd.cloud.alibaba.result_codes import CODES
from gatewayd.device.recovery import SECRET_LOST
from gatewayd.messages.doors.faults import DoorFault
from gatewayd.network.connect_errors import ENDS, RELOAD, ConnectFault
from gatewayd.network.connect_errors import reason as connect_reason
from tools import config_manual, quick_start
from tools.reasons_manual import PAGE, ROOT, DocumentedReason, in_module, page, reasons


def test_the_page_is_made_from_the_code() -> None:
    assert PAGE.read_text() == page(), (
        "run python -m tools.reasons_manual > packaging/man/gatewayd-reasons.7"
    )


def test_known_reasons_are_on_it() -> None:
    found = {one.code: one for group in reasons().values() for one in group}
    for reason in (NO_RULE, SECRET_LOST):
        assert found[reason.code] == DocumentedReason(reason.code, reason.text, reason.remedy)
    codes = {meaning.reason.code for meaning in CODES.values()} - {""}  # "" means success
    assert codes <= found.keys()


def test_every_code_in_the_source_is_on_it() -> None:
    codes = {one.code for group in reasons().values() for one in group}
    written = set()
    for path in (ROOT / "gatewayd").rglob("*.py"):
        if not {"simulator", "testing", "cli"} & set(path.parts):
            written |= set(re.findall(r"\bReason\(\s*\"([a-z-]+)\",", path.read_text()))
    assert len(written) > 80
    assert written <= codes


def test_names_stand_for_the_texts_that_they_had_then() -> None:
    source = """
CHECK = "Check it."
def one(name):
    text = f"The {name} is gone."
    first = Reason("gone", text, CHECK)
    text = "It is back."
    return Reason("back", text, f"{CHECK} Or not.")
def other(reason):
    return Reason(reason.code, "x"), Reason("empty")
"""
    assert list(in_module(source)) == [
        DocumentedReason("gone", "The ... is gone.", "Check it."),
        DocumentedReason("back", "It is back.", "Check it. Or not."),
    ]


def test_the_reasons_in_tables_are_on_it() -> None:
    source = """
class Fault(StrEnum):
    GONE = "gone"
TEXTS = {Fault.GONE: ("{host} is gone.", CHECK), Fault.OTHER: ("x", "y"), "gone": ("x", "y")}
ENDS = {Fault.GONE: Reason(Fault.GONE, "It ended.")}
"""
    assert list(in_module(source)) == [
        DocumentedReason("gone", "{host} is gone.", "..."),
        DocumentedReason("gone", "It ended.", ""),
    ]
    found = {one.code for group in reasons().values() for one in group}
    assert {end.value for end in ENDS} <= found
    assert {one.value for one in ConnectFault} - {ConnectFault.MQTT_REFUSED} <= found
    assert {one.value for one in DoorFault} <= found


IN_A_FILE = re.compile(
    r"\brules?\b|\bsettings?\b|\bconfigur|\[[a-z]|'[a-z]+'|\bhost\b|\bkeepalive\b|\btable\b"
    r"|endpoint of|\bproducts of the cloud|device name of the gateway|\{reload\}"
)
"""What a remedy calls that stands in a file of this gateway, beside the names of settings."""
NAME = re.compile(r"[a-z]+(?:_[a-z0-9]+)+")
"""A name that is no word of another language."""
TAKES_EFFECT = (
    "gatewayctl reload",
    "rules suggest CHILD --write",
    "{reload}",
    "restart",
    "restarted",
    "restarts",
)


@cache
def settings() -> frozenset[str]:
    """Return the names of settings."""
    return frozenset(NAME.findall(config_manual.manual()))


def names_a_file(remedy: str) -> bool:
    """Whether what is to be done may be done in a file."""
    return bool(IN_A_FILE.search(remedy) or set(NAME.findall(remedy)) & settings())


def test_a_remedy_that_corrects_a_file_says_what_takes_it_into_force() -> None:
    remedies = {one.remedy for one in chain.from_iterable(reasons().values()) if one.remedy}
    assert len(remedies) > 120
    in_a_file = filter(names_a_file, sorted(remedies))
    silent = [one for one in in_a_file if not any(word in one for word in TAKES_EFFECT)]
    assert not silent, "\n".join(silent)


def test_what_is_in_a_file_is_known() -> None:
    assert names_a_file("Correct the rule.")
    assert names_a_file("Set sign_method to hmacsha256.")
    assert names_a_file("Raise `keep` under [messages].")
    assert not names_a_file("Enable it in the console.")


@pytest.mark.parametrize("fault", sorted(set(ConnectFault) - {ConnectFault.MQTT_REFUSED}))
def test_a_preflight_says_no_reload(fault: ConnectFault) -> None:
    """No daemon may run then, and the next preflight reads the files itself."""
    said = connect_reason(fault, "host", 1, reload="").remedy
    assert RELOAD not in said
    assert "{" not in said + connect_reason(fault, "host", 1).remedy


def test_the_quick_start_is_made_from_its_document() -> None:
    assert quick_start.PAGE.read_text() == quick_start.page(), (
        "run python -m tools.quick_start > packaging/man/gatewayd-quickstart.7"
    )
    assert quick_start.SOURCE.name in (ROOT / "packaging/debian/gatewayd.docs").read_text()

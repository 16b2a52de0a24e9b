"""The page of reasons has every reason in the code, with its sentence and remedy."""

from __future__ import annotations

import re

from gatewayd.admission.policy.engine import NO_RULE
from gatewayd.cloud.alibaba.result_codes import CODES
from gatewayd.device.recovery import SECRET_LOST
from tools import quick_start
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


def test_the_quick_start_is_made_from_its_document() -> None:
    assert quick_start.PAGE.read_text() == quick_start.page(), (
        "run python -m tools.quick_start > packaging/man/gatewayd-quickstart.7"
    )
    assert quick_start.SOURCE.name in (ROOT / "packaging/debian/gatewayd.docs").read_text()

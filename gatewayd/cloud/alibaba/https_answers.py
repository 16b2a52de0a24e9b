"""What the cloud answers to a registration over HTTPS, and what that means.  Pure.

Source: "HTTPS-based dynamic registration" of the IoT Platform documentation.
"""

from __future__ import annotations

import logging

from gatewayd.cloud.alibaba import answers, codes, topics
from gatewayd.cloud.http import Answer
from gatewayd.cloud.provider import Failed, Outcome, Refused, Unknown
from gatewayd.cloud.subdevices.coded import Coded, Kind
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret

log = logging.getLogger(__name__)

DONE = 200
LATER = frozenset({Kind.TRANSIENT, Kind.UNKNOWN})
"""What is worth another try."""

_MAX_CODE = 999_999

BROKEN = Unknown(Reason(
    "cloud-broken-answer",
    "The cloud answered over HTTPS, and neither issued a secret for this child nor said why not.",
    "If this lasts, check the host of the registration over HTTPS, and ask the vendor.",
))  # fmt: skip
ELSEWHERE = Refused(Reason(
    "cloud-elsewhere",
    "The server does not register devices: it refuses the address of the request.",
    "Check the host of the registration over HTTPS.",
))  # fmt: skip


def meaning(code: int) -> Coded:
    """Return what a code means here: the request is signed as that for a sub-device's product."""
    return codes.reason(code, topics.PRODUCT_REGISTER)


def understand(answer: Answer, name: CloudName) -> Secret | Outcome:
    """Return the secret that was issued, or how the registration ended.

    The code counts, whatever the status is.  Without one, a status says that the request was not
    acted upon (RFC 9110, 15.4, 15.5), or it is not known whether it was.
    """
    told = answers.load(answer.body)
    code = _code(told.get("code"))
    if code is None:
        return _by_status(answer.status)
    if code == DONE:
        return _secret(told.get("data"), name) or BROKEN
    coded = meaning(code)
    if coded.kind is Kind.UNKNOWN:
        log.warning("The cloud answered a registration with the code %d.", code)
    return Failed(coded.reason) if coded.kind in LATER else Refused(coded.reason)


def _secret(data: object, name: CloudName) -> Secret | None:
    if not isinstance(data, dict) or not answers.names(data, name):
        return None
    word = answers.word(data, "deviceSecret")
    return Secret(word.encode()) if word else None


def _code(told: object) -> int | None:
    """Return a code that was sent as a number or as text."""
    if isinstance(told, str) and told.isascii() and told.isdigit() and len(told) < len("1000000"):
        told = int(told)
    return told if type(told) is int and 0 <= told <= _MAX_CODE else None


def _by_status(status: int) -> Outcome:
    match status:
        case 408 | 425 | 429:
            return Failed(meaning(429).reason)
        case status if 300 <= status < 500:  # noqa: PLR2004  # the classes of RFC 9110, 15
            return ELSEWHERE
    return BROKEN

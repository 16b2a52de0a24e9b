"""What the codes of the platform mean for a child, and what is to be done: one table.  Pure.

Sources: "Error Codes" of the IoTDA API reference, which is for its REST interface; the pages on
sub-devices print no codes, so that any other must be expected.
"""

from __future__ import annotations

from collections.abc import Mapping

from gatewayd.cloud.huawei.events import UNREADABLE, Event
from gatewayd.cloud.subdevices.coded import Coded, Denied, Kind
from gatewayd.cloud.subdevices.reasons import REMOVED
from gatewayd.device.reason import NONE, Reason

EXISTS = "IOTDA.014031"
UNKNOWN_DEVICE = "IOTDA.014000"
NOT_A_CHILD = "IOTDA.021104"

_THROTTLED = Coded(
    Kind.TRANSIENT,
    Reason("cloud-throttled", "The platform takes no more requests of this kind for now."),
    wait=60.0,
)
_LATER = Coded(
    Kind.TRANSIENT,
    Reason("cloud-error", "The platform could not reach the gateway meanwhile."),
)
_REFUSED = Coded(
    Kind.PERMANENT,
    Reason(
        "cloud-request-refused",
        "The platform finds a field of the request malformed or unknown.",
        "Check the product ID and the node ID in the rule, and that the product exists.",
    ),
)

CODES: Mapping[str, Coded] = {
    "IOTDA.000006": _REFUSED,
    "IOTDA.000008": _REFUSED,
    UNKNOWN_DEVICE: Coded(Kind.REMOVED, REMOVED),
    "IOTDA.014016": _LATER,  # the device is not online
    "IOTDA.014028": _LATER,  # the gateway is not online
    EXISTS: Coded(
        Kind.EXISTS,
        Reason(
            "cloud-other-gateway",
            "The platform has a device of this node ID already, and not for this gateway.",
            "Move it to this gateway at the platform (change-gateway), or delete it there; then "
            "call Retry.",
        ),
    ),
    "IOTDA.014111": _LATER,  # a command timed out
    "IOTDA.014112": _LATER,  # a topic is not subscribed to
    "IOTDA.021101": _THROTTLED,
    "IOTDA.021102": _THROTTLED,
    NOT_A_CHILD: Coded(Kind.REMOVED, REMOVED),
    "IOTDA.021105": Coded(
        Kind.PERMANENT,
        Reason("cloud-request-too-large", "The platform finds the request too large."),
    ),
}
"""Code to its meaning, whatever was asked."""

_DONE = Coded(Kind.DONE, NONE)

EXCEPTIONS: Mapping[tuple[str, Event], Coded] = {
    # What is not there binds nobody.
    (UNKNOWN_DEVICE, Event.DELETE): _DONE,
    (NOT_A_CHILD, Event.DELETE): _DONE,
    # It cannot be the child that is missing.
    (UNKNOWN_DEVICE, Event.ADD): _REFUSED,
    (NOT_A_CHILD, Event.ADD): _REFUSED,
}
"""Code and event, where the event makes a difference."""


def denial(code: str, event: Event) -> Denied:
    """Return what a code means for a child as the answer to `event`."""
    return Denied(code, EXCEPTIONS.get((code, event)) or CODES.get(code) or _unknown(code))


def _unknown(code: str) -> Coded:
    told = "a code that cannot be read" if code == UNREADABLE else f"the code {code}"
    return Coded(
        Kind.UNKNOWN,
        Reason(
            "cloud-code-unknown",
            f"The platform refused with {told}, which is not documented.",
            "Look the code up at the vendor; gatewayd tries again in some minutes.",
        ),
    )

"""The meaning of each result code of the cloud: one table.  Pure.

Sources: the tables of codes in "Register sub-devices", "Manage topological relationships",
"Connect or disconnect sub-devices", "Error codes for sub-device development" and "Common codes on
devices" of the IoT Platform documentation.  Code 527 is 427 in some of them.
"""

from __future__ import annotations

from collections.abc import Mapping

from gatewayd.cloud.alibaba import alink, reasons
from gatewayd.cloud.sub_devices.result_codes import ResultKind, ResultMeaning
from gatewayd.device.reason import NONE, Reason

TOO_FAST = 429


def _meaning(
    kind: ResultKind, code: str, text: str, remedy: str = "", substate: str = ""
) -> ResultMeaning:
    return ResultMeaning(kind, Reason(code, text, remedy, substate))


_DONE = ResultMeaning(ResultKind.DONE, NONE)
_BAD_SIGN = _meaning(
    ResultKind.REREGISTER, "cloud-auth-failed",
    "The cloud does not accept the secret of this child.",
    "Check in the console whether the device was reset, or deleted and created again.",
    "credential-rejected",
)  # fmt: skip
_BAD_PRODUCT_SIGN = _meaning(
    ResultKind.OPERATOR, "cloud-auth-failed",
    "The cloud does not accept the product secret of this child's product.",
    "Check the product secret, then run gatewayctl retry CHILD.",
)  # fmt: skip
_NO_PRODUCT = _meaning(
    ResultKind.OPERATOR, "cloud-no-product",
    "The cloud does not know the product of this child.",
    "Correct the product in the rule, then run gatewayctl reload.",
)  # fmt: skip
_DISABLED = _meaning(
    ResultKind.DISABLED, "cloud-disabled",
    "The device is disabled at the cloud.",
    "Enable it in the console.",
    "disabled-at-cloud",
)  # fmt: skip
_ELSEWHERE = _meaning(
    ResultKind.CONFLICT, "cloud-session-elsewhere",
    "The device is logged in elsewhere: by itself, or through another gateway.",
    "Find the other client with this device name, and stop it; gatewayd retries in five minutes.",
)  # fmt: skip
_TOO_MANY_EVENTS = _meaning(
    ResultKind.PERMANENT, "cloud-report-too-large",
    "The cloud accepts fewer events, or fewer children, in one report.",
    "Send less in a message.",
)  # fmt: skip

CODES: Mapping[int, ResultMeaning] = {
    200: _DONE,
    400: _meaning(
        ResultKind.TRANSIENT, "cloud-error",
        "The cloud failed to process the request.",
    ),
    401: _BAD_SIGN,
    427: _ELSEWHERE,
    428: _meaning(
        ResultKind.OPERATOR, "cloud-too-many-online",
        "The gateway has as many children online as the cloud allows.",
        "Move children to another gateway, then run gatewayctl retry CHILD.",
    ),
    TOO_FAST: ResultMeaning(
        ResultKind.TRANSIENT,
        Reason("cloud-throttled", "The cloud accepts no more requests of this kind for now."),
        wait=60.0,
    ),
    460: _meaning(
        ResultKind.PERMANENT, "cloud-request-refused",
        "The cloud finds a field of the request missing, malformed or too large.",
        "Check product and device name in the rule, and sign_method; then run gatewayctl reload.",
    ),
    500: _meaning(
        ResultKind.TRANSIENT, "cloud-error",
        "The cloud has an internal error.",
    ),
    520: _meaning(
        ResultKind.TRANSIENT, "cloud-no-session",
        "The cloud has ended the session of this child.",
    ),
    521: _meaning(
        ResultKind.REMOVED, "cloud-removed",
        "The device was deleted at the cloud.",
        "To get it back, create it again, and run gatewayctl approve CHILD.",
    ),
    522: _DISABLED,
    527: _ELSEWHERE,
    5005: _NO_PRODUCT,
    5244: _meaning(
        ResultKind.OPERATOR, "cloud-no-product",
        "The cloud does not know the LoRaWAN product of this child.",
        "Correct the product in the rule, then run gatewayctl reload.",
    ),
    6100: _meaning(
        ResultKind.OPERATOR, "cloud-no-device",
        "The cloud does not know this device name.",
        "Create the device in the console, then run gatewayctl retry CHILD; or correct its name in "
        "the rule, then run gatewayctl reload.",
    ),
    6203: _meaning(
        ResultKind.PERMANENT, "cloud-topic-refused",
        "The cloud cannot read the topic of the request.",
        "Check product and device name of the gateway, then run gatewayctl reload.",
    ),
    6204: _DISABLED,
    6250: _NO_PRODUCT,
    6280: ResultMeaning(ResultKind.OPERATOR, reasons.BAD_NAME),
    6287: _BAD_SIGN,
    6288: _meaning(
        ResultKind.OPERATOR, "cloud-registration-off",
        "Dynamic registration is off for the product of this child.",
        "Turn it on in the console, for the product of the child; then run gatewayctl retry CHILD.",
    ),
    6289: _meaning(
        ResultKind.OPERATOR, "cloud-already-activated",
        "The device was activated before, so the cloud issues no secret for it.",
        "Reset the device at the cloud (ResetThing), then run gatewayctl reregister CHILD CHILD.",
        "needs-reset",
    ),
    6292: _meaning(
        ResultKind.PERMANENT, "cloud-sign-method-refused",
        "The cloud does not accept this sign method.",
        "Set sign_method to hmacsha256, then run gatewayctl reload.",
    ),
    6356: _TOO_MANY_EVENTS,
    6357: _TOO_MANY_EVENTS,
    6400: _meaning(
        ResultKind.OPERATOR, "cloud-too-many-children",
        "The gateway has as many children in its topology as the cloud allows.",
        "Remove children from its topology in the console, or use one more gateway; then run "
        "gatewayctl retry CHILD.",
    ),
    6401: _meaning(
        ResultKind.TOPOLOGY, "cloud-not-in-topology",
        "The child does not belong to this gateway at the cloud.",
        "If this lasts, find out in the console to which gateway it belongs.",
    ),
    6402: _meaning(
        ResultKind.PERMANENT, "cloud-own-child",
        "The name of this child is the gateway's own.",
        "Correct the name in the rule that admits this child, then run gatewayctl reload.",
    ),
    6450: _meaning(
        ResultKind.PERMANENT, "cloud-no-method",
        "The script of the product has left the method out of the request.",
        "Correct the parsing script of the product in the console.",
    ),
    6600: _BAD_SIGN,
    6619: _meaning(
        ResultKind.OPERATOR, "cloud-other-gateway",
        "The child belongs to another gateway at the cloud.",
        "Remove it from that gateway's topology in the console, then run gatewayctl retry CHILD.",
    ),
    6760: _meaning(
        ResultKind.TRANSIENT, "cloud-error",
        "The cloud has an internal error.",
    ),
}  # fmt: skip
"""Code to its meaning, whatever the method."""

_NOT_ALLOWED = _meaning(
    ResultKind.PERMANENT, "cloud-not-authorised",
    "The cloud does not let this gateway register the child.",
    "Check that the child's product is of the node type gateway sub-device.",
)  # fmt: skip

EXCEPTIONS: Mapping[tuple[int, str], ResultMeaning] = {
    (401, alink.SUB_REGISTER): _NOT_ALLOWED,
    **{(code, alink.PRODUCT_REGISTER): _BAD_PRODUCT_SIGN for code in (401, 6287, 6600)},
    **{
        (code, method): _DONE
        for code in (520, 6401)
        for method in (alink.LOGOUT, alink.BATCH_LOGOUT)
    },
    # A device that is not there is not bound.
    (6100, alink.TOPO_DELETE): _DONE,
    (6401, alink.TOPO_DELETE): _DONE,
}
"""Code and method, where the method makes a difference."""


REPORTS: Mapping[int, ResultMeaning] = {
    460: _meaning(
        ResultKind.PERMANENT, "cloud-report-refused",
        "The cloud finds a value missing, malformed or too large.",
        "Compare what the child sends with the model of its product in the console.",
    ),
    5160: _meaning(
        ResultKind.PERMANENT, "cloud-no-event",
        "The model of the product has no such event.",
        "Add the event to the model of the product, or correct its name in what the child sends.",
    ),
    6106: _meaning(
        ResultKind.PERMANENT, "cloud-report-too-large",
        "The cloud accepts fewer properties in one report.",
        "Send less in a message.",
    ),
    6300: _meaning(
        ResultKind.PERMANENT, "cloud-report-refused",
        "The cloud finds no method in the report.",
        "Check whether a parsing script of the product in the console removes it.",
    ),
}  # fmt: skip
"""Codes that mean something else in the reply to a report, or are only there."""


def reason(code: int, method: str) -> ResultMeaning:
    """Return what a code means as the answer to `method`, one of alink.METHODS, or in ERROR."""
    return EXCEPTIONS.get((code, method)) or CODES.get(code) or _unknown(code)


def of_report(code: int) -> ResultMeaning:
    """Return what a code means as the reply to a report."""
    return REPORTS.get(code) or reason(code, alink.ERROR)


def _unknown(code: int) -> ResultMeaning:
    text = f"The cloud refused with the code {code}, which is not documented."
    remedy = "Look up the code in the vendor's documentation; gatewayd retries once."
    return _meaning(ResultKind.UNKNOWN, "cloud-code-unknown", text, remedy)

"""What the codes of the cloud mean, and what is to be done: one table.  Pure.

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


def _coded(
    kind: ResultKind, code: str, text: str, remedy: str = "", substate: str = ""
) -> ResultMeaning:
    return ResultMeaning(kind, Reason(code, text, remedy, substate))


_DONE = ResultMeaning(ResultKind.DONE, NONE)
_BAD_SIGN = _coded(
    ResultKind.REREGISTER, "cloud-auth-failed",
    "The cloud does not accept the secret of this child.",
    "Look whether the device was reset, or created anew, at the cloud.",
    "credential-rejected",
)  # fmt: skip
_BAD_PRODUCT_SIGN = _coded(
    ResultKind.OPERATOR, "cloud-auth-failed",
    "The cloud does not accept the product secret of this child's product.",
    "Check the product secret, then call Retry.",
)  # fmt: skip
_NO_PRODUCT = _coded(
    ResultKind.OPERATOR, "cloud-no-product",
    "The cloud does not know the product of this child.",
    "Correct the product in the rule, then call Retry.",
)  # fmt: skip
_DISABLED = _coded(
    ResultKind.DISABLED, "cloud-disabled",
    "The device is disabled at the cloud.",
    "Enable it in the console.",
    "disabled-at-cloud",
)  # fmt: skip
_ELSEWHERE = _coded(
    ResultKind.CONFLICT, "cloud-session-elsewhere",
    "The device is logged in somewhere else: by itself, or through another gateway.",
    "Find out who uses the same device name, and stop it; gatewayd tries again in five minutes.",
)  # fmt: skip
_TOO_MANY_EVENTS = _coded(
    ResultKind.PERMANENT, "cloud-report-too-large",
    "The cloud takes fewer events, or fewer children, in one report.",
    "Ask the vendor: gatewayd sends no reports.",
)  # fmt: skip

CODES: Mapping[int, ResultMeaning] = {
    200: _DONE,
    400: _coded(
        ResultKind.TRANSIENT, "cloud-error",
        "The cloud met an error while it worked on the request.",
    ),
    401: _BAD_SIGN,
    427: _ELSEWHERE,
    428: _coded(
        ResultKind.OPERATOR, "cloud-too-many-online",
        "As many children are online through this gateway as the cloud allows.",
        "Take children off this gateway, or use one more; then call Retry.",
    ),
    TOO_FAST: ResultMeaning(
        ResultKind.TRANSIENT,
        Reason("cloud-throttled", "The cloud takes no more requests of this kind for now."),
        wait=60.0,
    ),
    460: _coded(
        ResultKind.PERMANENT, "cloud-request-refused",
        "The cloud finds a field of the request missing, malformed or too large.",
        "Check product and device name in the rule, and sign_method.",
    ),
    500: _coded(
        ResultKind.TRANSIENT, "cloud-error",
        "The cloud has an error of its own.",
    ),
    520: _coded(
        ResultKind.TRANSIENT, "cloud-no-session",
        "The cloud has no session for this child any more.",
    ),
    521: _coded(
        ResultKind.REMOVED, "cloud-removed",
        "The device was deleted at the cloud.",
        "If it is to come back, create it again, and call Approve.",
    ),
    522: _DISABLED,
    527: _ELSEWHERE,
    5005: _NO_PRODUCT,
    5244: _coded(
        ResultKind.OPERATOR, "cloud-no-product",
        "The cloud does not know the LoRaWAN product of this child.",
        "Correct the product in the rule, then call Retry.",
    ),
    6100: _coded(
        ResultKind.OPERATOR, "cloud-no-device",
        "The cloud does not know this device name.",
        "Create the device in the console, or correct its name in the rule; then call Retry.",
    ),
    6203: _coded(
        ResultKind.PERMANENT, "cloud-topic-refused",
        "The cloud cannot read the topic of the request.",
        "Check product and device name of the gateway.",
    ),
    6204: _DISABLED,
    6250: _NO_PRODUCT,
    6280: ResultMeaning(ResultKind.OPERATOR, reasons.BAD_NAME),
    6287: _BAD_SIGN,
    6288: _coded(
        ResultKind.OPERATOR, "cloud-registration-off",
        "Dynamic registration is off for the product of this child.",
        "Turn it on in the console, for the product of the child; then call Retry.",
    ),
    6289: _coded(
        ResultKind.OPERATOR, "cloud-already-activated",
        "The device was activated before, so the cloud issues no secret for it.",
        "Reset the device at the cloud (ResetThing), then call Reregister.",
        "needs-reset",
    ),
    6292: _coded(
        ResultKind.PERMANENT, "cloud-sign-method-refused",
        "The cloud does not take this way of signing.",
        "Set sign_method to hmacsha256.",
    ),
    6356: _TOO_MANY_EVENTS,
    6357: _TOO_MANY_EVENTS,
    6400: _coded(
        ResultKind.OPERATOR, "cloud-too-many-children",
        "As many children belong to this gateway as the cloud allows.",
        "Remove children from its topology in the console, or use one more gateway; then call "
        "Retry.",
    ),
    6401: _coded(
        ResultKind.TOPOLOGY, "cloud-not-in-topology",
        "The child does not belong to this gateway at the cloud.",
        "If this lasts, look in the console to which gateway it belongs.",
    ),
    6402: _coded(
        ResultKind.PERMANENT, "cloud-own-child",
        "The name of this child is the gateway's own.",
        "Correct the name in the rule that admits this child.",
    ),
    6450: _coded(
        ResultKind.PERMANENT, "cloud-no-method",
        "The script of the product has left the method out of the request.",
        "Correct the parsing script of the product in the console.",
    ),
    6600: _BAD_SIGN,
    6619: _coded(
        ResultKind.OPERATOR, "cloud-other-gateway",
        "The child belongs to another gateway at the cloud.",
        "Remove it from that gateway's topology in the console, then call Retry.",
    ),
    6760: _coded(
        ResultKind.TRANSIENT, "cloud-error",
        "The cloud has an error of its own.",
    ),
}  # fmt: skip
"""Code to its meaning, whatever was asked."""

_NOT_ALLOWED = _coded(
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
    # What is not there binds nobody.
    (6100, alink.TOPO_DELETE): _DONE,
    (6401, alink.TOPO_DELETE): _DONE,
}
"""Code and method, where the method makes a difference."""


def reason(code: int, method: str) -> ResultMeaning:
    """Return what a code means as the answer to `method`, one of topics.METHODS, or in ERROR."""
    return EXCEPTIONS.get((code, method)) or CODES.get(code) or _unknown(code)


def _unknown(code: int) -> ResultMeaning:
    text = f"The cloud refused with the code {code}, which is not documented."
    remedy = "Look the code up at the vendor; gatewayd tries once more."
    return _coded(ResultKind.UNKNOWN, "cloud-code-unknown", text, remedy)

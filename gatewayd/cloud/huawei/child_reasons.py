"""Why a sub-device cannot be served, and what an operator can do.  Pure."""

from __future__ import annotations

from gatewayd.device.reason import Reason

NOT_LISTED = Reason(
    "cloud-bad-answer",
    "The platform answered, and its answer does not have this child.",
    "If this lasts, look at the device in the console.",
)
BAD_DOCUMENT = Reason(
    "secret-unusable",
    "What is kept for this child does not tell its device ID.",
    "Call Reregister.",
    substate="credential-rejected",
)
ELSEWHERE = Reason(
    "cloud-instance-changed",
    "The child was added at another instance, and the one that is configured now does not know it.",
    "Correct host in the configuration of the cloud; to add the child here, call Reregister.",
    substate="credential-rejected",
)

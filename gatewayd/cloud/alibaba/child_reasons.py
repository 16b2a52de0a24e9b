"""Why a child of the gateway cannot be served, and what an operator can do.  Pure."""

from __future__ import annotations

from gatewayd.device.reason import Reason

NO_PRODUCT_SECRET = Reason(
    "product-secret-missing",
    "This route signs with the product's secret, and the configuration names none.",
    "Give the product a secret_credential or secret_file, or let the rule name another route.",
)
NO_DEVICE_SECRETS = Reason(
    "device-secret-missing",
    "The secrets of this product's devices are nowhere named.",
    "Set device_credentials or device_directory of the product.",
)
NOT_LISTED = Reason(
    "cloud-bad-secret",
    "The cloud accepted the request, and its answer holds no secret for this child.",
    "If this lasts, look at the device in the console.",
)


def no_device_secret(text: str) -> Reason:
    """Return why a device secret cannot be used; `text` names the file, and what to do."""
    return Reason("device-secret-unusable", text, "Put it right, then call Retry.")

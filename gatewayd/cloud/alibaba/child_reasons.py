"""Why a child of the gateway cannot be served, and what an operator can do.  Pure."""

from __future__ import annotations

from gatewayd.device.reason import Reason

NO_PRODUCT_SECRET = Reason(
    "product-secret-missing",
    "This route signs with the product's secret, and the configuration names none.",
    "Give the product a secret_credential or secret_file, or let the rule name another route.",
)
NO_GATEWAY = Reason(
    "route-not-available",
    "Its rule names a route through the gateway's own session, and there is none.",
    "Describe the gateway in the table 'gateway' of the cloud, or correct 'route' in the rule.",
)
NO_DEVICE_SECRETS = Reason(
    "device-secret-missing",
    "The secrets of this product's devices are nowhere named.",
    "Set device_credentials or device_directory of the product.",
)
GATEWAY_FULL = Reason(
    "gateway-full",
    "The gateway has as many children as the cloud lets it have.",
    "Forget children that are not needed, or use another gateway.",
)
STOPPED = Reason("stopping", "gatewayd is stopping.")
NO_ANSWER = Reason("cloud-no-answer", "The cloud did not answer the gateway in time.")
LINK_LOST = Reason("gateway-link-lost", "The gateway's own session ended meanwhile.")
NOT_SENT = Reason("gateway-offline", "The gateway itself is not logged in at the cloud.")
FORGOTTEN = Reason("forgotten", "The child was taken out of the gateway's topology.")
NOT_LISTED = Reason(
    "cloud-bad-secret",
    "The cloud accepted the request, and its answer holds no secret for this child.",
    "If this lasts, look at the device in the console.",
)
REMOVED = Reason(
    "cloud-removed",
    "The child was deleted at the cloud, or taken from this gateway.",
    "If it is to come back, create it again, and call Approve.",
)


def no_device_secret(text: str) -> Reason:
    """Return why a device secret cannot be used; `text` names the file, and what to do."""
    return Reason("device-secret-unusable", text, "Put it right, then call Retry.")


def gateway_offline(gateway: str, state: Reason | None) -> Reason:
    """Return why no child can be served.  gateway: its device id.  state: what ails it."""
    told = f": {state}" if state else "."
    return Reason(
        "gateway-offline",
        "The gateway itself is not logged in at the cloud.",
        f"Look at {gateway}{told}",
    )

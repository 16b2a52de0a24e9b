"""What a slot is called in a store that knows services and user names, as keyrings do."""

from __future__ import annotations

from gatewayd.device.identity import DeviceId
from gatewayd.device.secret import SecretRef

_PREFIX = "gatewayd/"


def names(ref: SecretRef) -> tuple[str, str]:
    """Return service and user name: gatewayd/<provider>, <device>/<kind>#<attempt>."""
    return f"{_PREFIX}{ref.provider}", f"{ref.device}/{ref.kind}#{ref.attempt}"


def prefix(device: DeviceId) -> tuple[str, str]:
    """Return the first user name of a device, and the first that comes after all of them."""
    return f"{device}/", f"{device}0"  # "0" follows "/"


def parse(service: str, username: str) -> SecretRef | None:
    """Read the names of a slot; None where they are nobody's."""
    path, _, attempt = username.rpartition("#")
    device, _, kind = path.rpartition("/")
    is_number = attempt.isascii() and attempt.isdecimal()
    if not (service.startswith(_PREFIX) and device and kind and is_number):
        return None
    return SecretRef(service.removeprefix(_PREFIX), DeviceId(device), int(attempt), kind)

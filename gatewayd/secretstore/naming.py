"""What a slot is called in a store that knows services and user names, as keyrings do."""

from __future__ import annotations

import re

from gatewayd.device.identity import DeviceId
from gatewayd.device.secret import SecretRef

_PREFIX = "gatewayd/"
_NUMBER = re.compile("0|[1-9][0-9]{0,17}")
"""As `names` writes it: two names of one slot would be two slots."""


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
    if not (service.startswith(_PREFIX) and device and kind and _NUMBER.fullmatch(attempt)):
        return None
    if not (service + username).isprintable():  # it was bent, and could not be shown
        return None
    return SecretRef(service.removeprefix(_PREFIX), DeviceId(device), int(attempt), kind)

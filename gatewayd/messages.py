"""The entries of the journal that packaging/catalog/gatewayd.catalog explains, by their names.

`journalctl -x` prints the explanation beneath the entry; `journalctl MESSAGE_ID=…` finds all of
one kind.  A log call names its entry by `extra={"message_id": NAME}`; what happens to a child is
named by its event.
"""

from __future__ import annotations

from collections.abc import Mapping

MESSAGES: Mapping[str, str] = {
    "approval-needed": "1330c740f4ca4ff8be0fa64c3833cb08",
    "identity-conflict": "a4a99710852b4ea8a2bd102ad1fd9fc2",
    "device-registered": "ea6150cf8e40465e810356c86a130dbb",
    "registration-refused": "a5060083d5ba4158b9948635ac0eb841",
    "already-activated": "bfeec8f36af14713882e8c95ffc68912",
    "device-rejected": "cdcbbde4cbd84300b67cbb7ffd7ecb1d",
    "device-retired": "060e358b374f4df0aef242dc467e53bd",
    "device-flapping": "b29361db4eee4557a611be1cb63aa34e",
    "secret-lost": "e0aa4fd2db0c4fd5b75fc0303bc04628",
    "secret-damaged": "b7b5fb9b57f24400b91ee86edfb1f4d6",
    "store-sealed": "4d2b0f113cd14bc4830363f1095f95a1",
    "rollback-suspected": "f48e39e729dc4b38a681b80682d459aa",
    "store-degraded": "760bcac48032437e96aed62ede052c5b",
    "join-window-opened": "efd883ad4abd49448351a2008db97c11",
    "join-window-closed": "733335265a9045778a563ef17d5ee4f4",
    "lan-flooded": "abb30f6d44e04503b58f943c51c6f7a4",
    "configuration-rejected": "172feecf44134d56ba59954a6cc6ed67",
}
"""MESSAGE_ID of each entry.  An id never changes its meaning."""

EVENTS: Mapping[str, str] = {
    "Held": "approval-needed",
    "Held identity-conflict": "identity-conflict",
    "SecretStored": "device-registered",
    "RegistrationRefused": "registration-refused",
    "RegistrationRefused cloud-not-authorised": "already-activated",
    "SecretLost": "secret-lost",
    "Rejected": "device-rejected",
    "Retired": "device-retired",
}
"""The entry of an event of the life cycle, or of one with the code of its reason."""


def message_id(name: str, event: str = "", reason: str = "") -> str:
    """Return the MESSAGE_ID of an entry by its name, or else by event and reason; "" for none."""
    name = name or EVENTS.get(f"{event} {reason}") or EVENTS.get(event, "")
    return MESSAGES.get(name, "")

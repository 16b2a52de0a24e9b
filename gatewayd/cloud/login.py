"""What a client says of itself when it connects."""

from __future__ import annotations

from dataclasses import dataclass

from gatewayd.device.secret import Secret


@dataclass(frozen=True, slots=True)
class Login:
    """The fields of a CONNECT (MQTT 3.1.1, 3.1.3).

    password: empty where a certificate takes its place.
    """

    client_id: str
    user_name: str
    password: Secret

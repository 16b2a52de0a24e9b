"""The settings of sessions."""

from __future__ import annotations

from dataclasses import dataclass

from gatewayd.settings import setting


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """[sessions]"""

    connecting: int = setting(32, "logins under way at the same time", low=1, high=1000)
    retry_first: float = setting(
        15.0, "wait after the first failure; doubled after each more", unit="s", low=0.1, high=3600
    )
    retry_last: float = setting(600.0, "longest wait between tries", unit="s", low=1, high=86400)
    retry_refused: float = setting(
        600.0, "wait after the cloud refused a login", unit="s", low=1, high=86400
    )
    retry_renewal: float = setting(
        21600.0,
        "wait after the cloud did not accept the secret that is to follow the one in use",
        unit="s",
        low=60,
        high=604800,
    )
    per_minute: int = setting(4, "logins of one child in any minute, at most", low=1, high=60)

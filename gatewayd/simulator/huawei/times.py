"""Times as the Huawei platform writes them.  Pure."""

from __future__ import annotations

from datetime import UTC, datetime


def basic(seconds: float) -> str:
    """Write seconds since 1970 as yyyyMMdd'T'HHmmss'Z'."""
    return f"{_utc(seconds):%Y%m%dT%H%M%SZ}"


def dashed(seconds: float) -> str:
    """Write seconds since 1970 as yyyy-MM-dd'T'HH:mm:ss.SSS'Z'."""
    moment = _utc(seconds)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"


def hour(seconds: float) -> str:
    """Write seconds since 1970 as YYYYMMDDHH, the timestamp of a client id."""
    return f"{_utc(seconds):%Y%m%d%H}"


def read(text: object) -> float | None:
    """Read a time of one of the first two formats, as seconds since 1970; None for any other."""
    for pattern in ("%Y%m%dT%H%M%SZ", "%Y-%m-%dT%H:%M:%S.%fZ"):
        try:
            return datetime.strptime(str(text), pattern).replace(tzinfo=UTC).timestamp()
        except ValueError:
            continue
    return None


def is_hour(text: str) -> bool:
    """Whether a text of ten digits is a time, as YYYYMMDDHH."""
    try:
        return hour(datetime.strptime(text, "%Y%m%d%H").replace(tzinfo=UTC).timestamp()) == text
    except ValueError:
        return False


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)

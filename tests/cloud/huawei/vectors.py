"""The vectors, by what they are about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

VECTORS: dict[str, Any] = json.loads(Path(__file__).with_name("vectors.json").read_text())
SELF_REGISTRATION = VECTORS["self_registration"]


def template(name: str) -> bytes:
    """Return the text of a template_body."""
    return json.dumps(SELF_REGISTRATION["templates"][name]).encode()


def certificate(name: str) -> bytes:
    """Return a device certificate, PEM."""
    pem: str = SELF_REGISTRATION["device_certificates"][name]["pem"]
    return pem.encode()

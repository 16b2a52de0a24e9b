"""What a holder gets: one JSON object, the same for each cloud.

Its members are part of the interface, docs/how-to/give-a-credential.md: new ones may be added,
none changes its meaning.
"""

from __future__ import annotations

import json

from gatewayd.cloud.provider import Credential
from gatewayd.device.record import Record
from gatewayd.device.secret import Secret
from gatewayd.errors import InvalidArgs

VERSION = 1
MAX_BYTES = 512 * 1024
"""Of an answer: systemd takes 1 MiB for all credentials of a unit (systemd.exec(5))."""


def document(record: Record, credential: Credential) -> Secret:
    """Return the JSON object, with a line end.  Raises InvalidArgs where it would be too large."""
    cloud = record.cloud
    assert cloud is not None, "only a registered child has a credential"
    members = {
        "version": VERSION,
        "device": record.device,
        "cloud": cloud.provider,
        "name": str(cloud),
        "host": credential.host,
        "port": credential.port,
        "address": credential.address or credential.host,
        "ca": credential.ca,
        "client_id": credential.client_id,
        "user": credential.user,
        "password": credential.password.reveal().decode(),
        "certificate": credential.certificate,
        "key": credential.key.reveal().decode(),
        "topics": dict(credential.topics),
        "valid_until": None if credential.valid_until is None else int(credential.valid_until),
    }
    made = json.dumps(members, indent=1).encode() + b"\n"
    if len(made) > MAX_BYTES:
        raise InvalidArgs(
            f"The credential of {record.device} has more than {MAX_BYTES} bytes: let ca_file of "
            "its cloud hold fewer roots"
        )
    return Secret(made)

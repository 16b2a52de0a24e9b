"""The vendor's SDK for owners, driven by JSON lines; run by the interpreter of .venv-vendor.

{"do": "call", "action": "RRpc", "ProductKey": …}   →   {"ok": {…}}   or   {"error": …}
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any

# The environment of the linters does not have it.
from aliyunsdkcore.client import AcsClient  # type: ignore[import-not-found]  # of .venv-vendor

VERSION = "v20180120"


class Peer:
    """The owner.  facts: host, port, region, access_key, secret_key, and ca_file."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self._facts = facts
        self._client = AcsClient(
            facts["access_key"], facts["secret_key"], facts["region"],
            port=facts["port"], verify=facts["ca_file"], auto_retry=False, timeout=240,
        )  # fmt: skip

    def call(self, action: str, **parameters: object) -> Any:
        """Make a call; return its answer."""
        module = importlib.import_module(f"aliyunsdkiot.request.{VERSION}.{action}Request")
        request = getattr(module, f"{action}Request")()
        request.set_endpoint(self._facts["host"])
        request.set_protocol_type("https")
        for name, value in parameters.items():
            getattr(request, f"set_{name}")(value)
        return json.loads(self._client.do_action_with_exception(request))


def main() -> None:
    """Serve until standard input ends."""
    peer = Peer(json.loads(sys.stdin.readline()))
    for line in sys.stdin:
        request = json.loads(line)
        assert request.pop("do") == "call"
        try:
            answer = {"ok": peer.call(**request)}
        except Exception as error:  # noqa: BLE001  # whatever it is, the test is to see it
            answer = {"error": getattr(error, "error_code", None) or repr(error)}
        print(json.dumps(answer), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()

"""Huawei's management SDK, driven by JSON lines; run by the interpreter of .venv-vendor.

{"do": "create_product", "body": {…}}   →   {"ok": {…}}
                                        or   {"error": {"status": 400, "code": "IOTDA.000006", …}}

The verbs are the SDK's own; path, query and headers are fields beside the body.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from typing import Any

# The environment of the linters does not have it.
from huaweicloudsdkcore.auth.credentials import BasicCredentials  # type: ignore[import-not-found]  # of .venv-vendor
from huaweicloudsdkcore.exceptions.exceptions import (  # type: ignore[import-not-found]  # of .venv-vendor
    ServiceResponseException,
)
from huaweicloudsdkcore.http.http_config import HttpConfig  # type: ignore[import-not-found]  # of .venv-vendor
from huaweicloudsdkcore.region.region import Region  # type: ignore[import-not-found]  # of .venv-vendor
from huaweicloudsdkiotda import v5  # type: ignore[import-not-found]  # of .venv-vendor

DOMAIN = ".myhuaweicloud.com"


def make_client(facts: dict[str, Any]) -> Any:
    """Make a client.  facts: host, port, region, project, ca_file, access_key, secret_key.

    An instance's own host wants derived keys, as the vendor's guide has it; the SDK decides.
    """
    config = HttpConfig(ssl_ca_cert=facts["ca_file"], timeout=240)
    keys = BasicCredentials(facts["access_key"], facts["secret_key"], facts["project"])
    keys.with_derived_predicate(lambda asked: ".iotda-app." in asked.host)
    region = Region(facts["region"], f"https://{facts['host']}:{facts['port']}")
    builder = v5.IoTDAClient.new_builder().with_http_config(config)
    return builder.with_credentials(keys).with_region(region).build()


def make_model(kind: str, value: Any) -> Any:
    """Make one of the SDK's models of JSON."""
    if kind.startswith("list["):
        return [make_model(kind[5:-1], one) for one in value]
    model = getattr(v5, kind, None)
    if model is None:
        return value
    return model(
        **{name: make_model(model.openapi_types[name], one) for name, one in value.items()}
    )


def perform(client: Any, verb: str, request: dict[str, Any]) -> Any:
    """Call the SDK's function of this name."""
    kind = "".join(word.capitalize() for word in verb.split("_")) + "Request"
    return getattr(client, verb)(make_model(kind, request)).to_dict()


def lead_home() -> None:
    """Let the vendor's host names be this machine."""
    found = socket.getaddrinfo

    def lead(host: Any, *rest: Any, **more: Any) -> Any:
        return found("127.0.0.1" if str(host).endswith(DOMAIN) else host, *rest, **more)

    setattr(socket, "getaddrinfo", lead)  # noqa: B010  # an assignment would have to be as typed


def main() -> None:
    """Serve until standard input ends."""
    lead_home()
    client = make_client(json.loads(sys.stdin.readline()))
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"ok": perform(client, request.pop("do"), request)}
        except ServiceResponseException as error:
            detail = {"code": error.error_code, "message": error.error_msg}
            answer = {"error": {"status": error.status_code, **detail}}
        except Exception as error:  # noqa: BLE001  # whatever it is, the test is to see it
            answer = {"error": repr(error)}
        print(json.dumps(answer), flush=True)
    os._exit(0)  # the SDK's threads would wait for more


if __name__ == "__main__":
    main()

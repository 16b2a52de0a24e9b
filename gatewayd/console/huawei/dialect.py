"""The dialect of IoTDA's API: what is sent, what is answered, and what to do about refusals.  Pure.

Source: the vendor's API reference (api-iothub): "Making an API Request", "Status Codes" and "Error
Codes", and the pages of its API gateway on the codes APIGW and APIG.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

from gatewayd.console.access_key import AccessKey
from gatewayd.console.client import Answer, ApiBusy, ApiRequest
from gatewayd.console.huawei import signature
from gatewayd.errors import ConsoleError, ConsoleRefused
from gatewayd.network.http_response import HttpResponse
from gatewayd.runtime.text import one_line

OWN_HOST = ".iotda-app."
"""An instance's own host has this in its name; it takes derived keys only."""
MAX_DEPTH = 32
"""Objects and lists inside one another in an answer; a template has six."""
MAX_SHOWN = 300
"""Characters of the vendor's text, and of a request, that are shown."""

SECRETS = frozenset({"secret", "secondary_secret", "pre_shared_key"})
"""Fields whose values are never shown."""

_BUSY = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
_BUSY_CODES = frozenset({"APIG.0308", "APIGW.0308", "IOTDA.021101"})
"""Those of requests that come too fast."""

_KEY = (
    "Check that the access key is right and in force, that the clock of this machine is, and that "
    "--region is the instance's"
)
REMEDIES: Mapping[str, str] = {
    "APIGW.0301": _KEY,
    "APIG.0301": _KEY,
    "APIG.0101": "Check --endpoint and --project",
    "IOTDA.000002": "Check --project: its ID is that of the region in My Credentials",
    "IOTDA.000004": _KEY,
    "IOTDA.000021": "Check --region and --project: the user has no IoTDA there",
    "IOTDA.000034": "Let the user of the access key do this, by a policy of IAM",
    "IOTDA.000006": "Correct what is named; the rules are in the API reference",
    "IOTDA.014300": "Delete a device CA that is not used: there may be 100",
    "IOTDA.014301": "Use a CA's certificate as PEM, with an RSA or EC key",
    "IOTDA.014307": "Make a new proof, for the code that this command prints",
    "IOTDA.014308": "Have the proof made with the key of this CA",
}
"""What to do, by the vendor's code."""
_OTHERWISE = "Look the code up in the API reference of IoTDA"


def region_of(host: str) -> str:
    """Return the region in the name of an instance's own host, whose keys are derived; "" for
    another host.
    """
    return host.partition(OWN_HOST)[2].partition(".")[0]


def device_host(host: str) -> str:
    """Return the domain name for devices of the instance whose own host this is; "" for another."""
    return host.replace(OWN_HOST, ".iotda-device.") if OWN_HOST in host else ""


def api_request(
    method: str, path: str, query: Mapping[str, str], body: Mapping[str, Any] | None
) -> ApiRequest:
    """Return a request.  path: of the API, with its variables encoded."""
    where = signature.target(path, query)
    sent = b"" if body is None else json.dumps(body, ensure_ascii=False).encode()
    shown = f"{method} {where}"
    if body is not None:
        shown += f" {json.dumps(_without_secrets(body), ensure_ascii=False)}"
    return ApiRequest(method, where, shown, body=sent)


def _without_secrets(value: Any) -> Any:  # noqa: ANN401  # whatever JSON holds
    if isinstance(value, Mapping):
        return {
            name: "***" if name in SECRETS and one else _without_secrets(one)
            for name, one in value.items()
        }
    if isinstance(value, list | tuple):
        return [_without_secrets(one) for one in value]
    return value


@dataclass(frozen=True, slots=True)
class HuaweiDialect:
    """The dialect of one project.

    region: of derived keys; "" for plain ones.
    instance: ID, which a host that several instances share wants; "" for none.
    """

    key: AccessKey
    region: str
    instance: str

    def sign(
        self,
        request: ApiRequest,
        host: str,
        now: float,
        nonce: bytes,  # noqa: ARG002  # the port has it, and this vendor's signatures have none
    ) -> ApiRequest:
        """Return the request, signed: see `ConsoleDialect`."""
        fields = {"Content-Type": "application/json", signature.DATE: signature.moment(now)}
        if self.instance:
            fields["Instance-Id"] = self.instance
        if self.key.token is not None:
            fields["X-Security-Token"] = self.key.token.reveal().decode()
        signed = signature.authorization(
            request.method,
            request.target,
            {**fields, "Host": host},
            request.body,
            self.key,
            self.region,
        )
        return replace(request, fields={**fields, "Authorization": signed})

    def read(self, request: ApiRequest, response: HttpResponse) -> Answer:
        """Return the object that was answered: see `ConsoleDialect`."""
        answer = _object(response.body)
        status = response.status
        code = _text(answer, "error_code")
        if status in _BUSY or code in _BUSY_CODES:
            raise ApiBusy(_reason(status, answer) or "the platform limits how often it is asked")
        if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES and not code:
            if answer is None:
                raise ConsoleError(
                    f"{_short(request)} was answered with what is no JSON object. Check --endpoint"
                )
            return answer
        remedy = REMEDIES.get(code, _KEY if status == HTTPStatus.UNAUTHORIZED else _OTHERWISE)
        raise ConsoleRefused(
            f"{_short(request)} is refused: {_reason(status, answer)}. {remedy}", code, status
        )


def _short(request: ApiRequest) -> str:
    return f"{request.method} {request.target}"[:MAX_SHOWN]


def _reason(status: int, answer: Answer | None) -> str:
    code, text = _text(answer, "error_code"), _text(answer, "error_msg").rstrip(".")
    return " ".join(filter(None, (code, text))) or f"HTTP status {status}"


def _text(answer: Answer | None, name: str) -> str:
    value = None if answer is None else answer.get(name)
    return one_line(value, MAX_SHOWN) if isinstance(value, str) else ""


def _object(body: bytes) -> Answer | None:
    try:
        found = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and not _is_deep(found) else None


def _is_deep(found: object) -> bool:
    """Whether more lies inside one another than any answer has."""
    level: list[Any] = [found]
    for _ in range(MAX_DEPTH):
        inside = (one.values() if isinstance(one, dict) else one for one in level)
        level = [one for these in inside for one in these if isinstance(one, dict | list)]
        if not level:
            return False
    return True

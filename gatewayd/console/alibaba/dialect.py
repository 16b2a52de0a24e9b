"""How the API of Alibaba Cloud IoT Platform is spoken: calls, and their answers.  Pure.

Sources: the vendor's pages "Make API requests" (help.aliyun.com/document_detail/30561) and on each
call, and aliyun-python-sdk-iot 8.59.0, which says what of a call is in the query, and what in the
form.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

from gatewayd.console.access_key import AccessKey
from gatewayd.console.alibaba.refusals import is_put_off, refusal_of, shown_code
from gatewayd.console.alibaba.signature import (
    RequestTime,
    encoded_query,
    signed_query,
)
from gatewayd.console.client import Answer, ApiBusy, ApiRequest
from gatewayd.errors import ConsoleError, ConsoleRefused
from gatewayd.network.http_response import HttpResponse

_ROOT = "/?"
_FIELDS: Mapping[str, str] = {
    "Content-Type": "application/x-www-form-urlencoded",
    "Accept": "application/json",
}
_ACTION = "Action"
_OVERLOADED = range(500, 600)


def call(
    action: str,
    query: Mapping[str, str],
    form: Mapping[str, str] | None = None,
    *,
    shown: str,
) -> ApiRequest:
    """Return a call, which is not signed yet.

    query: parameters besides Action.  form: those that are too many for a query.
    shown: what it does, for people, as "The list of products".
    """
    target = _ROOT + encoded_query({_ACTION: action, **query})
    return ApiRequest("POST", target, shown, {}, encoded_query(form or {}).encode("ascii"))


def numbered(name: str, values: Sequence[str]) -> dict[str, str]:
    """Return a list as parameters: NAME.1, NAME.2 and so on."""
    return {f"{name}.{number}": value for number, value in enumerate(values, 1)}


class AlibabaDialect:
    """The dialect, with the key that signs.  Implements Dialect."""

    def __init__(self, key: AccessKey) -> None:
        self._key = key

    def sign(
        self,
        request: ApiRequest,
        host: str,  # noqa: ARG002  # the port has it, and this signature does not cover it
        now: float,
        nonce: bytes,
    ) -> ApiRequest:
        """Return a call with its signature, which does not cover the host."""
        query = _parameters(request.target.removeprefix(_ROOT))
        form = _parameters(request.body.decode("ascii"))
        signed = signed_query(request.method, query, form, self._key, RequestTime(now, nonce))
        return replace(request, target=_ROOT + encoded_query(signed), fields=_FIELDS)

    def read(self, request: ApiRequest, response: HttpResponse) -> Answer:
        """Return what was answered.  Raises ApiBusy, ConsoleRefused, ConsoleError."""
        answer = _object(response.body)
        if answer is not None and answer.get("Success") is True:
            return answer
        code = str((answer or {}).get("Code") or "")
        if is_put_off(code) or (not code and response.status in _OVERLOADED):
            raise ApiBusy(f"it was throttled ({shown_code(code)})" if code else "it is overloaded")
        if not code:
            raise ConsoleError(
                f"{request.shown} was not answered: the endpoint sent what is no answer of this "
                f"API (HTTP {response.status}). Check --endpoint and --region"
            )
        found = refusal_of(code)
        cause = f"{found.cause} ({shown_code(code)})"
        remedy = found.remedy.replace("{action}", action_of(request))
        raise ConsoleRefused(f"{request.shown} was refused: {cause}. {remedy}", code)


def action_of(request: ApiRequest) -> str:
    """Return the name of a call."""
    return _parameters(request.target.removeprefix(_ROOT))[_ACTION]


def _parameters(text: str) -> dict[str, str]:
    return dict(parse_qsl(text, keep_blank_values=True))


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None

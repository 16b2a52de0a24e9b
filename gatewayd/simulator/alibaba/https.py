"""Registration over HTTPS at the Alibaba cloud: one request and one answer on each connection.

Source: the vendor's page "HTTPS-based dynamic registration".
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Mapping
from urllib.parse import parse_qsl

from gatewayd.simulator import faults
from gatewayd.simulator.alibaba import alink, answers
from gatewayd.simulator.alibaba.alink import AlinkCode, AlinkFailure
from gatewayd.simulator.alibaba.answers import Delivery
from gatewayd.simulator.alibaba.dynamic_registration import DynamicRegistration
from gatewayd.simulator.alibaba.registry import AlibabaRegistry
from gatewayd.simulator.alibaba.topics import HTTPS_REGISTER
from gatewayd.simulator.faults import FaultPlan
from gatewayd.simulator.mqtt.link import MqttLink, MqttService, ReplyStep

MAX_REQUEST = 8_192
"""Bytes of a request with its head."""

_FORM, _MAX_FIELDS = "application/x-www-form-urlencoded", 20
_LINE = "POST /auth/register/device HTTP/1.1"
_NO_ANSWER = Delivery(b"", copies=0)
_HELD = 3600.0  # seconds that a request is left without an answer


class HttpsRegistrar:
    """The registrar for HTTPS requests.  codes: counts of the answers."""

    def __init__(
        self, registry: AlibabaRegistry, enrolment: DynamicRegistration, plan: FaultPlan
    ) -> None:
        self._registry, self._enrolment, self._plan = registry, enrolment, plan
        self.codes: Counter[int] = Counter()

    def answer(self, form: Mapping[str, str]) -> Delivery:
        """Register a device, unless a fault strikes."""
        device = form.get("deviceName", "")
        fault = self._plan.choose(HTTPS_REGISTER, device, faults.WHOLE)
        if fault:
            self._registry.strike((form.get("productKey", ""), device), fault.name)
            if fault.name == "lose-request":
                return _NO_ANSWER
        code, data = self._decide(form, int(fault.number) if fault else 0)
        self.codes[code] += 1
        body = {"code": code, "data": data, "message": alink.message(code)}
        return answers.deliver(body, fault)

    def _decide(self, form: Mapping[str, str], wished: int) -> tuple[int, object]:
        if wished >= AlinkCode.SUCCESS:
            return wished, {}
        try:
            return AlinkCode.SUCCESS, self._enrolment.https(form)
        except AlinkFailure as failed:
            return failed.code, {}


class HttpsLink(MqttLink):
    """One HTTPS connection."""

    def __init__(
        self, service: MqttService, sock: socket.socket, registrar: HttpsRegistrar
    ) -> None:
        self._registrar, self._buffer, self._answered = registrar, bytearray(), False
        super().__init__(service, sock)

    def received(self, data: bytes) -> None:
        """Receive bytes, and answer a complete request."""
        self._buffer += data
        head, end, body = bytes(self._buffer).partition(b"\r\n\r\n")
        if len(self._buffer) > MAX_REQUEST:
            self._service.counts["malformed"] += 1
            self.abort()
        elif end and not self._answered:
            self._handle_request(head.decode("latin-1").split("\r\n"), body)

    def _handle_request(self, lines: list[str], body: bytes) -> None:
        headers = {
            key.lower(): value.strip() for key, _, value in (x.partition(":") for x in lines)
        }
        length = headers.get("content-length", "0")
        if not length.isdecimal() or lines[0] != _LINE:
            self._respond(b"404 Not Found", Delivery(b""))
        elif len(body) >= int(length):
            kind = headers.get("content-type", "").partition(";")[0]
            form = read_form(body[: int(length)]) if kind == _FORM else {}
            self._respond(b"200 OK", self._registrar.answer(form))

    def _respond(self, status: bytes, delivery: Delivery) -> None:
        self._answered = True
        self._watchdog.cancel()
        if not delivery.copies:
            self._play([ReplyStep(after=0.0 if delivery.close else _HELD, close=True)])
            return
        head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\n" % status
        head += b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(delivery.payload)
        self._play([ReplyStep(head + delivery.payload, after=delivery.after, close=True)])


def read_form(body: bytes) -> Mapping[str, str]:
    """Parse a form; {} for anything else, and for one with a duplicate field."""
    try:
        pairs = parse_qsl(
            body.decode("ascii"), strict_parsing=True, errors="strict", max_num_fields=_MAX_FIELDS
        )
    except ValueError:
        return {}
    form = dict(pairs)
    return form if len(form) == len(pairs) else {}

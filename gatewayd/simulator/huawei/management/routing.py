"""Rules that forward what devices say, at the platform's management interface, and the forwarding.

Sources: the vendor's APIs "Rule management" (api-iothub: CreateRoutingRule, CreateRuleAction,
UpdateRoutingRule and others), and its FAQ on pushing again (iothub_faq/iot_faq_00072).
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import ssl
from collections import deque
from functools import partial
from urllib.parse import urlsplit

from gatewayd.simulator.huawei.exchange.arrivals import Arrival
from gatewayd.simulator.huawei.exchange.forwarding import (
    HTTP,
    RoutingRule,
    RuleAction,
    notification,
)
from gatewayd.simulator.huawei.management.rest import (
    ManagementAnswer,
    ManagementRequest,
    ManagementRoute,
    page,
)
from gatewayd.simulator.huawei.platform.errors import IotdaCode, PlatformError
from gatewayd.simulator.huawei.platform.instance import IotdaInstance
from gatewayd.simulator.mqtt.delivery import encode

PATIENCE, RETRY, TRIES = 15.0, 0.5, 20
"""Seconds that a server has for an answer, seconds until the next try, and tries of one thing: the
vendor keeps what cannot be pushed for ten minutes."""
MAX_QUEUED = 10_000
"""What waits to be pushed by one action, of which the oldest makes room."""


def _create(request: ManagementRequest) -> ManagementAnswer:
    body = request.body
    subject, scope = body.inner("subject"), body.text("app_type") or "GLOBAL"
    if scope not in ("GLOBAL", "APP"):
        raise PlatformError(IotdaCode.INVALID_INPUT, "(app_type)")
    if body.text("select") or body.text("where"):
        raise PlatformError(IotdaCode.NOT_OFFERED, "(select, where)")
    app = request.instance.apps.find(body.text("app_id"))
    rule = request.instance.rules.create(
        subject.demand("resource"),
        subject.demand("event"),
        body.text("rule_name"),
        body.text("description"),
        app.app_id if scope == "APP" else "",
    )
    return _rule(rule)


def _list(request: ManagementRequest) -> ManagementAnswer:
    found = request.instance.rules.rules.values()
    wanted = request.query.text("resource")
    shown = [one for one in found if wanted in (None, one.resource)]
    return page("rules", shown, request.query, _rule)


def _show(request: ManagementRequest) -> ManagementAnswer:
    return _rule(request.instance.rules.get(request.path["rule_id"]))


def _update(request: ManagementRequest) -> ManagementAnswer:
    rules, rule_id = request.instance.rules, request.path["rule_id"]
    rule, active = rules.get(rule_id), request.body.flag("active")
    if active is not None:
        rule = rules.activate(rule_id, active=active)
    return _rule(rule)


def _delete(request: ManagementRequest) -> None:
    request.instance.rules.delete(request.path["rule_id"])


def _act(request: ManagementRequest) -> ManagementAnswer:
    body = request.body
    forwarding = body.inner("channel_detail").inner("http_forwarding")
    action = request.instance.rules.act(
        body.demand("rule_id"), body.demand("channel"), forwarding.text("url") or ""
    )
    return _action(action)


def _list_actions(request: ManagementRequest) -> ManagementAnswer:
    wanted = request.query.text("rule_id")
    found = request.instance.rules.actions.values()
    shown = [one for one in found if wanted in (None, one.rule_id)]
    return page("actions", shown, request.query, _action)


def _show_action(request: ManagementRequest) -> ManagementAnswer:
    return _action(request.instance.rules.action(request.path["action_id"]))


def _cease(request: ManagementRequest) -> None:
    request.instance.rules.cease(request.path["action_id"])


def _rule(rule: RoutingRule) -> dict[str, object]:
    return {
        "rule_id": rule.rule_id,
        "rule_name": rule.name,
        "description": rule.description,
        "subject": {"resource": rule.resource, "event": rule.event},
        "app_type": "APP" if rule.app_id else "GLOBAL",
        "app_id": rule.app_id or None,
        "active": rule.active,
    }


def _action(action: RuleAction) -> dict[str, object]:
    return {
        "action_id": action.action_id,
        "rule_id": action.rule_id,
        "channel": HTTP,
        "channel_detail": {"http_forwarding": {"url": action.url}},
    }


ROUTES: tuple[ManagementRoute, ...] = (
    ("POST", "/routing-rule/rules", 201, _create),
    ("GET", "/routing-rule/rules", 200, _list),
    ("GET", "/routing-rule/rules/{rule_id}", 200, _show),
    ("PUT", "/routing-rule/rules/{rule_id}", 200, _update),
    ("DELETE", "/routing-rule/rules/{rule_id}", 204, _delete),
    ("POST", "/routing-rule/actions", 201, _act),
    ("GET", "/routing-rule/actions", 200, _list_actions),
    ("GET", "/routing-rule/actions/{action_id}", 200, _show_action),
    ("DELETE", "/routing-rule/actions/{action_id}", 204, _cease),
)


class HttpForwarder:
    """What pushes to the servers of owners what their rules select, each in the order of arrival.

    ca_pem: vouches for servers that are reached by HTTPS.
    """

    def __init__(self, ca_pem: str) -> None:
        self._context = ssl.create_default_context(cadata=ca_pem)
        self._queues: dict[RuleAction, deque[bytes]] = {}
        self._pushing: dict[RuleAction, asyncio.Task[None]] = {}
        self._open = True

    def watch(self, instance: IotdaInstance) -> None:
        """Forward what the devices of an instance say from now on."""
        instance.arrivals.watchers.append(partial(self._arrived, instance))

    async def close(self) -> None:
        """End what is under way, and forward no more."""
        self._open = False
        pushing = tuple(self._pushing.values())
        for task in pushing:
            task.cancel()
        await asyncio.gather(*pushing, return_exceptions=True)

    def _arrived(self, instance: IotdaInstance, arrival: Arrival) -> None:
        device = instance.devices.get(arrival.device_id)
        targets = instance.rules.targets(arrival, device.app_id) if self._open else ()
        for action in targets:
            body = notification(arrival, device, instance.ids.clock(), instance.ids.code())
            queue = self._queues.setdefault(action, deque(maxlen=MAX_QUEUED))
            queue.append(encode(body))
            if action not in self._pushing:
                self._pushing[action] = asyncio.get_running_loop().create_task(
                    self._push_all(action, queue)
                )

    async def _push_all(self, action: RuleAction, queue: deque[bytes]) -> None:
        try:
            while queue:
                body = queue.popleft()
                for _ in range(TRIES):
                    if await asyncio.to_thread(self._push, action.url, body):
                        break
                    await asyncio.sleep(RETRY)
        finally:
            del self._pushing[action]

    def _push(self, url: str, body: bytes) -> bool:
        """Push one thing; return whether it was accepted.  Blocks."""
        parts = urlsplit(url)
        assert parts.hostname is not None, "the rules have checked it"
        link: http.client.HTTPConnection
        if parts.scheme == "https":
            link = http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=PATIENCE, context=self._context
            )
        else:
            link = http.client.HTTPConnection(parts.hostname, parts.port, timeout=PATIENCE)
        with contextlib.closing(link), contextlib.suppress(OSError, http.client.HTTPException):
            target = parts.path + (f"?{parts.query}" if parts.query else "")
            link.request("POST", target or "/", body, {"Content-Type": "application/json"})
            return link.getresponse().status == http.HTTPStatus.OK
        return False

"""The requests of a gateway for its children: many children, few messages.

Each call is for one child.  Calls made at about the same time travel in one request, and each
child's share of the reply is found by its name, never by its position.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TypeAlias

from gatewayd.cloud.alibaba import alink, payloads, result_codes
from gatewayd.cloud.alibaba.alink import DONE, SubName, names_in
from gatewayd.cloud.alibaba.connection import AlibabaUplink
from gatewayd.cloud.alibaba.payloads import Entry
from gatewayd.cloud.alibaba.rate_limits import ChildLogins
from gatewayd.cloud.alibaba.result_codes import TOO_FAST
from gatewayd.cloud.batch import Batcher, BatchRefused
from gatewayd.cloud.sub_devices.link import GatewayLink, LinkError
from gatewayd.cloud.sub_devices.result_codes import Denied, MissingFromReply, ResultKind
from gatewayd.device.secret import Secret

WAIT = 0.05
"""Seconds for which a batch stays open."""
REGISTERED, PROVISIONED, ATTACHED, LOGGED_IN = 30, 10, 30, 50
"""Children in one request, at most ("Limits" of the documentation; that of product_register is
not documented)."""

Secrets: TypeAlias = Sequence[Secret | Exception]
Done: TypeAlias = Sequence[Exception | None]


class AlibabaRequests:
    """The requests that a gateway makes for its children.

    now: seconds of a steady clock.  wait: seconds for which a batch stays open.
    """

    def __init__(
        self, link: GatewayLink[AlibabaUplink], now: Callable[[], float], wait: float = WAIT
    ) -> None:
        self._link, self._logins = link, ChildLogins(now)
        self.register = Batcher[SubName, Secret](REGISTERED, wait, self._register)
        self.provision = Batcher[Entry, Secret](PROVISIONED, wait, self._provision)
        self.attach = Batcher[Entry, None](ATTACHED, wait, self._attach)
        self.detach = Batcher[SubName, None](ATTACHED, wait, self._detach)
        self.report_found = Batcher[SubName, None](ATTACHED, wait, self._report_found)
        self.log_in = Batcher[Entry, None](LOGGED_IN, wait, self._log_in)
        self.log_out = Batcher[SubName, None](LOGGED_IN, wait, self._log_out)

    async def attached(self) -> frozenset[SubName]:
        """Return the children that the cloud has for this gateway.  Raises Denied, LinkError."""
        return frozenset(names_in(await self._ask(alink.TOPO_GET, {})))

    async def close(self) -> None:
        """End what is under way."""
        for batcher in (self.register, self.provision):
            await batcher.close()
        for other in (self.attach, self.log_in):
            await other.close()
        for last in (self.detach, self.log_out, self.report_found):
            await last.close()

    async def _register(self, names: Sequence[SubName]) -> Secrets:
        params = [payloads.plain(name) for name in names]
        data = await self._ask(alink.SUB_REGISTER, params, len(names))
        answers = _secrets(names, payloads.issued(data), {})
        if len(names) == 1:
            return answers
        return [
            await self._register_alone(name) if isinstance(answer, MissingFromReply) else answer
            for name, answer in zip(names, answers, strict=True)
        ]

    async def _register_alone(self, name: SubName) -> Secret | Exception:
        """Ask again for a child that a reply left out: alone, the cloud has to say why."""
        try:
            (answer,) = await self._register((name,))
        except Denied as denied:
            return denied
        except LinkError:
            return MissingFromReply()  # it was asked for twice: one of the two may have issued
        return answer

    async def _provision(self, proxied: Sequence[Entry]) -> Secrets:
        params = {"proxieds": list(proxied)}
        data = await self._ask(alink.PRODUCT_REGISTER, params, len(proxied))
        names = [_name(one) for one in proxied]
        codes = payloads.failures(payloads.part(data, "failures"))
        denied = {name: denial(code, alink.PRODUCT_REGISTER) for name, code in codes.items()}
        return _secrets(names, payloads.issued(payloads.part(data, "successes")), denied)

    async def _attach(self, children: Sequence[Entry]) -> Done:
        await self._ask(alink.TOPO_ADD, list(children), len(children))
        return _done(children)

    async def _detach(self, names: Sequence[SubName]) -> Done:
        params = [payloads.plain(name) for name in names]
        await self._ask(alink.TOPO_DELETE, params, len(names))
        return _done(names)

    async def _report_found(self, names: Sequence[SubName]) -> Done:
        params = [payloads.plain(name) for name in names]
        await self._ask(alink.LIST_FOUND, params, len(names))
        return _done(names)

    async def _log_in(self, children: Sequence[Entry]) -> Done:
        """Log children in.  A batch is all or nothing; one that is refused goes one by one.

        Each such try counts: a child that has had too many gets the error of the cloud at once,
        with the cause of its last failure.
        """
        may = [self._logins.take(_name(child)) for child in children]
        if going := [child for child, one in zip(children, may, strict=True) if one]:
            try:
                await self._log_in_together(going, len(children))
            except Denied as denied:
                for child in going:
                    self._logins.note(_name(child), denied.meaning.reason)
                raise
            for child in going:
                self._logins.note(_name(child), None)
        return [
            None if one else self._too_fast(_name(child))
            for child, one in zip(children, may, strict=True)
        ]

    def _too_fast(self, child: SubName) -> Denied:
        denied = denial(TOO_FAST, alink.LOGIN)
        cause = self._logins.waiting(child)
        return Denied(TOO_FAST, replace(denied.meaning, reason=cause)) if cause else denied

    async def _log_in_together(self, children: Sequence[Entry], count: int) -> None:
        """Log children in.  count: how many there were in the batch."""
        if len(children) == 1:
            await self._ask(alink.LOGIN, children[0], count)
        else:
            # Documents have the method in each entry, programs in use once for all: so both.
            method = children[0]["signMethod"]
            params = {"signMethod": method, "deviceList": list(children)}
            await self._ask(alink.BATCH_LOGIN, params, count)
        with suppress(LinkError):  # they are logged in; the end of the link ends their sessions
            await self._link.get().watch(_name(child) for child in children)

    async def _log_out(self, names: Sequence[SubName]) -> Done:
        params = [payloads.plain(name) for name in names]
        if len(names) == 1:
            await self._ask(alink.LOGOUT, params[0])
        else:
            await self._ask(alink.BATCH_LOGOUT, params, len(names))
        with suppress(LinkError):
            for name in names:
                await self._link.get().unwatch(name)
        return _done(names)

    async def _ask(self, method: str, params: object, count: int = 1) -> object:
        """Ask for so many children; return the data of the reply.

        Raises NotSent, LinkError, Denied; BatchRefused where each child is to go alone.
        """
        reply = await self._link.get().ask(method, params)
        if reply.code == DONE:
            return reply.data
        denied = denial(reply.code, method)
        if denied.meaning.kind is ResultKind.DONE:
            return reply.data
        if count > 1 and denied.meaning.kind is not ResultKind.TRANSIENT:
            raise BatchRefused from denied
        raise denied


def denial(code: int, method: str) -> Denied:
    """Return what a code means as the answer to a method."""
    return Denied(code, result_codes.reason(code, method))


def _name(entry: Entry) -> SubName:
    return SubName(entry["productKey"], entry["deviceName"])


def _secrets(
    names: Sequence[SubName],
    issued: Mapping[SubName, Secret],
    denied: Mapping[SubName, Denied],
) -> Secrets:
    return [issued.get(name) or denied.get(name) or MissingFromReply() for name in names]


def _done(items: Sequence[object]) -> Done:
    return [None] * len(items)

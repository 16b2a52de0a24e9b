"""The API of IoTDA for one project: what there is, listed page by page, made, changed and deleted.

Source: the vendor's API reference (api-iothub) and the models of its Python SDK
(huaweicloudsdkiotda).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeAlias

from gatewayd.console.client import Answer, ConsoleClient
from gatewayd.console.huawei.dialect import api_request
from gatewayd.console.huawei.signature import segment
from gatewayd.errors import ConsoleError, ConsoleRefused

PAGE = 50
"""Entries of a page, at most."""
MAX_PAGES = 2_000
"""Pages that are read: an instance has 100,000 devices by default, and all else is less."""
NOT_YET = "NEW-ID"
"""Stands in a dry run for the id of what would be made before."""

PLATFORM = "IOTDA."
"""How the codes of the platform begin; those of the gateway before it begin otherwise."""

Entry: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ThingKind:
    """A kind of things at the platform.

    word: as commands have it.  path: below the project.  listed: where an answer has the list.
    id, name: the fields that have them.
    """

    word: str
    path: str
    listed: str
    id: str
    name: str


SPACE = ThingKind("space", "/apps", "applications", "app_id", "app_name")
PRODUCT = ThingKind("product", "/products", "products", "product_id", "name")
TEMPLATE = ThingKind(
    "template", "/provisioning-templates", "templates", "template_id", "template_name"
)
CA = ThingKind("ca", "/certificates", "certificates", "certificate_id", "cn_name")
POLICY = ThingKind("policy", "/device-policies", "policies", "policy_id", "policy_name")
DEVICE = ThingKind("device", "/devices", "devices", "device_id", "node_id")
KINDS: Mapping[str, ThingKind] = {
    kind.word: kind for kind in (SPACE, PRODUCT, TEMPLATE, CA, POLICY, DEVICE)
}


def text_of(entry: Entry, name: str) -> str:
    """Return a text of an answer; "" where it is missing or no text."""
    value = entry.get(name)
    return value if isinstance(value, str) else ""


def made_id(entry: Entry, kind: ThingKind) -> str:
    """Return the id of a thing.  Raises ConsoleError where the API answered without one."""
    if id_ := text_of(entry, kind.id):
        return id_
    raise ConsoleError(
        f"It is not known which {kind.word} was made: the API answered without {kind.id}. Run the "
        "same command again, which does nothing twice"
    )


@dataclass(frozen=True, slots=True)
class IotdaApi:
    """The API, with an access key.  Every method raises ConsoleError.

    project: ID of the project in the instance's region.
    """

    client: ConsoleClient
    project: str

    @property
    def _base(self) -> str:
        return f"/v5/iot/{segment(self.project)}"

    async def listed(self, kind: ThingKind, **wanted: str) -> AsyncIterator[Entry]:
        """Yield all of a kind, the newest first.

        wanted: parameters of the API, as app_id; those that are "" are left out.
        """
        query = {name: value for name, value in wanted.items() if value}
        if kind is SPACE:  # the one list without pages
            answer = await self.read(kind.path, query)
            for entry in _entries(answer, kind.listed):
                yield entry
            return
        async for entry in self._pages(
            kind.listed, lambda page: self.read(kind.path, {**query, **page})
        ):
            yield entry

    async def bound(self, policy: str, target_type: str) -> set[str]:
        """Return what a policy is bound to.  policy: its id.  target_type: as "product"."""
        path = f"{self._base}{POLICY.path}/{segment(policy)}/list-targets"

        async def ask(page: Mapping[str, str]) -> Answer:  # a list, whose pages are in the body
            limits = {name: int(one) if name == "limit" else one for name, one in page.items()}
            body = {"target_type": target_type, **limits}
            return await self.client.read(api_request("POST", path, {}, body))

        return {text_of(entry, "target_id") async for entry in self._pages("targets", ask)}

    async def _pages(
        self, listed: str, ask: Callable[[Mapping[str, str]], Awaitable[Answer]]
    ) -> AsyncIterator[Entry]:
        """Yield the entries of all pages.  ask: returns the page of a limit and a marker."""
        marker: dict[str, str] = {}
        for _ in range(MAX_PAGES):
            answer = await ask({"limit": str(PAGE), **marker})
            found = _entries(answer, listed)
            for entry in found:
                yield entry
            page = answer.get("page")
            last = text_of(page, "marker") if isinstance(page, Mapping) else ""
            if len(found) < PAGE or last in ("", marker.get("marker")):
                return
            marker = {"marker": last}
        raise ConsoleError(
            f"The list of {listed} is not read to its end: there are more than {MAX_PAGES} pages. "
            "Narrow it, as by --product"
        )

    async def find(self, kind: ThingKind, word: str, **wanted: str) -> Entry | None:
        """Return the one of an id, or else of a name; None where there is none.

        Raises ConsoleError where several have the name, which need not be unique.
        """
        if kind is DEVICE:
            return await self.shown(kind, word)
        found = [
            entry
            async for entry in self.listed(kind, **wanted)
            if word in (text_of(entry, kind.id), text_of(entry, kind.name))
        ]
        exact = [entry for entry in found if text_of(entry, kind.id) == word] or found
        if len(exact) > 1:
            ids = ", ".join(text_of(one, kind.id) for one in exact)
            raise ConsoleError(
                f"Several {kind.listed} are called {word!a}. Name one by its id: {ids}"
            )
        return exact[0] if exact else None

    async def get(self, kind: ThingKind, word: str, **wanted: str) -> Entry:
        """Return the one of an id, or of a name.  Raises ConsoleError where there is none."""
        if (found := await self.find(kind, word, **wanted)) is not None:
            return found
        raise ConsoleError(
            f"There is no {kind.word} {word!a} at this instance. Use the ID or the name of one of "
            "those that are listed"
        )

    async def shown(self, kind: ThingKind, id_: str) -> Entry | None:
        """Return all of the one with this id; None where there is none."""
        try:
            return await self.read(f"{kind.path}/{segment(id_)}")
        except ConsoleRefused as refusal:
            if refusal.status != HTTPStatus.NOT_FOUND or not refusal.code.startswith(PLATFORM):
                raise
            return None

    async def read(self, path: str, query: Mapping[str, str] | None = None) -> Answer:
        """Return what is there.  path: below the project, with its variables encoded."""
        return await self.client.read(api_request("GET", self._base + path, query or {}, None))

    async def change(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        foreseen: Answer | None = None,
    ) -> Answer:
        """Change something: see `ConsoleClient.change`."""
        request = api_request(method, self._base + path, query or {}, body)
        return await self.client.change(request, foreseen)


def _entries(answer: Answer, name: str) -> Sequence[Entry]:
    found = answer.get(name)
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def plain(value: object) -> object:
    """Return JSON without members that are null or empty, which an API may leave out or add."""
    if isinstance(value, Mapping):
        kept = {name: plain(one) for name, one in value.items()}
        return {name: one for name, one in kept.items() if one not in (None, [], {}, "")}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value

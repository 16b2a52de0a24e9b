"""The steps by which an instance of IoTDA gets what a gateway needs there.

Each looks at what is there first, and changes only what is not as wanted.  What is there under the
name, and is otherwise, is changed only where the caller says so: devices may depend on it.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gatewayd.console.huawei.api import (
    CA,
    NOT_YET,
    POLICY,
    PRODUCT,
    SPACE,
    TEMPLATE,
    Entry,
    IotdaApi,
    ThingKind,
    made_id,
    plain,
    text_of,
)
from gatewayd.console.huawei.signature import segment
from gatewayd.console.steps import ConsoleStep, StepOutcome
from gatewayd.errors import ConsoleError

Prove = Callable[[str], Awaitable[str]]
"""Takes a verification code, and returns the certificate that proves the key, PEM.  Raises
GatewayError."""

PROOF = ThingKind("proof", "", "", "", "")
"""No thing of the platform: the proof of a device CA's key."""
PUBLISH, SUBSCRIBE = "iotda:devices:publish", "iotda:devices:subscribe"


@dataclass(frozen=True, slots=True)
class IotdaProduct:
    """A product.

    id: its own; "" to have the platform choose one.  services: its model, as the API has it.
    """

    name: str
    id: str = ""
    device_type: str = "device"
    manufacturer: str = ""
    services: Sequence[Mapping[str, Any]] = ()

    @property
    def body(self) -> dict[str, object]:
        """The request that makes it."""
        own = {"product_id": self.id} if self.id else {}
        maker = {"manufacturer_name": self.manufacturer} if self.manufacturer else {}
        return {
            "name": self.name, "device_type": self.device_type, "protocol_type": "MQTT",
            "data_format": "json", "service_capabilities": [*self.services], **own, **maker,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class IotdaTemplate:
    """A provisioning template.  body: as the API has it.  replace: another body of this name."""

    name: str
    body: Mapping[str, Any] = field(repr=False)
    description: str = ""
    replace: bool = False


@dataclass(frozen=True, slots=True)
class DeviceCaFile:
    """The certificate of a device CA.

    common_name: of its subject, "" for none.  expiry: as the API has it, yyyyMMdd'T'HHmmss'Z'.
    """

    pem: str = field(repr=False)
    common_name: str
    expiry: str

    def is_in(self, entry: Entry) -> bool:
        """Whether the platform shows this certificate."""
        content = text_of(entry, "content")
        if content:
            with contextlib.suppress(ValueError):
                return ssl.PEM_cert_to_DER_cert(content.strip()) == ssl.PEM_cert_to_DER_cert(
                    self.pem.strip()
                )
        return (text_of(entry, CA.name), text_of(entry, "expiry_date")) == (
            self.common_name,
            self.expiry,
        )


@dataclass(slots=True)
class SettingUp:
    """The steps, in one resource space.  Every method raises ConsoleError.

    space: its id; "" for the default one.
    """

    api: IotdaApi
    space: str = ""

    async def enter(self, space: str) -> None:
        """Have what follows be in a resource space.  space: id or name; "" for the default one."""
        if space:
            self.space = text_of(await self.api.get(SPACE, space), SPACE.id)
            return
        async for entry in self.api.listed(SPACE):
            if entry.get("default_app") is True:
                self.space = text_of(entry, SPACE.id)

    async def make_space(self, name: str) -> ConsoleStep:
        """Have a resource space of this name, and enter it."""
        found, outcome = await self.api.find(SPACE, name), StepOutcome.PRESENT
        if found is None:
            outcome, foreseen = StepOutcome.MADE, {SPACE.id: NOT_YET}
            found = await self.api.change("POST", SPACE.path, {"app_name": name}, foreseen=foreseen)
        self.space = made_id(found, SPACE)
        return self._step(outcome, SPACE, name, self.space)

    async def make_product(self, wanted: IotdaProduct) -> ConsoleStep:
        """Have a product of this id or, without one, of this name."""
        found = await self._find(PRODUCT, wanted.id or wanted.name)
        if found is not None:
            shown = await self._whole(PRODUCT, found)
            _check_product(wanted, shown)
            return self._step(StepOutcome.PRESENT, PRODUCT, wanted.name, text_of(shown, PRODUCT.id))
        made = await self.api.change(
            "POST", PRODUCT.path, wanted.body | self._here,
            foreseen={PRODUCT.id: wanted.id or NOT_YET},
        )  # fmt: skip
        return self._step(StepOutcome.MADE, PRODUCT, wanted.name, made_id(made, PRODUCT))

    async def make_template(self, wanted: IotdaTemplate) -> ConsoleStep:
        """Have a provisioning template of this name and body."""
        name, described = wanted.name, {}
        if wanted.description:
            described = {"description": wanted.description}
        found = await self.api.find(TEMPLATE, name)
        if found is None:
            body = {"template_name": name, "template_body": wanted.body, **described}
            foreseen = {TEMPLATE.id: NOT_YET}
            made = await self.api.change("POST", TEMPLATE.path, body, foreseen=foreseen)
            return self._step(StepOutcome.MADE, TEMPLATE, name, made_id(made, TEMPLATE))
        shown, id_ = await self._whole(TEMPLATE, found), text_of(found, TEMPLATE.id)
        if plain(shown.get("template_body")) == plain(wanted.body):
            return self._step(StepOutcome.PRESENT, TEMPLATE, name, id_)
        if not wanted.replace:
            raise ConsoleError(
                f"The template {name!a} is not made: there is one of this name with another body. "
                "Use another name, or --replace: devices that register by it may then be refused"
            )
        changes = {"template_body": wanted.body, **described}
        await self.api.change("PUT", f"{TEMPLATE.path}/{segment(id_)}", changes)
        return self._step(StepOutcome.CHANGED, TEMPLATE, name, id_)

    async def make_policy(
        self, name: str, publish: Sequence[str], subscribe: Sequence[str]
    ) -> ConsoleStep:
        """Have a device policy that allows these topics, in which * and ? are wildcards."""
        statement = [
            {"effect": "ALLOW", "actions": [action], "resources": [f"topic:{t}" for t in topics]}
            for action, topics in ((PUBLISH, publish), (SUBSCRIBE, subscribe))
            if topics
        ]  # fmt: skip
        found = await self._find(POLICY, name)
        if found is not None:
            shown = await self._whole(POLICY, found)
            if plain(shown.get("statement")) != plain(statement):
                raise ConsoleError(
                    f"The policy {name!a} is not made: there is one of this name that allows "
                    "something else. Use another name, or delete that one first"
                )
            return self._step(StepOutcome.PRESENT, POLICY, name, text_of(shown, POLICY.id))
        body = {"policy_name": name, "statement": statement, **self._here}
        made = await self.api.change("POST", POLICY.path, body, foreseen={POLICY.id: NOT_YET})
        return self._step(StepOutcome.MADE, POLICY, name, made_id(made, POLICY))

    async def bind_policy(
        self, policy: str, target_type: str, targets: Sequence[str]
    ) -> ConsoleStep:
        """Bind a policy.  policy: id or name.  target_type: "device", "product" or "app".

        targets: ids of these.
        """
        id_, name = policy, policy
        bound = set[str]()
        if policy != NOT_YET:
            entry = await self.api.get(POLICY, policy)
            id_, name = text_of(entry, POLICY.id), text_of(entry, POLICY.name)
            bound = await self.api.bound(id_, target_type)
        missing = [one for one in targets if one not in bound]
        detail = f"bound to {target_type} {', '.join(targets)}"
        if not missing:
            return self._step(StepOutcome.PRESENT, POLICY, name, id_, detail)
        body = {"target_type": target_type, "target_ids": missing}
        path = f"{POLICY.path}/{segment(id_)}/bind"
        failed = (await self.api.change("POST", path, body)).get("failure_targets")
        if isinstance(failed, list) and failed:
            first = failed[0] if isinstance(failed[0], Mapping) else {}
            raise ConsoleError(
                f"The policy {name!a} is bound to {len(missing) - len(failed)} of {len(missing)}: "
                f"{text_of(first, 'target_id')!a} is refused, {text_of(first, 'error_code')!a}. "
                "Check the ids, and how many policies are bound to each: there may be 5"
            )
        return self._step(StepOutcome.CHANGED, POLICY, name, id_, detail)

    async def upload_ca(self, wanted: DeviceCaFile) -> ConsoleStep:
        """Have the certificate of a device CA."""
        found = await self._ca_of(wanted)
        if found is None:
            body, foreseen = {"content": wanted.pem, **self._here}, {CA.id: NOT_YET}
            made = await self.api.change("POST", CA.path, body, foreseen=foreseen)
            id_, detail = made_id(made, CA), ca_detail(made)
            return self._step(StepOutcome.MADE, CA, wanted.common_name, id_, detail, ca_code(made))
        id_ = text_of(found, CA.id)
        if id_ not in {text_of(one, CA.id) async for one in self.api.listed(CA, **self._here)}:
            raise ConsoleError(
                f"The device CA {wanted.common_name!a} is not uploaded: it is in another resource "
                f"space already. Use that one by --space, or delete {id_} first"
            )
        detail, code = ca_detail(found), ca_code(found)
        return self._step(StepOutcome.PRESENT, CA, wanted.common_name, id_, detail, code)

    async def prove_ca(self, ca: str, prove: Prove | None) -> ConsoleStep:
        """Have a device CA verified, by a proof for its code.

        ca: id or name.  prove: None where nothing can make a proof; then the step says so.
        """
        entry = await self._ca(ca)
        id_, name = text_of(entry, CA.id), text_of(entry, CA.name)
        if entry.get("status") is True:
            return self._step(StepOutcome.PRESENT, CA, name, id_, "verified")
        code, dry = text_of(entry, "verify_code"), self.api.client.dry_run
        if prove is None:
            return self._step(StepOutcome.LEFT, PROOF, name, "", f"verification code {code}", code)
        proof = "(the proof)" if dry else await prove(code)
        path, verify = f"{CA.path}/{segment(id_)}", {"action_id": "verify"}
        body = {"verify_content": proof}
        await self.api.change("POST", f"{path}/action", body, query=verify)
        if not dry and (await self.api.read(path)).get("status") is not True:
            raise ConsoleError(
                f"The device CA {name!a} is not verified, though its proof was accepted. Look at "
                "it in the console"
            )
        return self._step(StepOutcome.CHANGED, CA, name, id_, "verified")

    async def bind_template(self, ca: str, template: str, *, replace: bool = False) -> ConsoleStep:
        """Have devices with certificates of a CA register themselves by a template.

        ca, template: ids or names.  replace: another template that is bound to the CA.
        """
        entry = await self._ca(ca)
        id_, name, before = (text_of(entry, one) for one in (CA.id, CA.name, "template_id"))
        if template != NOT_YET:
            template = text_of(await self.api.get(TEMPLATE, template), TEMPLATE.id)
        detail = f"registers devices by template {template}"
        if before == template and entry.get("provision_enable") is True:
            return self._step(StepOutcome.PRESENT, CA, name, id_, detail)
        if before not in ("", template) and not replace:
            raise ConsoleError(
                f"The template is not bound: the device CA {name!a} has another, {before!a}. Use "
                "--replace, if its devices are to register by this one"
            )
        changes = {"template_id": template, "provision_enable": True}
        await self.api.change("PUT", f"{CA.path}/{segment(id_)}", changes)
        return self._step(StepOutcome.CHANGED, CA, name, id_, detail)

    async def unbind_template(self, ca: str) -> ConsoleStep:
        """Have no device register itself by a CA.  ca: id or name."""
        entry = await self._ca(ca)
        id_, name, detail = text_of(entry, CA.id), text_of(entry, CA.name), "registers no devices"
        if entry.get("provision_enable") is not True and not text_of(entry, "template_id"):
            return self._step(StepOutcome.PRESENT, CA, name, id_, detail)
        changes = {"provision_enable": False, "template_id": None}
        await self.api.change("PUT", f"{CA.path}/{segment(id_)}", changes)
        return self._step(StepOutcome.CHANGED, CA, name, id_, detail)

    async def delete(self, kind: ThingKind, word: str) -> ConsoleStep:
        """Have none of this id, or of this name; of devices, the id counts alone."""
        found = await self.api.find(kind, word)
        if found is None:
            return self._step(StepOutcome.ABSENT, kind, word, "")
        id_ = text_of(found, kind.id)
        await self.api.change("DELETE", f"{kind.path}/{segment(id_)}")
        return self._step(StepOutcome.DELETED, kind, text_of(found, kind.name), id_)

    @property
    def _here(self) -> dict[str, str]:
        return {SPACE.id: self.space} if self.space else {}

    async def _find(self, kind: ThingKind, word: str) -> Entry | None:
        """Return the one of an id or a name in this resource space; None where there is none."""
        if self.space == NOT_YET:
            return None
        return await self.api.find(kind, word, **self._here)

    async def _whole(self, kind: ThingKind, entry: Entry) -> Entry:
        """Return all of what a list has in short."""
        return await self.api.read(f"{kind.path}/{segment(text_of(entry, kind.id))}")

    async def _ca(self, word: str) -> Entry:
        return {CA.id: NOT_YET} if word == NOT_YET else await self.api.get(CA, word)

    async def _ca_of(self, wanted: DeviceCaFile) -> Entry | None:
        """Return the CA with this certificate, wherever it is: there can be one alone."""
        async for entry in self.api.listed(CA):
            if text_of(entry, CA.name) == wanted.common_name:
                shown = await self._whole(CA, entry)
                if wanted.is_in(shown):
                    return shown
        return None

    def _step(
        self,
        outcome: StepOutcome,
        kind: ThingKind,
        name: str,
        id_: str,
        detail: str = "",
        code: str = "",
    ) -> ConsoleStep:
        asked = self.api.client.take_planned()
        return ConsoleStep(outcome, kind.word, name, id_, detail, asked, code)


def ca_code(entry: Entry) -> str:
    """Return the verification code of a device CA; "" where it is verified."""
    return "" if entry.get("status") is True else text_of(entry, "verify_code")


def ca_detail(entry: Entry) -> str:
    """Return what is to be known of a device CA."""
    code, template = text_of(entry, "verify_code"), text_of(entry, "template_id")
    verified = f"verification code {code}" if code else "not verified"
    if entry.get("status") is True:
        verified = "verified"
    bound = f"registers devices by template {template}"
    return f"{verified}, {bound}" if entry.get("provision_enable") is True else verified


def _check_product(wanted: IotdaProduct, shown: Entry) -> None:
    """Refuse a product that is there and another than the wanted one.  Raises ConsoleError."""
    body = wanted.body
    names = [one for one in body if one not in ("service_capabilities", PRODUCT.id)]
    other = [one for one in names if shown.get(one) != body[one]]
    if not _service_ids(body) <= _service_ids(shown):
        other.append("service_capabilities")
    if other:
        raise ConsoleError(
            f"The product {wanted.name!a} is not made: the one that is there has another "
            f"{' and '.join(other)}. Use another name and id, or change that one in the console"
        )


def _service_ids(product: Mapping[str, object]) -> set[str]:
    services = product.get("service_capabilities")
    found = services if isinstance(services, list) else []
    return {text_of(one, "service_id") for one in found if isinstance(one, Mapping)}

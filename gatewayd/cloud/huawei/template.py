"""A provisioning template: how the platform makes a device of a certificate.  Pure data.

Sources: "Create a Provisioning Template" of the IoTDA API reference; the models
ProvisioningTemplateBody, DeviceResource, TagRef and PolicyResource of the vendor's management SDK.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

DEVICE = "resources.device"
POLICY = "resources.policy"


@dataclass(frozen=True, slots=True)
class Ref:
    """A reference to an attribute of the certificate's subject.

    parameter: its full name, a key of subject.ATTRIBUTES.
    """

    parameter: str


Value: TypeAlias = Ref | str


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag that the device gets."""

    key: Value
    value: Value


@dataclass(frozen=True, slots=True)
class Template:
    """A template that follows the rules; template_lint.lint makes one of a text.

    parameters: those that it declares, full names: a certificate must have all of them.
    name, description: "" where the text was only the body.
    """

    parameters: tuple[str, ...]
    node_id: Ref
    product_id: Value
    device_id: Ref | None = None
    device_name: Ref | None = None
    tags: tuple[Tag, ...] = ()
    policy_ids: tuple[str, ...] = ()
    name: str = ""
    description: str = ""

    def fields(self) -> Iterator[tuple[str, Value]]:
        """Yield the last key of each field of the device that is set, and its value; not tags."""
        for key in ("device_name", "device_id", "node_id", "product_id"):
            value: Value | None = getattr(self, key)
            if value is not None:
                yield key, value

    def references(self) -> frozenset[str]:
        """Return the parameters that something refers to."""
        tags = (part for tag in self.tags for part in (tag.key, tag.value))
        values = (*(value for _, value in self.fields()), *tags)
        return frozenset(value.parameter for value in values if isinstance(value, Ref))

    def body(self) -> dict[str, Any]:
        """Return the template_body, as it is to be dumped to JSON."""
        device: dict[str, Any] = {key: _raw(value) for key, value in self.fields()}
        if self.tags:
            device["tags"] = [
                {"tag_key": _raw(tag.key), "tag_value": _raw(tag.value)} for tag in self.tags
            ]
        resources: dict[str, Any] = {"device": device}
        if self.policy_ids:
            resources["policy"] = {"policy_ids": list(self.policy_ids)}
        declared = {parameter: {"type": "String"} for parameter in self.parameters}
        return {"parameters": declared, "resources": resources}

    def request(self) -> dict[str, Any]:
        """Return what asks the platform to create the template, as it is to be dumped to JSON."""
        about = {"description": self.description} if self.description else {}
        return {"template_name": self.name, **about, "template_body": self.body()}


def _raw(value: Value) -> Any:  # noqa: ANN401  # whatever JSON holds
    return {"ref": value.parameter} if isinstance(value, Ref) else value

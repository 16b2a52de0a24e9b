"""The provisioning templates of a Huawei instance.  No I/O.

Source: the vendor's APIs CreateProvisioningTemplate and UpdateProvisioningTemplate (api-iothub).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gatewayd.simulator.huawei.platform import fields
from gatewayd.simulator.huawei.platform.errors import IotdaCode, PlatformError
from gatewayd.simulator.huawei.platform.ids import Ids
from gatewayd.simulator.huawei.platform.provisioning import BadTemplate, check_body


@dataclass(slots=True)
class StoredTemplate:
    """A template.  body: as JSON has it.  created, updated: seconds since 1970."""

    template_id: str
    name: str
    body: Mapping[str, object]
    description: str | None
    created: float
    updated: float

    @property
    def record_id(self) -> str:
        """The order of pages."""
        return self.template_id


class Templates:
    """Templates.  Every method raises PlatformError.

    bound: whether a CA uses the template of this id.  offered: whether the instance has templates.
    """

    def __init__(self, ids: Ids, limit: int) -> None:
        self.offered = True
        self.bound: Callable[[str], bool] = lambda _: False
        self._ids, self._limit = ids, limit
        self._templates: dict[str, StoredTemplate] = {}

    def create(self, name: str, body: object, description: str | None = None) -> StoredTemplate:
        """Create one."""
        if not self.offered:
            raise PlatformError(IotdaCode.NOT_OFFERED)
        if len(self._templates) >= self._limit:
            raise PlatformError(IotdaCode.TEMPLATE_LIMIT)
        name = fields.check("template_name", name)
        if any(one.name == name for one in self._templates.values()):
            raise PlatformError(IotdaCode.TEMPLATE_EXISTS)
        now = self._ids.clock()
        template = StoredTemplate(
            self._ids.record(),
            name,
            _checked(body),
            fields.optional("template_description", description),
            now,
            now,
        )
        self._templates[template.template_id] = template
        return template

    def get(self, template_id: str) -> StoredTemplate:
        """Return one."""
        if template := self._templates.get(template_id):
            return template
        raise PlatformError(IotdaCode.UNKNOWN_TEMPLATE)

    def known(self, template_id: str) -> bool:
        """Whether there is one of this id."""
        return template_id in self._templates

    def list(self, name: str | None = None) -> Sequence[StoredTemplate]:
        """Return the one of a name, or all; the newest first."""
        return [one for one in reversed(self._templates.values()) if name in (None, one.name)]

    def update(self, template_id: str, changes: Mapping[str, object]) -> StoredTemplate:
        """Change template_body and description; the name is fixed."""
        template = self.get(template_id)
        if unknown := set(changes) - {"template_body", "description"}:
            raise PlatformError(IotdaCode.INVALID_INPUT, f"({', '.join(sorted(unknown))})")
        body = _checked(changes.get("template_body", template.body))
        description = changes.get("description", template.description)
        template.description = fields.optional("template_description", description)
        template.body, template.updated = body, self._ids.clock()
        return template

    def delete(self, template_id: str) -> None:
        """Delete one that no CA uses."""
        self.get(template_id)
        if self.bound(template_id):
            raise PlatformError(IotdaCode.TEMPLATE_IN_USE)
        del self._templates[template_id]


def _checked(body: object) -> Mapping[str, object]:
    try:
        check_body(body)
    except BadTemplate as error:
        raise PlatformError(IotdaCode.INVALID_INPUT, f"({error.text})") from None
    assert isinstance(body, dict), "checked"
    return body

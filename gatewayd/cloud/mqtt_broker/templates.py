"""The templates of a child's client id, user name and topics at a broker.  Pure.

A template holds fields in braces, as "{product}-{device}".  What is filled in has letters, digits
and "._-" alone, so that it can neither end a level of a topic, nor be a wildcard, nor reach into
the "$" topics of the broker (MQTT 3.1.1, 4.7).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from gatewayd.device.record import CloudName

PRODUCT, DEVICE, TOPIC = "{product}", "{device}", "{topic}"
MAX_PART = 64
"""Characters of a product or a device."""
MAX_TEMPLATE = 256
MAX_LEVELS = 16
_PART = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_PART - 1}}}")
_LITERAL = re.compile(r"[A-Za-z0-9._/-]*")
_FIELD = re.compile(r"\{[^{}]*\}")


def part_fault(text: str) -> str:
    """Return what is wrong with a product or a device; "" if nothing."""
    if _PART.fullmatch(text):
        return ""
    return f"must be 1 to {MAX_PART} characters: letters, digits, and . _ - except as the first"


def name_template(text: str) -> str:
    """Return what is wrong with the template of a name; "" if nothing.  A grammar of a setting."""
    if text.startswith("/") or text.endswith("/") or "//" in text:
        return "must begin and end with no /, and have none beside another"
    return _fault(text, {PRODUCT, DEVICE}) or _without_device(text)


def topic_template(text: str) -> str:
    """Return what is wrong with the template of topics; "" if nothing.  A grammar of a setting."""
    if fault := _fault(text, {PRODUCT, DEVICE, TOPIC}):
        return fault
    if not text.endswith(f"/{TOPIC}") or text.count(TOPIC) > 1:
        return f"must end with /{TOPIC}, which stands for what the child's message is about"
    if text.startswith("/") or "//" in text or text.count("/") > MAX_LEVELS:
        return f"must have 1 to {MAX_LEVELS} levels before {TOPIC}, none of them empty"
    return _without_device(text)


def _without_device(text: str) -> str:
    return "" if DEVICE in text else f"must have {DEVICE}: each child needs its own"


def _fault(text: str, fields: set[str]) -> str:
    known = ", ".join(sorted(fields))
    if len(text) > MAX_TEMPLATE:
        return f"must be at most {MAX_TEMPLATE} characters"
    if unknown := sorted(set(_FIELD.findall(text)) - fields):
        return f"has the unknown field {unknown[0][:32]!a}: choose from {known}"
    if not _LITERAL.fullmatch(_FIELD.sub("", text)):
        return f"must have letters, digits, and . _ - / beside its fields: {known}"
    return ""


@dataclass(frozen=True, slots=True)
class BrokerIdentity:
    """What a child is at its broker.

    up, down: what the topics of what it says, and of what is said to it, begin with, and a slash.
    """

    client_id: str
    user: str
    up: str
    down: str


@dataclass(frozen=True, slots=True)
class BrokerTemplates:
    """The templates of one broker."""

    client_id: str
    user: str
    up: str
    down: str

    def mistakes(self, *, several: bool) -> Iterator[str]:
        """Yield what would give two children one place at the broker; see MqttBrokerSettings.

        several: whether children may have several products.
        """
        levels = zip(self.up.split("/"), self.down.split("/"), strict=False)
        if not any(a != b and "{" not in a + b for a, b in levels):
            yield (
                "up and down may lead to one topic: at one level they must have different texts "
                "without fields, as up and down"
            )
        if not several:
            return
        for key, template in (("up", self.up), ("down", self.down)):
            if not any(PRODUCT in one and DEVICE not in one for one in template.split("/")):
                yield (
                    f"{key} must have {PRODUCT} at a level without {DEVICE}: two children of "
                    "several products would have one topic; or name one product"
                )
        if self.client_id != self.user:
            yield (
                "client_id must be the same as user: two children of several products could have "
                "one client id; or name one product"
            )

    def mistakes_of_users(self, *, several: bool) -> Iterator[str]:
        """Yield what an access list by user names alone cannot say; see MqttBrokerSettings.

        several: as for `mistakes`.
        """
        if several and not _apart(self.user):
            yield (
                f"user must have {PRODUCT} and {DEVICE} at levels of their own, as "
                f"{PRODUCT}/{DEVICE}: two children of several products could have one name; or "
                "name one product"
            )
        for key, template in (("user", self.user), ("client_id", self.client_id)):
            if template == DEVICE:
                yield (
                    f"{key} must have more than {DEVICE}, as {PRODUCT}/{DEVICE}: a device could "
                    "bear the name of a program, and have what that may"
                )
        for key, template in (("up", self.up), ("down", self.down)):
            if self._pattern(template) is None:
                yield (
                    f"{key} must have the user, {self.user}, as levels of its own, and no further "
                    "field: the access list of the broker knows a child by its user alone"
                )

    def patterns(self) -> tuple[str, str]:
        """Return `up` and `down` for an access list of mosquitto: %u for the user, # at the end.

        Source: mosquitto.conf(5), "acl_file".
        """
        up, down = self._pattern(self.up), self._pattern(self.down)
        assert up is not None, "mistakes_of_users has found nothing"
        assert down is not None, "likewise"
        return up, down

    def _pattern(self, template: str) -> str | None:
        own, levels = self.user.split("/"), template.removesuffix(TOPIC).split("/")
        for at in range(len(levels) - len(own) + 1):
            if levels[at : at + len(own)] == own:
                rest = [*levels[:at], "%u", *levels[at + len(own) :]]
                pattern = "/".join(rest) + "#"
                return None if "{" in pattern else pattern
        return None

    def identity(self, name: CloudName) -> BrokerIdentity:
        """Return what a child is at the broker.  name: of parts without a fault."""
        up, down = (_filled(one.removesuffix(TOPIC), name) for one in (self.up, self.down))
        return BrokerIdentity(_filled(self.client_id, name), _filled(self.user, name), up, down)


def _apart(template: str) -> bool:
    """Whether product and device are at levels of their own, so that both can be read again."""
    levels = template.split("/")
    return PRODUCT in levels and DEVICE in levels


def _filled(template: str, name: CloudName) -> str:
    """Return a filled template; what is filled in has no brace, so the order does not matter."""
    return template.replace(PRODUCT, name.product).replace(DEVICE, name.device)

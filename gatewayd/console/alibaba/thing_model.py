"""The thing model of a product, as its owner has it in a file.  Pure.

Source: the vendor's pages "What is a TSL model" (help.aliyun.com/document_detail/73727) and
"ImportThingModelTsl" (150320).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

from gatewayd.errors import ConsoleError

MAX_MODEL = 64 * 1024
"""Bytes of a model, which three times as many are sent for at most."""

Tsl: TypeAlias = Mapping[str, Any]
"""A model in the vendor's Thing Specification Language."""

_FUNCTIONS = ("properties", "events", "services")
_KEY = "identifier"


def parse_model(content: bytes, source: str) -> Tsl:
    """Return a model: a JSON object with properties, events or services, as the console exports it.

    source: where it is from, for the error.  Raises ConsoleError.
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ConsoleError(
            f"{source} cannot be used: it is no JSON object. Export a model at the console (TSL, "
            "complete) to see its form"
        )
    functions = [one for name in _FUNCTIONS for one in _list(found, name, source)]
    if not functions:
        raise ConsoleError(
            f"{source} cannot be used: it has none of {', '.join(_FUNCTIONS)}. Add at least one"
        )
    for one in functions:
        if not (isinstance(one, dict) and isinstance(one.get(_KEY), str)):
            raise ConsoleError(f"{source} cannot be used: an entry has no {_KEY}. Give it one")
    return found


def tsl_of(model: Tsl, product: str) -> str:
    """Return a model as it is imported: for this product, whichever it was exported from."""
    whole = {**model, "profile": {"productKey": product}}
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":"))


def has_all(published: str, model: Tsl) -> bool:
    """Whether a product's own model, as the platform shows it, has all that a model has.

    The platform adds to each function what was left out, as its event of reports.
    """
    try:
        found = json.loads(published or "{}")
    except ValueError:
        return False
    return isinstance(found, dict) and all(
        _contains(found.get(name) or [], model.get(name) or []) for name in _FUNCTIONS
    )


def _contains(found: object, wanted: object) -> bool:
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(
            name in found and _contains(found[name], value) for name, value in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(found, list) and all(
            any(_contains(one, value) for one in found) for value in wanted
        )
    return found == wanted


def _list(model: Tsl, name: str, source: str) -> list[Any]:
    listed = model.get(name, [])
    if not isinstance(listed, list):
        raise ConsoleError(f"{source} cannot be used: {name} is no list. Write it as one")
    return listed

"""The parameters of calls to the simulated Alibaba cloud, and how a call fails.  Pure.

Source of the codes: the vendor's table of error codes (help.aliyun.com/document_detail/87387).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeAlias

from gatewayd.simulator.alibaba.open_api.signature import OpenApiRefused

Parameters: TypeAlias = Mapping[str, str]
Answer: TypeAlias = dict[str, object]

_NUMBER = re.compile(r"[0-9]{1,18}")


class OpenApiFailure(Exception):
    """A call that could not be done.

    message: for the caller.  data: what the answer has beside code and message.
    """

    def __init__(self, code: str, message: str, data: Answer | None = None) -> None:
        super().__init__(code)
        self.code, self.message, self.data = code, message, data or {}


NO_DEVICE = OpenApiFailure("iot.device.NotExistedDevice", "The specified device does not exist.")
NO_PRODUCT = OpenApiFailure("iot.prod.NotExistedProduct", "The specified product does not exist.")
BAD_PAGE = OpenApiFailure(
    "iot.common.InvalidPageParams", "The specified page size or page number is invalid."
)


def demand(parameters: Parameters, name: str) -> str:
    """Return a parameter that a call must have.  Raises OpenApiRefused."""
    if not (value := parameters.get(name)):
        raise OpenApiRefused(400, f"Missing{name}", f"{name} is mandatory for this action.")
    return value


def chosen(parameters: Parameters, name: str, of: tuple[str, ...]) -> str:
    """Return a parameter that is one of some words, or "".  Raises OpenApiFailure."""
    value = parameters.get(name, "")
    if value and value not in of:
        raise malformed(name)
    return value


def malformed(name: str) -> OpenApiFailure:
    """Return the failure of a parameter whose value is not one that it may have."""
    return OpenApiFailure("iot.check.InvalidFormattedParameter", f"{name} is invalid.")


def numbered(parameters: Parameters, name: str, rest: str = "") -> list[str]:
    """Return a list that was passed as NAME.1, NAME.2 and so on, in the order of the numbers.

    rest: what follows the number, as ".DeviceName".
    """
    pattern = re.compile(rf"{re.escape(name)}\.([0-9]{{1,6}}){re.escape(rest)}")
    found = {int(match[1]): parameters[match[0]] for match in map(pattern.fullmatch, parameters)
             if match}  # fmt: skip
    return [found[number] for number in sorted(found)]


def page_of(
    parameters: Parameters, names: tuple[str, str], most: int, usual: tuple[int, int] | None = None
) -> tuple[int, int]:
    """Return number and size of a page.

    names: of both parameters.  most: entries on a page.  usual: both where they are left out; None
    where they must be there.
    Raises OpenApiRefused, OpenApiFailure.
    """
    found = []
    for at, name in enumerate(names):
        text = parameters.get(name, "")
        if not text and usual is None:
            demand(parameters, name)
        value = int(text) if _NUMBER.fullmatch(text) else 0
        found.append(value if text or usual is None else usual[at])
    if found[0] < 1 or not 1 <= found[1] <= most:
        raise BAD_PAGE
    return found[0], found[1]


def pages(total: int, size: int) -> int:
    """Return how many pages so many entries fill."""
    return -(-total // size)

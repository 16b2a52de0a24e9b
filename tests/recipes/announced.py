"""What the devices of the recipes announce, as a device of the simulated LAN."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gatewayd.simulator.lan.child import LanChild
from tools.recipes import Recipe, files, recipes

RECIPES: tuple[Recipe, ...] = tuple(one for path in files() for one in recipes(path))


def other_name(recipe: Recipe) -> str:
    """Return another name of a device: what it may be called, or what a responder makes of the name
    where that is taken (RFC 6762, 9)."""
    return recipe.renamed or f"{recipe.instance} (2)"


@dataclass(frozen=True, slots=True)
class AnnouncedDevice(LanChild):
    """A device that announces these strings, and no others."""

    strings: tuple[str, ...] = ()

    @property
    def text(self) -> tuple[str, ...]:
        """The strings of its TXT record, which has one at least (RFC 6763, 6.1)."""
        return self.strings or ("",)


def device(recipe: Recipe, address: str) -> AnnouncedDevice:
    """Return the device of a recipe at an address."""
    return AnnouncedDevice(
        recipe.instance,
        serial="",
        mac="",
        host=recipe.host.removesuffix(".local"),
        address=address,
        port=recipe.port,
        service=f"{recipe.service}.local",
        strings=recipe.text,
    )


def renamed(one: AnnouncedDevice, recipe: Recipe) -> AnnouncedDevice:
    """Return a device under its other name."""
    return replace(one, instance=other_name(recipe))

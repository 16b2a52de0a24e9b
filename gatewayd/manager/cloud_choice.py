"""The cloud that an operator means: named by options, or the only one that there is."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from gatewayd.admission.policy.suggestion import CloudChoice
from gatewayd.errors import InvalidArgs


def chosen_cloud(
    options: Mapping[str, object], products: Mapping[str, Collection[str] | None]
) -> CloudChoice:
    """Return the cloud that options name, or the only one that there is.  Raises InvalidArgs.

    products: of each cloud; None for one that does not list them.
    """
    for key, value in options.items():
        if key not in ("provider", "product", "route") or not isinstance(value, str):
            raise InvalidArgs("Options are the texts provider, product and route")
    named = {key: str(value) for key, value in options.items()}
    provider = named.get("provider") or _only(products)
    if provider not in products:
        choice = ", ".join(sorted(products)) or "none"
        raise InvalidArgs(f"It is not clear for which cloud. Name one by --provider: {choice}")
    known = products[provider] or ()
    product = named.get("product") or _only(known)
    if not product or (known and product not in known):
        raise InvalidArgs(
            "It is not clear for which product. Name one by --product"
            f"{': ' if known else ''}{', '.join(sorted(known))}"
        )
    return CloudChoice(provider, product, named.get("route", ""))


def _only(names: Collection[str]) -> str:
    return next(iter(names)) if len(names) == 1 else ""

"""The owner's calls about the thing model of a product at the simulated Alibaba cloud.

Sources: the vendor's pages "ImportThingModelTsl" (help.aliyun.com/document_detail/150320),
"PublishThingModel" (150311) and "GetThingModelTslPublished" (178361).  An imported model is a
draft, by which nothing is read until it is published.
"""

from __future__ import annotations

import json
import re
from typing import Any

from gatewayd.simulator.alibaba.devices import SimulatedAlibabaProduct
from gatewayd.simulator.alibaba.open_api.parameters import (
    NO_PRODUCT,
    Answer,
    OpenApiFailure,
    Parameters,
    chosen,
    demand,
    malformed,
)
from gatewayd.simulator.alibaba.registry import AlibabaRegistry
from gatewayd.simulator.alibaba.thing import specification

MAX_DESCRIPTION = 100
_VERSION = re.compile(r"[A-Za-z0-9.]{1,16}")
NOTHING_TO_PUBLISH = OpenApiFailure(
    "iot.check.InvalidFormattedParameter", "The product has no draft of a model to publish."
)


class ThingModelCalls:
    """The calls."""

    def __init__(self, registry: AlibabaRegistry) -> None:
        self._registry = registry

    def import_tsl(self, parameters: Parameters) -> Answer:
        """Replace the draft of a product's model.  Raises OpenApiFailure, OpenApiRefused."""
        key, product = self._product(parameters)
        text = demand(parameters, "TslStr")
        try:
            tsl: Any = json.loads(text)
            specification.parse(tsl)
            named = tsl["profile"]["productKey"]
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
            raise malformed("TslStr") from None
        if named != key:
            raise malformed("TslStr")
        product.draft = text
        return {}

    def publish(self, parameters: Parameters) -> Answer:
        """Have the draft count.  Raises OpenApiFailure, OpenApiRefused."""
        _, product = self._product(parameters)
        version = parameters.get("ModelVersion", "")
        if version and not _VERSION.fullmatch(version):
            raise malformed("ModelVersion")
        if len(parameters.get("Description", "")) > MAX_DESCRIPTION:
            raise malformed("Description")
        if not product.draft:
            raise NOTHING_TO_PUBLISH
        product.tsl = product.draft
        product.model = specification.parse(json.loads(product.tsl))
        return {}

    def published(self, parameters: Parameters) -> Answer:
        """Return the model that counts; an empty text where none was published by a call.

        Raises OpenApiFailure, OpenApiRefused.
        """
        _, product = self._product(parameters)
        chosen(parameters, "Simple", ("true", "false", "True", "False"))
        return {"Data": {"TslStr": product.tsl, "TslUri": ""}}

    def _product(self, parameters: Parameters) -> tuple[str, SimulatedAlibabaProduct]:
        key = demand(parameters, "ProductKey")
        if (product := self._registry.products.get(key)) is None:
            raise NO_PRODUCT
        return key, product

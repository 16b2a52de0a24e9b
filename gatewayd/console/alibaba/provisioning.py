"""What the commands do at the console of Alibaba Cloud IoT Platform, as steps.

Each first asks what is there, so that a run that was interrupted goes on where it ended: what is
there already is not made again, and no file on this machine has to remember it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gatewayd.console.alibaba.device_names import in_batches, span
from gatewayd.console.alibaba.platform import (
    RUNNING,
    UNACTIVE,
    BatchState,
    IotBatch,
    IotDevice,
    IotNode,
    IotPlatform,
    IotProduct,
)
from gatewayd.console.alibaba.thing_model import Tsl, has_all, tsl_of
from gatewayd.console.steps import ConsoleStep, StepOutcome, Steps
from gatewayd.device.secret import Secret
from gatewayd.errors import ConsoleError

BATCH = 1_000
"""Names in one batch: the most that the API took at first; it takes more today."""
FIRST_POLL, LONGEST_POLL = 0.5, 5.0
"""Seconds between two looks at a batch: of them the API allows 30 in a second."""
MAX_POLLS = 150
"""Looks at one batch, for more than ten minutes: the vendor says that it takes some."""
ROUNDS = 3
"""How often names are looked up, where others register them at the same time."""

SWITCH = (
    "switch Dynamic Registration on at the console, if it is off: Devices > Products > {name} > "
    "Product Details. No call of the API does that, and the console sends a code by SMS first"
)
"""The one step that is left."""
AFTER_RESET = (
    "it may register once more, and is attached to no gateway. At its gateway, a child with a "
    "connection of its own gets a new secret by gatewayctl reregister CHILD CHILD; one behind the "
    "gateway is retired, and comes back by gatewayctl approve CHILD"
)
DELETED_FOR_GOOD = (
    "Device {} is deleted for good, with its secret and its history. Have its gateway forget it "
    "first (gatewayctl forget CHILD), or that tries again and again."
)

Write = Callable[[Path, Secret, bool], StepOutcome]
"""Has a secret in a file of mode 0600; returns whether it was there.  In a dry run, the third
argument, nothing is written.  Blocks; raises GatewayError."""


@dataclass(frozen=True, slots=True)
class SecretFile:
    """A file of mode 0600 with the secret of a product.

    kind, use: what it is, and what it is for, for people.
    content: what is in it, by the key of the product and its secret.
    """

    path: Path
    kind: str
    use: str
    content: Callable[[str, Secret], Secret]


@dataclass(frozen=True, slots=True)
class WantedProduct:
    """A product that is to be there.

    names: of its devices; () for none.  files: what its secret is written into.
    model: its thing model; None to leave that as it is.
    """

    name: str
    node: IotNode
    names: Sequence[str] = ()
    files: Sequence[SecretFile] = ()
    model: Tsl | None = None


async def list_products(platform: IotPlatform) -> Steps:
    """List the products."""
    for one in await platform.products():
        kind = "gateway" if one.gateway else "device"
        detail = f"{one.devices} {kind}" if one.devices == 1 else f"{one.devices} {kind}s"
        yield ConsoleStep(StepOutcome.FOUND, "product", one.name, one.key, detail)


async def prepare(platform: IotPlatform, wanted: WantedProduct, write: Write) -> Steps:
    """Have a product, its model, its secret in a file, and its devices; say what is left."""
    name, (step, product) = wanted.name, await _product(platform, wanted.name, wanted.node)
    yield step
    if wanted.model is not None:
        yield await _model(platform, name, product, wanted.model)
    if wanted.files:
        async for written in _files(platform, step, wanted.files, write):
            yield written
    if wanted.names:
        async for registered in register(platform, product, wanted.names):
            yield registered
    yield ConsoleStep(StepOutcome.LEFT, "switch", "Dynamic Registration", product,
                      SWITCH.format(name=name))  # fmt: skip


async def register(platform: IotPlatform, product: str, names: Sequence[str]) -> Steps:
    """Register names of devices, those that the product does not have, in batches.

    product: its key; "" for one that a dry run would make.
    """
    present = await platform.present(product, names) if product else set()
    if present:
        there = [name for name in names if name in present]
        yield _devices(StepOutcome.PRESENT, there, product)
    missing = [name for name in names if name not in present]
    for batch in in_batches(missing, BATCH):
        made, registered = await _register(platform, product, batch)
        if made:
            yield _devices(StepOutcome.MADE, made, product, platform.client.take_planned())
        if registered:
            yield _devices(StepOutcome.PRESENT, registered, product)


async def show(platform: IotPlatform, product: str, name: str) -> Steps:
    """Show a device."""
    device = await platform.device(product, name)
    if device is None:
        raise _none(product, name)
    yield ConsoleStep(StepOutcome.FOUND, "device", name, product, _described(device))


async def reset(platform: IotPlatform, product: str, name: str) -> Steps:
    """Let a device register once more.

    The API does not show that a device was reset: one that has been online is reset again, which
    does no harm.
    """
    device = await platform.device(product, name)
    if device is None:
        raise _none(product, name)
    if device.status == UNACTIVE:
        detail = "it was never online, and may register as it is"
        yield ConsoleStep(StepOutcome.PRESENT, "device", name, product, detail)
        return
    await platform.reset(product, name)
    asked = platform.client.take_planned()
    yield ConsoleStep(StepOutcome.CHANGED, "device", name, product, AFTER_RESET, asked)


async def delete(
    platform: IotPlatform, product: str, name: str, confirm: Callable[[str], None]
) -> Steps:
    """Delete a device.  confirm: raises GatewayError where the operator does not want it."""
    device = await platform.device(product, name)
    if device is None:
        yield ConsoleStep(StepOutcome.ABSENT, "device", name, product)
        return
    if not platform.client.dry_run:
        confirm(DELETED_FOR_GOOD.format(f"{product}/{name} ({_described(device)})"))
    await platform.delete(product, name)
    asked = platform.client.take_planned()
    yield ConsoleStep(StepOutcome.DELETED, "device", name, product, asked=asked)


def _none(product: str, name: str) -> ConsoleError:
    return ConsoleError(
        f"There is no device {product}/{name}: the product has none of this name. Check both, or "
        "add it by console alibaba device register"
    )


async def _product(platform: IotPlatform, name: str, node: IotNode) -> tuple[ConsoleStep, str]:
    """Have a product of this name and node type; return the step, and its key."""
    found = [one for one in await platform.products() if one.name == name]
    if not found:
        key = await platform.make_product(name, node)
        asked = platform.client.take_planned()
        return ConsoleStep(StepOutcome.MADE, "product", name, key, node.value, asked), key
    product, _ = await platform.product(found[0].key)
    if product.node is not node:
        raise _other_node(product, node)
    return ConsoleStep(StepOutcome.PRESENT, "product", name, product.key, node.value), product.key


def _other_node(product: IotProduct, node: IotNode) -> ConsoleError:
    return ConsoleError(
        f"Product {product.name} cannot be used: it is there with the node type {product.node}, "
        f"and not {node}, and no call changes that. Use another --product, or --node {product.node}"
    )


async def _model(platform: IotPlatform, name: str, product: str, model: Tsl) -> ConsoleStep:
    """Have the thing model of a product.  product: its key; "" for one that is not made."""
    published = await platform.published_model(product) if product else ""
    if published and has_all(published, model):
        return ConsoleStep(StepOutcome.PRESENT, "model", name, product)
    await platform.publish_model(product, tsl_of(model, product))
    outcome = StepOutcome.CHANGED if published else StepOutcome.MADE
    return ConsoleStep(outcome, "model", name, product, asked=platform.client.take_planned())


async def _files(
    platform: IotPlatform, made: ConsoleStep, files: Sequence[SecretFile], write: Write
) -> Steps:
    """Have the secret of a product in files.  made: the step of that product."""
    asked = (f"QueryProduct {made.id or made.name}",)
    dry, secret = platform.client.dry_run, None
    if made.id:
        _, secret = await platform.product(made.id)
    for file in files:
        outcome = StepOutcome.MADE
        if secret is not None:
            content = file.content(made.id, secret)
            outcome = await asyncio.to_thread(write, file.path, content, dry)
        planned = asked if dry and outcome is StepOutcome.MADE else ()
        yield ConsoleStep(outcome, file.kind, str(file.path), "", file.use, planned)


async def _register(
    platform: IotPlatform, product: str, names: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Register a batch; return those that this run has made, and those that others have."""
    missing, others = list(names), list[str]()
    for _ in range(ROUNDS):
        number = await platform.check(product, missing)
        if platform.client.dry_run:
            await platform.register(product, number, len(missing))
            return missing, others
        checked = await _settled(platform, product, number)
        if checked.state is BatchState.CHECKED:
            return await _made(platform, product, number, missing), others
        present = await platform.present(product, missing)
        others += [name for name in missing if name in present]
        left = [name for name in missing if name not in present]
        if not left or not present:
            if left:
                raise _refused(checked, left)
            return [], others
        missing = left
    raise ConsoleError(
        f"{len(missing)} names were not registered: others register devices of product {product} "
        "at the same time. Run the command again when they are done"
    )


async def _made(
    platform: IotPlatform, product: str, number: str, names: Sequence[str]
) -> list[str]:
    """Have the devices of a checked batch made."""
    await platform.register(product, number, len(names))
    done = await _settled(platform, product, number)
    if done.state is not BatchState.CREATED:
        raise ConsoleError(
            f"{len(done.invalid) or len(names)} of {len(names)} names were not registered: the "
            f"platform could not make them ({span(done.invalid or names)}). Run the command again: "
            "it registers what is missing"
        )
    return list(names)


async def _settled(platform: IotPlatform, product: str, number: str) -> IotBatch:
    """Wait until the platform has done what it was to do with a batch."""
    wait = FIRST_POLL
    for _ in range(MAX_POLLS):
        found = await platform.batch(product, number)
        if found.state not in RUNNING:
            return found
        await platform.sleep(wait)
        wait = min(wait * 2, LONGEST_POLL)
    raise ConsoleError(
        f"Batch {number} of product {product} is not done yet: the platform is slow. Run the "
        "command again later: it registers what is missing"
    )


def _refused(batch: IotBatch, names: Sequence[str]) -> ConsoleError:
    invalid = [name for name in batch.invalid if name in names] or list(names)
    return ConsoleError(
        f"{len(names)} names were not registered: the platform refuses {len(invalid)} of them "
        f"({span(invalid)}). Look at these in the list, and run the command again"
    )


def _devices(
    outcome: StepOutcome, names: Sequence[str], product: str, asked: tuple[str, ...] = ()
) -> ConsoleStep:
    count = f"{len(names)} devices" if len(names) > 1 else "1 device"
    return ConsoleStep(outcome, "devices", span(names), product, count, asked)


def _described(device: IotDevice) -> str:
    """Return what a device is like, for people."""
    words = {"UNACTIVE": "never online", "DISABLE": "disabled"}
    found = words.get(device.status, device.status.lower())
    if device.activated:
        found += f", first online {device.activated}"
    if device.online and device.status != "ONLINE":
        found += f", last online {device.online}"
    return found

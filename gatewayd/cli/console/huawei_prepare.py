"""gatewayctl console huawei prepare: an empty instance gets all that a gateway needs there.

It prints, and writes, the answers that gatewayctl setup then wants.  It names what is still to be
done, as the CA where there is none yet; a second run goes on from there.
"""

from __future__ import annotations

import asyncio
import json
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gatewayd.cli.command import Command, read_file, write_file
from gatewayd.cli.console.frame import console_command
from gatewayd.cli.console.huawei import (
    DEVICE_TYPE,
    HUAWEI,
    MANUFACTURER,
    PRODUCT_ID,
    SERVICES,
    read_template,
    setting_up,
    topics,
    wanted_product,
)
from gatewayd.cli.console.huawei_files import add_proof, device_secret, prover, read_ca
from gatewayd.cloud.huawei.settings import NODE_ID, TEMPLATE_NAME
from gatewayd.cloud.huawei.subject import full_name
from gatewayd.cloud.huawei.template import ProvisioningTemplate, Ref
from gatewayd.console.client import ConsoleClient
from gatewayd.console.huawei import devices
from gatewayd.console.huawei.dialect import device_host
from gatewayd.console.huawei.setting_up import (
    DeviceCaFile,
    IotdaProduct,
    IotdaTemplate,
    Prove,
    SettingUp,
)
from gatewayd.console.steps import ConsoleStep, StepOutcome, Steps
from gatewayd.device.secret import Secret
from gatewayd.errors import ConsoleError

MAX_ANSWERS = 64 * 1024
"""Bytes of a file of answers."""

NO_CA = "run gatewayctl ca make at the gateway, then this again with --ca FILE and a proof"


@dataclass(frozen=True, slots=True)
class _Given:
    """What the files hold that the options name, read before anything is asked.

    template: None where the children are behind a gateway.  secret: that of the gateway, else None.
    written: those that were missing, and are made.
    """

    product: IotdaProduct
    template: IotdaTemplate | None
    ca: DeviceCaFile | None
    prove: Prove | None
    secret: Secret | None
    written: tuple[Path, ...]


def _given(arguments: Namespace) -> _Given:
    """Read the files.  Raises GatewayError."""
    if fault := TEMPLATE_NAME.fault(arguments.name):
        raise ConsoleError(f"Nothing is prepared: --name {fault}. Use another name")
    product = wanted_product(arguments)
    own = arguments.secret_file if arguments.gateway else arguments.template
    written = () if own is None or own.exists() else (own,)
    if arguments.gateway:
        if arguments.secret_file is None or (fault := NODE_ID.fault(arguments.gateway)):
            why = fault if arguments.secret_file else "needs --secret-file FILE"
            raise ConsoleError(f"Nothing is prepared: --gateway {why}. Correct the options")
        secret = device_secret(arguments.secret_file, dry_run=arguments.dry_run)
        return _Given(product, None, None, None, secret, written)
    if arguments.template is None:
        raise ConsoleError(
            "Nothing is prepared: it is not known how children log in. Use --template FILE where "
            "each gets a certificate, or --gateway NODE-ID where they are behind the gateway"
        )
    ca = None if arguments.ca is None else read_ca(arguments.ca)
    return _Given(product, _template(arguments), ca, prover(arguments), None, written)


def _template(arguments: Namespace) -> IotdaTemplate:
    """Return the template; the usual one is written where there is no such file."""
    path: Path = arguments.template
    if path.exists():
        return read_template(path, arguments.name, replace=arguments.replace)
    names = {word: full_name(word) for word in ("organizational_unit", "common_name")}
    usual = ProvisioningTemplate(
        (names["organizational_unit"], names["common_name"]),
        Ref(names["common_name"]),
        Ref(names["organizational_unit"]),
        device_name=Ref(names["common_name"]),
        name=arguments.name,
    )
    if not arguments.dry_run:
        text = json.dumps(usual.request(), indent=2)
        write_file(path, f"{text}\n".encode(), mode=0o644)
    return IotdaTemplate(usual.name, usual.body(), replace=arguments.replace)


def _prepare(client: ConsoleClient, arguments: Namespace) -> Steps:
    answers = {"cloud": "huawei", **_endpoint(client, arguments)}
    return _steps(setting_up(client, arguments), arguments, _given(arguments), answers)


async def _steps(
    here: SettingUp, arguments: Namespace, given: _Given, answers: dict[str, str]
) -> Steps:
    """Have each step done, and name the answers."""
    for path in given.written:
        planned = (f"write {path}",) if arguments.dry_run else ()
        yield ConsoleStep(StepOutcome.MADE, "file", str(path), asked=planned)
    if arguments.space:
        yield await here.make_space(arguments.space)
    else:
        await here.enter("")
    product = await here.make_product(given.product)
    yield product
    if arguments.publish or arguments.subscribe:
        policy = await here.make_policy(arguments.name, arguments.publish, arguments.subscribe)
        yield policy
        yield await here.bind_policy(policy.id, "product", [product.id])
    answers["product"] = product.id
    if given.secret is not None:
        own = await here.make_product(IotdaProduct(f"{arguments.name}-gateway"))
        yield own
        new = devices.NewDevices(own.id, [arguments.gateway], secret=given.secret)
        async for step in devices.register(here.api, new, here.space):
            yield step
        answers["gateway"] = f"{own.id}/{arguments.gateway}"
    else:
        answers["template"] = str(arguments.template.absolute())
        async for step in _certificates(here, given, replace=arguments.replace):
            yield step
    for key, answer in answers.items():
        yield ConsoleStep(StepOutcome.FOUND, "answer", key, answer)
    if arguments.answers is not None:
        yield await asyncio.to_thread(_write_answers, arguments, answers, given.secret)


async def _certificates(here: SettingUp, given: _Given, *, replace: bool) -> Steps:
    """Have children with certificates register themselves, as far as a CA and its proof."""
    assert given.template is not None, "else they are behind a gateway"
    template = await here.make_template(given.template)
    yield template
    if given.ca is None:
        yield ConsoleStep(StepOutcome.LEFT, "ca", given.template.name, "", NO_CA)
        return
    uploaded = await here.upload_ca(given.ca)
    yield uploaded
    proved = await here.prove_ca(uploaded.id, given.prove)
    yield proved
    if proved.outcome is not StepOutcome.LEFT:
        yield await here.bind_template(uploaded.id, template.id, replace=replace)


def _endpoint(client: ConsoleClient, arguments: Namespace) -> Mapping[str, str]:
    """Return the answers that say where devices connect, as far as that is known."""
    roots = {} if arguments.device_ca_file is None else {
        "ca_file": str(arguments.device_ca_file.absolute())
    }  # fmt: skip
    host = arguments.device_host or device_host(client.host)
    return ({"endpoint": host} if host else {}) | roots


def _write_answers(
    arguments: Namespace, answers: Mapping[str, str], secret: Secret | None
) -> ConsoleStep:
    """Have a file with the answers, which only its owner can read.  Raises ConsoleError."""
    path: Path = arguments.answers
    whole = dict(answers) if secret is None else {**answers, "secret": secret.reveal().decode()}
    text = "".join(f"{key} = {json.dumps(answer)}\n" for key, answer in whole.items())
    outcome, asked = StepOutcome.MADE, (f"write {path}",) if arguments.dry_run else ()
    if path.exists():
        if read_file(path, MAX_ANSWERS) != text.encode():
            raise ConsoleError(
                f"The answers are not written: {path} is there, with others. Name another file, or "
                "remove that one"
            )
        outcome, asked = StepOutcome.PRESENT, ()
    elif not arguments.dry_run:
        write_file(path, text.encode())
    return ConsoleStep(outcome, "file", str(path), "", "for gatewayctl setup --answers FILE", asked)


def _options(parser: ArgumentParser) -> None:
    # fmt: off
    parser.add_argument("--name", required=True, metavar="NAME",
                        help="name of the product and of what belongs to it")
    parser.add_argument("--space", default="", metavar="NAME",
                        help="resource space, made where it is missing (default: the default one)")
    parser.add_argument("--template", type=Path, metavar="FILE",
                        help="the template; where it is missing, the usual one is written there")
    parser.add_argument("--replace", action="store_true",
                        help="replace another template, which may lock devices out")
    parser.add_argument("--ca", type=Path, metavar="FILE",
                        help="certificate of the device CA, PEM; a key in it stays here")
    parser.add_argument("--gateway", default="", metavar="NODE-ID",
                        help="node ID of the gateway, where children are its sub-devices")
    parser.add_argument("--secret-file", type=Path, metavar="FILE",
                        help="file of mode 0600 with the gateway's secret; made if it is missing")
    parser.add_argument("--device-host", default="", metavar="HOST[:PORT]",
                        help="where devices connect (default: by the endpoint, if that says it)")
    parser.add_argument("--device-ca-file", type=Path, metavar="FILE",
                        help="root certificates that devices are to trust the cloud by")
    parser.add_argument("--answers", type=Path, metavar="FILE",
                        help="write the answers for gatewayctl setup to this new file")
    # fmt: on
    add_proof(parser, required=False)


COMMANDS: tuple[Command, ...] = (
    console_command(
        HUAWEI,
        "prepare",
        "bring an empty instance to what a gateway needs",
        (_options, PRODUCT_ID, DEVICE_TYPE, MANUFACTURER, SERVICES, topics),
        _prepare,
        changes=True,
    ),
)

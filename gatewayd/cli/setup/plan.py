"""What setup writes, by the answers; and the answers, by what it has written.  Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatewayd.cli.setup import questions
from gatewayd.cli.setup.questions import (
    ALIBABA,
    APPROVAL,
    CLOUDS,
    HUAWEI,
    KEPT,
    LIST,
    MQTT,
    WINDOW,
    Answers,
    by_certificate,
    is_instance,
    is_region,
    split_port,
    split_user,
    topics_below,
    words,
)
from gatewayd.cloud.mqtt_broker.settings import CERTIFICATE
from gatewayd.device.lifecycle import State

NAME = "50-setup"
"""Of the files, without what their names end with."""
RULE = "setup"
SOCKET = "/run/gatewayd-secret.socket"
"""Where gatewayd-secret@.service decrypts what it is asked for."""
HEAD = (
    "# Written by gatewayctl setup, which reads it again: change it by that, or add other files.\n"
)


@dataclass(frozen=True, slots=True)
class SetupPlan:
    """What is written.  None of it but `secret` is secret.

    files: texts by their paths, below the directory of the configuration.
    drop_in: for the service; "" for none.  credential: its name; "" for none.
    secret: to be sealed as that; "" where a sealed one stays.
    window: seconds for which the join window is opened.
    """

    files: Mapping[str, str]
    drop_in: str
    credential: str
    secret: str
    window: int


def plan(answers: Answers) -> SetupPlan:
    """Return what is written.  answers: complete, and checked."""
    credential = credential_of(answers)
    secret = answers.get("secret", "")
    return SetupPlan(
        files={
            f"conf.d/{NAME}.toml": HEAD + "".join(_configuration(answers)),
            f"rules.d/{NAME}.toml": HEAD + "".join(_rule(answers)),
        },
        drop_in=_drop_in(credential) if credential else "",
        credential=credential,
        secret="" if secret == KEPT else secret,
        window=int(answers.get("window", "0")),
    )


def credential_of(answers: Answers) -> str:
    """Return the name of the credential that the answers need; "" for none."""
    if answers.get("cloud") == ALIBABA:
        return f"product.{answers.get('product', '')}"
    if by_certificate(answers):
        return ""
    if answers.get("cloud") == MQTT:
        return f"management.{MQTT}"
    return f"gateway.{HUAWEI}" if answers.get("gateway") else ""


def cloud_settings(answers: Answers) -> dict[str, Any]:
    """Return what says where the cloud is: the settings that can be tried without a product."""
    host, port = split_port(split_user(answers["endpoint"])[1])
    if answers["cloud"] == ALIBABA and is_region(answers["endpoint"]):
        found: dict[str, Any] = {"region": host}
    elif answers["cloud"] == ALIBABA and is_instance(host):
        found = {"instance_id": host}
    else:
        found = {"host": host}
    if port:
        found["port"] = int(port)
    if answers["cloud"] == MQTT and by_certificate(answers):
        found["identity"] = CERTIFICATE
    if answers.get("ca_file"):
        found["ca_file"] = Path(answers["ca_file"])
    return found


def answers_of(configuration: Mapping[str, Any], rules: Mapping[str, Any]) -> dict[str, str]:
    """Return the answers that lead to what was written; those that cannot be read are left out.

    configuration, rules: the two files.  The secret is KEPT, and no window is to be opened.
    """
    found: dict[str, str] = {}
    mdns = _table(_table(configuration, "discovery"), "mdns")
    found["interface"] = " ".join(map(str, mdns.get("interfaces", ())))
    found["service"] = " ".join(map(str, mdns.get("types", ())))
    clouds = _table(configuration, "cloud")
    kind = next((name for name in CLOUDS if name in clouds), "")
    cloud = _table(clouds, kind)
    found["cloud"] = kind
    place = next((str(cloud[key]) for key in ("host", "region", "instance_id") if key in cloud), "")
    found["endpoint"] = f"{place}:{cloud['port']}" if "port" in cloud else place
    found["ca_file"] = str(cloud.get("ca_file", ""))
    rule = _rule_of(rules)
    found["product"] = str(rule.get("product", ""))
    if kind == HUAWEI:
        gateway = _table(cloud, "gateway")
        found["gateway"] = f"{gateway.get('product', '')}/{gateway.get('device', '')}".strip("/")
        found["template"] = str(_table(cloud, "certificates").get("template_file", ""))
    if kind == MQTT:
        user, up = str(_table(cloud, "management").get("user", "")), str(cloud.get("up", ""))
        found["endpoint"] = f"{user}@{found['endpoint']}" if user else found["endpoint"]
        found["topics"] = up.removesuffix(topics_below("")[0])
    found["serial"] = str(_table(rule, "extract").get("serial", "")).removeprefix("txt.")
    found["list"] = str(rule.get("list", ""))
    ways: Mapping[object, str] = {
        ("register", False): LIST, ("ask", True): WINDOW, ("ask", False): APPROVAL
    }  # fmt: skip
    found["admission"] = ways.get((str(rule.get("action")), bool(rule.get("window"))), "")
    found = {key: value for key, value in found.items() if value or key in ("ca_file", "gateway")}
    found |= {"secret": KEPT, "window": "0"}
    return {key: found[key] for key in _asked_keys(found) if key in found}


def next_steps(answers: Answers) -> Iterator[str]:
    """Yield what is left to do at the platform, a line each."""
    if answers["cloud"] == MQTT and by_certificate(answers):
        yield "The broker must know this gateway.  What it needs for that, and where:"
        yield "  gatewayctl broker-config"
    if answers["cloud"] != HUAWEI or answers.get("gateway"):
        return
    yield "The platform needs the device CA of this gateway.  Make it, and upload device-ca.pem:"
    yield f"  gatewayctl ca make --cloud {HUAWEI} >device-ca.pem"
    yield "Then prove that the key is yours, by the code that the platform shows, and upload it:"
    yield f"  gatewayctl huawei ca prove --cloud {HUAWEI} CODE >proof.pem"
    yield "Switch self-registration on there, and bind the template to the CA."
    yield "Devices that wait are then tried again by themselves: gatewayctl clouds"


def what_is_missing(answers: Answers, states: Mapping[str, str]) -> Iterator[str]:
    """Yield how to find out why children do not come online, a line each.

    states: of the children that were seen, by their ids.
    """
    if not states:
        yield (
            f"No device announces {answers['service']} on {answers['interface']} so far: "
            "gatewayctl watch shows those that come."
        )
    for state in (State.PENDING, State.FAILED):
        if found := next((child for child, one in states.items() if one == state), ""):
            yield f"Why a device is {state}: gatewayctl explain {found}"


def _rule_of(rules: Mapping[str, Any]) -> Mapping[str, Any]:
    found = rules.get("rule", ())
    tables = [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []
    return next((one for one in tables if one.get("name") == RULE), {})


def _asked_keys(answers: Answers) -> list[str]:
    return [question.key for question in questions.asked(answers)]


def _configuration(answers: Answers) -> Iterator[str]:
    yield "\n[discovery.mdns]\n"
    yield _line("interfaces", words(answers["interface"]))
    yield _line("types", words(answers["service"]))
    name = answers["cloud"]
    yield f"\n[cloud.{name}]\n"
    for key, value in cloud_settings(answers).items():
        yield _line(key, value if isinstance(value, int) else str(value))
    if name == ALIBABA:
        yield f"\n[cloud.{name}.products.{answers['product']}]\n"
        yield _line("secret_credential", credential_of(answers))
        return
    yield _line("products", [answers["product"]])
    if name == MQTT:
        up, down = topics_below(answers["topics"])
        yield _line("up", up) + _line("down", down)
        if not by_certificate(answers):
            yield f"\n[cloud.{name}.management]\n"
            yield _line("user", split_user(answers["endpoint"])[0])
            yield _line("password_credential", credential_of(answers))
    elif answers["gateway"]:
        product, _, device = answers["gateway"].partition("/")
        yield f"\n[cloud.{name}.gateway]\n"
        yield _line("product", product) + _line("device", device) + _line("login", "secret")
        yield _line("secret_credential", credential_of(answers))
    else:
        yield f"\n[cloud.{name}.certificates]\n"
        yield _line("template_file", answers["template"])


def _rule(answers: Answers) -> Iterator[str]:
    yield "\n[[rule]]\n"
    yield _line("name", RULE)
    yield f"match = {{ service = {_value(words(answers['service']))} }}\n"
    yield f"extract = {{ serial = {_value('txt.' + answers['serial'])} }}\n"
    yield _line("device_name", "{serial}")
    yield _line("provider", answers["cloud"]) + _line("product", answers["product"])
    if answers.get("gateway"):
        yield _line("route", "sub-device")
    if answers["admission"] == LIST:
        yield _line("action", "register") + _line("list", answers["list"])
        return
    yield _line("action", "ask")
    if answers["admission"] == WINDOW:
        yield "window = true\n"
        yield 'require = { trust = "corroborated" }\n'


def _drop_in(credential: str) -> str:
    return (
        f"{HEAD}[Unit]\nWants=gatewayd-secret.socket\nAfter=gatewayd-secret.socket\n\n"
        f"[Service]\nLoadCredential={credential}:{SOCKET}\n"
    )


def _line(key: str, value: object) -> str:
    return f"{key} = {_value(value)}\n"


def _value(value: object) -> str:
    """Return a string, a number or a list of them in TOML, whose strings are those of JSON."""
    return json.dumps(value, ensure_ascii=False)


def _table(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = value.get(key, {})
    return found if isinstance(found, Mapping) else {}

"""What setup asks: one table of questions, each with when it is asked and how it is checked.  Pure.

A terminal asks them one by one, a file of answers has them as its fields, and a web page could show
them: none of that is known here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from gatewayd.cloud.alibaba.settings import PRODUCT_KEY
from gatewayd.cloud.huawei import settings as huawei
from gatewayd.cloud.mqtt_broker import templates
from gatewayd.cloud.mqtt_broker.settings import CERTIFICATE, MqttBrokerSettings
from gatewayd.settings import grammar

Answers = Mapping[str, str]
"""The answers so far, by the keys of their questions."""

ALIBABA, HUAWEI, MQTT = "alibaba", "huawei", "mqtt"
CLOUDS = (ALIBABA, HUAWEI, MQTT)
LOOPBACK = "lo"
LIST, WINDOW, APPROVAL = "list", "window", "approval"
DEFAULT_SERVICE, DEFAULT_LIST = "_gatewayd-child._tcp", "/etc/gatewayd/serials.txt"
DEFAULT_TOPICS = "devices/{product}/{device}"
MAX_ANSWER = 4096
"""Characters of an answer."""
LONGEST_WINDOW = 900
"""Seconds; the limit of `PermitJoin`."""
LAST_PORT = 65535
KEPT = "\0kept"
"""The answer that stands for a secret that was sealed before, and stays."""


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """What the checks have to know of this machine.

    interfaces: the names of its network interfaces.  uplinks: those of them that lead away.
    file_fault: returns why the daemon could not read a file; "" where it can.
    """

    interfaces: Sequence[str]
    uplinks: Sequence[str]
    file_fault: Callable[[str], str]

    @property
    def only_interface(self) -> str:
        """The interface on which the devices must be, as there is no other; "" where there are."""
        others = [name for name in self.interfaces if name != LOOPBACK]
        return others[0] if len(others) == 1 else ""


Check = Callable[[str, Answers, MachineFacts], str]
"""Takes an answer, those before it, and the machine; returns the rule that it breaks, or ""."""


def _no_rule(_answer: str, _answers: Answers, _machine: MachineFacts) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Question:
    """One question.

    key: names the answer, also in a file of answers.  text: the question, for people.
    help: what an answer looks like.  default: of an empty answer; None where one is required.
    suggest: returns a default that the machine leads to; "" for none.
    choices: the answers that there are; empty for any.  check: see `Check`.
    asked: whether it is asked, after those answers.  secret: whether it is not to be echoed.
    probes: whether the cloud can be tried once this is answered, after those answers.
    unsettles: the keys of answers that another answer to this makes void.
    """

    key: str
    text: str
    help: str
    default: str | None = None
    suggest: Callable[[MachineFacts], str] = lambda _: ""
    choices: Sequence[str] = ()
    check: Check = _no_rule
    asked: Callable[[Answers], bool] = lambda _: True
    secret: bool = False
    probes: Callable[[Answers], bool] = lambda _: False
    unsettles: Sequence[str] = ()

    def default_on(self, machine: MachineFacts) -> str:
        """Return the answer that an empty one stands for on this machine; "" for none."""
        return self.default or self.suggest(machine)

    def fault(self, answer: str, answers: Answers, machine: MachineFacts) -> str:
        """Return the rule that an answer breaks; "" for none.  It never repeats the answer."""
        if answer == KEPT and self.secret:
            return ""
        if not answer and self.default != "":
            return "is required"
        if len(answer) > MAX_ANSWER or not answer.isprintable():
            return f"must be at most {MAX_ANSWER} printable characters"
        if self.choices and answer not in self.choices:
            return f"must be one of: {', '.join(self.choices)}"
        return self.check(answer, answers, machine) if answer else ""


def words(text: str) -> list[str]:
    """Return the parts of an answer that may have several, divided by commas or blanks."""
    return text.replace(",", " ").split()


def split_port(endpoint: str) -> tuple[str, str]:
    """Return host and port of an endpoint; "" for no port."""
    host, _, port = endpoint.rpartition(":")
    return (host, port) if host and is_number(port) else (endpoint, "")


def split_user(endpoint: str) -> tuple[str, str]:
    """Return the user and the rest of the endpoint of a broker, as USER@HOST; "" for no user."""
    user, _, place = endpoint.rpartition("@")
    return user, place


def topics_below(place: str) -> tuple[str, str]:
    """Return the templates of the topics of a child and of those to it, below a place."""
    return f"{place}/up/{templates.TOPIC}", f"{place}/down/{templates.TOPIC}"


def is_number(text: str) -> bool:
    """Whether a text is a number in ASCII digits."""
    return text.isascii() and text.isdecimal()


def is_region(endpoint: str) -> bool:
    """Whether an endpoint of Alibaba is the region of an old public instance."""
    return "." not in endpoint and ":" not in endpoint and not is_instance(endpoint)


def is_instance(endpoint: str) -> bool:
    """Whether an endpoint of Alibaba is the ID of a new public or an enterprise instance."""
    return "." not in endpoint and endpoint.startswith("iot-")


def _interface(answer: str, _answers: Answers, machine: MachineFacts) -> str:
    missing = [name for name in words(answer) if name not in machine.interfaces]
    return f"must be one or several of: {', '.join(machine.interfaces)}" if missing else ""


def _service(answer: str, _answers: Answers, _machine: MachineFacts) -> str:
    bad = [
        one for one in words(answer) if not re.fullmatch(r"_[A-Za-z0-9-]{1,15}\._(tcp|udp)", one)
    ]
    return f"must be service types of DNS-SD, as {DEFAULT_SERVICE}" if bad else ""


def _endpoint(answer: str, answers: Answers, _machine: MachineFacts) -> str:
    user, place = split_user(answer) if answers.get("cloud") == MQTT else ("", answer)
    host, port = split_port(place)
    if port and not 0 < int(port[:6]) <= LAST_PORT:
        return "must have a port from 1 to 65535"
    if answers.get("cloud") == HUAWEI:
        found = huawei.HuaweiSettings(host=host).problems()
        return next((fault.removeprefix("host ") for fault in found), "")
    if answers.get("cloud") == MQTT:
        fault = templates.part_fault(user) if "@" in answer else ""
        return f"has a user before the host, who {fault}" if fault else grammar.host(host)
    return grammar.label(host) if is_region(host) or is_instance(host) else grammar.host(host)


def _file(answer: str, _answers: Answers, machine: MachineFacts) -> str:
    return machine.file_fault(answer)


def _product(answer: str, answers: Answers, _machine: MachineFacts) -> str:
    if answers.get("cloud") == HUAWEI:
        return huawei.PRODUCT_ID.fault(answer)
    if answers.get("cloud") == MQTT:
        return templates.part_fault(answer)
    return "" if PRODUCT_KEY.fullmatch(answer) else "must be 1 to 20 letters and digits"


def _topics(answer: str, answers: Answers, _machine: MachineFacts) -> str:
    up, down = topics_below(answer)
    if (fault := templates.topic_template(up)) or not by_certificate(answers):
        return fault
    known = MqttBrokerSettings("localhost", identity=CERTIFICATE, up=up, down=down).templates
    return next((one.removeprefix("up ") for one in known.mistakes_of_users(several=False)), "")


def _gateway(answer: str, _answers: Answers, _machine: MachineFacts) -> str:
    product, slash, node = answer.partition("/")
    if not slash:
        return "must be PRODUCT-ID/NODE-ID"
    return huawei.PRODUCT_ID.fault(product) or huawei.NODE_ID.fault(node)


def _txt_key(answer: str, _answers: Answers, _machine: MachineFacts) -> str:
    return "" if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", answer) else "must be the key of a TXT record"


def _seconds(answer: str, _answers: Answers, _machine: MachineFacts) -> str:
    good = is_number(answer) and int(answer[:5]) <= LONGEST_WINDOW
    return "" if good else f"must be a number from 0 to {LONGEST_WINDOW}"


def _at_huawei(answers: Answers) -> bool:
    return answers.get("cloud") == HUAWEI


def _at_broker(answers: Answers) -> bool:
    return answers.get("cloud") == MQTT


def by_certificate(answers: Answers) -> bool:
    """Whether each device proves who it is by a certificate of this gateway's CA."""
    if _at_broker(answers):
        return not split_user(answers.get("endpoint", ""))[0]
    return _at_huawei(answers) and not answers.get("gateway")


def _admitted_by(*ways: str) -> Callable[[Answers], bool]:
    return lambda answers: answers.get("admission") in ways


_OF_THE_CLOUD = ("endpoint", "ca_file", "product", "topics", "gateway", "template", "secret")

QUESTIONS: Sequence[Question] = (
    Question("interface", "On which network interface are the devices?",
             "one name or several; an uplink only where your devices are on it", check=_interface,
             suggest=lambda machine: machine.only_interface),
    Question("service", "Which service do they announce by mDNS?",
             "service types of DNS-SD", DEFAULT_SERVICE, check=_service),
    Question("cloud", "Which cloud do they belong to?", "its kind; mqtt is a broker of your own",
             choices=CLOUDS, unsettles=_OF_THE_CLOUD),
    Question("endpoint", "Where is it?",
             "Alibaba: a region as cn-shanghai, the ID of an instance as iot-06z, or a host; "
             "Huawei: the domain name of the instance; a broker: this gateway's user there and the "
             "host, as gateway-1@broker.example, or the host alone if each device gets a "
             "certificate; a host may have a port, as host:8883",
             check=_endpoint),
    Question("ca_file", "Which root certificates is it to be trusted by?",
             "a PEM file; empty for those of the system", "", check=_file),
    Question("product", "Which product are the devices of?",
             "Alibaba: the productKey; Huawei: the product ID; a broker: a name of your choice",
             check=_product, probes=lambda _: True, unsettles=("secret",)),
    Question("topics", "Below which topics is each device at the broker?",
             "it says what is below up/ there, and receives what is below down/", DEFAULT_TOPICS,
             check=_topics, asked=_at_broker),
    Question("gateway", "Which device of the platform is this gateway?",
             "PRODUCT-ID/NODE-ID, if the devices are its sub-devices; empty if each gets a "
             "certificate of its own", "", check=_gateway, asked=_at_huawei, unsettles=("secret",)),
    Question("template", "Where is the provisioning template?",
             "a JSON file, as it was created at the platform; gatewayctl huawei template new "
             "writes one", check=_file,
             asked=lambda answers: _at_huawei(answers) and by_certificate(answers)),
    Question("secret", "What is the secret?",
             "Alibaba: the productSecret; Huawei: the gateway's own device secret; a broker: the "
             "password of this gateway's user",
             asked=lambda answers: not by_certificate(answers), secret=True, probes=_at_broker),
    Question("admission", "What may join by itself?",
             "list: what is in a list of serial numbers; window: what comes while a window is "
             "open; approval: nothing, an operator approves each",
             choices=(LIST, WINDOW, APPROVAL)),
    Question("serial", "Which TXT record has the serial number?",
             "its key; the number becomes the name of the device at the cloud", "serial",
             check=_txt_key),
    Question("list", "Where is the list?", "a file with one serial number a line", DEFAULT_LIST,
             check=_file, asked=_admitted_by(LIST)),
    Question("window", "For how many seconds is the window to be open now?",
             "0 for not yet; gatewayctl permit-join opens it later", "180", check=_seconds,
             asked=_admitted_by(WINDOW)),
)  # fmt: skip
"""In the order in which they are asked."""

BY_KEY: Mapping[str, Question] = {question.key: question for question in QUESTIONS}


def next_question(answers: Answers) -> Question | None:
    """Return the first question that is asked and has no answer yet; None when all have one."""
    return next((one for one in asked(answers) if one.key not in answers), None)


def asked(answers: Answers) -> list[Question]:
    """Return the questions that are asked, given these answers, in order."""
    return [question for question in QUESTIONS if question.asked(answers)]


def complete(
    given: Answers, machine: MachineFacts, before: Answers | None = None
) -> tuple[dict[str, str], list[str]]:
    """Return the answers with defaults for those that are missing, and what is wrong with them.

    given: of any keys, in any order.  before: answers that stay where none of those is another.
    The faults are sentences that begin with the key.
    """
    faults = [f"{key} is no question: leave it out" for key in given if key not in BY_KEY]
    answers: dict[str, str] = {}
    for question, answer, fault in walk(given, machine, before or {}):
        if fault:
            faults.append(f"{question.key} {fault} ({question.help})")
        answers[question.key] = answer
    late = [key for key in given if key in BY_KEY and key not in answers]
    faults.extend(f"{key} is not asked after these answers: leave it out" for key in late)
    return answers, faults


def walk(
    given: Answers, machine: MachineFacts, before: Answers
) -> Iterator[tuple[Question, str, str]]:
    """Yield each question that is asked, its answer, and the rule that it breaks, or "".

    given, before: as for `complete`.  Without an answer, it is the default.
    """
    known = {**settled(before, given), **given}
    answers: dict[str, str] = {}
    while (question := next_question(answers)) is not None:
        answer = known.get(question.key, question.default_on(machine))
        yield question, answer, question.fault(answer, answers, machine)
        answers[question.key] = answer


def settled(before: Answers, given: Answers) -> dict[str, str]:
    """Return the answers that stay when others are given: what these make void is left out.

    A user has a password of its own, but not a broker that is at another host.
    """
    changed = [
        one for one in QUESTIONS if one.key in given and given[one.key] != before.get(one.key)
    ]
    void = {key for question in changed for key in (question.key, *question.unsettles)}
    users = {split_user(one["endpoint"])[0] for one in (before, given) if "endpoint" in one}
    if len(users) > 1:
        void.add("secret")
    return {key: answer for key, answer in before.items() if key not in void}

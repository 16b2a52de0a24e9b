"""What setup asks: the table alone, without a terminal, and what it writes by the answers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gatewayd.cli.setup.commands import questions_now, read_answers
from gatewayd.cli.setup.dialogue import Dialogue
from gatewayd.cli.setup.plan import answers_of, plan, what_is_missing
from gatewayd.cli.setup.questions import (
    BY_KEY,
    DEFAULT_SERVICE,
    KEPT,
    QUESTIONS,
    Answers,
    MachineFacts,
    asked,
    complete,
    next_question,
    settled,
    topics_below,
)
from gatewayd.cloud.mqtt_broker.settings import BrokerManagement, MqttBrokerSettings
from gatewayd.config import check
from gatewayd.errors import ConfigError
from gatewayd.plugins import Plugins
from gatewayd.settings.files import ConfigPaths, parse

MOST = 12
MACHINE = MachineFacts(("lan0", "wan0"), ("wan0",), lambda path: "" if "/" in path else "none")
HUAWEI_HOST = "0123456789.st1.iotda-device.cn-north-4.myhuaweicloud.com"
SECRET = "s3cret-of-the-product"

CLOUDS: Mapping[str, Mapping[str, str]] = {
    "alibaba, a region": {
        "cloud": "alibaba", "endpoint": "cn-shanghai", "product": "a1Xy9Zk3Q7f", "secret": SECRET,
    },
    "alibaba, an instance": {
        "cloud": "alibaba", "endpoint": "iot-06z00abc", "product": "a1Xy9Zk3Q7f", "secret": SECRET,
    },
    "alibaba, a host": {
        "cloud": "alibaba", "endpoint": "127.0.0.1:18883", "ca_file": "/ca.pem",
        "product": "a1Xy9Zk3Q7f", "secret": SECRET,
    },
    "huawei, certificates": {
        "cloud": "huawei", "endpoint": HUAWEI_HOST, "product": "6742bf260f2f9030e44210d8",
        "template": "/template.json",
    },
    "huawei, sub-devices": {
        "cloud": "huawei", "endpoint": f"{HUAWEI_HOST}:18883", "ca_file": "/ca.pem",
        "product": "6742bf260f2f9030e44210d8", "gateway": "6742bf260f2f9030e44210d9/gateway-1",
        "secret": SECRET,
    },
    "a broker": {
        "cloud": "mqtt", "endpoint": "gateway-1@broker.plant.example", "product": "meter",
        "secret": SECRET,
    },
    "a broker, with topics of the site": {
        "cloud": "mqtt", "endpoint": "gw.2@127.0.0.1:18883", "ca_file": "/ca.pem",
        "product": "meter", "topics": "site-1/{product}/{device}", "secret": SECRET,
    },
    "a broker, by certificates": {
        "cloud": "mqtt", "endpoint": "broker.plant.example:18883", "product": "meter",
        "topics": "site-1/{product}/{device}",
    },
}  # fmt: skip
WAYS: Mapping[str, Mapping[str, str]] = {
    "list": {"admission": "list", "list": "/etc/gatewayd/serials.txt"},
    "window": {"admission": "window", "window": "60"},
    "approval": {"admission": "approval"},
}
SITES = [
    pytest.param({"interface": "lan0", **cloud, **way}, id=f"{name}, {word}")
    for (name, cloud), (word, way) in itertools.product(CLOUDS.items(), WAYS.items())
]


def answered(given: Answers) -> dict[str, str]:
    answers, faults = complete(given, MACHINE)
    assert not faults
    return answers


def dialogue(lines: Iterator[str], said: list[str], *, good: bool = True) -> Dialogue:
    def ask(_prompt: str) -> str:
        return next(lines)

    return Dialogue(ask, ask, said.append, lambda _: [(good, "ok")], MACHINE)


@pytest.mark.parametrize("site", SITES)
def test_every_way_through_the_questions_is_short_and_has_an_end(site: Answers) -> None:
    answers = answered(site)
    assert len(asked(answers)) < MOST, "one more asks whether to write"
    assert next_question(answers) is None
    assert set(answers) == {question.key for question in asked(answers)}


@pytest.mark.parametrize("site", SITES)
def test_what_is_written_is_what_is_read_again(site: Answers) -> None:
    answers = answered(site)
    texts = plan(answers).files
    read = answers_of(*(parse(text) for text in texts.values()))
    kept = {**answers, **({"secret": KEPT} if "secret" in answers else {})}
    kept |= {"window": "0"} if "window" in kept else {}
    assert read == kept
    again, faults = complete({}, MACHINE, read)
    assert not faults
    assert plan(again).files == texts
    assert (plan(again).secret, plan(again).window) == ("", 0)


@pytest.mark.parametrize("site", SITES)
def test_what_is_written_is_a_configuration(site: Answers, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    (tmp_path / "template.json").write_text("{}")
    (tmp_path / "serials.txt").write_text("A1\n")
    named = {"ca_file": "ca.pem", "template": "template.json", "list": "serials.txt"}
    there = {key: str(tmp_path / name) for key, name in named.items() if key in site}
    for name, text in plan(answered({**site, **there})).files.items():
        file = tmp_path / name
        file.parent.mkdir()
        file.write_text(text)
        file.chmod(0o644)
    main = tmp_path / "gatewayd.toml"
    main.touch()
    problems = check(ConfigPaths.of(main), Plugins.installed())
    assert not [str(problem) for problem in problems if problem.fatal]


@pytest.mark.parametrize("site", SITES)
def test_no_secret_is_in_what_is_shown(site: Answers) -> None:
    todo = plan(answered(site))
    assert SECRET not in "".join(todo.files.values()) + todo.drop_in
    assert todo.secret == site.get("secret", "")
    assert bool(todo.credential) == bool(todo.drop_in) == ("secret" in site)
    assert todo.credential in todo.drop_in


@pytest.mark.parametrize(
    ("key", "bad"),
    [
        ("interface", "lan1"), ("interface", "lan0, lan1"), ("interface", ""),
        ("service", "child"), ("service", "_a._tcp _b"), ("cloud", "aws"), ("cloud", ""),
        ("endpoint", "a b.c"), ("endpoint", "host.example:0"), ("endpoint", "host.example:70000"),
        ("endpoint", "host.example:99999999999"), ("endpoint", "-"), ("endpoint", ""),
        ("ca_file", "roots"), ("product", "a-b"), ("product", "a" * 21), ("product", 'a"\n[x]'),
        ("secret", ""), ("secret", "a\nb"), ("admission", "all"), ("serial", "a b"),
        ("serial", 'x"'), ("list", "serials"), ("list", "x" * 5000),
    ],
)  # fmt: skip
def test_a_wrong_answer_is_named_with_what_is_right(key: str, bad: str) -> None:
    site = {"interface": "lan0", **CLOUDS["alibaba, a host"], **WAYS["list"], key: bad}
    _, faults = complete(site, MACHINE)
    assert any(fault.startswith(f"{key} ") and BY_KEY[key].help in fault for fault in faults)
    assert not any(SECRET in fault for fault in faults)


@pytest.mark.parametrize("bad", ["-1", "901", "ten", "1" * 20, "٣"])
def test_a_window_has_a_limit(bad: str) -> None:
    site = {"interface": "lan0", **CLOUDS["alibaba, a host"], "admission": "window", "window": bad}
    assert [fault for fault in complete(site, MACHINE)[1] if fault.startswith("window ")]


@pytest.mark.parametrize(
    ("key", "bad"),
    [
        ("endpoint", "127.0.0.1"), ("endpoint", "cn-north-4"), ("gateway", "one"),
        ("gateway", "one/"), ("gateway", "a b/c"), ("product", "a b"),
    ],
)  # fmt: skip
def test_huawei_has_rules_of_its_own(key: str, bad: str) -> None:
    site = {"interface": "lan0", **CLOUDS["huawei, sub-devices"], **WAYS["list"], key: bad}
    assert [fault for fault in complete(site, MACHINE)[1] if fault.startswith(f"{key} ")]


@pytest.mark.parametrize(
    ("key", "bad"),
    [
        ("endpoint", "@broker.example"), ("endpoint", "a b@x.y"),
        ("endpoint", "a@b@x.y"), ("endpoint", "gateway-1@"), ("endpoint", "gateway-1@a b"),
        ("endpoint", "gateway-1@x.y:0"), ("product", "a/b"), ("product", "+"),
        ("topics", "site/{product}"), ("topics", "/{device}"), ("topics", "{device}/#"),
        ("topics", "{device}/{topic}"), ("topics", "{colour}/{device}"),
    ],
)  # fmt: skip
def test_a_broker_has_rules_of_its_own(key: str, bad: str) -> None:
    site = {"interface": "lan0", **CLOUDS["a broker"], **WAYS["list"], key: bad}
    assert [fault for fault in complete(site, MACHINE)[1] if fault.startswith(f"{key} ")]


def test_a_broker_knows_a_certificate_by_the_levels_of_its_topics() -> None:
    site = {"interface": "lan0", **CLOUDS["a broker, by certificates"], **WAYS["list"]}
    answers = answered(site)
    assert plan(answers).credential == ""
    _, faults = complete({**site, "topics": "site/{device}"}, MACHINE)
    assert [fault.split()[0] for fault in faults] == ["topics"]
    assert not complete({**site, "endpoint": "gw@x.y", "secret": SECRET,
                         "topics": "site/{device}"}, MACHINE)[1]  # fmt: skip


def test_the_topics_of_a_broker_are_those_of_gatewayd_unless_others_are_named() -> None:
    answers = answered({"interface": "lan0", **CLOUDS["a broker"], **WAYS["list"]})
    usual = MqttBrokerSettings("localhost", BrokerManagement("gateway-1"))
    assert topics_below(answers["topics"]) == (usual.up, usual.down)


def test_a_form_shows_what_is_asked_after_the_answers_so_far() -> None:
    def shown(given: Answers, before: Answers | None = None) -> dict[str, Mapping[str, Any]]:
        return {one["Key"]: one for one in questions_now(given, MACHINE, before or {})}

    first = shown({})
    assert first["cloud"]["Fault"] == "is required"
    assert first["service"]["Answer"] == DEFAULT_SERVICE
    assert "gateway" not in first
    huawei = shown({"cloud": "huawei", "gateway": "p1/gw", "secret": SECRET, "list": "/late"})
    assert "gateway" in huawei
    assert "list" not in huawei, "what is not asked yet is no fault here"
    assert (huawei["secret"]["Answer"], huawei["secret"]["Fault"]) == ("", "")
    assert SECRET not in str(huawei)
    before = {"cloud": "alibaba", "product": "a1", "secret": KEPT}
    assert shown({}, before)["secret"]["Fault"] == "", "it is sealed"
    assert shown({"product": "a2"}, before)["secret"]["Fault"], "of another product"


def test_what_is_not_asked_is_no_answer() -> None:
    site = {"interface": "lan0", **CLOUDS["alibaba, a region"], **WAYS["approval"]}
    _, faults = complete({**site, "template": "/t.json", "colour": "red"}, MACHINE)
    assert [fault.split()[0] for fault in faults] == ["colour", "template"]


def test_another_cloud_asks_again_what_is_of_the_cloud() -> None:
    before = answered({"interface": "lan0", **CLOUDS["alibaba, a host"], **WAYS["list"]})
    left = settled(before, {"cloud": "huawei"})
    assert set(left) == {"interface", "service", "admission", "serial", "list"}
    assert settled(before, {"cloud": "alibaba"}) == before
    assert "secret" not in settled(before, {"product": "a1Other"})


def test_another_user_of_a_broker_has_another_password() -> None:
    before = answered({"interface": "lan0", **CLOUDS["a broker"], **WAYS["list"]})
    assert "secret" in settled(before, {"endpoint": "gateway-1@other.example"})
    assert "secret" not in settled(before, {"endpoint": "gateway-2@broker.plant.example"})


def test_one_answer_of_a_file_changes_one_thing() -> None:
    before = answered({"interface": "lan0", **CLOUDS["alibaba, a host"], **WAYS["list"]})
    after, faults = complete({"admission": "approval"}, MACHINE, {**before, "secret": KEPT})
    assert not faults
    assert {key for key in before if after.get(key) != before[key]} == {
        "admission", "list", "secret",
    }  # fmt: skip
    assert plan(after).secret == ""
    _, faults = complete({"product": "a1Other"}, MACHINE, {**before, "secret": KEPT})
    assert [fault.split()[0] for fault in faults] == ["secret"]


@pytest.mark.parametrize("site", SITES)
def test_a_dialogue_asks_each_question_once(site: Answers) -> None:
    answers = answered(site)
    said: list[str] = []
    lines = iter([answers[question.key] for question in asked(answers)])
    assert dialogue(lines, said).answers({}) == answers
    assert next(lines, None) is None
    assert not any(SECRET in line for line in said)


def test_numbers_stand_for_choices_and_a_wrong_answer_is_asked_again() -> None:
    said: list[str] = []
    lines = iter(["9", "1", "", "1", "cn-shanghai", "", "a1Xy9Zk3Q7f", "", SECRET, "3", ""])
    answers = dialogue(lines, said).answers({})
    assert (answers["interface"], answers["cloud"], answers["admission"]) == (
        "lan0", "alibaba", "approval",
    )  # fmt: skip
    assert answers["service"] == "_gatewayd-child._tcp"
    assert sum(line.startswith("  This ") for line in said) == 2
    assert any("wan0  (uplink)" in line for line in said)


@pytest.mark.parametrize(
    ("interfaces", "only"),
    [
        (("eth0", "lo"), "eth0"), (("lo",), ""), (("lan0", "wan0", "lo"), ""), (("eth0",), "eth0"),
    ],
)  # fmt: skip
def test_a_gateway_with_one_interface_need_not_name_it(
    interfaces: tuple[str, ...], only: str
) -> None:
    """Its devices are where its uplink is."""
    machine = MachineFacts(interfaces, ("eth0",), MACHINE.file_fault)
    assert machine.only_interface == only
    site = {**CLOUDS["alibaba, a region"], **WAYS["approval"]}
    answers, faults = complete(site, machine)
    assert answers["interface"] == only
    assert [fault.split()[0] for fault in faults] == ([] if only else ["interface"])
    if only:
        lines = iter(["", "", "1", "cn-shanghai", "", "a1Xy9Zk3Q7f", SECRET, "3", ""])
        said: list[str] = []
        asks = dialogue(lines, said)
        typed = Dialogue(asks.ask, asks.ask_secret, asks.say, asks.probe, machine).answers({})
        assert typed == answers
        assert not any("never" in line for line in said)


def test_a_cloud_that_does_not_answer_is_asked_again() -> None:
    said: list[str] = []
    lines = iter(
        ["lan0", "", "alibaba", "cn-nowhere", "/wrong.pem", "a1X", "y", "cn-shanghai", "/ca.pem",
         "a1X", "n", SECRET, "approval", ""]
    )  # fmt: skip
    answers = dialogue(lines, said, good=False).answers({})
    assert (answers["endpoint"], answers["ca_file"]) == ("cn-shanghai", "/ca.pem")
    assert next(lines, None) is None


def test_another_password_of_a_broker_is_tried_at_once() -> None:
    before = answered({"interface": "lan0", **CLOUDS["a broker"], **WAYS["list"]})
    before["secret"] = KEPT
    tried: list[str] = []

    def probe(answers: Answers) -> list[tuple[bool, str]]:
        tried.append(answers["secret"])
        return [(True, "tried")]

    said: list[str] = []
    asks = replace(dialogue(iter(["secret", "another"]), said), probe=probe)
    assert asks.changed(before) == {**before, "secret": "another"}
    assert tried == ["another"]


def test_again_it_shows_what_is_set_and_changes_one_thing() -> None:
    before = answered({"interface": "lan0", **CLOUDS["alibaba, a host"], **WAYS["list"]})
    before["secret"] = KEPT
    said: list[str] = []
    number = str([question.key for question in asked(before)].index("interface") + 1)
    changed = dialogue(iter(["x", "99", number, "wan0"]), said).changed(before)
    assert changed == {**before, "interface": "wan0"}
    assert any("(sealed)" in line for line in said)
    assert not any(KEPT in line for line in said)
    assert dialogue(iter([""]), said).changed(before) == before
    assert dialogue(iter(["interface", "1"]), said).changed(before) == before


@pytest.mark.parametrize("key", ["endpoint", "ca_file", "product"])
def test_a_change_of_where_the_cloud_is_is_tried_at_once(key: str) -> None:
    before = answered({"interface": "lan0", **CLOUDS["alibaba, a host"], **WAYS["list"]})
    before["secret"] = KEPT
    good, bad = {"endpoint": "cn-good", "ca_file": "/good.pem", "product": "a1Good"}, "/a1"
    tried: list[str] = []

    def probe(answers: Answers) -> list[tuple[bool, str]]:
        tried.append(answers[key])
        return [(answers[key] == good[key], "tried")]

    wrong = {"endpoint": "cn-bad", "ca_file": bad, "product": "a1"}[key]
    said: list[str] = []
    lines = iter([key, wrong, "maybe", "y", *good.values(), SECRET])
    changed = replace(dialogue(lines, said), probe=probe).changed(before)
    assert tried == [wrong, good[key]]
    assert changed == {**before, **good, "secret": SECRET}
    assert next(lines, None) is None


def test_what_keeps_children_from_coming_online_is_named_with_a_command() -> None:
    answers = {"service": "_x._tcp", "interface": "lan0"}
    (nothing,) = what_is_missing(answers, {})
    assert "_x._tcp on lan0" in nothing
    assert list(what_is_missing(answers, {"child-1": "online", "child-2": "registering"})) == []
    lines = list(what_is_missing(answers, {"child-1": "failed", "child-2": "failed",
                                           "child-3": "pending"}))  # fmt: skip
    assert [line.rpartition(" ")[2] for line in lines] == ["child-3", "child-1"]


def test_answers_are_texts_numbers_or_lists() -> None:
    assert read_answers('interface = ["lan0", "lan1"]\nwindow = 60\nca_file = ""') == {
        "interface": "lan0 lan1", "window": "60", "ca_file": "",
    }  # fmt: skip
    found = "x = " + "[" * 3000, "x = 0x" + "f" * 4000
    for wrong in ("x = true", "x = 1.5", "x = [1]", "[x]", "x = 1979-05-27", "x", "\0", *found):
        with pytest.raises(ConfigError):
            read_answers(wrong)


def test_files_that_are_no_longer_ours_give_what_can_be_read() -> None:
    assert "secret" not in answers_of({}, {}) or answers_of({}, {})["secret"] == KEPT
    for odd in ({"cloud": 1}, {"discovery": {"mdns": 3}}, {"cloud": {"alibaba": "x"}}):
        answers_of(odd, {"rule": [1, {"name": "setup", "extract": 5}]})
        answers_of(odd, {"rule": "x"})


def test_the_manual_documents_every_field_of_the_answers() -> None:
    manual = (Path(__file__).parents[3] / "packaging/man/gatewayctl.1").read_text()
    section = manual.partition(".SS Answers for setup")[2].partition("\n.S")[0]
    documented = [part.split("\n")[0] for part in section.split("\n.TP\n.B ")[1:]]
    assert documented == [question.key for question in QUESTIONS]


def test_only_the_secret_is_hidden() -> None:
    assert [question.key for question in QUESTIONS if question.secret] == ["secret"]

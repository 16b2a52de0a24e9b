"""Rules come from files in order; lists stand beside them; problems name their line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.admission.rules import MAX_USELESS, RuleBook, RuleSet, read_installed, read_rules
from gatewayd.device.identity import MAX_VALUE, claim
from gatewayd.errors import ConfigError
from gatewayd.settings.files import Problems

RULE = """
[[rule]]
name = "NAME"
match = { service = "_meter._tcp" }
extract = { serial = "txt.sn" }
device_name = "pm-{serial}"
action = "register"
provider = "alibaba"
product = "a1"
"""


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def a_rule(name: str, more: str = "") -> str:
    return RULE.replace("NAME", name) + more


def problems_of(path: Path, text: str) -> list[str]:
    problems = Problems()
    read_rules([write(path, text)], problems)
    return [str(problem).replace(f"{path.parent}/", "") for problem in problems.found]


def load_rules(directories: list[Path]) -> RuleSet:
    """All rules of these directories; raise ConfigError where one cannot be used."""
    problems = Problems()
    found = read_installed(directories, problems)
    problems.check()
    return found


def test_rules_are_in_the_order_of_files_and_as_written(tmp_path: Path) -> None:
    usr, etc = tmp_path / "usr", tmp_path / "etc"
    write(usr / "20-b.toml", a_rule("third"))
    write(usr / "30-masked.toml", a_rule("never"))
    write(etc / "10-a.toml", a_rule("first") + a_rule("second"))
    (etc / "30-masked.toml").symlink_to("/dev/null")
    assert [rule.name for rule in load_rules([usr, etc]).rules] == ["first", "second", "third"]


def test_no_files_are_no_rules(tmp_path: Path) -> None:
    assert load_rules([tmp_path / "gone"]).rules == []


def test_keys_of_a_txt_record_need_no_quotes(tmp_path: Path) -> None:
    bare = a_rule("a").replace("{ service =", "{ txt.gen = ['2', '3'], service =")
    write(tmp_path / "a.toml", bare)
    write(tmp_path / "b.toml", bare.replace("txt.gen", "'txt.gen'").replace('"a"', '"b"'))
    one, other = load_rules([tmp_path]).rules
    assert set(one.predicates) == set(other.predicates)
    assert len(one.predicates) == 2


def test_nor_do_those_of_other_sources_however_deep(tmp_path: Path) -> None:
    match = "{ ssdp.server = '*Hue*', mqtt.birth.model = 'x', oui = '00:17:88', service ="
    write(tmp_path / "a.toml", a_rule("a").replace("{ service =", match))
    (rule,) = load_rules([tmp_path]).rules
    keys = {one.reads for one in rule.predicates}
    assert keys == {"ssdp.server", "mqtt.birth.model", "mac", "service"}


def test_a_list_beside_the_file_names_identities(tmp_path: Path) -> None:
    write(tmp_path / "site.list", "# of 2026\nAB-1  # hall\n\nA8:03:2A:BE:54:DC\n")
    write(tmp_path / "a.toml", a_rule("meters", 'list = "site.list"'))
    (rule,) = load_rules([tmp_path]).rules
    assert rule.listed == {"AB-1", "A8:03:2A:BE:54:DC", "a8032abe54dc"}


def test_a_list_that_everybody_may_write_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "site.list", "AB-1\n").chmod(0o666)
    found = problems_of(tmp_path / "a.toml", a_rule("meters", 'list = "site.list"'))
    assert found == [
        "site.list: world-writable: run chmod o-w on it",
        "a.toml:10: the list cannot be used: see the previous problem",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rule = 1", "a.toml:1: 'rule' must be an array of tables: write [[rule]]"),
        ("rule = [1]", "a.toml:1: rule[1] must be a table, as {"),
        ("[[rules]]", "a.toml:1: unknown key 'rules': did you mean 'rule'?"),
        (
            a_rule("a", 'commands = ["get", "reboot"]'),
            (
                "a.toml:10: rule a: commands: 'reboot' begins with no kind of command: write one "
                "of service, set, get, request, message"
            ),
        ),
        (
            a_rule("a", "priority = 1"),
            (
                "a.toml:10: unknown key 'priority' in [rule[1]]: known are action, commands, "
                "device_name, extract, limits, list, match, messages, name, product, proof, "
            ),
        ),
        (a_rule("a b"), "a.toml:3: rule a b: name: is at most 64 letters, digits and _ . -"),
        (
            a_rule("a", "require = { trust = 'lsited' }"),
            (
                "a.toml:10: rule[1].require.trust must be one of claimed, corroborated, listed, "
                "pinned, authenticated, proven: did you mean 'listed'?"
            ),
        ),
        (
            a_rule("a", "limits = { devices = 0 }"),
            "a.toml:10: rule[1].limits.devices must be at least 1",
        ),
        (
            a_rule("a", "session = 'other'"),
            "a.toml:10: rule[1].session must be one of gateway, holder",
        ),
        (
            a_rule("a", "session = 'holder'\ncommands = ['set']"),
            "a.toml:11: rule a: commands: the holder gets the commands of the cloud",
        ),
        (
            a_rule("a", "session = 'holder'").replace("register", "reject"),
            "a.toml:10: rule a: session: action reject admits no child",
        ),
        (a_rule("a", "secret = 'CANARY'"), "a.toml:10: 'secret' looks like a secret"),
        (
            a_rule("a").replace("service", "servcie"),
            "a.toml:4: rule a: match.servcie: unknown key: did you mean 'service'?",
        ),
        (
            a_rule("a").replace("register", "admit"),
            "a.toml:7: rule[1].action must be one of register, ask, reject, ignore",
        ),
        (
            a_rule("a") + a_rule("a"),
            "a.toml:12: duplicate name a, also at a.toml:2: rename one of them",
        ),
    ],
)
def test_a_problem_has_a_line_a_key_and_a_remedy(tmp_path: Path, text: str, expected: str) -> None:
    (found,) = problems_of(tmp_path / "a.toml", text)
    assert found.startswith(expected)
    assert "CANARY" not in found


def test_all_problems_are_raised_together(tmp_path: Path) -> None:
    write(tmp_path / "a.toml", a_rule("a b") + a_rule("c", "zzz = 1"))
    write(tmp_path / "b.toml", "rule = ")
    with pytest.raises(ConfigError) as raised:
        load_rules([tmp_path])
    assert len(str(raised.value).splitlines()) == 3


def test_two_rules_on_one_line_are_two(tmp_path: Path) -> None:
    one = '{ name = "a", match = { model = "x" }, action = "ignore" }'
    (found,) = problems_of(tmp_path / "a.toml", f"rule = [{one}, {one}]")
    assert found == "a.toml:1: duplicate name a, also at a.toml:1: rename one of them"


@given(at=st.integers(0, len(RULE)), cut=st.integers(0, 9), put=st.text(max_size=3))
def test_a_mangled_file_is_read_or_has_problems(
    tmp_path_factory: pytest.TempPathFactory, at: int, cut: int, put: str
) -> None:
    path, problems = tmp_path_factory.getbasetemp() / "mangled.toml", Problems()
    text = RULE[:at] + put + RULE[at + cut :]
    path.write_bytes(text.encode(errors="surrogatepass"))
    found = read_rules([path], problems)
    assert all(str(problem).isprintable() for problem in problems.found)
    assert found.rules or problems.found


def test_rules_are_bounded(tmp_path: Path) -> None:
    text = "".join(
        f'[[rule]]\nname = "r{n}"\nmatch = {{ model = "m{n}" }}\naction = "ignore"\n'
        for n in range(1001)
    )
    (found,) = problems_of(tmp_path / "a.toml", text)
    assert "more than 1000 rules" in found


def test_findings_are_reported_where_they_stand(tmp_path: Path) -> None:
    path = write(tmp_path / "a.toml", a_rule("first") + a_rule("second"))
    problems = Problems()
    found = read_rules([path], problems)
    found.check(problems, {"alibaba": {"other"}})
    assert [(one.file, one.line, one.fatal) for one in problems.found] == [
        (path, 2, False),  # it lists no devices
        (path, 9, True),  # the product is not configured
        (path, 13, True),  # the first rule matches the same devices
        (path, 11, False),
        (path, 18, True),
    ]
    assert "rule second is never used: rule first" in problems.found[2].text


EXAMPLE = Path(__file__).parents[2] / "etc/gatewayd/rules.d/00-example.toml"


def test_the_example_sets_nothing() -> None:
    assert load_rules([EXAMPLE.parent]).rules == []


def test_the_example_uncommented_can_be_used(tmp_path: Path) -> None:
    write(tmp_path / "meters.list", "AB-1\n")
    write(tmp_path / "lamps.list", "a8:03:2a:be:54:dc\n")
    text = re.sub(r"(?m)^#(?=\S)", "", EXAMPLE.read_text())
    problems = Problems()
    found = read_rules([write(tmp_path / "a.toml", text)], problems)
    found.check(problems, {"alibaba": {"a1Xy9Zk3Q7f", "a1Bc2De3F4g", "a1Hj5Kl6M7n"}})
    assert [rule.name for rule in found.rules] == ["phones", "meters", "shelly", "lamps"]
    assert problems.found == []


# Lists: what is in them, and what can match nothing.


def warnings_of(directory: Path) -> list[str]:
    problems = Problems()
    read_installed([directory], problems)
    assert not problems.fatal
    return [str(problem).replace(f"{directory}/", "") for problem in problems.found]


def test_a_list_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "site.list").write_bytes(b"\xef\xbb\xbfAB-1\r\nAB-2\r\n")
    write(tmp_path / "a.toml", a_rule("meters", 'list = "site.list"'))
    (rule,) = load_rules([tmp_path]).rules
    assert rule.listed == {"AB-1", "AB-2"}


@pytest.mark.parametrize(
    "entry", ["AB-1 AB-2", "AB-1,AB-2", "AB\t1", "Zähler", "x" * (MAX_VALUE + 1), "\ufffd", '"AB"']
)
def test_an_entry_that_matches_nothing_is_reported_where_it_stands(
    tmp_path: Path, entry: str
) -> None:
    write(tmp_path / "site.list", f"# of 2026\n\nAB-1\n{entry}\n")
    write(tmp_path / "a.toml", a_rule("meters", 'list = "site.list"'))
    (warning,) = warnings_of(tmp_path)
    assert warning.startswith("site.list:4: warning: matches no device of rule meters: ")
    assert entry not in warning


@pytest.mark.parametrize("entry", ["A8:03:2A:BE:54:DC", "a8-03-2a-be-54-dc", "SN_1.2@x", "x" * 64])
def test_an_entry_that_may_match_is_not_reported(tmp_path: Path, entry: str) -> None:
    write(tmp_path / "site.list", entry)
    write(tmp_path / "a.toml", a_rule("meters", 'list = "site.list"'))
    assert warnings_of(tmp_path) == []


def test_a_field_that_is_hashed_into_the_name_may_hold_anything(tmp_path: Path) -> None:
    write(tmp_path / "site.list", "Zähler 7\n")
    hashed = a_rule("meters", 'list = "site.list"').replace("{serial}", "{serial|hash12}")
    write(tmp_path / "a.toml", hashed)
    assert warnings_of(tmp_path) == []


def test_an_empty_list_is_reported(tmp_path: Path) -> None:
    write(tmp_path / "site.list", "# none yet\n")
    write(tmp_path / "a.toml", a_rule("meters", 'list = "site.list"'))
    (warning,) = warnings_of(tmp_path)
    assert warning.startswith("site.list: warning: lists nothing")


def test_so_many_useless_entries_are_named_and_the_others_counted(tmp_path: Path) -> None:
    write(tmp_path / "site.list", "a b\n" * (MAX_USELESS + 5))
    write(tmp_path / "a.toml", a_rule("meters", 'list = "site.list"'))
    found = warnings_of(tmp_path)
    assert len(found) == MAX_USELESS + 1
    assert f"site.list:{MAX_USELESS + 1}: warning: 5 more" in found[-1]


def test_a_file_that_no_rule_names_is_reported(tmp_path: Path) -> None:
    write(tmp_path / "lists" / "site.list", "AB-1\n")
    write(tmp_path / "old.list", "AB-2\n")
    write(tmp_path / "a.toml", a_rule("meters", 'list = "lists/site.list"'))
    (warning,) = warnings_of(tmp_path)
    assert warning.startswith("old.list: warning: is not read")


def test_a_list_does_not_lead_out_of_its_directory(tmp_path: Path) -> None:
    (found,) = problems_of(tmp_path / "a.toml", a_rule("meters", 'list = "../site.list"'))
    assert found.startswith("a.toml:10: rule[1].list must not lead out")


def test_what_a_rule_lists_is_known_in_each_form_until_the_list_changes(tmp_path: Path) -> None:
    write(tmp_path / "a.list", "SN-7\n24:0A:C4:0C:2F:91\nC3D4E5F60718491A8B9CAABBCCDDEEFF\n")
    write(tmp_path / "10-a.toml", a_rule("one", 'list = "a.list"\n'))
    book = RuleBook(tuple(load_rules([tmp_path]).rules))

    def listed() -> list[str]:
        said = {"serial": "sn-7", "mac": "240ac40c2f91",
                "uuid": "c3d4e5f6-0718-491a-8b9c-aabbccddeeff", "name": "sn-8"}  # fmt: skip
        made = {kind: claim(kind, "pm", value) for kind, value in said.items()}
        return [kind for kind, one in made.items() if one and book.lists(one)]

    assert listed() == ["serial", "mac", "uuid"]
    write(tmp_path / "a.list", "SN-8\n")
    book.replace(tuple(load_rules([tmp_path]).rules))
    assert listed() == ["name"]


def test_the_rule_of_a_child_says_who_has_its_session(tmp_path: Path) -> None:
    write(tmp_path / "a.toml", a_rule("meters", 'session = "holder"') + a_rule("others"))
    book = RuleBook(tuple(load_rules([tmp_path]).rules))
    assert book.hands_over("meters")
    assert not book.hands_over("others")
    assert not book.hands_over(""), "of a child that an operator has approved without a rule"
    book.replace(())
    assert not book.hands_over("meters"), "of a rule that is no longer there"

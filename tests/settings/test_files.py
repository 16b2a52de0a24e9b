"""Files mask and extend one another, and a value is found where it was set."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatewayd.errors import ConfigError
from gatewayd.settings.files import (
    MAX_PASSED_OVER,
    STANDARD,
    ConfigPaths,
    Problems,
    drop_ins,
    lines,
    read,
    read_layers,
)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def paths(tmp_path: Path) -> ConfigPaths:
    return ConfigPaths.under(tmp_path)


def test_the_system_directories_belong_to_the_standard_file() -> None:
    assert ConfigPaths.of(STANDARD) == ConfigPaths()
    other = ConfigPaths.of(Path("/home/me/gw/demo.toml"))
    assert other.directories == (Path("/home/me/gw"),)
    assert other.required


def test_nothing_at_all_is_an_empty_configuration(paths: ConfigPaths) -> None:
    problems = Problems()
    assert read_layers(paths, problems).table == {}
    assert not problems.found


def test_a_file_that_was_named_must_exist(tmp_path: Path) -> None:
    problems = Problems()
    read_layers(ConfigPaths.of(tmp_path / "no.toml"), problems)
    with pytest.raises(ConfigError, match=r"no\.toml: cannot be read: No such file"):
        problems.check()


def test_drop_ins_extend_the_main_file_in_order_of_name(paths: ConfigPaths) -> None:
    usr, run, etc = paths.directories
    write(paths.main, "[log]\nlevel = 'debug'\n[x]\na = 1\nlist = [1, 2]\n")
    write(etc / "conf.d/10-a.toml", "[x]\na = 2\n[x.deep]\nb = 1\n")
    write(usr / "conf.d/20-b.toml", "[x]\na = 3\nlist = [3]\n[x.deep]\nc = 2\n")
    write(run / "conf.d/05-c.toml", "[x]\na = 4\n")
    found = read_layers(paths, Problems())
    assert found.table == {
        "log": {"level": "debug"},
        "x": {"a": 3, "list": [3], "deep": {"b": 1, "c": 2}},
    }
    assert found.where(("x", "a")) == (usr / "conf.d/20-b.toml", 2)
    assert found.where(("x", "deep", "b")) == (etc / "conf.d/10-a.toml", 4)
    assert found.where(("log", "level")) == (paths.main, 2)
    assert found.where(("gone",)) == (paths.main, 0)


def test_a_table_that_is_not_written_out_has_the_line_of_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("\n[messages.doors.b]\nhost = 'x'\n[messages.doors.a]\n[[z.y]]\nx = 1\n")
    document = read(path, Problems())
    assert document is not None
    assert document.where(("messages",)) == (path, 2)
    assert document.where(("messages", "doors")) == (path, 2)
    assert document.where(("z",)) == (path, 5)
    assert document.where(("gone",)) == (path, 0)


def test_a_table_and_a_scalar_replace_one_another(paths: ConfigPaths) -> None:
    etc = paths.directories[-1]
    write(paths.main, "x = 1\n[y]\na = 1\n")
    write(etc / "conf.d/1.toml", "y = 2\n[x]\nb = 1\n")
    assert read_layers(paths, Problems()).table == {"x": {"b": 1}, "y": 2}


def test_a_later_directory_masks_by_name(tmp_path: Path) -> None:
    usr, run, etc = (tmp_path / name for name in ("usr", "run", "etc"))
    for name in ("a", "b", "c", "d"):
        write(usr / f"{name}.toml", "x = 1")
    kept = write(run / "a.toml", "x = 2")
    write(etc / "b.toml", "")
    (etc / "c.toml").symlink_to("/dev/null")
    write(etc / "README", "")
    write(etc / ".hidden.toml", "x = 1")
    assert drop_ins([usr, run, etc, tmp_path / "gone"], Problems()) == [kept, usr / "d.toml"]


@pytest.mark.parametrize(
    ("content", "line", "text"),
    [
        (b"a = 1\nb = \n", 2, "not valid TOML: Invalid value: put a text in quotes"),
        (b"a = 1\na = 2\n", 2, "not valid TOML"),
        (b"a = 'x", 1, "not valid TOML"),
        (b"a = '\xff'", 0, "not UTF-8"),
        (b"a = " + b"[" * 5000, 0, "nested too deeply"),
        (b"a = \x1b[2J", 1, "not valid TOML"),
    ],
)
def test_invalid_toml_is_reported_with_its_line(
    tmp_path: Path, content: bytes, line: int, text: str
) -> None:
    path, problems = tmp_path / "a.toml", Problems()
    path.write_bytes(content)
    assert read(path, problems) is None
    (problem,) = problems.found
    assert (problem.file, problem.line) == (path, line)
    assert text in problem.text
    assert str(problem).isprintable()


def test_a_world_writable_file_is_refused(tmp_path: Path) -> None:
    path, problems = write(tmp_path / "a.toml", "a = 1"), Problems()
    path.chmod(0o666)
    assert read(path, problems) is None
    assert "chmod o-w" in problems.found[0].text


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    problems = Problems()
    (tmp_path / "a.toml").mkdir()
    (tmp_path / "b.toml").symlink_to(tmp_path / "b.toml")
    for path in drop_ins([tmp_path], Problems()):
        assert read(path, problems) is None
    assert [problem.text for problem in problems.found] == [
        "not a regular file",
        "cannot be read: Too many levels of symbolic links",
    ]


TEXT = '''\
top = 1
[a.b]
c = { d = 1 }
"e.f" = 2
list = [
  1,
  "x = 1",
]
long = """
[not.a.table]
no = 1
"""
after.that = 3
[[rule]]
name = "x"
[rule.match]
service = "y"
[[ rule ]]
name = "z"
[[deep.door.topics]]
name = "1"
[[deep.door.topics]]
[deep.door.topics.values.heat]
path = "2"
'''


def test_lines_are_found() -> None:
    assert dict(lines(TEXT)) == {
        ("top",): 1,
        ("a", "b"): 2,
        ("a", "b", "c"): 3,
        ("a", "b", "e.f"): 4,
        ("a", "b", "list"): 5,
        ("a", "b", "long"): 9,
        ("a", "b", "after", "that"): 13,
        ("rule",): 14,
        ("rule", 0): 14,
        ("rule", 0, "name"): 15,
        ("rule", 0, "match"): 16,
        ("rule", 0, "match", "service"): 17,
        ("rule", 1): 18,
        ("rule", 1, "name"): 19,
        ("deep", "door", "topics"): 20,
        ("deep", "door", "topics", 0): 20,
        ("deep", "door", "topics", 0, "name"): 21,
        ("deep", "door", "topics", 1): 22,
        ("deep", "door", "topics", 1, "values", "heat"): 23,
        ("deep", "door", "topics", 1, "values", "heat", "path"): 24,
    }


# Files that are passed over, and files that other editors write.


def warnings_of(problems: Problems) -> list[tuple[str, str]]:
    assert not problems.fatal
    return [(problem.file.name, problem.text.partition(":")[0]) for problem in problems.found]


@pytest.mark.parametrize(
    "name",
    ["50-site.conf", "50-site.TOML", "50-site.toml~", "50-site.toml.dpkg-old", "#50-site.toml#",
     ".50-site.toml", ".50-site.toml.swp", "50-site.toml.bak", "50-site", "50-site.yaml"],
)  # fmt: skip
def test_a_file_that_is_passed_over_is_named(paths: ConfigPaths, name: str) -> None:
    etc, problems = paths.directories[-1], Problems()
    write(etc / "conf.d" / name, "[log]\nlevel = 'debug'\n")
    assert read_layers(paths, problems).table == {}
    assert warnings_of(problems) == [(name, "is not read")]


def test_what_is_meant_to_be_passed_over_is_not_named(paths: ConfigPaths) -> None:
    etc, problems = paths.directories[-1], Problems()
    for name in ("README", "README.md", ".gitignore", ".placeholder", "50-site.toml"):
        write(etc / "conf.d" / name, "")
    read_layers(paths, problems)
    assert not problems.found


def test_so_many_are_named_and_the_others_counted(paths: ConfigPaths) -> None:
    etc, problems = paths.directories[-1], Problems()
    for number in range(MAX_PASSED_OVER + 7):
        write(etc / "conf.d" / f"{number:02}.conf", "")
    read_layers(paths, problems)
    assert len(problems.found) == MAX_PASSED_OVER + 1
    assert problems.found[-1].text.startswith("7 more")


def test_a_directory_that_is_a_file_is_a_problem(paths: ConfigPaths) -> None:
    problems = Problems()
    write(paths.directories[-1] / "conf.d", "")
    read_layers(paths, problems)
    assert [problem.text for problem in problems.found] == ["cannot be read: Not a directory"]


def test_a_name_that_a_terminal_would_obey_is_escaped(paths: ConfigPaths) -> None:
    etc, problems = paths.directories[-1], Problems()
    write(etc / "conf.d" / "a\x1b[2J.conf", "")
    read_layers(paths, problems)
    (problem,) = problems.found
    assert str(problem).isprintable()


def test_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path, problems = tmp_path / "a.toml", Problems()
    path.write_bytes(b"\xef\xbb\xbf[log]\r\nlevel = 'debug'\r\n")
    document = read(path, problems)
    assert not problems.found
    assert document is not None
    assert document.table == {"log": {"level": "debug"}}
    assert document.where(("log", "level")) == (path, 2)

"""What may be configured of the sources that ask on interfaces."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatewayd import config
from gatewayd.plugins import Plugins
from gatewayd.settings.files import ConfigPaths

ONE = '[discovery.{name}]\nkind = "{kind}"\ninterfaces = {interfaces}\n'


def problems(tmp_path: Path, *sections: tuple[str, str, list[str]]) -> list[str]:
    main = tmp_path / "gatewayd.toml"
    main.write_text(
        "".join(
            ONE.format(name=name, kind=kind, interfaces=interfaces)
            for name, kind, interfaces in sections
        )
    )
    paths = ConfigPaths(main, (tmp_path,))
    return [str(one) for one in config.check(paths, Plugins.installed()) if one.fatal]


@pytest.mark.parametrize("kind", ["bacnet", "ssdp", "profinet"])
def test_each_interface_is_asked_on_by_one_section_of_a_kind(tmp_path: Path, kind: str) -> None:
    (found,) = problems(tmp_path, ("a", kind, ["lan0", "lan1"]), ("b", kind, ["lan2", "lan1"]))
    assert found == (
        f"{tmp_path}/gatewayd.toml:6: discovery.b.interfaces: [discovery.a] asks on lan1 by "
        f"{kind}, too: name it in one of them"
    )


def test_other_interfaces_and_other_kinds_are_no_matter(tmp_path: Path) -> None:
    sections = ("a", "bacnet", ["lan0", "lan0"]), ("b", "bacnet", ["lan1"]), ("c", "knx", ["lan0"])
    assert not problems(tmp_path, *sections)

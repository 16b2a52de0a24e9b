"""[site]: a share or etcd, and what of both is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatewayd.admission.ownership import ALONE, Share
from gatewayd.config import check
from gatewayd.plugins import Plugins
from gatewayd.settings.files import ConfigPaths
from gatewayd.site.settings import SiteSettings, endpoint, parse_endpoint

THREE = tuple(f"https://192.0.2.{number}:2379" for number in (1, 2, 3))


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("https://192.0.2.1:2379", ("192.0.2.1", 2379)),
        ("https://etcd-1.example/", ("etcd-1.example", 2379)),
        ("https://[2001:db8::1]:12379", ("2001:db8::1", 12379)),
    ],
)
def test_an_endpoint_is_read(text: str, parsed: tuple[str, int]) -> None:
    assert parse_endpoint(text) == parsed
    assert endpoint(text) == ""


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:2379",
        "https://root:secret@192.0.2.1:2379",
        "https://192.0.2.1:0",
        "https://192.0.2.1:65536",
        "https://192.0.2.1:2379/v3",
        "https://bad host:2379",
        "192.0.2.1:2379",
        "https://192.0.2.1:\u0662\u0663",
    ],
)
def test_what_is_no_endpoint_is_refused_without_repeating_it(text: str) -> None:
    assert parse_endpoint(text) is None
    assert "https://HOST:PORT" in endpoint(text)
    assert "secret" not in endpoint(text).replace("credential", "")


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (SiteSettings(share="1/3", endpoints=THREE, name="s"), "exclude each other"),
        (SiteSettings(endpoints=THREE, gateway="gw"), "set name"),
        (SiteSettings(name="s"), "name is for endpoints"),
        (SiteSettings(ca_file=Path("/ca")), "ca_file is for endpoints"),
        (SiteSettings(endpoints=(*THREE, "https://192.0.2.1"), name="s"), "one member twice"),
        (SiteSettings(endpoints=THREE, name="s", user="gw"), "needs a password"),
        (SiteSettings(endpoints=THREE, name="s", password_credential="p"), "needs a password"),
        (SiteSettings(endpoints=THREE, name="s", certificate_file=Path("/c")), "needs a key"),
        (
            SiteSettings(
                endpoints=THREE, name="s", user="u", password_credential="p",
                password_file=Path("/p"),
            ),
            "has both password_credential and password_file",
        ),
        (
            SiteSettings(
                endpoints=tuple(f"https://192.0.2.{n}" for n in range(1, 11)), name="s"
            ),
            "more than 9",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_refused(settings: SiteSettings, text: str) -> None:
    assert [one for one in settings.problems() if text in one]


def test_what_fits_together_is_accepted_and_few_members_are_warned_of() -> None:
    full = SiteSettings(
        endpoints=THREE, name="s", gateway="gw", user="gw", password_credential="p",
        ca_file=Path("/ca"), certificate_file=Path("/c"), private_key_credential="k",
    )  # fmt: skip
    assert not [*full.problems()]
    assert not [*full.warnings()]
    assert "no child can change" in str([*SiteSettings(endpoints=THREE[:1]).warnings()])
    assert "even number" in str([*SiteSettings(endpoints=THREE[:2]).warnings()])


def test_without_etcd_the_share_says_whose_a_child_is() -> None:
    assert SiteSettings().ownership() is ALONE
    assert SiteSettings(share="2/3").ownership() == Share(2, 3)


def test_a_mistake_is_reported_with_its_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "gatewayd.toml").write_text('[site]\nname = "s"\nendpoints = ["http://a:2379"]\n')
    found = check(ConfigPaths.of(tmp_path / "gatewayd.toml"), Plugins.installed())
    (problem,) = [one for one in found if "https://HOST:PORT" in str(one)]
    assert str(problem).startswith(f"{tmp_path}/gatewayd.toml:3: site.endpoints")

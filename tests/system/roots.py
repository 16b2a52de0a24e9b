"""Root file systems of Debian releases, small and bootable; made once, and kept in .cache/roots.

Packages come from where this machine gets its own: its mirror, its proxies.
"""

from __future__ import annotations

import fcntl
import hashlib
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

CACHE = Path(__file__).parents[2] / ".cache/roots"
ATTEMPTS = 2

RELEASES = {
    "bookworm": (
        "libtss2-esys-3.0.2-0", "libtss2-rc0", "libtss2-mu0", "libtss2-tcti-swtpm0",
    ),
    "trixie": (
        "libtss2-esys-3.0.2-0t64", "libtss2-rc0t64", "libtss2-mu-4.0.1-0t64",
        "libtss2-tcti-swtpm0t64",
    ),
}  # fmt: skip
"""Debian 12 and 13, and what their systemd opens a TPM with."""

BASE = (
    "systemd", "systemd-sysv", "dbus", "dbus-bin", "iproute2", "polkitd", "debconf",
)  # fmt: skip
"""What a gateway has besides what gatewayd depends on."""

HOSTS = "127.0.0.1 localhost\\n::1 localhost\\n127.0.1.1 gateway\\n"
OPTIONS = (
    '--aptopt=Apt::Install-Recommends "false"',
    # what nobody reads in a test; the packages under test are unpacked whole
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    '--customize-hook=rm "$1/etc/dpkg/dpkg.cfg.d/99mmdebstrap"',
    f"--customize-hook=printf '{HOSTS}' >\"$1/etc/hosts\"",
    '--customize-hook=echo gateway >"$1/etc/hostname"',
    '--customize-hook=rm -f "$1/etc/machine-id" && touch "$1/etc/machine-id"',
    '--customize-hook=rm -rf "$1"/var/cache/apt/*.bin',
)
SMALL = ("--variant=minbase",)
_UNPACK = "tar --directory={other} --exclude=./dev --numeric-owner --create ."
_INSTALL = (
    'env --unset=TMPDIR APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"'
    ' apt-get -qqy -o DPkg::Chroot-Directory="$1" install'
)
LARGE = (
    "--variant=custom",
    f'--setup-hook={_UNPACK} | tar --directory="$1" --numeric-owner --extract',
    f"--customize-hook={_INSTALL} {{packages}}",
)
"""A root begins with the essential packages, or with all of another, as mmdebstrap(1) says."""
SPARE = "var/spare"
FETCH = (
    f'--customize-hook=mkdir "$1/{SPARE}" && cd "$1/{SPARE}"'
    ' && APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get -qq download {}'
)
_SETTING = re.compile(r"^Acquire::(https?|Retries|ForceIPv)\b.*")


def root(
    release: str,
    packages: Iterable[str],
    use: str = "gateway",
    spare: Sequence[str] = (),
    other: Path | None = None,
) -> Path:
    """Return the root of a release with these packages; made now if there is none.

    use: what it is for; an older one for the same is removed.  Where another process is making one,
    it is waited for.  spare: packages that are not installed, but ready to be: see `spares`.
    other: a root of the release, whose packages this one has, too.
    Raises RuntimeError where it cannot be made, with what was complained of.
    """
    wanted = sorted({*BASE, *RELEASES[release], *packages})
    begin = SMALL if other is None else _copy_of(other, wanted)
    options = (*begin, *OPTIONS, *((FETCH.format(" ".join(spare)),) if spare else ()))
    key = hashlib.sha256(repr((release, wanted, options)).encode()).hexdigest()[:12]
    included = (f"--include={','.join(wanted)}",) if other is None else ()
    kept = CACHE / f"{use}-{release}-{key}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{use}-{release}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            _replace(kept, release, (*options, *included), f"{use}-{release}-*")
    return kept


def _copy_of(other: Path, packages: Sequence[str]) -> tuple[str, ...]:
    return tuple(one.format(other=other, packages=" ".join(packages)) for one in LARGE)


def spares(root: Path, names: Iterable[str]) -> list[Path]:
    """Return those of these packages that a root has ready without having them installed."""
    return [path for name in names for path in (root / SPARE).glob(f"{name}_*.deb")]


def _replace(kept: Path, release: str, options: Sequence[str], older: str) -> None:
    """Make a root.  older: the pattern of those whose place it takes, or that are unfinished."""
    for old in CACHE.glob(older):
        _unmount_below(old)
        shutil.rmtree(old)
    unfinished = kept.with_suffix(".new")
    _make(release, options, unfinished)
    unfinished.rename(kept)


def _unmount_below(directory: Path) -> None:
    """Unmount what an mmdebstrap that was killed has left behind."""
    points = (line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines())
    for point in sorted((p for p in points if Path(p).is_relative_to(directory)), reverse=True):
        subprocess.run(["umount", "--lazy", point], check=True)


def dependencies(package: Path) -> list[str]:
    """Return what a package depends on and recommends: the first of each choice."""
    fields = ("Depends", "Recommends")
    return names(",".join(_told("dpkg-deb", "--field", str(package), field) for field in fields))


def names(relations: str) -> list[str]:
    """Return the packages of a field like Depends, the first of each choice."""
    return [name for name in map(_name, relations.split(",")) if name]


def _name(choice: str) -> str:
    """Return "python3" of "python3:any (>= 3.11) | other"."""
    return re.split(r"[\s:(|]", choice.strip(), maxsplit=1)[0]


def _make(release: str, options: Sequence[str], directory: Path) -> None:
    """Make a root; once more where that fails, as while a mirror is being brought up to date."""
    command = [
        "mmdebstrap", *options, *(f"--aptopt={line}" for line in _apt_settings()),
        release, str(directory), *_sources(release),
    ]  # fmt: skip
    for _ in range(ATTEMPTS):
        made = subprocess.run(
            command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        if not made.returncode:
            return
        _unmount_below(directory)
        shutil.rmtree(directory, ignore_errors=True)
    raise RuntimeError(f"no root of {release}:\n{made.stdout[-1000:]}\n{made.stderr[-1000:]}")


def _sources(release: str) -> list[str]:
    """Return the mirror that this machine uses for its own release; [] for mmdebstrap's choice."""
    own = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    told = _told("apt-get", "indextargets", "--format", "$(RELEASE) $(COMPONENT) $(REPO_URI)",
                 "Created-By: Packages", "Origin: Debian")  # fmt: skip
    lines = [line.split(" ", 2) for line in told.splitlines()]
    mirrors = [uri for name, component, uri in lines if (name, component) == (own, "main")]
    return [f"deb {mirrors[0]} {release} main"] if mirrors else []


def _apt_settings() -> list[str]:
    """Return how this machine fetches packages, as lines of apt.conf(5)."""
    dump = _told("apt-config", "dump", "--no-empty", "--format", '%F "%v";%n', "Acquire")
    return [line for line in dump.splitlines() if _SETTING.match(line)]


def _told(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout

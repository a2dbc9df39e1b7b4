"""teleport-lite upgrade."""

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from teleport_lite.agent import knowledge
from teleport_lite.cli.exit import complain, warn
from teleport_lite.cli.show import Format, emit, pairs, safe
from teleport_lite.cli.teleport.install import DryRun, has_systemd, say
from teleport_lite.config.address import parse_address
from teleport_lite.config.load import Flags, default_file, for_start, invited
from teleport_lite.config.model import WEB_PORT, Config
from teleport_lite.errors import Conflict, Error, NotFound, Unavailable
from teleport_lite.plugin.invited import gather
from teleport_lite.release.assets import release_keys
from teleport_lite.release.attempts import failed, under_way
from teleport_lite.release.fetch import Origin, Progress, Wanted
from teleport_lite.release.here import installed
from teleport_lite.release.layout import Layout
from teleport_lite.release.sums import program_name
from teleport_lite.release.systemd import Systemd
from teleport_lite.release.upgrade import READY, Failure, Standing, Upgrader, standing
from teleport_lite.release.version import Version

# What --check ends with if there is something to do; none of the codes of errors (cli/exit.py).
UPGRADE_IS_THERE = 10
# Asked one after the other until one answers; each may take a minute.
_MOST_PROXIES = 5
_WORDS = {
    Standing.UP_TO_DATE: "this is the version that is wanted",
    Standing.BEHIND: "an upgrade is there",
    Standing.AHEAD: "this is newer than what is wanted, and stays",
    Standing.FAILED: "what is wanted was tried here and failed",
    Standing.FREE: "no version in particular is wanted",
}

Check = Annotated[
    bool, typer.Option("--check", help="Only look; exit code 10 if an upgrade is there.")
]
Which = Annotated[
    str, typer.Option("--version", help="Take this one. [default: what the cluster wants]")
]
Channel = Annotated[str, typer.Option(help="Which channel of the cluster to follow.")]
Proxy = Annotated[str, typer.Option(help="Proxy to ask: host[:port]. [default: of the config]")]
Base = Annotated[str, typer.Option(help="Take releases of https://HOST/PATH, not of a proxy.")]
ConfigFile = Annotated[
    Path | None,
    typer.Option("-c", "--config", help="Config file. [default: /etc/teleport-lite.yaml]"),
]
Timeout = Annotated[
    float, typer.Option(min=1, max=3600, help="Seconds for services to be ready, else back.")
]
Downgrade = Annotated[bool, typer.Option("--allow-downgrade", help="Take an older version too.")]
NoRestart = Annotated[
    bool, typer.Option("--no-restart", help="Leave running services on the old version.")
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="For timers: no word if there is nothing to do.")
]
Form = Annotated[Format, typer.Option("--format", help="Form of what --check says.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What was typed of where to look and for what."""

    version: Version | None
    channel: str
    proxy: str
    base: str
    file: Path
    downgrade: bool

    def origins(self) -> list[Origin]:
        """Who may be asked, best first. Raises NotFound if nobody is known."""
        if self.base:
            return [Origin.of(self.base)]
        if self.proxy:
            return [Origin(parse_address(self.proxy, WEB_PORT))]
        known = proxies_of(_config(self.file))
        if known:
            return [Origin(address) for address in known[:_MOST_PROXIES]]
        raise NotFound(
            "no proxy of the cluster is known here",
            hint="teleport-lite upgrade --proxy=proxy.example.com:3080",
        )

    def wanted(self, origin: Origin) -> Wanted:
        if self.version is not None:
            return Wanted(self.version, critical=False)
        return origin.latest() if self.base else origin.wanted(self.channel)


def upgrade(
    check: Check = False,
    version: Which = "",
    channel: Channel = "default",
    proxy: Proxy = "",
    base: Base = "",
    config: ConfigFile = None,
    timeout: Timeout = READY,
    allow_downgrade: Downgrade = False,
    no_restart: NoRestart = False,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    format: Form = Format.TEXT,
) -> int:
    """Become the version that the cluster wants, or stay the one that works."""
    file = config or default_file()
    wish = Wish(
        version=Version.parse(version) if version else None,
        channel=channel,
        proxy=proxy,
        base=base,
        file=file,
        downgrade=allow_downgrade,
    )
    upgrader = _upgrader(file, timeout, not no_restart)
    if check:
        return _check(upgrader, wish, format)
    # It may go on over a connection that the restart of a service ends, and must come to its end:
    # whoever dies here leaves a version that does not start, and nobody who goes back.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        return _upgrade(upgrader, wish, dry_run=dry_run, quiet=quiet)
    except KeyboardInterrupt:
        _tell_unfinished(upgrader.layout.lib)
        raise
    except Conflict as why:
        if not quiet:
            raise
        say(f"{why.message}, so this is not the time")
        return 0


def _upgrader(file: Path, ready: float, restart: bool) -> Upgrader:
    here = installed()
    if here is None:
        raise NotFound(
            "this program is not installed, so there is nothing to upgrade",
            hint="teleport-lite install self",
        )
    return Upgrader(
        here=here,
        keys=release_keys(),
        say=say,
        systemd=Systemd() if has_systemd(Layout(here.prefix)) else None,
        config=file if os.path.lexists(file) else None,
        ready=ready,
        restart=restart,
        progress=_progress(),
    )


def _check(upgrader: Upgrader, wish: Wish, format: Format) -> int:
    origin, wanted = _asked(wish)
    state = standing(upgrader.current, wanted.version, failed(upgrader.layout.lib))
    facts = {
        "current": str(upgrader.current),
        "wanted": str(wanted.version or ""),
        "critical": wanted.critical,
        "from": origin.address,
        "state": str(state),
    }
    rows = [
        ("Current", facts["current"]),
        ("Wanted", f"{facts['wanted'] or 'none'}{', critical' if wanted.critical else ''}"),
        ("From", origin.address),
        ("State", _WORDS[state]),
    ]
    emit(facts, format, lambda: pairs((str(name), str(value)) for name, value in rows))
    return UPGRADE_IS_THERE if state in (Standing.BEHIND, Standing.FAILED) else 0


def _upgrade(upgrader: Upgrader, wish: Wish, *, dry_run: bool, quiet: bool) -> int:
    unfinished = None if dry_run else upgrader.finish()
    if unfinished is not None:
        return _told(unfinished)
    origin, wanted = _asked(wish)
    known = () if wish.version else failed(upgrader.layout.lib)
    state = standing(upgrader.current, wanted.version, known)
    taken = state is Standing.BEHIND or (
        state is Standing.AHEAD and (wish.downgrade or wish.version is not None)
    )
    if not taken or wanted.version is None:
        if not quiet:
            version = f" ({wanted.version})" if wanted.version else ""
            say(f"nothing changed: {_WORDS[state]}{version}")
        return 0
    if dry_run:
        return _would(upgrader, origin, wanted.version)
    critical = ", which the cluster calls critical" if wanted.critical else ""
    say(f"upgrade from {upgrader.current} to {wanted.version}{critical}")
    failure = upgrader.upgrade(origin, wanted.version, down=wish.downgrade)
    return 0 if failure is None else _told(failure)


def _asked(wish: Wish) -> tuple[Origin, Wanted]:
    """The first that answers. Raises what the last one had to say."""
    last: Error | None = None
    for origin in wish.origins():
        try:
            return origin, wish.wanted(origin)
        except (NotFound, Unavailable) as why:
            if last is not None:
                warn(last.message)
            last = why
    assert last is not None
    raise last


def _would(upgrader: Upgrader, origin: Origin, version: Version) -> int:
    say(f"would fetch {program_name(str(version))} from {origin.address}")
    say(f"would switch {upgrader.layout.lib / 'current'} to {version} from {upgrader.current}")
    for unit in upgrader.running():
        say(f"would restart {unit}")
    return 0


def _tell_unfinished(lib: Path) -> None:
    """For who has pressed Ctrl-C."""
    attempt = under_way(lib)
    if attempt is not None:
        complain(
            f"the upgrade from {attempt.old} to {attempt.new} is half done, and nobody watches it",
            "teleport-lite upgrade, which goes on with it",
        )


def _told(failure: Failure) -> int:
    with suppress(OSError):  # the terminal is gone
        for line in failure.lines:
            sys.stderr.write(f"  | {safe(line)}\n")
    again = f"teleport-lite upgrade --version={failure.version}"
    complain(
        f"version {failure.version} is not in use: {failure.why}",
        f"journalctl -u {failure.unit}" if failure.unit else again,
    )
    return 1


# Where the cluster is


def proxies_of(config: Config) -> Sequence[str]:
    """Web addresses of proxies, host:port: the configured one, else those that auth told of."""
    if config.proxy_server:
        return [config.proxy_server]
    try:
        said = knowledge.load(config.data_dir)
    except Error as why:
        warn(f"what auth said last can not be read: {why.message}")
        return []
    found: dict[str, None] = {}
    for place in said.proxies if said else ():
        for address in place.public or [place.address]:
            if address:
                found[parse_address(address, WEB_PORT)] = None
    return list(found)


def _config(file: Path) -> Config:
    path = file if os.path.lexists(file) else None
    guests = invited(path)
    book = gather(directories=guests.directories, distributions=guests.distributions).book
    return for_start(path, Flags(), book)


def _progress() -> Progress:
    """A line that is written over, for people only."""
    if not sys.stderr.isatty():
        return lambda _count, _size: None

    told = -1

    def show(count: int, size: int) -> None:
        nonlocal told
        if count != size and count >> 20 == told:  # a line for each MiB is enough
            return
        told = count >> 20
        whole = f" of {size / 1e6:.1f}" if size else ""
        end = "\r\033[K" if count == size else ""
        with suppress(OSError):  # the terminal is gone
            sys.stderr.write(f"\rfetching {count / 1e6:.1f}{whole} MB{end}")
            sys.stderr.flush()

    return show

"""The flags of `start` laid over a Config: what was typed wins over what was written."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ParamSpec, TypeVar

from teleport_lite.config import model
from teleport_lite.config.address import parse_address, parse_advertised, parse_ip, with_host
from teleport_lite.config.build import check_runnable, storage_in
from teleport_lite.config.flags import Flags
from teleport_lite.config.model import Config
from teleport_lite.config.path import absolute_path, data_directory
from teleport_lite.config.token_source import TokenSource
from teleport_lite.errors import Malformed
from teleport_lite.model.labels import parse_labels
from teleport_lite.model.names import HOST_NAME, checked
from teleport_lite.model.system_role import RoleBook

P = ParamSpec("P")
T = TypeVar("T")


def with_flags(config: Config, flags: Flags, book: RoleBook) -> Config:
    """`config` as the flags want it. Raises Malformed beginning with the flag."""
    config = _machine(config, flags)
    config = _cluster(config, flags)
    config = _roles(config, flags, book)
    config = _listen(config, flags)
    if flags.labels:
        more = flagged("--labels", parse_labels, flags.labels)
        labels = {**config.node.labels, **more}
        taken = [each.name for each in config.node.commands if each.name in labels]
        if taken:
            raise Malformed(f"--labels: {taken[0]} is a label command of the config file")
        config = replace(config, node=replace(config.node, labels=labels))
    if flags.debug:
        config = replace(config, debug=True, log=replace(config.log, severity="DEBUG"))
    return replace(config, insecure=config.insecure or flags.insecure)


def _machine(config: Config, flags: Flags) -> Config:
    if flags.nodename:
        name = flagged(
            "--nodename",
            checked,
            HOST_NAME,
            flags.nodename,
            "node name",
            example="web-1",
        )
        config = replace(config, nodename=name)
    if flags.data_dir:
        config = _moved(config, flagged("--data-dir", data_directory, _here(flags.data_dir)))
    if flags.pid_file:
        config = replace(
            config, pid_file=flagged("--pid-file", absolute_path, _here(flags.pid_file))
        )
    if flags.diag_addr:
        address = flagged("--diag-addr", parse_address, flags.diag_addr, 3000, listen=True)
        config = replace(config, diag_addr=address)
    if flags.advertise_ip:
        address = flagged("--advertise-ip", parse_advertised, flags.advertise_ip)
        config = replace(config, advertise_ip=address)
    return config


def _here(text: str) -> str:
    """A path on a command line may be relative; in a file it would mean nothing."""
    return text if text.startswith("/") else f"{Path.cwd()}/{text}"


def _moved(config: Config, data_dir: Path) -> Config:
    """State follows the data directory unless the file says where it is."""
    usual, now, given = storage_in(data_dir), config.storage, config.given
    path = now.path if "teleport.storage.path" in given else usual.path
    keyring = now.keyring if "teleport.storage.keyring" in given else usual.keyring
    if keyring.is_relative_to(data_dir):
        raise Malformed(f"--data-dir: the keyring {keyring} must be outside {data_dir}")
    return replace(config, data_dir=data_dir, storage=replace(now, path=path, keyring=keyring))


def _cluster(config: Config, flags: Flags) -> Config:
    if flags.auth_servers and flags.proxy:
        raise Malformed("--proxy: --auth-server is given too, one of them is enough")
    if flags.token:
        config = replace(config, token=flagged("--token", TokenSource.parse, flags.token))
    if flags.auth_servers:
        each = [one.strip() for text in flags.auth_servers for one in text.split(",")]
        servers = tuple(flagged("--auth-server", parse_address, one, 3025) for one in each)
        config = replace(config, auth_servers=servers, proxy_server="")
    if flags.proxy:
        proxy = flagged("--proxy", parse_address, flags.proxy, model.WEB_PORT)
        config = replace(config, auth_servers=(), proxy_server=proxy)
    pins = tuple(pin.strip() for text in flags.ca_pins for pin in text.split(",") if pin.strip())
    return replace(config, ca_pins=pins) if pins else config


def _roles(config: Config, flags: Flags, book: RoleBook) -> Config:
    if flags.roles:
        names = frozenset(flagged("--roles", book.parse, flags.roles))
        for name in names:
            flagged("--roles", check_runnable, book.get(name))
        config = replace(config, roles=names)
    if not config.roles:
        place = f"{config.source}: " if config.source else ""
        why = "every service is disabled, enable one or give --roles"
        raise Malformed(place + why, hint="docs/config.md")
    return config


def _listen(config: Config, flags: Flags) -> Config:
    """--listen-ip moves every listener, also those the file wrote out."""
    if not flags.listen_ip:
        return config
    ip = flagged("--listen-ip", parse_ip, flags.listen_ip)

    def moved(address: str) -> str:
        return with_host(address, ip) if address else ""

    proxy = replace(
        config.proxy,
        web_listen_addr=moved(config.proxy.web_listen_addr),
        listen_addr=moved(config.proxy.listen_addr),
        tunnel_listen_addr=moved(config.proxy.tunnel_listen_addr),
    )
    return replace(
        config,
        proxy=proxy,
        auth=replace(config.auth, listen_addr=moved(config.auth.listen_addr)),
        node=replace(config.node, listen_addr=moved(config.node.listen_addr)),
    )


def flagged(name: str, check: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
    """What `check` makes of `given`; its Malformed gets the flag's name in front."""
    try:
        return check(*given, **named)
    except Malformed as why:
        raise Malformed(f"{name}: {why.message}", hint=why.hint) from None

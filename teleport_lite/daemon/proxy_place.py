"""Under which addresses a proxy is found. Decided once its ports are known."""

from collections.abc import Sequence

from teleport_lite.config.address import join_address, split_address
from teleport_lite.config.model import Config
from teleport_lite.net.listen import own_address
from teleport_lite.proto.stream import ProxyPlace

ANY = ("", "0.0.0.0", "::")


def place_of(config: Config, towards: str) -> ProxyPlace:
    """`towards` is where auth is: our own address is the one that leads there."""
    proxy = config.proxy
    host = own_host(config, towards)
    web, ssh = proxy.web_listen_addr, proxy.listen_addr or proxy.web_listen_addr
    tunnel = web if proxy.multiplexed else proxy.tunnel_listen_addr
    public = proxy.public_addrs or (_at(host, web),)
    known = split_address(public[0])[0]
    tunnel_public: Sequence[str] = proxy.tunnel_public_addrs
    if not tunnel_public and not proxy.multiplexed:
        tunnel_public = [_at(known, tunnel)]
    same = split_address(ssh)[1] == split_address(web)[1]
    ssh_public = proxy.ssh_public_addrs or (public if same else (_at(known, ssh),))
    return ProxyPlace(
        address=_at(own_host(config, towards, tunnel), tunnel),
        public=list(public),
        tunnel_public=list(tunnel_public),
        ssh_public=list(ssh_public),
    )


def own_host(config: Config, towards: str, listen: str = "") -> str:
    """The host others reach us at: what is advertised, what we listen on, or what leads to auth."""
    host = split_address(listen or config.proxy.web_listen_addr)[0]
    if config.advertise_ip:
        return _host(config.advertise_ip)
    if host in ANY:
        return own_address(towards) or "127.0.0.1"
    return host


def names_of(config: Config) -> tuple[str, ...]:
    """What the host certificate of a proxy must say beside its own names: how it is reached.

    People's ssh compares them with what they typed; no IPv6 addresses, as everywhere.
    """
    proxy = config.proxy
    every = (*proxy.public_addrs, *proxy.ssh_public_addrs, *proxy.tunnel_public_addrs)
    hosts = [split_address(each)[0] for each in every]
    return tuple(dict.fromkeys(host for host in hosts if ":" not in host))


def _at(host: str, listen: str) -> str:
    return join_address(host, split_address(listen)[1])


def _host(advertised: str) -> str:
    """Of `host`, `host:port`, `::1` or `[::1]:port`."""
    with_port = advertised.startswith("[") or advertised.count(":") == 1
    return split_address(advertised)[0] if with_port else advertised

"""proxy_service, as Config wants it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from teleport_lite.config import model
from teleport_lite.config.address import parse_address, split_address
from teleport_lite.config.path import absolute_path
from teleport_lite.config.schema.proxy import CHANNEL
from teleport_lite.config.section import Reader
from teleport_lite.config.yaml import Items, Node, Scalar, show
from teleport_lite.errors import Malformed

Values = dict[str, Any]  # what Reader made of the section: each value has its Field's type

SECTION = "proxy_service"
CHANNELS = f"{SECTION}.automatic_upgrades_channels"
CHANNEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}(/[A-Za-z0-9_-]{1,64}){0,3}")
VERSION = re.compile(r"v?([0-9]{1,5}\.[0-9]{1,5}\.[0-9]{1,5}(-[A-Za-z0-9.]{1,32})?)")
EMAIL = re.compile(r"[^@\s\x00-\x1f]{1,64}@[A-Za-z0-9.-]{1,253}")


def proxy_config(
    reader: Reader, values: Values, written: Mapping[str, Node], version: str
) -> model.ProxyConfig:
    """v1 opens a port for SSH and one for tunnels by itself; v2 and v3 share the web port.

    `written` is the section as it stands in the file.
    """
    own_ports = version == "v1"
    web = values["web_listen_addr"]
    ssh = values["listen_addr"] or ("0.0.0.0:3023" if own_ports else "")
    tunnel = values["tunnel_listen_addr"] or ("0.0.0.0:3024" if own_ports else "")
    public = _public(written.get("public_addr"), web)
    pairs = _keypairs(reader, values)
    return model.ProxyConfig(
        web_listen_addr=web,
        listen_addr=ssh,
        tunnel_listen_addr=tunnel,
        public_addrs=public,
        ssh_public_addrs=_public(written.get("ssh_public_addr"), ssh or web),
        tunnel_public_addrs=_public(written.get("tunnel_public_addr"), tunnel or web),
        https_keypairs=pairs,
        https_keypairs_reload=values["https_keypairs_reload_interval"] or None,
        acme=_acme(reader, values["acme"] or {}, public, beside_pairs=bool(pairs)),
        proxy_protocol=values["proxy_protocol"],
        channels=_channels(reader, written.get("automatic_upgrades_channels")),
        releases_dir=_releases_dir(reader, values["releases_dir"]),
    )


def dns_name(address: str) -> str:
    """The host of host:port if a certificate authority would certify it: a name with a dot."""
    host = split_address(address)[0]
    last = host.rpartition(".")[2]
    return host if "." in host and ":" not in host and not last.isdigit() else ""


def _public(node: Node | None, listen: str) -> tuple[str, ...]:
    """A public address without a port has the one that we listen on. The Reader has checked all."""
    items = node.items if isinstance(node, Items) else [] if node is None else [node]
    texts = [one.text for one in items if isinstance(one, Scalar) and one.text]
    port = split_address(listen)[1] or None
    return tuple(parse_address(text, port or model.WEB_PORT) for text in texts)


def _keypairs(reader: Reader, values: Values) -> tuple[model.KeyPair, ...]:
    pairs = [
        (f"https_keypairs[{at}].", one) for at, one in enumerate(values["https_keypairs"] or ())
    ]
    key, cert = values["https_key_file"], values["https_cert_file"]
    if key or cert:
        if not (key and cert):
            missing = "https_cert_file" if key else "https_key_file"
            written = "https_key_file" if key else "https_cert_file"
            raise reader.wrong(f"{SECTION}.{written}", f"needs {missing} beside it")
        pairs.append(("https_", {"key_file": key, "cert_file": cert}))
    found = []
    for prefix, one in pairs:
        paths = {
            name: reader.checked(f"{SECTION}.{prefix}{name}", absolute_path, text)
            for name, text in one.items()
        }
        found.append(model.KeyPair(**paths))
    return tuple(found)


def _acme(
    reader: Reader, said: Values, public: tuple[str, ...], *, beside_pairs: bool
) -> model.AcmeConfig:
    acme = model.AcmeConfig(**said)
    path = f"{SECTION}.acme"
    if acme.email and not EMAIL.fullmatch(acme.email):
        raise reader.wrong(f"{path}.email", f"{show(acme.email)} is not like admin@example.com")
    if acme.uri:
        reader.checked(f"{path}.uri", _check_directory, acme.uri)
    if not acme.enabled:
        return acme
    if not any(map(dns_name, public)):
        why = "needs a public_addr with a name to certify, like teleport.example.com:443"
        raise reader.wrong(path, why)
    if beside_pairs:
        raise reader.wrong(path, "https_keypairs are given too, one of them is enough")
    return acme


def _check_directory(uri: str) -> None:
    if not re.fullmatch(r"https://[A-Za-z0-9.:\[\]-]{1,255}(/[!-~]{0,1000})?", uri):
        raise Malformed(f"{show(uri)} is not like https://ca.example.com/acme/directory")


def _releases_dir(reader: Reader, text: str | None) -> Path | None:
    return reader.checked(f"{SECTION}.releases_dir", absolute_path, text) if text else None


def _channels(reader: Reader, node: Node | None) -> Mapping[str, model.Channel]:
    found: dict[str, model.Channel] = {}
    table = reader.table(node, CHANNELS)
    for name, entry in table.entries.items():
        path = f"{CHANNELS}.{name}"
        reader.lines[path] = table.lines[name]
        if not CHANNEL_NAME.fullmatch(name):
            raise reader.wrong(CHANNELS, f"{show(name)} is no name for a channel", entry.line)
        said: Values = reader.section(entry, CHANNEL, path)
        if said["forward_url"]:
            why = "asking another server is not part of this version, give static_version"
            raise reader.wrong(f"{path}.forward_url", why)
        version = VERSION.fullmatch(said["static_version"] or "")
        if version is None:
            got = f"{show(said['static_version'])} is not" if said["static_version"] else "must be"
            raise reader.wrong(f"{path}.static_version", f"{got} a version, like v1.2.3")
        found[name] = model.Channel(version=f"v{version[1]}", critical=said["critical"])
    return found

"""The flags of `teleport-lite start`, as typed. They win over the file."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    roles: str = ""  # comma list
    token: str = ""
    auth_servers: tuple[str, ...] = ()
    proxy: str = ""
    ca_pins: tuple[str, ...] = ()
    nodename: str = ""
    labels: str = ""  # k=v,k2="v 2"
    listen_ip: str = ""
    advertise_ip: str = ""
    data_dir: str = ""
    pid_file: str = ""
    diag_addr: str = ""
    insecure: bool = False
    debug: bool = False

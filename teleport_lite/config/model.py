"""What a process was told to be. Frozen: read once at the start, never changed after."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from teleport_lite.config.conn_string import ConnString
from teleport_lite.config.passphrase import PassphraseSource
from teleport_lite.config.token_source import StaticToken, TokenSource
from teleport_lite.model.env_names import ACCEPTED

DATA_DIR = Path("/var/lib/teleport-lite")
CONFIG_FILE = Path("/etc/teleport-lite.yaml")
# Outside the data directory, so that a copy of the database alone opens no sealed secret.
KEYRING = Path("/etc/teleport-lite/keyring")
NODE_PORT, SSH_PROXY_PORT, TUNNEL_PORT, AUTH_PORT, WEB_PORT = 3022, 3023, 3024, 3025, 3080
# A host that is not seen for this long leaves the listings by itself.
PRESENCE_RETENTION = timedelta(days=7)
# Time enough to find out that something has happened, and to look.
RECORDING_RETENTION = timedelta(days=90)
RECORDING_QUOTA = 10 * 1024**3
# Of recordings that a host keeps while auth is away.
RECORDING_SPOOL_QUOTA = 1024**3
# Who renews a certificate rarely tells us; half a minute of the old one hurts nobody.
KEYPAIRS_RELOAD = timedelta(seconds=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    output: str = "stderr"  # stderr, stdout or an absolute path
    severity: str = "INFO"  # TRACE, DEBUG, INFO, WARN or ERROR
    format: str = "text"  # text or json


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageConfig:
    type: str = "sqlite"  # or postgresql
    path: Path = DATA_DIR / "backend"  # of sqlite
    conn_string: ConnString | None = None  # of postgresql
    keyring: Path = KEYRING
    keyring_passphrase: PassphraseSource | None = None
    keyring_plugin: str = ""  # its name; "": none keeps the key of the keyring


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginsConfig:
    """Guests invited by name: files of these directories, installed distributions."""

    directories: tuple[Path, ...] = ()
    distributions: tuple[str, ...] = ()
    settings: Mapping[str, Mapping[str, object]] = field(default_factory=dict)  # by plugin name


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthConfig:
    listen_addr: str
    public_addrs: tuple[str, ...] = ()
    cluster_name: str  # cannot change after the first start: certificates carry it
    tokens: tuple[StaticToken, ...] = ()
    presence_retention: timedelta = PRESENCE_RETENTION
    session_recording: str = "node"  # or off
    recording_retention: timedelta = RECORDING_RETENTION  # nothing: for ever
    recording_quota: int = RECORDING_QUOTA  # bytes; 0: as much as the disk takes


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    key_file: Path
    cert_file: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class AcmeConfig:
    enabled: bool = False
    email: str = ""
    uri: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """Which version agents of a channel should have."""

    version: str  # like v1.2.3
    critical: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyConfig:
    """Addresses are "" where no listener of that kind is wanted (v2 and v3 share the web port)."""

    web_listen_addr: str
    listen_addr: str = ""  # SSH
    tunnel_listen_addr: str = ""
    public_addrs: tuple[str, ...] = ()
    ssh_public_addrs: tuple[str, ...] = ()
    tunnel_public_addrs: tuple[str, ...] = ()
    https_keypairs: tuple[KeyPair, ...] = ()
    https_keypairs_reload: timedelta | None = KEYPAIRS_RELOAD  # None is never
    acme: AcmeConfig = AcmeConfig()
    proxy_protocol: str = "unspecified"  # on, off or unspecified
    channels: Mapping[str, Channel] = field(default_factory=dict)  # by name
    releases_dir: Path | None = None

    @property
    def multiplexed(self) -> bool:
        """Tunnels arrive on the web port."""
        return self.tunnel_listen_addr in ("", self.web_listen_addr)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelCommand:
    """A label whose value is what a program prints, asked for again every `period`."""

    name: str
    argv: tuple[str, ...]
    period: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class PamConfig:
    """Account and session management by the system's modules."""

    enabled: bool = False
    service_name: str = "sshd"  # a file in /etc/pam.d
    environment: Mapping[str, str] = field(default_factory=dict)  # may hold {{external.NAME}}


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    listen_addr: str
    public_addrs: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    commands: tuple[LabelCommand, ...] = ()
    accept_env: tuple[str, ...] = ACCEPTED  # names of variables that clients may set
    permit_user_env: bool = False
    create_host_users: bool = True  # where roles say so
    banner: Path | None = None
    pam: PamConfig = PamConfig()
    port_forwarding: bool = True
    file_copy: bool = True
    x11: bool = False
    x11_displays: tuple[int, int] = (10, 1010)  # first and last
    recording_spool_quota: int = RECORDING_SPOOL_QUOTA  # bytes
    strict_locks: bool = False  # no new sessions while auth was silent for long


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    version: str  # "v1", "v2" or "v3"
    source: str  # file it was read from; "" for built-in defaults
    nodename: str
    data_dir: Path
    pid_file: Path | None
    diag_addr: str  # "" is off
    advertise_ip: str  # "", an address, or address:port
    ca_pins: tuple[str, ...]  # as written: pins, or absolute paths of files with pins
    token: TokenSource | None
    auth_servers: tuple[str, ...]  # each may turn out to be a proxy; the agent finds out
    proxy_server: str
    insecure: bool = False  # flag only: a proxy's certificate is not checked while joining
    debug: bool = False  # flag only
    roles: frozenset[str]  # canonical names of the roles that are enabled
    log: LogConfig
    storage: StorageConfig
    plugins: PluginsConfig
    auth: AuthConfig
    proxy: ProxyConfig
    node: NodeConfig
    sections: Mapping[str, Mapping[str, object]]  # by role name: what plugins' sections said
    warnings: tuple[str, ...] = ()
    given: frozenset[str] = frozenset()  # keys the file set itself: "teleport.storage.path"

    @property
    def written(self) -> tuple[Path, ...]:
        """Where this process puts files of its own; no code may come from there."""
        log = (Path(self.log.output),) if self.log.output.startswith("/") else ()
        pid = (self.pid_file,) if self.pid_file else ()
        return self.data_dir, self.storage.path, *log, *pid

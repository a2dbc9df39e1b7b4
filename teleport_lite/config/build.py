"""A tree of text becomes a Config. Read `build` first; what it calls follows in that order."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from teleport_lite.config import model
from teleport_lite.config.address import parse_advertised
from teleport_lite.config.conn_string import EXAMPLE, ConnString
from teleport_lite.config.passphrase import PassphraseSource
from teleport_lite.config.path import absolute_path, data_directory
from teleport_lite.config.proxy_service import proxy_config
from teleport_lite.config.schema.auth import AUTH as AUTH_FIELDS
from teleport_lite.config.schema.proxy import PROXY as PROXY_FIELDS
from teleport_lite.config.schema.ssh import SSH as SSH_FIELDS
from teleport_lite.config.schema.teleport import PLUGINS, TELEPORT
from teleport_lite.config.section import Reader
from teleport_lite.config.services import Values, auth_config, node_config
from teleport_lite.config.token_source import TokenSource
from teleport_lite.config.yaml import Scalar, Table, show
from teleport_lite.errors import Malformed
from teleport_lite.model.names import HOST_NAME, checked
from teleport_lite.model.schema import Field, Kind
from teleport_lite.model.system_role import RoleBook, SystemRole
from teleport_lite.secret import Secret

VERSIONS = ("v1", "v2", "v3")
ENABLED = Field(name="enabled", kind=Kind.BOOL, help="whether this role runs")
OWN = {"auth_service": AUTH_FIELDS, "proxy_service": PROXY_FIELDS, "ssh_service": SSH_FIELDS}
# Sections of Teleport's file that we read and leave: their service is not there.
UNBUILT = (
    "app_service",
    "db_service",
    "kubernetes_service",
    "discovery_service",
    "windows_desktop_service",
    "debug_service",
    "metrics_service",
    "tracing_service",
    "okta_service",
    "jamf_service",
    "relay_service",
)
LOCAL_AUTH = "127.0.0.1:3025"


def build(root: Table | None, source: str, book: RoleBook) -> model.Config:
    """Raises Malformed naming source, line and key."""
    reader = Reader(source)
    table = reader.table(root, "")
    by_section = {role.section: role for role in book if role.section}
    _check_sections(reader, table, by_section)
    version = _version(reader, table)
    said: Values = reader.section(table.entries.get("teleport"), TELEPORT, "teleport")
    read = _read_sections(reader, table, by_section)
    tokens = reader.table(table.entries.get("auth_service"), "auth_service").entries.get("tokens")
    proxy = reader.table(table.entries.get("proxy_service"), "proxy_service").entries
    roles = _enabled(reader, by_section, read)
    data_dir = reader.checked("teleport.data_dir", data_directory, said["data_dir"])
    servers, proxy_server = _servers(reader, said, version)
    return model.Config(
        version=version,
        source=source,
        nodename=_nodename(reader, said),
        data_dir=data_dir,
        pid_file=_path(reader, said, "teleport.pid_file"),
        diag_addr=said["diag_addr"] or "",
        advertise_ip=_advertise(reader, said),
        ca_pins=tuple(pin for pin in said["ca_pin"] or () if pin),
        token=_token(reader, said),
        auth_servers=servers,
        proxy_server=proxy_server,
        roles=roles,
        log=_log(reader, said["log"]),
        storage=_storage(reader, said["storage"] or {}, data_dir),
        plugins=plugins_config(reader, root),
        auth=auth_config(reader, read["auth_service"], tokens, book, host_name()),
        proxy=proxy_config(reader, read["proxy_service"], proxy, version),
        node=node_config(reader, read["ssh_service"]),
        sections={role.name: read[name] for name, role in by_section.items() if name not in OWN},
        warnings=tuple(reader.warnings),
        given=frozenset(reader.lines),
    )


def host_name() -> str:
    """The machine's own name, made into one that certificates take."""
    return re.sub(r"[^A-Za-z0-9.-]", "-", os.uname().nodename)[:253].strip("-.") or "localhost"


def check_runnable(role: SystemRole) -> None:
    """Raises Malformed for a role that something else runs: bots are run by tbot."""
    if role.run_by != "teleport-lite start":
        runs = f"is run by {role.run_by}" if role.run_by else "is no role of a process"
        raise Malformed(f"role {role.flag} {runs}")


def default_keyring(data_dir: Path) -> Path:
    """Beside a data directory of one's own, never in it."""
    if data_dir == model.DATA_DIR:
        return model.KEYRING
    return data_dir.with_name(f"{data_dir.name}.keyring")


def storage_in(data_dir: Path) -> model.StorageConfig:
    return model.StorageConfig(path=data_dir / "backend", keyring=default_keyring(data_dir))


def _check_sections(reader: Reader, table: Table, by_section: Mapping[str, SystemRole]) -> None:
    known = {"version", "teleport", "plugins", *OWN, *by_section, *UNBUILT}
    for name, line in table.lines.items():
        if name not in known:
            raise reader.unknown(name, known, "", line)
        reader.lines[name] = line
        if name in UNBUILT and name not in by_section:
            reader.table(table.entries[name], name)
            reader.warnings.append(f"{reader.source}:{line}: {name}: has no effect yet")


def _version(reader: Reader, table: Table) -> str:
    node = table.entries.get("version")
    if node is None or (isinstance(node, Scalar) and node.empty):
        return "v1"
    if not isinstance(node, Scalar) or node.text not in VERSIONS:
        got = f"{show(node.text)}: " if isinstance(node, Scalar) else ""
        raise reader.wrong("version", f"{got}must be one of {', '.join(VERSIONS)}")
    return node.text


def _read_sections(
    reader: Reader, table: Table, by_section: Mapping[str, SystemRole]
) -> dict[str, Values]:
    """What every section says, also those that are absent: they have defaults."""
    fields = {name: role.fields for name, role in by_section.items()} | OWN
    return {
        name: reader.section(table.entries.get(name), (ENABLED, *fields[name]), name)
        for name in fields
    }


def _enabled(
    reader: Reader, by_section: Mapping[str, SystemRole], read: Mapping[str, Values]
) -> frozenset[str]:
    """The roles that run. Takes `enabled` out of what the sections say."""
    found = set()
    for name, role in by_section.items():
        enabled = read[name].pop("enabled")
        if role.on_by_default if enabled is None else enabled:
            reader.checked(name, check_runnable, role)
            found.add(role.name)
    return frozenset(found)


def _nodename(reader: Reader, said: Values) -> str:
    name: str = said["nodename"] or host_name()
    path = "teleport.nodename"
    return reader.checked(path, checked, HOST_NAME, name, "node name", example="web-1")


def _path(reader: Reader, values: Values, path: str) -> Path | None:
    text = values.get(path.rpartition(".")[2])
    return reader.checked(path, absolute_path, text) if text else None


def _servers(reader: Reader, said: Values, version: str) -> tuple[tuple[str, ...], str]:
    """Addresses to join through. Old and new keys never mix, so that a file means one thing."""
    many, auth, proxy = said["auth_servers"], said["auth_server"], said["proxy_server"]
    if version == "v3" and many:
        why = "is for version v1 and v2; in v3 write auth_server or proxy_server"
        raise reader.wrong("teleport.auth_servers", why)
    if version != "v3" and (auth or proxy):
        key = "auth_server" if auth else "proxy_server"
        why = (
            f"is supported from version v3 on; write 'version: v3' or auth_servers (now {version})"
        )
        raise reader.wrong(f"teleport.{key}", why)
    if auth and proxy:
        raise reader.wrong(
            "teleport.proxy_server", "auth_server is given too, one of them is enough"
        )
    servers = many or ((auth,) if auth else ())
    return servers or (() if proxy else (LOCAL_AUTH,)), proxy or ""


def _advertise(reader: Reader, said: Values) -> str:
    text = said["advertise_ip"] or ""
    return reader.checked("teleport.advertise_ip", parse_advertised, text) if text else ""


def _token(reader: Reader, said: Values) -> TokenSource | None:
    older: Secret | None = said["auth_token"]
    newer: Secret | None = (said["join_params"] or {}).get("token_name")
    if older and newer:
        why = "join_params.token_name is given too, one of them is enough"
        raise reader.wrong("teleport.auth_token", why)
    written = older or newer
    if written is None:
        return None
    path = "teleport.auth_token" if older else "teleport.join_params.token_name"
    return reader.checked(path, TokenSource.parse, written.reveal())


def _log(reader: Reader, said: Values | None) -> model.LogConfig:
    said = said or {}
    severity = said.get("severity") or "INFO"
    output = said.get("output") or "stderr"
    path = "teleport.log.output"
    if output == "syslog":
        at = f"{reader.source}:{reader.lines[path]}"
        reader.warnings.append(f"{at}: {path}: syslog is not built yet, the log goes to stderr")
        output = "stderr"
    elif output not in ("stderr", "stdout"):
        if not output.startswith("/"):
            why = f"{show(output)} is not stderr, stdout, syslog or an absolute path"
            raise reader.wrong(path, why)
        output = str(reader.checked(path, absolute_path, output))
    return model.LogConfig(
        output=output,
        severity={"WARNING": "WARN", "ERR": "ERROR"}.get(severity, severity),
        format=(said.get("format") or {}).get("output") or "text",
    )


def _storage(reader: Reader, said: Values, data_dir: Path) -> model.StorageConfig:
    usual = storage_in(data_dir)
    keyring = _path(reader, said, "teleport.storage.keyring") or usual.keyring
    if keyring.is_relative_to(data_dir):
        why = f"must be outside data_dir ({data_dir}), like {usual.keyring}"
        raise reader.wrong("teleport.storage.keyring", why)
    path = _path(reader, said, "teleport.storage.path") or usual.path
    kind, conn_string = _database(reader, said)
    return model.StorageConfig(
        type=kind,
        path=path,
        conn_string=conn_string,
        keyring=keyring,
        keyring_passphrase=_passphrase(reader, said, data_dir),
        keyring_plugin=said.get("keyring_plugin") or "",
    )


def _database(reader: Reader, said: Values) -> tuple[str, ConnString | None]:
    kind, text = said.get("type") or "sqlite", said.get("conn_string")
    path = "teleport.storage.conn_string"
    if kind != "postgresql":
        if text is not None:
            raise reader.wrong(path, "is of teleport.storage.type postgresql")
        return "sqlite", None
    if text is None:
        raise reader.wrong("teleport.storage.type", f"postgresql needs {path}, like {EXAMPLE}")
    return kind, reader.checked(path, ConnString.parse, text.reveal())


def _passphrase(reader: Reader, said: Values, data_dir: Path) -> PassphraseSource | None:
    text, path = said.get("keyring_passphrase"), "teleport.storage.keyring_passphrase"
    if not text:
        return None
    found = reader.checked(path, PassphraseSource.parse, text)
    if found.kind == "path" and Path(found.where).is_relative_to(data_dir):
        raise reader.wrong(path, f"must be outside data_dir ({data_dir})")
    return found


def plugins_config(reader: Reader, root: Table | None) -> model.PluginsConfig:
    table = reader.table(root, "")
    said: Values = reader.section(table.entries.get("plugins"), PLUGINS, "plugins")
    settings = said["settings"] or {}
    if not isinstance(settings, dict) or not all(isinstance(x, dict) for x in settings.values()):
        raise reader.wrong("plugins.settings", "must hold a mapping for each plugin's name")
    return model.PluginsConfig(
        directories=tuple(
            reader.checked(f"plugins.directories[{at}]", absolute_path, text)
            for at, text in enumerate(said["directories"] or ())
        ),
        distributions=said["distributions"] or (),
        settings=settings,
    )

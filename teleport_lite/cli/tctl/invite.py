"""What `tokens add` and `nodes add` say: the token, and how to use it.

`token: ` stands once in each message, before the value and nothing else on its line: people
and scripts cut it out with `grep -oP '(?<=token:\\s).*'`.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

from teleport_lite.cli.show import line, minutes
from teleport_lite.client.facts import Facts
from teleport_lite.release.script import PROXY, TOKEN

# --type=kube brings the other two along; the message is still about Kubernetes.
KUBE = ("Kube", "App", "Discovery")


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """What --app-name and its like put into the message."""

    app_name: str = "example-app"
    app_uri: str = "http://localhost:8080"
    db_name: str = "example-db"
    db_protocol: str = "postgres"
    db_uri: str = "localhost:5432"


@dataclass(frozen=True, slots=True, kw_only=True)
class Invite:
    """An answer to /v1/tokens/add, safe to print."""

    token: str
    roles: tuple[str, ...]
    life: str
    pins: tuple[str, ...]
    address: str
    by_proxy: bool
    once: bool
    install_script: str = ""  # URL of what installs the program and joins; "" where there is none

    def start(self, roles: str) -> str:
        """The command for the new host, one flag a line."""
        return command(
            "teleport-lite start",
            f"--roles={roles}",
            f"--token={self.token}",
            *(f"--ca-pin={pin}" for pin in self.pins),
            f"--{'proxy' if self.by_proxy else 'auth-server'}={self.address}",
        )

    def head(self, what: str = "invite") -> str:
        return f"The {what} token: {self.token}\nThis token will expire in {self.life}.\n"

    def notes(self, target: str = "new node", *more: str) -> str:
        lines = [f"This invitation token will expire in {self.life}"]
        lines += [f"{self.address} must be reachable from the {target}", *more]
        if self.once:
            lines.insert(1, "This invitation token works once")
        return "Please note:\n\n" + "".join(f"  - {each}\n" for each in lines)


def read(answer: Facts) -> Invite:
    proxy = answer.text("proxy_server")
    # Auth says which of the two a host can reach.
    by_proxy = answer.text("door", "proxy_server" if proxy else "auth_server") == "proxy_server"
    return Invite(
        token=line(answer.text("token")),
        roles=tuple(line(role) for role in answer.texts("roles")),
        life=minutes(answer.number("ttl_minutes")),
        pins=tuple(line(pin) for pin in answer.texts("ca_pins")),
        address=line(proxy if by_proxy else answer.text("auth_server")),
        by_proxy=by_proxy,
        once=answer.text("uses") == "once",
        install_script=install_script(answer),
    )


def install_script(answer: Facts) -> str:
    """Where a proxy serves a script with this token in it: only for a token that lets in a node
    and nothing else. It is piped into a shell, so nothing odd may be in it."""
    proxy, token = answer.text("proxy_server"), answer.text("token")
    if answer.texts("roles") != ["Node"] or not (PROXY.fullmatch(proxy) and TOKEN.fullmatch(token)):
        return ""
    return f"https://{proxy}/scripts/{token}/install-node.sh"


def command(*words: str) -> str:
    """`> program \\` and its flags, each on a line of its own and indented by three."""
    return "> " + " \\\n   ".join(words) + "\n"


def message(answer: Facts, example: Example | None = None) -> str:
    """The text for the types the token has. Several types share the plain one."""
    invite = read(answer)
    kind = "Kube" if invite.roles[:1] == KUBE[:1] and set(invite.roles) <= set(KUBE) else ""
    special = _SPECIAL.get(kind or ",".join(invite.roles))
    return special(invite, example or Example()) if special else _host(invite)


def _host(invite: Invite) -> str:
    roles = ",".join(role.lower() for role in invite.roles)
    return (
        f"{invite.head()}\n"
        "Run this on the new node to join the cluster:\n\n"
        f"{invite.start(roles)}\n"
        f"{invite.notes()}"
        f"{_one_line(invite)}"
    )


def _one_line(invite: Invite) -> str:
    if not invite.install_script:
        return ""
    return (
        "\nOr install the program and join by one line; the proxy sees the token then:\n\n"
        f"> curl -fsSL {invite.install_script} | sudo bash\n"
    )


def _app(invite: Invite, example: Example) -> str:
    entry = {"name": example.app_name, "uri": example.app_uri}
    return _service(invite, "app", "application", "app_service", "apps", entry)


def _db(invite: Invite, example: Example) -> str:
    entry = {"name": example.db_name, "protocol": example.db_protocol, "uri": example.db_uri}
    return _service(invite, "db", "database", "db_service", "databases", entry)


def _service(
    invite: Invite, role: str, noun: str, section: str, key: str, entry: dict[str, str]
) -> str:
    return (
        f"{invite.head()}\n"
        f"Describe the {noun} in /etc/teleport-lite.yaml on a machine that can reach it:\n\n"
        f"{_section(section, key, entry)}\n"
        "and run this there to make it available:\n\n"
        f"{invite.start(role)}\n"
        f"{invite.notes(f'{noun} machine')}"
    )


def _kube(invite: Invite, _: Example) -> str:
    entry = {"kube_cluster_name": "example-cluster"}
    body = "".join(f"  {key}: {json.dumps(value)}\n" for key, value in entry.items())
    return (
        f"{invite.head()}\n"
        "Name the Kubernetes cluster in /etc/teleport-lite.yaml on a machine that can reach "
        "its API:\n\n"
        f"kubernetes_service:\n  enabled: yes\n{body}\n"
        "and run this there to make it available:\n\n"
        f"{invite.start('kube')}\n"
        f"{invite.notes('Kubernetes cluster')}"
    )


def _windows(invite: Invite, _: Example) -> str:
    return (
        f"{invite.head()}\n"
        "Turn on the service in /etc/teleport-lite.yaml on a Linux machine that can reach the "
        "desktops:\n\n"
        "windows_desktop_service:\n  enabled: yes\n\n"
        "and run this there to make them available:\n\n"
        f"{invite.start('windowsdesktop')}\n"
        f"{invite.notes('Windows Desktop machine')}"
    )


def _bot(invite: Invite, _: Example) -> str:
    return (
        f"{invite.head()}\n"
        "Run this on the machine of the bot to get its first certificates:\n\n"
        f"{bot_start(invite)}\n"
        f"{invite.notes('machine of the bot', BOTS_ADD)}"
    )


BOTS_ADD = "tctl bots add makes a token for a named bot with roles; this one is for no bot yet"


def bot_start(invite: Invite) -> str:
    return command(
        "tbot start",
        "--oneshot",
        "--destination-dir=./tbot-user",
        f"--token={invite.token}",
        *(f"--ca-pin={pin}" for pin in invite.pins),
        f"--{'proxy-server' if invite.by_proxy else 'auth-server'}={invite.address}",
    )


def _trusted_cluster(invite: Invite, _: Example) -> str:
    return (
        f"{invite.head('cluster invite')}\n"
        "Use this token when defining a trusted cluster resource on a remote cluster.\n"
    )


def _section(section: str, key: str, entry: dict[str, str]) -> str:
    """A piece of YAML; values as JSON strings, which YAML reads and nothing can break out of."""
    pairs = [f"{name}: {json.dumps(value)}" for name, value in entry.items()]
    body = "\n    ".join(pairs)
    return f"{section}:\n  enabled: yes\n  {key}:\n  - {body}\n"


_SPECIAL: dict[str, Callable[[Invite, Example], str]] = {
    "App": _app,
    "Db": _db,
    "Kube": _kube,
    "WindowsDesktop": _windows,
    "Bot": _bot,
    "trusted_cluster": _trusted_cluster,
}

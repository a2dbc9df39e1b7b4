"""The guide "Join Services with a Secure Token", line by line, on a machine as it comes.

With teleport-lite for teleport, and a cluster's own proxy for the place to download from. `tctl`
and `tsh` are typed at another desk, by somebody who is not root; what is typed on the machine, by
somebody who may use sudo there.
"""

import re
import shlex
from collections.abc import Iterator

import pytest

from tests.machines.machine import Machine
from tests.machines.world import CONFIG, DOMAIN, Cluster, World
from tests.support import eventually

PERSON, EMAIL, PASSWORD = "person", "email@example.com", "correct-horse-battery"
UNIT = "teleport-lite"
ADMIN = "keeper"


class Desk:
    """Somebody at a machine that has tsh and tctl."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def types(self, line: str, *, stdin: str = "") -> str:
        return self._machine.say(*shlex.split(line), stdin=stdin, user=PERSON)


@pytest.fixture(scope="module")
def desk(cluster: Cluster) -> Desk:
    """Invited by the cluster's owner, who has set a password on the page behind the link."""
    tele = cluster.tele
    tele.say("useradd", "--create-home", PERSON)
    said = tele.say("tctl", "users", "add", EMAIL, "--logins=root", "--roles=access,editor")
    link = re.search(r"^https://\S+/web/invite/\S+$", said, re.M)
    assert link
    form = ("--data-urlencode", f"password={PASSWORD}", "--data-urlencode", f"again={PASSWORD}")
    code = tele.say("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", *form, link[0])
    assert code in ("200", "303")
    return Desk(tele)


@pytest.fixture(scope="module")
def host(world: World) -> Iterator[Machine]:
    with world.machine("app1") as host:
        host.say("useradd", "--create-home", ADMIN)
        host.write(f"/etc/sudoers.d/{ADMIN}", f"{ADMIN} ALL=(ALL) NOPASSWD: ALL\n", mode=0o440)
        yield host


def token_of(said: str) -> str:
    found = re.search(r"^The invite token: (\S+)$", said, re.M)
    assert found
    return found[1]


def test_the_guide_as_it_is_written(desk: Desk, cluster: Cluster, host: Machine) -> None:
    _prerequisites(desk)
    _install(cluster, host)
    _join_through_the_proxy(desk, cluster, host)
    _join_at_auth(desk, cluster, host)
    _in_the_foreground(desk, host)
    _revoke(desk)


def _prerequisites(desk: Desk) -> None:
    desk.types(f"tsh login --proxy={DOMAIN} --user={EMAIL}", stdin=f"{PASSWORD}\n")
    lines = desk.types("tctl status").splitlines()
    assert re.fullmatch(rf"Cluster +{DOMAIN}", lines[0])
    assert re.fullmatch(r"Version +[\d.]+", lines[1])
    assert re.fullmatch(r"CA pin +sha256:[0-9a-f]{64}", lines[-1])


def _install(cluster: Cluster, host: Machine) -> None:
    version = cluster.tele.say("teleport-lite", "version", "--raw")
    wanted = (
        f"TELEPORT_DOMAIN={DOMAIN}\n"
        'TELEPORT_VERSION="$(curl https://$TELEPORT_DOMAIN/v1/webapi/automaticupgrades/channel/'
        "default/version | sed 's/v//')\"\n"
    )
    assert host.bash(f"{wanted}echo $TELEPORT_VERSION", user=ADMIN) == version
    ours = (
        f"TELEPORT_DOMAIN={DOMAIN}\n"
        'TELEPORT_VERSION="$(curl https://$TELEPORT_DOMAIN/v1/webapi/ping '
        "| jq -r '.server_version')\"\n"
    )
    assert host.bash(f"{ours}echo $TELEPORT_VERSION", user=ADMIN) == version
    install = f"curl https://{DOMAIN}/install-v16.4.12.sh | bash -s ${{TELEPORT_VERSION}}"
    said = host.bash(f"{wanted}{install} oss", timeout=120, user=ADMIN)
    assert "==> for everybody, by sudo (for you alone: --user)" in said
    assert host.say("teleport-lite", "version", "--raw") == version
    for edition in ("cloud", "enterprise"):
        said = host.bash(f"{ours}{install} {edition}", timeout=120, user=ADMIN)
        assert "nothing changed" in said


def _join_through_the_proxy(desk: Desk, cluster: Cluster, host: Machine) -> None:
    said = desk.types("tctl tokens add --ttl=5m --type=node")
    token = token_of(said)
    assert "This token will expire in 5 minutes." in said
    shown = desk.types("tctl tokens ls").splitlines()
    assert re.split(r"\s{2,}", shown[0]) == ["Token", "Type", "Labels", "Expiry Time (UTC)"]
    assert any(line.startswith(f"{token} ") for line in shown)
    host.bash(
        f"sudo teleport-lite configure \\\n --roles=node \\\n --token={token} \\\n"
        f" --proxy={DOMAIN}:443 \\\n -o file",
        user=ADMIN,
    )
    _serves(desk, cluster, host)


def _serves(desk: Desk, cluster: Cluster, host: Machine) -> None:
    host.bash(f"sudo systemctl enable {UNIT}\nsudo systemctl start {UNIT}", user=ADMIN)
    status = host.say("systemctl", "status", "--no-pager", UNIT)
    assert "Active: active (running)" in status
    with host.going("journalctl", "-fu", UNIT) as followed:
        assert followed.stdout
        assert any(b"is running" in line for line in iter(followed.stdout.readline, b""))
    line = eventually(lambda: _listed(desk, "app1"), what="it in tctl nodes ls")
    assert f" {cluster.tele.say('teleport-lite', 'version', '--raw')}" in line
    cluster.reaches("app1")
    assert cluster.tele.say("ssh", "app1", "hostname") == "app1"


def _listed(desk: Desk, name: str) -> str:
    lines = desk.types("tctl nodes ls").splitlines()
    assert re.split(r"\s{2,}", lines[0]) == ["Host", "UUID", "Public Address", "Labels", "Version"]
    return next((line for line in lines if line.startswith(f"{name} ")), "")


def _join_at_auth(desk: Desk, cluster: Cluster, host: Machine) -> None:
    """The other way of the guide, on the same machine: it begins anew."""
    host.bash(f"systemctl stop {UNIT}; rm -r {CONFIG} /var/lib/teleport-lite")
    for line in desk.types("tctl nodes ls").splitlines()[1:]:
        if line.startswith("app1 "):
            desk.types(f"tctl rm host/{line.split()[1]}")
    token = token_of(desk.types("tctl tokens add --ttl=5m --type=node"))
    pin = desk.types("tctl status").split()[-1]
    host.bash(
        f"sudo teleport-lite configure \\\n --roles=node \\\n --token={token} \\\n"
        f" --auth-server={DOMAIN}:3025 \\\n -o file",
        user=ADMIN,
    )
    assert ' ca_pin: ""' in host.read(CONFIG)
    host.bash(f"""sudo sed -i 's| ca_pin: ""| ca_pin: "{pin}"|' {CONFIG}""", user=ADMIN)
    assert f' ca_pin: "{pin}"' in host.read(CONFIG)
    _serves(desk, cluster, host)
    assert "no CA pin" not in host.journal(
        f"_SYSTEMD_INVOCATION_ID={host.unit(UNIT, 'InvocationID')}"
    )


def _in_the_foreground(desk: Desk, host: Machine) -> None:
    """As in a container, that has no systemd."""
    host.say("systemctl", "disable", "--now", UNIT)
    with host.going("teleport-lite", "start") as process:
        assert process.stdout
        until = iter(process.stdout.readline, b"")
        assert any(b"is running" in line for line in until)
        eventually(lambda: _listed(desk, "app1"), what="it in tctl nodes ls")
        host.say("pkill", "--exact", "--oldest", "--full", ".*teleport-lite.* start")
        assert process.wait(timeout=60) == 0


def _revoke(desk: Desk) -> None:
    said = desk.types("tctl nodes add --ttl=5m --roles=proxy")
    token = token_of(said)
    assert "   --roles=proxy \\" in said
    assert any(line.startswith(f"{token} ") for line in desk.types("tctl tokens ls").splitlines())
    assert desk.types(f"tctl tokens rm {token}") == f"Token {token} has been deleted"
    assert token not in desk.types("tctl tokens ls")

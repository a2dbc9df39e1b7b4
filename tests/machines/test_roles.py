"""Roles by units of their own: auth and proxy without root on two machines, node on a third."""

import json
import re

from tests.machines.machine import Machine
from tests.machines.site import FIRST
from tests.machines.world import CONFIG, INSTALL, Cluster, World
from tests.support import eventually

CLUSTER = "roles.example.com"
_AUTH = f"""\
version: v3
teleport: {{nodename: auth1}}
auth_service: {{cluster_name: {CLUSTER}}}
proxy_service: {{enabled: no}}
ssh_service: {{enabled: no}}
"""
_PROXY = """\
version: v3
teleport:
  nodename: proxy1
  auth_server: auth1:3025
  ca_pin: "{pin}"
  join_params: {{method: token, token_name: {token}}}
auth_service: {{enabled: no}}
ssh_service: {{enabled: no}}
proxy_service: {{web_listen_addr: "0.0.0.0:443", public_addr: "proxy1:443"}}
"""
_BOTH = f"""\
version: v3
auth_service: {{cluster_name: {CLUSTER}}}
ssh_service: {{enabled: no}}
proxy_service:
  web_listen_addr: "0.0.0.0:443"
  public_addr: "auth1:443"
  https_keypairs: [{{key_file: /etc/web.key, cert_file: /etc/web.pem}}]
"""
NET_BIND_SERVICE = 1 << 10  # linux/capability.h


def begin(machine: Machine, unit: str, config: str) -> None:
    machine.bash(f"{INSTALL} -s {FIRST}", timeout=120)
    machine.write(CONFIG, config, 0o600)
    machine.say("systemctl", "enable", "--now", unit)
    assert machine.unit(unit, "ActiveState") == "active"
    # The settings, which hold a token, stay root's; the daemon is not root.
    assert machine.say("stat", "-c", "%U %a", CONFIG) == "root 600"
    assert machine.say("stat", "-c", "%U", f"/proc/{machine.unit(unit, 'MainPID')}") == (
        "teleport-lite"
    )


def capabilities(machine: Machine, unit: str) -> int:
    status = machine.read(f"/proc/{machine.unit(unit, 'MainPID')}/status")
    found = re.search(r"^CapPrm:\t(\w+)$", status, re.M)
    assert found
    return int(found[1], 16)


def test_auth_and_proxy_run_without_root(world: World) -> None:
    auth, proxy = "teleport-lite-auth", "teleport-lite-proxy"
    with world.machine("auth1") as one, world.machine("proxy1") as other:
        begin(one, auth, _AUTH)
        assert capabilities(one, auth) == 0
        token = re.search(r"token: (\S+)", one.say("tctl", "tokens", "add", "--type=proxy"))
        pin = one.say("tctl", "status").split()[-1]
        assert token
        begin(other, proxy, _PROXY.format(pin=pin, token=token[1]))
        assert capabilities(other, proxy) == NET_BIND_SERVICE
        ping = ("curl", "-sSk", "https://proxy1/webapi/ping")
        assert json.loads(one.say(*ping))["cluster_name"] == CLUSTER
        for machine, unit in ((one, auth), (other, proxy)):
            pid = machine.unit(unit, "MainPID")
            machine.say("systemctl", "reload", unit)
            machine.say("systemctl", "restart", unit)
            assert machine.unit(unit, "MainPID") != pid
            said = machine.journal("-u", unit, "-p", "warning", "--output=cat")
            assert "Traceback" not in said
            assert token[1] not in machine.journal()
        # In its sandbox it can still read what it hands out.
        assert one.bash("curl -sSk https://proxy1/scripts/install.sh").startswith("#!/usr/bin/env")
        eventually(lambda: "proxy1" in one.say("tctl", "get", "hosts"), what="the proxy")


def test_auth_and_proxy_in_one_run_without_root(world: World) -> None:
    """What most small clusters are: one server that people come through, and no shells on it."""
    unit = "teleport-lite-auth-proxy"
    with world.machine("auth1") as tele:
        for file, path in zip(world.authority.certificate("auth1"), ("pem", "key"), strict=True):
            tele.write(f"/etc/web.{path}", file.read_text(), 0o600)
        tele.bash(f"{INSTALL} -s {FIRST}", timeout=120)
        tele.write(CONFIG, _BOTH, 0o600)
        # Keys that it may not read: it says how to mend that, and comes up when it is mended.
        tele.say("systemctl", "enable", unit)
        assert tele.run("systemctl", "start", unit).returncode != 0
        eventually(lambda: "chgrp" in tele.journal("-u", unit, "--output=cat"), what="what to do")
        tele.say("chgrp", "teleport-lite", "/etc/web.pem", "/etc/web.key")
        tele.say("chmod", "0640", "/etc/web.pem", "/etc/web.key")
        eventually(lambda: tele.unit(unit, "ActiveState") == "active", seconds=60, what=unit)
        assert capabilities(tele, unit) == NET_BIND_SERVICE
        assert tele.say("tctl", "status").startswith("Cluster")
        ping = ("curl", "-sS", "https://auth1/webapi/ping")
        assert json.loads(tele.say(*ping))["cluster_name"] == CLUSTER
        for what in ("reload", "restart"):
            tele.say("systemctl", what, unit)
            assert tele.say("tctl", "status").startswith("Cluster")
        # The same cluster as root, with whatever else that is asked for, and back.
        for other in ("teleport-lite", unit):
            pin = tele.say("tctl", "status").split()[-1]
            tele.say("systemctl", "start", other)
            assert tele.say("tctl", "status").split()[-1] == pin
        assert tele.unit("teleport-lite", "ActiveState") == "inactive"


def test_a_node_by_its_own_unit_is_the_same_host(cluster: Cluster, node: Machine) -> None:
    """From one unit to the other and back, as `Conflicts=` has it: one daemon at any time."""
    for unit, other in (("-node", ""), ("", "-node")):
        node.say("systemctl", "disable", f"teleport-lite{other}")
        node.say("systemctl", "enable", "--now", f"teleport-lite{unit}")
        assert node.unit(f"teleport-lite{other}", "ActiveState") == "inactive"
        assert node.unit(f"teleport-lite{unit}", "ActiveState") == "active"
        cluster.reaches("node1")
        rows = cluster.tele.say("tctl", "nodes", "ls").splitlines()
        assert len([row for row in rows if row.startswith("node1 ")]) == 1

"""The two guides our users read, walked block by block, as spelled.

Seed A is "Adding Nodes to the cluster", seed B "Join Services with a Secure Token". What they
say about the proxy, tsh and rotation belongs to those features and is walked with them.
"""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flow.cluster import Cluster, Running, teleport
from tests.support import eventually, free_port

PIN = re.compile(r"sha256:[0-9a-f]{64}")
SECRET = "static-token-of-the-config-file"
AUTH_TOKEN = "token-for-new-auth-servers-in-a-file"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    root = tmp_path_factory.mktemp("seeds")
    tokenfile = root / "tokenfile"
    tokenfile.write_text(f"{AUTH_TOKEN}\n")
    tokenfile.chmod(0o600)
    static = f'  tokens:\n  - "proxy,node:{SECRET}"\n  - "auth:{tokenfile}"'
    with Cluster(root, name="tele.example.com", extra=static) as running:
        yield running


def node(cluster: Cluster, name: str, *flags: str) -> Running:
    """A node as the seeds start it; its SSH port is given because hosts share a machine here."""
    config = cluster.root / f"{name}.yaml"
    config.write_text(f"version: v3\nssh_service:\n  listen_addr: 127.0.0.1:{free_port()}\n")
    config.chmod(0o600)
    return cluster.start("-c", str(config), "--roles=node", *flags, name=name)


def listed(cluster: Cluster, name: str) -> bool:
    return any(line.startswith(f"{name} ") for line in cluster.tctl("nodes", "ls").splitlines())


# --- tctl status


def test_status_has_cluster_version_and_pin(cluster: Cluster) -> None:
    lines = cluster.tctl("status").splitlines()
    facts = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in lines)
    assert facts["Cluster"] == "tele.example.com"
    assert re.fullmatch(r"\d+\.\d+\.\d+", facts["Version"])
    for kind in ("host", "user", "db", "openssh", "jwt"):
        assert facts[f"{kind} CA"] == "never updated"
    assert PIN.fullmatch(facts["CA pin"])
    assert lines[0].startswith("Cluster")
    assert lines[-1].startswith("CA pin")


def test_the_pin_is_that_of_the_exported_host_ca(cluster: Cluster, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text(cluster.tctl("auth", "export", "--type=tls-host"))
    command = f"openssl x509 -in {ca} -noout -pubkey | openssl pkey -pubin -outform DER | sha256sum"
    digest = subprocess.check_output(["bash", "-c", command], text=True).split()[0]
    assert f"sha256:{digest}" == cluster.pin


# --- short-lived dynamic tokens


def test_nodes_add_with_a_chosen_token(cluster: Cluster) -> None:
    said = cluster.tctl("nodes", "add", "--ttl=5m", "--roles=node,proxy", "--token=secret-value")
    assert said.splitlines()[0] == "The invite token: secret-value"
    cluster.tctl("tokens", "rm", "secret-value")


def test_nodes_add_makes_a_token_up(cluster: Cluster) -> None:
    said = cluster.tctl("nodes", "add", "--ttl=5m", "--roles=node,app")
    assert re.fullmatch(r"The invite token: [0-9a-f]{32}", said.splitlines()[0])


def test_tokens_add_prints_all_that_seed_b_promises(cluster: Cluster) -> None:
    said = cluster.tctl("tokens", "add", "--ttl=5m", "--type=node")
    token = re.search(r"^The invite token: ([0-9a-f]{32})$", said, re.M)
    assert token
    expected = f"""\
The invite token: {token[1]}
This token will expire in 5 minutes.

Run this on the new node to join the cluster:

> teleport-lite start \\
   --roles=node \\
   --token={token[1]} \\
   --ca-pin={cluster.pin} \\
   --auth-server={cluster.address}

Please note:

  - This invitation token will expire in 5 minutes
  - {cluster.address} must be reachable from the new node
"""
    assert said == expected


@pytest.mark.parametrize(
    "kind", ["app", "auth", "bot", "db", "discovery", "kube", "node", "proxy", "windowsdesktop"]
)
def test_every_type_of_seed_b_makes_a_token(cluster: Cluster, kind: str) -> None:
    token = cluster.token(kind, "--ttl=5m")
    shown = next(t for t in cluster.json("tokens", "ls") if t["token"] == token)
    assert kind in [role.lower() for role in shown["roles"]]
    cluster.tctl("tokens", "rm", token)


def test_tokens_ls_has_the_columns_and_the_expiry_of_seed_b(cluster: Cluster) -> None:
    token = cluster.token("node", "--ttl=5m")
    lines = cluster.tctl("tokens", "ls").splitlines()
    assert re.split(r"\s{2,}", lines[0]) == ["Token", "Type", "Labels", "Expiry Time (UTC)"]
    row = next(line for line in lines if line.startswith(token))
    assert re.search(r"Node .*\d\d \w{3} \d\d \d\d:\d\d UTC \((5m0s|4m\d+s)\)$", row), row
    cluster.tctl("tokens", "rm", token)


def test_static_tokens_are_listed_as_never_expiring(cluster: Cluster) -> None:
    rows = cluster.tctl("tokens", "ls").splitlines()
    assert any(r.startswith(SECRET) and "Proxy,Node" in r and r.endswith("never") for r in rows)
    assert any(r.startswith(AUTH_TOKEN) and "Auth" in r and r.endswith("never") for r in rows)


@pytest.mark.parametrize("verb", ["rm", "del"])
def test_a_token_is_revoked_before_it_is_used(cluster: Cluster, verb: str) -> None:
    token = f"abcd123-insecure-do-not-use-{verb}"
    cluster.tctl("nodes", "add", "--ttl=5m", "--roles=proxy", f"--token={token}")
    assert cluster.tctl("tokens", verb, token) == f"Token {token} has been deleted\n"
    assert token not in cluster.tctl("tokens", "ls")
    done = cluster.fails(
        "--roles=proxy",
        f"--token={token}",
        f"--ca-pin={cluster.pin}",
        f"--auth-server={cluster.address}",
        name=f"revoked-{verb}",
    )
    assert done.returncode == 4
    assert "token expired or not found" in done.stderr


# --- joining


def test_a_node_joins_with_a_token_and_is_listed_once_it_runs(cluster: Cluster) -> None:
    token = cluster.token("node")
    running = node(
        cluster,
        "turing",
        f"--token={token}",
        f"--ca-pin={cluster.pin}",
        f"--auth-server={cluster.address}",
        "--labels=distro=ubuntu",
    )
    running.wait_for("is running")
    assert listed(cluster, "turing"), "it is by its join, which comes first"
    header = cluster.tctl("nodes", "ls").splitlines()[0]
    assert re.split(r"\s{2,}", header) == ["Host", "UUID", "Public Address", "Labels", "Version"]
    assert "WARN" not in running.said()
    row = re.compile(r"^turing\s+[0-9a-f-]{36}\s+127\.0\.0\.1:\d+\s+distro=ubuntu", re.M)
    eventually(lambda: row.search(cluster.tctl("nodes", "ls")), what="what turing says of itself")
    assert "hostname: turing" in cluster.tctl("get", "nodes")
    running.stop()


def test_the_grep_of_seed_a_and_a_token_file(cluster: Cluster) -> None:
    tctl = " ".join(teleport("tctl", "-c", str(cluster.config)))
    file = cluster.root / "token.file"
    command = f"{tctl} tokens add --type=node | grep -oP '(?<=token:\\s).*' > {file}"
    subprocess.run(["bash", "-c", f"umask 077; {command}"], env=cluster.env, check=True)
    assert re.fullmatch(r"[0-9a-f]{32}\n", file.read_text())
    running = node(
        cluster,
        "dijkstra",
        f"--token={file}",
        f"--ca-pin={cluster.pin}",
        f"--auth-server={cluster.address}",
    )
    running.wait_for("is running")
    assert listed(cluster, "dijkstra")
    running.stop()


def test_without_a_pin_it_joins_and_warns_on_stderr(cluster: Cluster) -> None:
    running = node(cluster, "unpinned", f"--token={SECRET}", f"--auth-server={cluster.address}")
    running.wait_for("is running")
    assert re.search(r" WARN .*no CA pin was given", running.said())
    running.stop()


def test_the_static_token_lets_a_node_in_and_a_restart_needs_neither_token_nor_pin(
    cluster: Cluster,
) -> None:
    flags = (f"--auth-server={cluster.address}",)
    first = node(cluster, "static", f"--token={SECRET}", f"--ca-pin={cluster.pin}", *flags)
    first.wait_for("is running")
    eventually(lambda: listed(cluster, "static"), what="static in nodes ls")
    uuid = next(n["metadata"]["name"] for n in cluster.json("get", "nodes/static"))
    first.stop()
    again = node(cluster, "static", *flags)
    again.wait_for("is running")
    assert again.said().count("no CA pin") == 0
    assert [n["metadata"]["name"] for n in cluster.json("get", "nodes/static")] == [uuid]
    again.stop()


def test_token_and_pin_from_the_yaml_of_seed_a(cluster: Cluster) -> None:
    """Without `version`, as in the guide: v1, and auth_servers is a list."""
    config = cluster.root / "yaml-node.yaml"
    config.write_text(
        f"""\
teleport:
  auth_token: "{SECRET}"
  ca_pin: "{cluster.pin}"
  auth_servers:
    - "{cluster.address}"
  nodename: yaml-node
  data_dir: {cluster.root / "yaml-node"}
auth_service:
  enabled: no
proxy_service:
  enabled: no
ssh_service:
  listen_addr: 127.0.0.1:{free_port()}
"""
    )
    config.chmod(0o600)
    running = cluster.start_words("start", "-c", str(config), name="yaml-node")
    running.wait_for("is running")
    eventually(lambda: listed(cluster, "yaml-node"), what="yaml-node in nodes ls")
    running.stop()


# --- seed B: configure, sed, start


def test_configure_sed_and_start(cluster: Cluster) -> None:
    config = cluster.root / "teleport-lite.yaml"
    token = cluster.token("node")
    env = {"TELEPORT_LITE_CONFIG": str(config)}
    done = cluster.run(
        "node",
        "configure",
        f"--token={token}",
        f"--auth-server={cluster.address}",
        f"--data-dir={cluster.root / 'configured'}",
        "--node-name=configured",
        "-o",
        "file",
        env=env,
    )
    assert done.returncode == 0, done.stderr
    assert ' ca_pin: ""' in config.read_text()
    subprocess.run(
        ["sed", "-i", f's| ca_pin: ""| ca_pin: "{cluster.pin}"|', str(config)], check=True
    )
    text = config.read_text()
    assert f' ca_pin: "{cluster.pin}"' in text
    config.write_text(text.replace("0.0.0.0:3022", f"127.0.0.1:{free_port()}"))
    running = cluster.start_words("start", name="configured", env=env)
    running.wait_for("is running")
    eventually(lambda: listed(cluster, "configured"), what="configured in nodes ls")
    assert "no CA pin" not in running.said()
    again = cluster.run("configure", "--roles=node", "-o", "file", env=env)
    assert again.returncode != 0
    assert str(config) in again.stderr
    assert cluster.run("configure", "--test", str(config)).returncode == 0
    running.stop()

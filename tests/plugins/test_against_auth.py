"""Processes with the six roles, and one of a third party, in a real cluster."""

import shutil
import tempfile
from pathlib import Path

import pytest

from tests.flow.cluster import Cluster
from tests.plugin.makers import on_disk
from tests.plugin.test_docs import example
from tests.support import eventually

pytestmark = pytest.mark.timeout(120)

SERVICES = """
app_service:
  enabled: yes
  apps:
  - {name: grafana, uri: "http://localhost:3000"}
db_service:
  enabled: yes
  databases:
  - {name: orders, protocol: postgres, uri: "localhost:5432"}
kubernetes_service:
  enabled: yes
  kube_cluster_name: prod
windows_desktop_service:
  enabled: yes
  static_hosts:
  - {name: design-1, addr: 10.0.0.7}
discovery_service:
  enabled: yes
  discovery_group: production
  aws:
  - {types: [ec2], regions: [eu-west-1]}
"""
SHOWN = {
    "app_server": "grafana",
    "db_server": "orders",
    "kube_server": "prod",
    "windows_desktop": "design-1",
    "discovery": "production",
}
AGENT = """\
version: v3
teleport: {{nodename: services-1, auth_server: "{address}"}}
auth_service: {{enabled: no}}
proxy_service: {{enabled: no}}
ssh_service: {{enabled: no}}
"""


@pytest.fixture
def ground():
    """Where plugins may come from: not /tmp, which everybody can write to."""
    place = Path(tempfile.mkdtemp(dir=Path.home(), prefix=".teleport-lite-test-"))
    yield place
    shutil.rmtree(place)


def agent(cluster: Cluster, services: str, types: str):
    config = cluster.root / "services.yaml"
    config.write_text(AGENT.format(address=cluster.address) + services)
    config.chmod(0o600)
    token = cluster.token(types)
    running = cluster.start("-c", str(config), f"--token={token}", name="services-1")
    running.wait_for("is running")
    return running


def names(cluster: Cluster, kind: str) -> list[str]:
    return [each["metadata"]["name"] for each in cluster.json("get", kind)]


def test_each_role_joins_announces_and_says_what_is_not_there(tmp_path):
    with Cluster(tmp_path) as cluster:
        running = agent(cluster, SERVICES, "app,db,kube,windowsdesktop,discovery")
        for kind, name in SHOWN.items():
            eventually(lambda k=kind, n=name: names(cluster, k) == [n], what=f"{kind} {name}")
        for role in ("app", "db", "kube", "windowsdesktop", "discovery"):
            running.wait_for(f"role {role} joins and announces itself")


def test_a_wrong_setting_stops_the_start_before_the_token_is_read(tmp_path):
    with Cluster(tmp_path) as cluster:
        config = tmp_path / "services.yaml"
        config.write_text(
            AGENT.format(address=cluster.address)
            + SERVICES.replace("protocol: postgres", "protocol: postgress")
        )
        config.chmod(0o600)
        gone = f"--token={tmp_path / 'no-such-file'}"
        done = cluster.fails("-c", str(config), gone, name="services-1")
        assert done.returncode == 1
        assert "db_service.databases[0].protocol 'postgress' is not known" in done.stderr
        assert "did you mean postgres" in done.stderr
        assert [each for each in cluster.events("instance.join") if each["outcome"] != "ok"] == []


def test_the_plugin_of_the_guide_brings_a_role_to_a_cluster(tmp_path, ground):
    home = on_disk(ground, "printer", example("printer/__init__.py"))
    invite = f"plugins:\n  directories: ['{home}']\n"
    with Cluster(tmp_path, extra=invite) as cluster:
        agent(cluster, invite + example("printer.yaml"), "printer")
        eventually(lambda: names(cluster, "printer") == ["lobby"], what="the printer")
        [shown] = cluster.json("get", "printer")
        assert shown["spec"]["queue"] == "10.0.0.9:631"
        assert shown["metadata"]["labels"] == {"floor": "ground"}


def test_a_plugin_that_others_can_change_stops_the_start(tmp_path, ground):
    home = on_disk(ground, "printer", example("printer/__init__.py"))
    with Cluster(tmp_path) as cluster:
        home.chmod(0o777)
        config = tmp_path / "services.yaml"
        invite = f"plugins:\n  directories: ['{home}']\n"
        config.write_text(AGENT.format(address=cluster.address) + invite)
        config.chmod(0o600)
        done = cluster.fails("-c", str(config), "--token=a-token-0123456789", name="services-1")
        assert done.returncode == 4
        assert done.stderr.splitlines() == [
            f"ERROR: plugin path {home} can be changed by others, mode 0777",
            f"  try: chmod go-w {home}",
        ]


def test_a_plugin_in_the_data_directory_stops_the_start(tmp_path, ground):
    """What can be made to write a file must not get it executed (CVE-2025-6000)."""
    home = on_disk(ground, "printer", example("printer/__init__.py"))
    with Cluster(tmp_path) as cluster:
        config = tmp_path / "services.yaml"
        invite = f"plugins:\n  directories: ['{home}']\n"
        config.write_text(AGENT.format(address=cluster.address) + invite + SERVICES)
        config.chmod(0o600)
        done = cluster.run(
            "start", "-c", str(config), f"--data-dir={ground}", "--token=a-token-0123456789"
        )
        assert done.returncode == 4
        assert done.stderr.splitlines()[0] == (
            f"ERROR: plugin directory {home} and {ground}, which we write, must be apart"
        )
        assert [path.name for path in ground.iterdir()] == ["printer"]

"""The kube role announces the clusters of kubernetes_service, and says what is wrong with it."""

import pytest

from teleport_lite.model.host import Resource
from tests.plugins.makers import announce, keys, refusal

CONFIG = """
apiVersion: v1
kind: Config
contexts:
- context: {cluster: a, user: a}
  name: prod
- context: {cluster: b, user: b}
  name: staging
users:
- name: a
  user: {token: hunter2}
"""


@pytest.fixture
def kubeconfig(tmp_path):
    def write(text: str | bytes) -> str:
        path = tmp_path / "kubeconfig"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write


def test_the_cluster_a_process_runs_in_is_announced_by_its_name():
    assert announce("Kube", kube_cluster_name="prod", labels={"env": "prod"}) == (
        Resource(
            kind="kube_server", name="prod", labels={"env": "prod"}, spec={"source": "in-cluster"}
        ),
    )


def test_every_context_of_a_kubeconfig_is_a_cluster(kubeconfig):
    shown = announce("Kube", kubeconfig_file=kubeconfig(CONFIG))
    assert [each.name for each in shown] == ["prod", "staging"]
    assert "hunter2" not in repr(shown)


def test_clusters_may_come_later_by_their_labels():
    assert announce("Kube", resources=[{"labels": {"*": "*"}}]) == ()


def test_one_source_of_clusters_is_needed():
    assert "give it, kubeconfig_file or resources" in refusal("Kube")


def test_two_sources_of_clusters_exclude_each_other():
    message = refusal("Kube", kube_cluster_name="prod", kubeconfig_file="/etc/kubeconfig")
    assert "exclude each other" in message


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "has no contexts with names"),
        ("contexts: 7", "has no contexts with names"),
        ("contexts: [a, {name: 7}]", "has no contexts with names"),
        ("}{ hunter2", "has no contexts with names"),
        (b"\xff\xfe\x00", "has no contexts with names"),
        ("[" * 5000, "has no contexts with names"),
        ("contexts: [{name: a}, {name: a}]", "has the context 'a' twice"),
        ("contexts: [{name: 'a b'}]", "'a b' is not a name"),
        ("#" * (1 << 20) + "#", "is larger than"),
    ],
    ids=range(9),
)
def test_a_kubeconfig_that_is_none_is_refused_and_not_quoted(kubeconfig, text, cause):
    message = refusal("Kube", kubeconfig_file=kubeconfig(text))
    assert message.startswith("kubernetes_service.kubeconfig_file ")
    assert cause in message
    assert "hunter2" not in message


def test_a_kubeconfig_that_is_not_there_is_refused(tmp_path):
    message = refusal("Kube", kubeconfig_file=str(tmp_path / "gone"))
    assert message.endswith("gone can not be read: No such file or directory")
    assert "is not an absolute path" in refusal("Kube", kubeconfig_file="kubeconfig")


def test_the_section_takes_every_key_people_know():
    assert keys("Kube") == {
        "listen_addr",
        "public_addr",
        "kubeconfig_file",
        "kube_cluster_name",
        "resources",
        "labels",
        "commands",
    }

"""The kube role: Kubernetes clusters behind the cluster.

It joins, gets its certificate and announces the clusters of `kubernetes_service`. The
service that carries kubectl to them is not built yet; `built=False` makes start-up say so.
"""

from collections.abc import Mapping, Sequence

from teleport_lite.plugin.api import Resource, Section, SystemRole, hookimpl
from teleport_lite_kube.kubeconfig import contexts
from teleport_lite_kube.section import FIELDS

KUBE = SystemRole(
    name="Kube",
    flag="kube",
    section="kubernetes_service",
    fields=FIELDS,
    announces="kube_server",
    # A token for a Kubernetes agent also lets it find and serve the applications inside.
    implies=("App", "Discovery"),
    built=False,
)


@hookimpl
def teleport_lite_system_roles() -> Sequence[SystemRole]:
    return [KUBE]


@hookimpl
def teleport_lite_announce(role: str, settings: Mapping[str, object]) -> Sequence[Resource] | None:
    if role != KUBE.name:
        return None
    kube = Section(settings, KUBE.section)
    labels = kube.labels()
    return [
        Resource(kind=KUBE.announces, name=name, labels=labels, spec={"source": source})
        for name, source in _clusters(kube)
    ]


def _clusters(kube: Section) -> list[tuple[str, str]]:
    """Name and where it comes from. Raises Malformed unless one source is named."""
    if "kubeconfig_file" in kube and "kube_cluster_name" in kube:
        raise kube.wrong("kube_cluster_name", "and kubeconfig_file exclude each other, keep one")
    if "kube_cluster_name" in kube:
        return [(kube.name("kube_cluster_name"), "in-cluster")]
    if "kubeconfig_file" in kube:
        return [(name, "kubeconfig") for name in contexts(kube, "kubeconfig_file")]
    if "resources" in kube:
        return []  # clusters come by `tctl create`
    raise kube.wrong("kube_cluster_name", "is missing: give it, kubeconfig_file or resources")

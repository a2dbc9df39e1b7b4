"""What `kubernetes_service` may hold (docs/config.md)."""

from teleport_lite.plugin.api import Field, Kind

FIELDS = (
    Field(
        name="listen_addr",
        kind=Kind.ADDRESS,
        help="where kubectl is answered without a proxy",
        example="0.0.0.0:3026",
    ),
    Field(name="public_addr", kind=Kind.TEXTS, help="addresses others reach it by"),
    Field(
        name="kubeconfig_file",
        kind=Kind.TEXT,
        help="file whose contexts are the clusters to serve",
        example="/etc/teleport-lite/kubeconfig",
    ),
    Field(
        name="kube_cluster_name",
        kind=Kind.TEXT,
        help="name of the cluster this process runs in",
        example="prod",
    ),
    Field(
        name="resources",
        kind=Kind.LIST,
        help="serve clusters made with tctl that have these labels",
        fields=(
            Field(name="labels", kind=Kind.FREE, help="labels to match, `*: *` matches all"),
            Field(name="aws", kind=Kind.FREE, help="how to take on AWS roles"),
        ),
    ),
    Field(name="labels", kind=Kind.LABELS, help="what roles match the clusters by"),
    Field(
        name="commands",
        kind=Kind.LIST,
        help="labels whose value is what a program prints",
        fields=(
            Field(name="name", kind=Kind.TEXT, help="the label", required=True, example="version"),
            Field(
                name="command",
                kind=Kind.TEXTS,
                help="program and arguments",
                required=True,
                example="[cat, /etc/version]",
            ),
            Field(name="period", kind=Kind.DURATION, help="how often to ask again", example="1m"),
        ),
    ),
)

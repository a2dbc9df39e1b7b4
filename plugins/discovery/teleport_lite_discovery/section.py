"""What `discovery_service` may hold (docs/config.md)."""

from teleport_lite.plugin.api import Field, Kind

TYPES = {
    "aws": (
        "ec2",
        "rds",
        "rdsproxy",
        "redshift",
        "redshift-serverless",
        "elasticache",
        "memorydb",
        "opensearch",
        "docdb",
        "eks",
    ),
    "azure": ("vm", "aks", "mysql", "postgres", "redis", "sqlserver"),
    "gcp": ("gce", "gke"),
    "kubernetes": ("app",),
}

_TAGS = Field(name="tags", kind=Kind.FREE, help="tags to match, `*: *` matches all")
_REGIONS = Field(name="regions", kind=Kind.TEXTS, help="regions to look in", example="[eu-west-1]")
_INSTALL = Field(name="install", kind=Kind.FREE, help="how found machines are made to join")


def _types(cloud: str) -> Field:
    help_ = "what to look for"
    return Field(name="types", kind=Kind.TEXTS, help=help_, example=f"[{TYPES[cloud][0]}]")


FIELDS = (
    Field(
        name="discovery_group",
        kind=Kind.TEXT,
        help="processes of one group share what they find",
        example="production",
    ),
    Field(name="poll_interval", kind=Kind.DURATION, help="how often to look", example="5m"),
    Field(
        name="aws",
        kind=Kind.LIST,
        help="where to look in AWS",
        fields=(
            _types("aws"),
            _REGIONS,
            _TAGS,
            Field(name="assume_role_arn", kind=Kind.TEXT, help="role to take on"),
            Field(name="external_id", kind=Kind.TEXT, help="what that role asks for"),
            Field(name="kube_app_discovery", kind=Kind.BOOL, help="also find applications in EKS"),
            _INSTALL,
            Field(name="ssm", kind=Kind.FREE, help="the document that installs"),
        ),
    ),
    Field(
        name="azure",
        kind=Kind.LIST,
        help="where to look in Azure",
        fields=(
            _types("azure"),
            _REGIONS,
            _TAGS,
            Field(name="subscriptions", kind=Kind.TEXTS, help="subscriptions to look in"),
            Field(name="resource_groups", kind=Kind.TEXTS, help="resource groups to look in"),
            _INSTALL,
        ),
    ),
    Field(
        name="gcp",
        kind=Kind.LIST,
        help="where to look in Google Cloud",
        fields=(
            _types("gcp"),
            Field(name="locations", kind=Kind.TEXTS, help="locations to look in"),
            _TAGS,
            Field(name="labels", kind=Kind.FREE, help="labels to match"),
            Field(name="project_ids", kind=Kind.TEXTS, help="projects to look in"),
            Field(name="service_accounts", kind=Kind.TEXTS, help="accounts machines run as"),
            _INSTALL,
        ),
    ),
    Field(
        name="kubernetes",
        kind=Kind.LIST,
        help="which services of a Kubernetes cluster are applications",
        fields=(
            _types("kubernetes"),
            Field(name="namespaces", kind=Kind.TEXTS, help="namespaces to look in"),
            Field(name="labels", kind=Kind.FREE, help="labels to match"),
        ),
    ),
    Field(name="access_graph", kind=Kind.FREE, help="kept as it is; nothing reads it here"),
)

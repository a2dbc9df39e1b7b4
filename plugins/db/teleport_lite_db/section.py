"""What `db_service` may hold (docs/config.md)."""

from teleport_lite.plugin.api import Field, Kind

PROTOCOLS = (
    "postgres",
    "mysql",
    "mongodb",
    "oracle",
    "cockroachdb",
    "redis",
    "snowflake",
    "sqlserver",
    "cassandra",
    "elasticsearch",
    "opensearch",
    "dynamodb",
    "clickhouse",
    "clickhouse-http",
    "spanner",
)
TLS_MODES = ("verify-full", "verify-ca", "insecure")

TLS = Field(
    name="tls",
    kind=Kind.MAPPING,
    help="how the database proves who it is",
    fields=(
        Field(name="mode", kind=Kind.TEXT, help="what is checked", choices=TLS_MODES),
        Field(name="server_name", kind=Kind.TEXT, help="name its certificate must have"),
        Field(name="ca_cert_file", kind=Kind.TEXT, help="PEM file of the CA that signed it"),
        Field(name="trust_system_cert_pool", kind=Kind.BOOL, help="also trust the system's CAs"),
    ),
)

DYNAMIC_LABELS = Field(
    name="dynamic_labels",
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
)

# Read when the services that need them are built; until then any value is taken.
CLOUDS = tuple(
    Field(name=name, kind=Kind.FREE, help=f"settings of {title} databases")
    for name, title in (
        ("aws", "AWS"),
        ("gcp", "Google Cloud"),
        ("ad", "Active Directory"),
        ("azure", "Azure"),
        ("oracle", "Oracle"),
        ("mongo_atlas", "MongoDB Atlas"),
    )
)

DATABASES = Field(
    name="databases",
    kind=Kind.LIST,
    help="databases this process serves",
    fields=(
        Field(name="name", kind=Kind.TEXT, help="name of the database", example="orders"),
        Field(name="description", kind=Kind.TEXT, help="words for people"),
        Field(name="protocol", kind=Kind.TEXT, help="what it speaks", example="postgres"),
        Field(name="uri", kind=Kind.TEXT, help="where it listens", example="localhost:5432"),
        TLS,
        Field(
            name="mysql",
            kind=Kind.MAPPING,
            help="settings of MySQL",
            fields=(Field(name="server_version", kind=Kind.TEXT, help="version told to clients"),),
        ),
        Field(
            name="admin_user",
            kind=Kind.MAPPING,
            help="who makes users on demand",
            fields=(
                Field(name="name", kind=Kind.TEXT, help="its user name"),
                Field(name="default_database", kind=Kind.TEXT, help="where it works"),
            ),
        ),
        *CLOUDS,
        Field(name="static_labels", kind=Kind.LABELS, help="what roles match it by"),
        DYNAMIC_LABELS,
    ),
)

FIELDS = (
    Field(
        name="resources",
        kind=Kind.LIST,
        help="serve databases made with tctl that have these labels",
        fields=(
            Field(name="labels", kind=Kind.FREE, help="labels to match, `*: *` matches all"),
            Field(name="aws", kind=Kind.FREE, help="how to take on AWS roles"),
        ),
    ),
    Field(name="aws", kind=Kind.FREE, help="which AWS databases to find"),
    Field(name="azure", kind=Kind.FREE, help="which Azure databases to find"),
    DATABASES,
)

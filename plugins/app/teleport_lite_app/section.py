"""What `app_service` may hold (docs/config.md)."""

from teleport_lite.plugin.api import Field, Kind

COMMANDS = Field(
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
)

REWRITE = Field(
    name="rewrite",
    kind=Kind.MAPPING,
    help="what to change in requests and answers",
    fields=(
        Field(name="redirect", kind=Kind.TEXTS, help="hosts whose redirects come back through us"),
        Field(name="headers", kind=Kind.FREE, help="headers added to every request"),
        Field(
            name="jwt_claims",
            kind=Kind.TEXT,
            help="what the request's token says about the person",
            choices=("roles-and-traits", "roles", "traits", "none"),
        ),
    ),
)

APPS = Field(
    name="apps",
    kind=Kind.LIST,
    help="applications this process serves",
    fields=(
        Field(name="name", kind=Kind.TEXT, help="name, part of its URL", example="grafana"),
        Field(name="uri", kind=Kind.TEXT, help="where it listens", example="http://localhost:3000"),
        Field(name="public_addr", kind=Kind.TEXT, help="host name to serve it under"),
        Field(name="description", kind=Kind.TEXT, help="words for people"),
        Field(name="labels", kind=Kind.LABELS, help="what roles match it by"),
        COMMANDS,
        Field(name="insecure_skip_verify", kind=Kind.BOOL, help="trust any certificate of it"),
        REWRITE,
        Field(name="required_apps", kind=Kind.TEXTS, help="applications its pages need"),
        Field(name="cors", kind=Kind.FREE, help="cross-origin requests it answers"),
        Field(
            name="cloud",
            kind=Kind.TEXT,
            help="the cloud whose console it is",
            choices=("AWS", "Azure", "GCP"),
        ),
        Field(name="aws", kind=Kind.FREE, help="how to take on AWS roles"),
        Field(name="tcp_ports", kind=Kind.FREE, help="ports or ranges of a tcp:// application"),
        Field(
            name="use_any_proxy_public_addr",
            kind=Kind.BOOL,
            help="serve it under every proxy's name",
        ),
    ),
)

FIELDS = (
    Field(name="debug_app", kind=Kind.BOOL, help="also serve an application that shows requests"),
    Field(name="mcp_demo_server", kind=Kind.BOOL, help="also serve a demonstration MCP server"),
    Field(
        name="resources",
        kind=Kind.LIST,
        help="serve applications made with tctl that have these labels",
        fields=(
            Field(name="labels", kind=Kind.FREE, help="labels to match, `*: *` matches all"),
            Field(name="aws", kind=Kind.FREE, help="how to take on AWS roles"),
        ),
    ),
    APPS,
)

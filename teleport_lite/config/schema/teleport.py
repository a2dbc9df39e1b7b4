"""teleport: what every process needs, whichever roles it runs."""

from teleport_lite.model.schema import Field, Kind

JOIN_PARAMS = (
    Field(
        name="method",
        kind=Kind.TEXT,
        help="how the machine proves itself; token is the one there is",
        default="token",
        choices=("token",),
        example="token",
    ),
    Field(
        name="token_name",
        kind=Kind.SECRET,
        help="the join token: its text, an absolute path, env:NAME or - for standard input",
        example="/etc/token.file",
    ),
    Field(name="token_secret", kind=Kind.SECRET, help="of scoped tokens", built=False),
    Field(name="azure", kind=Kind.FREE, help="of the azure method", built=False),
    Field(name="gitlab", kind=Kind.FREE, help="of the gitlab method", built=False),
)

LOG = (
    Field(
        name="output",
        kind=Kind.TEXT,
        help="stderr, stdout, syslog or an absolute path",
        default="stderr",
        example="stderr",
    ),
    Field(
        name="severity",
        kind=Kind.TEXT,
        help="the least severity that is logged",
        default="INFO",
        choices=("TRACE", "DEBUG", "INFO", "WARN", "WARNING", "ERROR", "ERR"),
        example="INFO",
    ),
    Field(
        name="format",
        kind=Kind.MAPPING,
        help="how a line looks",
        example="{output: text}",
        fields=(
            Field(
                name="output",
                kind=Kind.TEXT,
                help="text for people, json for programs",
                default="text",
                choices=("text", "json"),
            ),
            Field(
                name="extra_fields",
                kind=Kind.TEXTS,
                help="level, timestamp, component, caller",
                example="[timestamp, level, component, caller]",
                built=False,
            ),
        ),
    ),
)

STORAGE = (
    Field(
        name="type",
        kind=Kind.TEXT,
        help="sqlite, or postgresql for several auth servers; dir is an old name of sqlite",
        default="sqlite",
        choices=("sqlite", "postgresql", "dir"),
    ),
    Field(
        name="path",
        kind=Kind.TEXT,
        help="directory of the database; data_dir/backend if absent",
        example="/var/lib/teleport-lite/backend",
    ),
    Field(
        name="conn_string",
        kind=Kind.SECRET,
        help="of postgresql: where the database is, or the absolute path, env:NAME or "
        "credential:NAME that it is read from",
        example="postgresql://teleport@db.example.com/teleport?sslmode=verify-full",
    ),
    Field(
        name="keyring",
        kind=Kind.TEXT,
        help="key file that seals CA keys and tokens; must be outside data_dir",
        example="/etc/teleport-lite/keyring",
    ),
    Field(
        name="keyring_passphrase",
        kind=Kind.TEXT,
        help="what opens the keyring, if it is sealed: an absolute path, env:NAME, "
        "credential:NAME of systemd, or - for standard input",
        example="credential:keyring",
    ),
    Field(
        name="keyring_plugin",
        kind=Kind.TEXT,
        help="the plugin that opens the keyring by a key it keeps elsewhere",
        example="vault",
    ),
    Field(name="sync", kind=Kind.TEXT, help="sqlite's own; always FULL", built=False),
    Field(name="journal", kind=Kind.TEXT, help="sqlite's own; always WAL", built=False),
    Field(name="poll_stream_period", kind=Kind.DURATION, help="of other stores", built=False),
    Field(name="audit_events_uri", kind=Kind.TEXTS, help="where else events go", built=False),
    Field(name="audit_sessions_uri", kind=Kind.TEXTS, help="where recordings go", built=False),
)

CACHE = (
    Field(name="enabled", kind=Kind.BOOL, help="keep what was last known"),
    Field(name="type", kind=Kind.TEXT, help="where it is kept"),
    Field(
        name="max_backoff", kind=Kind.DURATION, help="longest wait before a refill", example="8m"
    ),
)

RATE = (
    Field(name="period", kind=Kind.DURATION, help="the rate is counted over this", example="1m"),
    Field(name="average", kind=Kind.INT, help="connections in a period"),
    Field(name="burst", kind=Kind.INT, help="connections at once"),
)

CONNECTION_LIMITS = (
    Field(name="max_connections", kind=Kind.INT, help="at the same time", example="15000"),
    Field(name="max_users", kind=Kind.INT, help="users at the same time", example="250"),
    Field(name="rates", kind=Kind.LIST, help="how fast they may come", fields=RATE),
)

AUTH_CONNECTION = (
    Field(
        name="upper_limit_between_retries", kind=Kind.DURATION, help="longest wait", example="90s"
    ),
    Field(name="initial_connection_delay", kind=Kind.DURATION, help="first wait", example="9s"),
    Field(name="backoff_step_duration", kind=Kind.DURATION, help="added each time", example="18s"),
)

TELEPORT = (
    Field(
        name="nodename",
        kind=Kind.TEXT,
        help="what this machine is called in listings; the host name if absent",
        example="web-1",
    ),
    Field(
        name="data_dir",
        kind=Kind.TEXT,
        help="keys, certificates and state of this machine",
        default="/var/lib/teleport-lite",
    ),
    Field(name="pid_file", kind=Kind.TEXT, help="gets the process id", example="/run/t.pid"),
    Field(
        name="auth_token",
        kind=Kind.SECRET,
        help="the join token: its text, an absolute path, env:NAME or - for standard input",
        example="/etc/token.file",
    ),
    Field(
        name="join_params",
        kind=Kind.MAPPING,
        help="the same as auth_token, in the newer form",
        example="{method: token, token_name: /etc/token.file}",
        fields=JOIN_PARAMS,
    ),
    Field(
        name="ca_pin",
        kind=Kind.TEXTS,
        help="one or many pins of `tctl status`, or absolute paths of files with pins",
        example='"sha256:7e12c17c..."',
    ),
    Field(
        name="auth_servers",
        kind=Kind.ADDRESSES,
        help="v1 and v2: auth services or proxies to join through",
        example='["10.12.0.6:3025"]',
    ),
    Field(
        name="auth_server",
        kind=Kind.ADDRESS,
        help="v3: the auth service to join",
        example="auth.example.com:3025",
    ),
    Field(
        name="proxy_server",
        kind=Kind.ADDRESS,
        help="v3: the proxy to join through",
        example="teleport.example.com:3080",
    ),
    Field(
        name="relay_server",
        kind=Kind.ADDRESS,
        help="a relay near the machine",
        example="relay.example.com:443",
        built=False,
    ),
    Field(
        name="advertise_ip",
        kind=Kind.TEXT,
        help="where others reach this machine: address or address:port",
        example="10.1.0.5",
    ),
    Field(
        name="diag_addr",
        kind=Kind.ADDRESS,
        help="serves /healthz, /readyz and /metrics",
        example="127.0.0.1:3000",
    ),
    Field(name="log", kind=Kind.MAPPING, help="what is logged and how", fields=LOG),
    Field(name="storage", kind=Kind.MAPPING, help="where auth keeps its state", fields=STORAGE),
    Field(name="cache", kind=Kind.MAPPING, help="local copies", fields=CACHE, built=False),
    Field(
        name="connection_limits",
        kind=Kind.MAPPING,
        help="how many connections are taken",
        fields=CONNECTION_LIMITS,
        built=False,
    ),
    Field(
        name="auth_connection_config",
        kind=Kind.MAPPING,
        help="pace of reconnecting to auth",
        fields=AUTH_CONNECTION,
        built=False,
    ),
    Field(
        name="shutdown_delay",
        kind=Kind.DURATION,
        help="keep serving while the balancer notices",
        built=False,
    ),
    Field(name="ciphers", kind=Kind.TEXTS, help="of SSH", built=False),
    Field(name="kex_algos", kind=Kind.TEXTS, help="of SSH", built=False),
    Field(name="mac_algos", kind=Kind.TEXTS, help="of SSH", built=False),
    Field(name="ciphersuites", kind=Kind.TEXTS, help="of TLS", built=False),
)

PLUGINS = (
    Field(
        name="directories",
        kind=Kind.TEXTS,
        help="absolute paths of directories that each hold a plugin",
        example="[/etc/teleport-lite/plugins/printer]",
    ),
    Field(
        name="distributions",
        kind=Kind.TEXTS,
        help="installed distributions that are invited, by name",
        example="[teleport-lite-printer]",
    ),
    Field(
        name="settings",
        kind=Kind.FREE,
        help="what plugins without a role want to know, by plugin name",
        example="{printer: {queue: office}}",
    ),
)

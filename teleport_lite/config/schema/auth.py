"""auth_service: the certificate authority, tokens and users of the cluster."""

from teleport_lite.model.schema import Field, Kind

WEBAUTHN = (
    Field(name="rp_id", kind=Kind.TEXT, help="host name of the proxy"),
    Field(name="attestation_allowed_cas", kind=Kind.TEXTS, help="makers that are trusted"),
    Field(name="attestation_denied_cas", kind=Kind.TEXTS, help="makers that are not"),
)

AUTHENTICATION = (
    Field(name="type", kind=Kind.TEXT, help="local, github, oidc or saml", example="local"),
    Field(name="second_factor", kind=Kind.TEXT, help="old form of second_factors", example="otp"),
    Field(name="second_factors", kind=Kind.TEXTS, help="what is asked besides the password"),
    Field(name="webauthn", kind=Kind.MAPPING, help="security keys", fields=WEBAUTHN),
    Field(name="u2f", kind=Kind.FREE, help="old form of webauthn"),
    Field(name="local_auth", kind=Kind.BOOL, help="users with a password of the cluster"),
    Field(name="passwordless", kind=Kind.BOOL, help="a security key instead of a password"),
    Field(name="headless", kind=Kind.BOOL, help="approve a login from another machine"),
    Field(name="connector_name", kind=Kind.TEXT, help="the usual connector"),
    Field(name="require_session_mfa", kind=Kind.TEXT, help="yes, no or a kind of hardware key"),
    Field(
        name="locking_mode",
        kind=Kind.TEXT,
        help="what holds while locks cannot be read",
        choices=("best_effort", "strict"),
    ),
    Field(name="default_session_ttl", kind=Kind.DURATION, help="of certificates", example="12h"),
    Field(name="device_trust", kind=Kind.FREE, help="known devices only"),
    Field(name="signature_algorithm_suite", kind=Kind.TEXT, help="kinds of keys"),
    Field(name="stable_unix_user_config", kind=Kind.FREE, help="uids that stay"),
)

AUTH = (
    Field(
        name="listen_addr",
        kind=Kind.ADDRESS,
        help="where agents, proxies and tctl connect",
        default="0.0.0.0:3025",
    ),
    Field(
        name="public_addr",
        kind=Kind.ADDRESSES,
        help="how others reach it; shown in join commands, the first one first",
        example="auth.example.com:3025",
    ),
    Field(
        name="cluster_name",
        kind=Kind.TEXT,
        help="stands in every certificate and cannot change later; the host name if absent",
        example="teleport.example.com",
    ),
    Field(
        name="tokens",
        kind=Kind.FREE,  # text or mapping, and secret: read by build.py
        help="static join tokens",
        example='["proxy,node:secret-token-value", "auth:/path/to/tokenfile"]',
    ),
    Field(
        name="allow_weak_static_tokens",
        kind=Kind.BOOL,
        help="take static tokens shorter than 16 characters",
        default=False,
    ),
    Field(
        name="presence_retention",
        kind=Kind.DURATION,
        help="hosts that were not seen for this long leave the listings",
        example="7d",
    ),
    Field(
        name="session_recording",
        kind=Kind.TEXT,
        help="sessions on terminals are recorded by nodes, or with off not at all",
        choices=("node", "node-sync", "proxy", "proxy-sync", "off"),
        default="node",
    ),
    Field(
        name="recording_retention",
        kind=Kind.DURATION,
        help="recorded sessions are removed this long after they were stored; 0s keeps them",
        example="90d",
    ),
    Field(
        name="recording_quota",
        kind=Kind.TEXT,
        help="how much recorded sessions may take of auth's disk; 0 leaves it to the disk",
        default="10GiB",
        example="10GiB",
    ),
    Field(name="proxy_checks_host_keys", kind=Kind.BOOL, help="when proxies record", built=False),
    Field(
        name="authentication",
        kind=Kind.MAPPING,
        help="how users log in",
        fields=AUTHENTICATION,
        built=False,
    ),
    Field(name="client_idle_timeout", kind=Kind.DURATION, help="of sessions", built=False),
    Field(name="client_idle_timeout_message", kind=Kind.TEXT, help="its text", built=False),
    Field(name="web_idle_timeout", kind=Kind.DURATION, help="of the web pages", built=False),
    Field(name="disconnect_expired_cert", kind=Kind.BOOL, help="ends sessions", built=False),
    Field(name="keep_alive_interval", kind=Kind.DURATION, help="of connections", built=False),
    Field(name="keep_alive_count_max", kind=Kind.INT, help="how many may be missed", built=False),
    Field(name="session_control_timeout", kind=Kind.DURATION, help="of locks", built=False),
    Field(name="ssh_dial_timeout", kind=Kind.DURATION, help="from proxy to node", built=False),
    Field(
        name="routing_strategy",
        kind=Kind.TEXT,
        help="when two nodes have one name",
        choices=("unambiguous_match", "most_recent"),
        built=False,
    ),
    Field(name="case_insensitive_routing", kind=Kind.BOOL, help="of node names", built=False),
    Field(
        name="proxy_listener_mode",
        kind=Kind.TEXT,
        help="one port or one for each protocol",
        choices=("separate", "multiplex"),
        built=False,
    ),
    Field(
        name="tunnel_strategy",
        kind=Kind.MAPPING,
        help="how many proxies an agent connects to",
        fields=(
            Field(
                name="type",
                kind=Kind.TEXT,
                help="every proxy, or some",
                choices=("agent_mesh", "proxy_peering"),
            ),
            Field(name="agent_connection_count", kind=Kind.INT, help="for proxy_peering"),
        ),
        built=False,
    ),
    Field(name="message_of_the_day", kind=Kind.TEXT, help="shown at login", built=False),
    Field(
        name="proxy_protocol",
        kind=Kind.TEXT,
        help="a balancer in front says who connects",
        choices=("on", "off", "unspecified"),
        built=False,
    ),
    Field(name="load_all_cas", kind=Kind.BOOL, help="of other clusters", built=False),
    Field(name="ca_key_params", kind=Kind.FREE, help="keys in hardware", built=False),
    Field(name="license_file", kind=Kind.TEXT, help="there is no licence here", built=False),
    Field(name="access_monitoring", kind=Kind.FREE, help="reports", built=False),
    Field(name="hosted_plugins", kind=Kind.FREE, help="of a hosted service", built=False),
)

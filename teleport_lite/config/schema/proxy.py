"""proxy_service: what the world reaches."""

from datetime import timedelta

from teleport_lite.model.schema import Field, Kind

KEYPAIR = (
    Field(
        name="key_file",
        kind=Kind.TEXT,
        help="private key, PEM",
        required=True,
        example="/etc/tls/key.pem",
    ),
    Field(
        name="cert_file",
        kind=Kind.TEXT,
        help="certificate with its chain, PEM",
        required=True,
        example="/etc/tls/cert.pem",
    ),
)

ACME = (
    Field(name="enabled", kind=Kind.BOOL, help="get a certificate by ACME", default=False),
    Field(name="email", kind=Kind.TEXT, help="told when one is about to expire", default=""),
    Field(
        name="uri",
        kind=Kind.TEXT,
        help="of the directory; Let's Encrypt if absent",
        default="",
        example="https://ca.example.com/acme/directory",
    ),
)

# One entry of automatic_upgrades_channels; the keys above it are the names of channels.
CHANNEL = (
    Field(
        name="static_version",
        kind=Kind.TEXT,
        help="agents should have this version",
        example="v1.2.3",
    ),
    Field(name="forward_url", kind=Kind.TEXT, help="ask another server", built=False),
    Field(name="critical", kind=Kind.BOOL, help="do not wait for a quiet hour", default=False),
)

KUBERNETES = (
    Field(name="enabled", kind=Kind.BOOL, help="serve kubectl"),
    Field(name="listen_addr", kind=Kind.ADDRESS, help="where", example="0.0.0.0:3026"),
    Field(name="public_addr", kind=Kind.ADDRESSES, help="how", example="kube.example.com:3026"),
    Field(name="kubeconfig_file", kind=Kind.TEXT, help="clusters to serve"),
    Field(name="cluster_name", kind=Kind.TEXT, help="name of the cluster"),
)

PROXY = (
    Field(
        name="web_listen_addr",
        kind=Kind.ADDRESS,
        help="HTTPS: web pages, API, and tunnels unless they have a port of their own",
        default="0.0.0.0:3080",
    ),
    Field(
        name="listen_addr",
        kind=Kind.ADDRESS,
        help="SSH; v1 opens 3023 by itself, v2 and v3 only what is written here",
        example="0.0.0.0:3023",
    ),
    Field(
        name="tunnel_listen_addr",
        kind=Kind.ADDRESS,
        help="agents' tunnels; the same as web_listen_addr means one port for both",
        example="0.0.0.0:3024",
    ),
    Field(
        name="public_addr",
        kind=Kind.ADDRESSES,
        help="how browsers and agents reach it, the first one first",
        example="teleport.example.com:3080",
    ),
    Field(
        name="ssh_public_addr",
        kind=Kind.ADDRESSES,
        help="how ssh reaches it",
        example="teleport.example.com:3023",
    ),
    Field(
        name="tunnel_public_addr",
        kind=Kind.ADDRESSES,
        help="how agents reach the tunnel port",
        example="teleport.example.com:3024",
    ),
    Field(
        name="https_keypairs",
        kind=Kind.LIST,
        help="certificates of the web port, chosen by name; if absent those of ACME, else one of "
        "the cluster's own CA",
        example="[{key_file: /etc/tls/key.pem, cert_file: /etc/tls/cert.pem}]",
        fields=KEYPAIR,
    ),
    Field(
        name="https_key_file",
        kind=Kind.TEXT,
        help="old form of https_keypairs",
        example="/etc/tls/key.pem",
    ),
    Field(
        name="https_cert_file",
        kind=Kind.TEXT,
        help="old form of https_keypairs",
        example="/etc/tls/cert.pem",
    ),
    Field(name="acme", kind=Kind.MAPPING, help="certificates by ACME", fields=ACME),
    Field(
        name="https_keypairs_reload_interval",
        kind=Kind.DURATION,
        help="how often to look whether the files have changed; 0 is never",
        default=timedelta(seconds=30),
        example="5m",
    ),
    Field(
        name="kube_listen_addr",
        kind=Kind.ADDRESS,
        help="kubectl",
        example="0.0.0.0:3026",
        built=False,
    ),
    Field(
        name="kubernetes",
        kind=Kind.MAPPING,
        help="old form of kube_listen_addr",
        fields=KUBERNETES,
        built=False,
    ),
    Field(
        name="mysql_listen_addr",
        kind=Kind.ADDRESS,
        help="MySQL clients",
        example="0.0.0.0:3036",
        built=False,
    ),
    Field(
        name="postgres_listen_addr",
        kind=Kind.ADDRESS,
        help="PostgreSQL clients",
        example="0.0.0.0:5432",
        built=False,
    ),
    Field(
        name="mongo_listen_addr",
        kind=Kind.ADDRESS,
        help="MongoDB clients",
        example="0.0.0.0:27017",
        built=False,
    ),
    Field(
        name="peer_listen_addr",
        kind=Kind.ADDRESS,
        help="other proxies",
        example="0.0.0.0:3021",
        built=False,
    ),
    Field(
        name="peer_public_addr",
        kind=Kind.ADDRESS,
        help="how other proxies reach it",
        example="proxy-1.example.com:3021",
        built=False,
    ),
    Field(
        name="kube_public_addr",
        kind=Kind.ADDRESSES,
        help="how kubectl reaches it",
        example="kube.example.com:3026",
        built=False,
    ),
    Field(
        name="postgres_public_addr",
        kind=Kind.ADDRESSES,
        help="how PostgreSQL clients reach it",
        example="db.example.com:5432",
        built=False,
    ),
    Field(
        name="mysql_public_addr",
        kind=Kind.ADDRESSES,
        help="how MySQL clients reach it",
        example="db.example.com:3036",
        built=False,
    ),
    Field(
        name="mongo_public_addr",
        kind=Kind.ADDRESSES,
        help="how MongoDB clients reach it",
        example="db.example.com:27017",
        built=False,
    ),
    Field(
        name="proxy_protocol",
        kind=Kind.TEXT,
        help="a balancer in front says who connects (PROXY protocol v1, v2): on takes nothing "
        "else, off refuses it; if absent it is refused too, and the log says what to do",
        choices=("on", "off", "unspecified"),
        default="unspecified",
    ),
    Field(name="trust_x_forwarded_for", kind=Kind.BOOL, help="of a web balancer", built=False),
    Field(
        name="ui",
        kind=Kind.MAPPING,
        help="the web pages",
        fields=(
            Field(name="scrollback_lines", kind=Kind.INT, help="of terminals", example="1000"),
            Field(
                name="show_resources",
                kind=Kind.TEXT,
                help="what is listed",
                choices=("requestable", "accessible_only"),
            ),
        ),
        built=False,
    ),
    Field(name="proxy_group_id", kind=Kind.TEXT, help="proxies that belong together", built=False),
    Field(name="proxy_group_gen", kind=Kind.INT, help="grows with each rollout", built=False),
    Field(name="idp", kind=Kind.FREE, help="SAML for other programs", built=False),
    Field(
        name="automatic_upgrades_channels",
        kind=Kind.FREE,
        help="which version agents should have, told at /v1/webapi/automaticupgrades/channel",
        example="{default: {static_version: v1.2.3, critical: no}}",
    ),
    Field(
        name="releases_dir",
        kind=Kind.TEXT,
        help="more versions to hand out below /webapi/releases, each in a directory of its name as "
        "it was published; without it, those installed on this host",
        example="/srv/teleport-lite/releases",
    ),
    Field(name="assist", kind=Kind.FREE, help="was taken out of Teleport", built=False),
)

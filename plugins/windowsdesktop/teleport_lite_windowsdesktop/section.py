"""What `windows_desktop_service` may hold (docs/config.md)."""

from teleport_lite.plugin.api import Field, Kind

LDAP = Field(
    name="ldap",
    kind=Kind.MAPPING,
    help="the domain controller to ask",
    fields=(
        Field(name="addr", kind=Kind.TEXT, help="host:port of LDAPS", example="dc.example.com:636"),
        Field(name="domain", kind=Kind.TEXT, help="domain name", example="example.com"),
        Field(name="username", kind=Kind.TEXT, help="account that may read", example="EX\\svc"),
        Field(name="sid", kind=Kind.TEXT, help="its security identifier"),
        Field(name="server_name", kind=Kind.TEXT, help="name its certificate must have"),
        Field(name="insecure_skip_verify", kind=Kind.BOOL, help="trust any certificate of it"),
        Field(name="ldap_ca_cert", kind=Kind.TEXT, help="PEM of the CA that signed it"),
        Field(name="der_ca_file", kind=Kind.TEXT, help="DER file of the CA that signed it"),
        Field(name="locate_server", kind=Kind.FREE, help="find the controller by DNS"),
    ),
)

STATIC_HOSTS = Field(
    name="static_hosts",
    kind=Kind.LIST,
    help="desktops known by address",
    fields=(
        Field(name="name", kind=Kind.TEXT, help="name of the desktop", example="design-1"),
        Field(name="ad", kind=Kind.BOOL, help="whether it is in Active Directory", default=False),
        Field(name="addr", kind=Kind.TEXT, help="host or host:port", example="10.0.0.7:3389"),
        Field(name="labels", kind=Kind.LABELS, help="what roles match it by"),
    ),
)

FIELDS = (
    Field(
        name="listen_addr",
        kind=Kind.ADDRESS,
        help="where it is reached without a tunnel",
        example="0.0.0.0:3028",
    ),
    Field(name="public_addr", kind=Kind.TEXTS, help="addresses others reach it by"),
    Field(name="show_desktop_wallpaper", kind=Kind.BOOL, help="send the wallpaper, too"),
    LDAP,
    Field(name="pki_domain", kind=Kind.TEXT, help="domain that holds the CA, if another"),
    Field(name="kdc_address", kind=Kind.TEXT, help="host:port of the key distribution centre"),
    STATIC_HOSTS,
    Field(name="hosts", kind=Kind.TEXTS, help="older form: addresses in Active Directory"),
    Field(name="non_ad_hosts", kind=Kind.TEXTS, help="older form: addresses outside of it"),
    Field(name="discovery", kind=Kind.FREE, help="desktops to find by LDAP"),
    Field(name="discovery_configs", kind=Kind.FREE, help="several such searches"),
    Field(
        name="host_labels",
        kind=Kind.LIST,
        help="labels for every address that matches",
        fields=(
            Field(name="match", kind=Kind.TEXT, help="regular expression", example="^10\\.0\\."),
            Field(name="labels", kind=Kind.LABELS, help="labels those get"),
        ),
    ),
    Field(name="labels", kind=Kind.LABELS, help="labels of the service itself"),
)

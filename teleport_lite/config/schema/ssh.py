"""ssh_service: shells on this machine."""

from teleport_lite.model.env_names import ACCEPTED
from teleport_lite.model.schema import Field, Kind

COMMAND = (
    Field(
        name="name",
        kind=Kind.TEXT,
        help="key of the label",
        required=True,
        example="hostname",
    ),
    Field(
        name="command",
        kind=Kind.TEXTS,
        help="program and arguments; no shell reads them",
        required=True,
        example="[hostname, --fqdn]",
    ),
    Field(
        name="period",
        kind=Kind.DURATION,
        help="how often it runs, at least 1s",
        required=True,
        example="1m0s",
    ),
)

X11 = (
    Field(name="enabled", kind=Kind.BOOL, help="allow it; needs xauth on this host"),
    Field(
        name="display_offset",
        kind=Kind.INT,
        help="first display that is given out",
        default=10,
        example="10",
    ),
    Field(
        name="max_display",
        kind=Kind.INT,
        help="last display; a thousand after the first, if nothing is said",
        example="1010",
    ),
)

PAM = (
    Field(name="enabled", kind=Kind.BOOL, help="ask PAM; needs root and libpam"),
    Field(
        name="service_name",
        kind=Kind.TEXT,
        help="file in /etc/pam.d",
        default="sshd",
        example="sshd",
    ),
    Field(name="use_pam_auth", kind=Kind.BOOL, help="run its auth modules (not built)"),
    Field(
        name="environment",
        kind=Kind.FREE,
        help="variables that its modules and the session see, traits filled in",
        example="{EMAIL: '{{external.email}}'}",
    ),
)

RECORDING = (
    Field(name="enabled", kind=Kind.BOOL, help="record by eBPF"),
    Field(name="command_buffer_size", kind=Kind.INT, help="pages", example="8"),
    Field(name="disk_buffer_size", kind=Kind.INT, help="pages", example="128"),
    Field(name="network_buffer_size", kind=Kind.INT, help="pages", example="8"),
    Field(name="cgroup_path", kind=Kind.TEXT, help="where cgroups are", example="/cgroup2"),
    Field(name="root_path", kind=Kind.TEXT, help="below it", example="/teleport"),
)

SSH = (
    Field(
        name="listen_addr",
        kind=Kind.ADDRESS,
        help="where SSH clients connect",
        default="0.0.0.0:3022",
    ),
    Field(
        name="public_addr",
        kind=Kind.ADDRESSES,
        help="how others reach it, the first one first",
        example="node.example.com:3022",
    ),
    Field(
        name="labels",
        kind=Kind.LABELS,
        help="facts that roles match",
        example="{env: prod}",
    ),
    Field(
        name="commands",
        kind=Kind.LIST,
        help="labels whose value is what a program prints",
        example="[{name: hostname, command: [hostname], period: 1m0s}]",
        fields=COMMAND,
    ),
    Field(name="force_listen", kind=Kind.BOOL, help="open the port beside a tunnel", built=False),
    Field(
        name="accept_env",
        kind=Kind.TEXTS,
        help=f"variables that clients may set, * and ? as in sshd; else {', '.join(ACCEPTED)}",
        example="[LANG, LC_*]",
    ),
    Field(
        name="permit_user_env",
        kind=Kind.BOOL,
        help="read ~/.tsh/environment, lines of NAME=value",
    ),
    Field(
        name="banner",
        kind=Kind.TEXT,
        help="a file that everybody reads before the login, at most 8 KiB of it",
        example="/etc/issue.net",
    ),
    Field(
        name="disable_create_host_user",
        kind=Kind.BOOL,
        help="never make accounts, whatever roles say",
    ),
    Field(
        name="port_forwarding",
        kind=Kind.BOOL,
        help="ssh -L, -R, -D and -W, where roles allow them; no forbids them to everybody",
        default=True,
    ),
    Field(
        name="ssh_file_copy",
        kind=Kind.BOOL,
        help="scp and sftp, where roles allow them; no forbids them to everybody",
        default=True,
    ),
    Field(name="x11", kind=Kind.MAPPING, help="ssh -X, where roles allow it", fields=X11),
    Field(
        name="pam",
        kind=Kind.MAPPING,
        help="the system's own checks of accounts, and what it does when sessions begin and end",
        fields=PAM,
    ),
    Field(
        name="recording_spool_quota",
        kind=Kind.TEXT,
        help="how much recordings may take of this host's disk until auth has them",
        default="1GiB",
        example="1GiB",
    ),
    Field(
        name="strict_locks",
        kind=Kind.BOOL,
        help="refuse new sessions when nothing was heard from auth for ten minutes",
    ),
    Field(
        name="enhanced_recording",
        kind=Kind.MAPPING,
        help="what programs did, from the kernel",
        fields=RECORDING,
        built=False,
    ),
    Field(name="restricted_session", kind=Kind.FREE, help="was taken out", built=False),
)

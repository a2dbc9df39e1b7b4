"""The roles every cluster starts with."""

from teleport_lite.model.user import Condition, Options, Role, Rule

_CONFIG = (
    "token",
    "user",
    "role",
    "node",
    "host",
    "lock",
    "bot",
    "cert_authority",
    "resource",
    "auth",
    "status",
    "session",
    "trusted_cluster",
    "remote_cluster",
)

ACCESS = Role(
    name="access",
    preset=True,
    allow=Condition(
        logins=("{{internal.logins}}",),
        node_labels={"*": ("*",)},
        rules=(Rule(resources=("node", "status"), verbs=("list", "read")),),
    ),
    options=Options(forward_agent=True),
)
EDITOR = Role(
    name="editor",
    preset=True,
    allow=Condition(rules=(Rule(resources=_CONFIG, verbs=("*",)),)),
    options=Options(forward_agent=True),
)
AUDITOR = Role(
    name="auditor",
    preset=True,
    allow=Condition(
        rules=(Rule(resources=("event", "session", "node", "status"), verbs=("list", "read")),)
    ),
    options=Options(port_forwarding=False),
)
PRESETS = (ACCESS, EDITOR, AUDITOR)

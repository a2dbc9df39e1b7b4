"""The agent stream: one WebSocket (RFC 6455) per joined process, kept open over mTLS.

    agent                                    auth
     | -- {"hello": Hello} ----------------->  |   who is in the certificate, never in the words
     | <-- {"knowledge": Knowledge} ---------  |   and again when a CA, role, lock or proxy changes
     | -- {"beat": Beat} ------------------->  |   every 5 to 15 s, or at once on a change
     | <-- {"beat": {"time": ...}} ----------  |   so that both sides see the skew
     | -- {"events": [...]} ---------------->  |   audit events of the node
     | <-- {"taken": 2} ---------------------  |   so many of them are in the trail now, in order
     | <-- {"later": 5.0} -------------------  |   or none: auth can not write, ask again then
     | -- {"renew": Renew} ----------------->  |
     | <-- {"welcome": Welcome} -------------  |
     | <-- {"routes": Routes} ---------------  |   to proxies: which nodes there are, and where
     | -- {"goodbye": {}} ------------------>  |

Every frame is one JSON object with one key. A frame whose key is not known says nothing: it is of
a later version.
"""

from typing import Any

from teleport_lite.proto.codec import Statement
from teleport_lite.proto.join import Renew, Welcome

PATH = "/v1/agent/stream"


class Announced(Statement, frozen=True):
    kind: str
    name: str
    labels: dict[str, str] = {}
    spec: dict[str, str] = {}


class StreamHello(Statement, frozen=True):
    version: str
    roles: list[str]
    boot_id: str  # of this process: tells a restart from a cloned machine
    life: str = ""  # of the cluster that told this host last (model/life.py)
    heard_ago: float = 0.0  # seconds since then


class ProxyPlace(Statement, frozen=True):
    """How a proxy is reached. It tells auth in its beats; auth tells everybody."""

    id: str = ""  # UUID; filled in by auth from the certificate
    name: str = ""  # host name; filled in by auth
    # host:port of this proxy and no other, where tunnels arrive; "" if it has none
    address: str = ""
    # host:port of the web port that people and agents use; the same for all behind a balancer
    public: list[str] = []
    tunnel_public: list[str] = []  # if tunnels have a port of their own
    ssh_public: list[str] = []  # host:port of the SSH jump host


# Of one beat. A host with more open at once tells of the first ones.
MAX_SESSIONS = 256


class LiveSession(Statement, frozen=True):
    """An SSH session that is open on a node now."""

    sid: str
    user: str
    login: str
    started: float  # Unix seconds, by the host's clock
    addr: str  # where the user comes from
    command: str  # "" is a login shell
    recorded: bool = False
    parties: list[str] = []  # users who have joined it


class Beat(Statement, frozen=True):
    time: float  # the agent's clock, Unix seconds
    address: str = ""  # where its SSH service is reached; "" behind a tunnel
    labels: dict[str, str] = {}
    resources: list[Announced] = []
    tunnels: list[str] = []  # UUIDs of the proxies that hold a tunnel of this host
    proxy: ProxyPlace | None = None  # if this host is a proxy
    auth: str = ""  # host:port of the auth service in this process, if there is one
    sessions: list[LiveSession] = []  # that are open on this host, at most MAX_SESSIONS
    leaves: list[str] = []  # UUIDs of the leaf clusters that have a tunnel to this proxy
    rotated: dict[str, str] = {}  # by type of CA, the mark that this host has caught up with


class BeatReply(Statement, frozen=True):
    time: float


class AgentEvent(Statement, frozen=True):
    """An audit event seen by an agent. Auth adds who sent it."""

    kind: str
    code: str
    at: float
    outcome: str
    facts: dict[str, str] = {}


class Goodbye(Statement, frozen=True):
    reason: str = ""


class RotationWord(Statement, frozen=True):
    """Of a CA that was ever rotated. A host renews when the mark of the host CA changes."""

    type: str  # of model/authority.py: host, user, ...
    mark: str  # of model/rotation.py: "<id>/<phase>"


class RootWord(Statement, frozen=True):
    """A cluster whose users may come here, with roles of ours."""

    cluster: str
    user_cas: list[str]  # PEM
    ssh_user_cas: list[str]  # OpenSSH lines
    role_map: list[dict[str, Any]]  # [{"remote": "access", "local": ["access"]}]
    proxy: str = ""  # host:port; our proxies keep tunnels there
    host_cas: list[str] = []  # PEM; of the root's proxies
    proxies: list[ProxyPlace] = []  # of the root, that are alive
    locks: list[dict[str, Any]] = []  # of people and roles of the root, which hold here too
    mark: str = ""  # changes with the certificate that our proxies show there


class LeafWord(Statement, frozen=True):
    """A cluster that users of ours may go on to."""

    cluster: str
    id: str  # UUID that tunnels of its proxies carry
    host_cas: list[str] = []
    ssh_host_cas: list[str] = []
    labels: dict[str, str] = {}


class Knowledge(Statement, frozen=True):
    """What an agent needs to decide by itself; kept on disk for the time auth is away."""

    cluster: str
    serial: int
    host_cas: list[str]  # PEM
    ssh_host_cas: list[str]  # OpenSSH public key lines
    ssh_user_cas: list[str]
    user_cas: list[str]  # PEM
    roles: list[dict[str, Any]]  # role resources, `proto/resource.py`
    locks: list[dict[str, Any]]
    proxies: list[ProxyPlace] = []  # those that are alive
    session_recording: str = "node"  # or "off"
    rotations: list[RotationWord] = []
    auths: list[str] = []  # host:port of the auth servers that are alive
    roots: list[RootWord] = []
    leaves: list[LeafWord] = []
    life: str = ""  # of the cluster, as its store has it (model/life.py)


class Route(Statement, frozen=True):
    """One node, as proxies need to know it."""

    id: str
    name: str
    address: str = ""
    labels: dict[str, str] = {}
    tunnels: list[str] = []  # UUIDs of proxies
    state: str = "online"  # of model/host.py: online, stale or offline
    last_seen: str = ""  # RFC 3339; "" while it is online


class Routes(Statement, frozen=True):
    """Of the nodes of a cluster: all of them in one or more frames, then what has changed."""

    first: bool  # forget what was known before
    hosts: list[Route] = []
    gone: list[str] = []  # UUIDs


class Refusal(Statement, frozen=True):
    """Why the stream ends; the agent shows it and acts on the code."""

    code: str
    message: str
    hint: str = ""


class Frame(Statement, frozen=True):
    """Says one thing, or nothing that we know."""

    def __post_init__(self) -> None:
        if sum(getattr(self, name) is not None for name in self.__struct_fields__) > 1:
            raise ValueError(f"a frame has one of {', '.join(self.__struct_fields__)}")


class FromAgent(Frame, frozen=True):
    hello: StreamHello | None = None
    beat: Beat | None = None
    events: list[AgentEvent] | None = None
    renew: Renew | None = None
    goodbye: Goodbye | None = None


class ToAgent(Frame, frozen=True):
    knowledge: Knowledge | None = None
    beat: BeatReply | None = None
    taken: int | None = None  # how many of the events sent on this connection, from the oldest on
    # Seconds until events, or a renewal, that were sent and not answered may be sent again: auth
    # can not write now. One such frame is under way at a time.
    later: float | None = None
    welcome: Welcome | None = None
    routes: Routes | None = None
    refusal: Refusal | None = None

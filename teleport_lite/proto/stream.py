"""The agent stream: one WebSocket (RFC 6455) per joined process, kept open over mTLS.

    agent                                    auth
     | -- {"hello": Hello} ----------------->  |   who is in the certificate, never in the words
     | <-- {"knowledge": Knowledge} ---------  |   and again whenever a CA, role or lock changes
     | -- {"beat": Beat} ------------------->  |   every 5 to 15 s, or at once on a change
     | <-- {"beat": {"time": ...}} ----------  |   so that both sides see the skew
     | -- {"events": [...]} ---------------->  |   audit events of the node
     | -- {"renew": Renew} ----------------->  |
     | <-- {"welcome": Welcome} -------------  |
     | -- {"goodbye": {}} ------------------>  |

Every frame is one JSON object with exactly one key.
"""

from typing import Any

from teleport_lite.proto.codec import Message
from teleport_lite.proto.join import Renew, Welcome

PATH = "/v1/agent/stream"


class Announced(Message, frozen=True):
    kind: str
    name: str
    labels: dict[str, str] = {}
    spec: dict[str, str] = {}


class StreamHello(Message, frozen=True):
    version: str
    roles: list[str]
    boot_id: str  # of this process: tells a restart from a cloned machine


class Beat(Message, frozen=True):
    time: float  # the agent's clock, Unix seconds
    address: str = ""
    labels: dict[str, str] = {}
    resources: list[Announced] = []


class BeatReply(Message, frozen=True):
    time: float


class AgentEvent(Message, frozen=True):
    """An audit event seen by an agent. Auth adds who sent it."""

    kind: str
    code: str
    at: float
    outcome: str
    facts: dict[str, str] = {}


class Goodbye(Message, frozen=True):
    reason: str = ""


class Knowledge(Message, frozen=True):
    """What an agent needs to decide by itself; kept on disk for the time auth is away."""

    cluster: str
    serial: int
    host_cas: list[str]  # PEM
    ssh_host_cas: list[str]  # OpenSSH public key lines
    ssh_user_cas: list[str]
    user_cas: list[str]  # PEM
    roles: list[dict[str, Any]]  # role resources, `proto/resource.py`
    locks: list[dict[str, Any]]


class Refusal(Message, frozen=True):
    """Why the stream ends; the agent shows it and acts on the code."""

    code: str
    message: str
    hint: str = ""


class Frame(Message, frozen=True):
    """Says one thing."""

    def __post_init__(self) -> None:
        if sum(getattr(self, name) is not None for name in self.__struct_fields__) != 1:
            raise ValueError(f"a frame has exactly one of {', '.join(self.__struct_fields__)}")


class FromAgent(Frame, frozen=True):
    hello: StreamHello | None = None
    beat: Beat | None = None
    events: list[AgentEvent] | None = None
    renew: Renew | None = None
    goodbye: Goodbye | None = None


class ToAgent(Frame, frozen=True):
    knowledge: Knowledge | None = None
    beat: BeatReply | None = None
    welcome: Welcome | None = None
    refusal: Refusal | None = None

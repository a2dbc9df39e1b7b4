"""Hosts that live through a rotation: they hold what auth has signed, and open real streams."""

import ssl
from dataclasses import dataclass, field
from typing import Any

from teleport_lite.auth.stream import AgentStream
from teleport_lite.daemon.doorman import Doorman
from teleport_lite.net.accept import Peer
from teleport_lite.proto.codec import MAX_FRAME, read, write
from teleport_lite.proto.join import Renew, Welcome
from teleport_lite.proto.stream import Beat, FromAgent, Knowledge, Refusal, StreamHello, ToAgent
from tests.auth.bench import OURS, Applicant, Bench


@dataclass
class Member:
    """A host that has joined `bench`. It does nothing by itself: `come`, then `follow`."""

    bench: Bench
    name: str = "web-1"
    heard: list[bytes | None] = field(default_factory=list)
    stream: AgentStream | None = None

    def __post_init__(self) -> None:
        self.who = Applicant(text=self.bench.token(text=f"token-of-{self.name}"), name=self.name)
        self.welcome: Welcome = self.bench.join(self.who)

    @property
    def id(self) -> str:
        return self.welcome.host_id

    def doorman(self) -> Doorman:
        return Doorman(self.bench.desks, own_uid=1000)

    def come(self) -> "Member":
        """Connect with the certificate it has. Raises what auth refuses with."""
        der = ssl.PEM_cert_to_DER_cert(self.welcome.tls_cert)
        caller = self.doorman().caller(Peer("192.0.2.7", der, None, OURS))
        self.heard.clear()
        self.stream = self.bench.desks.streams.open(caller, self.heard.append)
        self.say(hello=StreamHello(version="1.2.3", roles=["Node"], boot_id=self.id))
        return self.beat()

    def say(self, **frame: Any) -> None:
        assert self.stream is not None
        self.stream.frame(write(FromAgent(**frame)))

    def beat(self, rotated: dict[str, str] | None = None) -> "Member":
        now = self.bench.clock.now().timestamp()
        self.say(beat=Beat(time=now, rotated=rotated or {}))
        return self

    def follow(self) -> "Member":
        """As agents do: renew when the mark of the host CA is another, then tell."""
        marks = {word.type: word.mark for word in self.knowledge().rotations}
        if marks.get("host", "") != self.welcome.rotation:
            self.renew()
        return self.beat(marks)

    def renew(self) -> None:
        self.say(renew=Renew(hello=self.who.hello))
        self.welcome = next(each.welcome for each in self._said() if each.welcome)

    def knowledge(self) -> Knowledge:
        return next(each.knowledge for each in self._said() if each.knowledge)

    def refusal(self) -> Refusal | None:
        return next((each.refusal for each in self._said() if each.refusal), None)

    def gone(self) -> bool:
        return None in self.heard

    def _said(self) -> list[ToAgent]:
        """The latest first."""
        frames = [frame for frame in reversed(self.heard) if frame is not None]
        return [read(ToAgent, frame, limit=MAX_FRAME) for frame in frames]

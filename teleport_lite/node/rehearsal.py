"""A login before there is anybody: what is only done once is done in the zygote, for all.

A process that runs code for the first time fills caches, adapts bytecode and binds symbols, each
time in memory of its own. Of what a connection costs a tenth of the processor time and a seventh
of the memory go away when the zygote has been through one itself: the worker's part, by all the
rules but with nobody's keys, and of the monitor's what does not touch files. Nothing of it is
secret, and random numbers are drawn afresh in each child (a test has a look).
"""

import base64
import os
import pwd
import socket
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from teleport_lite.access.host_user import HostUser
from teleport_lite.errors import Denied
from teleport_lite.model.user import Condition, Role
from teleport_lite.net import ssh_door
from teleport_lite.net.ssh_line import FromMonitor, ToMonitor
from teleport_lite.net.ssh_rehearsal import AGREEMENTS, HOST_LINE, SECONDS, SIGNATURE, visit
from teleport_lite.node import wire
from teleport_lite.node.account import Account
from teleport_lite.node.gate import Gate
from teleport_lite.node.processes import fork_child
from teleport_lite.node.wire import Link, Login, Reply, ToWorker
from teleport_lite.node.worker import Desk
from teleport_lite.proto.codec import Message, read, write
from teleport_lite.proto.resource import role_doc
from teleport_lite.proto.stream import Knowledge

# A user certificate and the key of the CA that signed it, on a day of long ago. Both private keys
# have been thrown away.
_WHEN = datetime(2020, 1, 1, tzinfo=UTC)
_CA = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIufPhtqOF4Lmue9cakxAyjwsuj77tT9aWWiE7NNi09k"
_CERTIFICATE = base64.b64decode(
    "AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29tAAAAIJNmU3wkoJt0tE4hc/2OxZ75r9QO6r3lm6H6"
    "DYd0kUB1AAAAILjTXMmrWsRmKAoDD92swD99dZrZMxPT0pZcnSUcCk56AAAAAAAAAAEAAAABAAAABm5vYm9keQAA"
    "AAoAAAAGbm9ib2R5AAAAAF4L4IgAAAAAXgyJwAAAAAAAAADYAAAAFnBlcm1pdC1wb3J0LWZvcndhcmRpbmcAAAAA"
    "AAAACnBlcm1pdC1wdHkAAAAAAAAAC3RlbGVwb3J0LWlkAAAAKAAAACQ1YjExNGJjOS0xYzkyLTQ5NzMtYTMwMi1k"
    "Yjk3NDIyM2I3NzEAAAAOdGVsZXBvcnQtcm9sZXMAAAAnAAAAI3sidmVyc2lvbiI6InYxIiwicm9sZXMiOlsiYWNj"
    "ZXNzIl19AAAAD3RlbGVwb3J0LXRyYWl0cwAAABkAAAAVeyJsb2dpbnMiOlsibm9ib2R5Il19AAAAAAAAADMAAAAL"
    "c3NoLWVkMjU1MTkAAAAgi58+G2o4Xgua571xqTEDKPCy6Pvu1P1pZaITs02LT2QAAABTAAAAC3NzaC1lZDI1NTE5"
    "AAAAQIps2zBhcQJsZhDW4pHs8ypbgjwodSqiMlEGPDTc+anguVaOZ7BCeQzqxNveBXZ6SU3rfDQNDqgDG9te7Tke"
    "vAY="
)
_LIMIT = 1 << 16


def rehearse() -> str:
    """Returns what went wrong, or "". Connections work without, they only cost more."""
    with suppress(KeyError):  # loads what nsswitch.conf(5) names
        os.getgrouplist("nobody", pwd.getpwnam("nobody").pw_gid)
    why = _rehearse_gate() or _rehearse_messages()
    for agreement in AGREEMENTS:
        why = _rehearse_worker(agreement) or why
    return why


# --- the worker


def _rehearse_worker(agreement: tuple[str, str]) -> str:
    sock, theirs = socket.socketpair()
    monitor, monitor_side = Link.pair()
    monitor.set_timeout(SECONDS)
    with theirs:
        fork_child("tl-ssh-visitor", lambda: visit(theirs, agreement), [theirs.fileno()])
    fork_child("tl-ssh-prompter", lambda: _prompt(monitor_side), [monitor_side.fileno()])
    monitor_side.close()
    desk = Desk(monitor)
    why = ssh_door.serve(sock, desk, host_public=HOST_LINE, host_cert=HOST_LINE)
    sock.close()
    has_broker = len(desk.watched()) > 1
    return why or ("" if has_broker else "nobody has logged in")


def _prompt(worker: Link) -> None:
    """Monitor and broker in one: says yes, without looking."""
    broker, for_worker = Link.pair()
    for link in (worker, broker):
        link.set_timeout(SECONDS)
    with suppress(EOFError):
        worker.receive(wire.FromWorker)
        worker.send(Reply(ok=True, data=SIGNATURE))
        worker.receive(wire.FromWorker)
        worker.send(Reply(ok=True), for_worker.fileno())
        for_worker.close()
        while True:
            asked = broker.receive(wire.ToBroker)
            if asked.start is None:
                broker.send(ToWorker(reply=Reply(ok=True)))
            else:
                null = [os.open(os.devnull, os.O_RDWR) for _ in range(3)]
                broker.send(ToWorker(reply=Reply(ok=True)), *null)
                broker.send(ToWorker(ended=wire.Ended(channel=asked.start.channel)))


# --- the monitor


class _Then:
    def now(self) -> datetime:
        return _WHEN

    def monotonic(self) -> float:
        return 0.0

    def uptime(self) -> float:
        return 0.0


class _Gate(Gate):
    """Knows one CA and one role, and no account: /etc/shadow is nothing to have read here."""

    def _known(self) -> Knowledge:
        allow = Condition(logins=("nobody",), node_labels={"*": ("*",)})
        known = Knowledge(
            cluster="",
            serial=0,
            host_cas=[],
            ssh_host_cas=[],
            ssh_user_cas=[_CA],
            user_cas=[],
            roles=[role_doc(Role(name="access", allow=allow))],
            locks=[],
        )
        return read(Knowledge, write(known), limit=_LIMIT)

    def _account(self, _login: str, _plan: HostUser | None) -> Account | None:
        return None


def _rehearse_gate() -> str:
    gate = _Gate(data_dir=Path("/nonexistent"), host_id="", peer_ip="127.0.0.1", clock=_Then())
    login = Login(
        login="nobody",
        algorithm="ssh-ed25519-cert-v01@openssh.com",
        certificate=_CERTIFICATE,
    )
    try:
        gate.admit(login, None)
    except Denied as why:
        return why.log or why.message
    signed = Login(
        login=login.login,
        algorithm=login.algorithm,
        certificate=login.certificate,
        signature=SIGNATURE,
    )
    with suppress(Denied):  # it is not one
        gate.admit(signed, bytes(32))
    return ""


def _rehearse_messages() -> str:
    """Msgspec looks at a type when the first message of it is read."""
    said: tuple[Message, ...] = (
        wire.FromWorker(moved=wire.Moved(channel=0, up=0, down=0)),
        wire.ToBroker(start=wire.Start(channel=0, command=b"true")),
        wire.FromBroker(ended=wire.SessionEnded(sid="", code=0)),
        wire.ToSigner(who=wire.Who()),
        wire.FromSigner(signature=SIGNATURE),
        ToMonitor(recheck=True),
        FromMonitor(note=""),
    )
    for each in said:
        read(type(each), write(each), limit=_LIMIT)
    return ""

"""The monitor: root, one for each connection, and the one who decides.

Of the stranger it hears only what the worker puts into three small messages. It lets nobody
in without having checked certificate and signature itself, over the session id it has itself
had signed; a worker that has been taken over can at most ask.
"""

import os
import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pwd import struct_passwd

from teleport_lite.access.verdict import Refused
from teleport_lite.agent import identity
from teleport_lite.ambient import Clock
from teleport_lite.errors import Denied, Error, Malformed
from teleport_lite.net.ssh_line import Outcome
from teleport_lite.node import worker as workers
from teleport_lite.node.account import exists
from teleport_lite.node.confine import adopt_orphans, secretive, worker_account
from teleport_lite.node.family import Family
from teleport_lite.node.gate import Admitted, Gate, Welcome
from teleport_lite.node.lodging import Lodging
from teleport_lite.node.notices import banner
from teleport_lite.node.recorder import Recorder
from teleport_lite.node.settings import Settings
from teleport_lite.node.story import Story
from teleport_lite.node.wire import (
    Cut,
    FromBroker,
    FromSigner,
    FromWorker,
    Host,
    Link,
    Login,
    Reply,
    Sign,
    ToBroker,
    ToSigner,
    Who,
)
from teleport_lite.pki.ssh_cert import SUFFIX

# The signer answers in a millisecond; one that is silent so long is stuck.
_SIGNER_PATIENCE = 5.0
# For a worker to say goodbye to its client after the last try.
_GOODBYE = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """What the zygote hands to a monitor."""

    tcp: socket.socket
    line: socket.socket
    signer: Link
    peer: tuple[str, int]
    local: tuple[str, int]


class Monitor:
    """`run` returns when the connection is over and everything that belongs to it has ended."""

    TITLE = "tl-ssh"  # of the processes, as ps shows them

    def __init__(
        self,
        connection: Connection,
        *,
        settings: Settings,
        clock: Clock,
        work: Callable[[workers.Task], None] | None = None,
    ) -> None:
        self._connection, self._settings, self._clock = connection, settings, clock
        self._work = work or self._default_work()
        self._story = self._new_story(connection)
        self._signer = connection.signer
        self._signer.set_timeout(_SIGNER_PATIENCE)
        self._family = Family(self.TITLE)
        self._lodging: Lodging | None = None
        self._recorder = Recorder()
        self._deadline: float | None = time.monotonic() + settings.grace
        self._worker: Link | None = None
        self._broker: Link | None = None
        self._session_id: bytes | None = None
        self._failures = 0
        self._no_account = self._late = self._lied = False
        self._welcome: Admitted | None = None
        self._seen: tuple[int, ...] = ()
        self._last_words = self._cut_reason = ""

    def run(self) -> None:
        secretive()
        adopt_orphans()
        try:
            host = self._ask_signer(ToSigner(who=Who())).host
            if host is None:
                raise Denied("the signer does not know this host")
            self._gate = self._new_gate(host)
            self._host = host
            self._start_worker(host)
            self._connection.tcp.close()
            while self._turn():
                pass
        except (Error, EOFError) as why:
            self._lied = isinstance(why, Malformed)
            self._story.note(f"connection ends: {why}")
        finally:
            self._finish()

    # --- what a jump host has of its own kind (`jump.py`)

    def _default_work(self) -> Callable[[workers.Task], None]:
        return workers.run

    def _new_story(self, connection: Connection) -> Story:
        return Story(
            connection.line,
            clock=self._clock,
            peer=connection.peer,
            local=connection.local,
            data_dir=self._settings.data_dir,
        )

    def _new_gate(self, host: Host) -> Gate:
        return Gate(
            data_dir=self._settings.data_dir,
            host_id=host.host_id,
            peer_ip=self._connection.peer[0],
            clock=self._clock,
        )

    def _hear_daemon(self) -> bool:
        """Does it want us to look again?"""
        return self._story.asked_to_recheck()

    def _hear_more(self, link: Link, said: FromWorker) -> None:  # noqa: ARG002  # a jump host does
        raise Malformed("the worker asks for what it may not have")

    # --- the loop

    def _turn(self) -> bool:
        """Wait for the next thing and deal with it. False when the connection is over."""
        ready = self._wait()
        if self._deadline is not None and time.monotonic() >= self._deadline:
            self._late = True
            return False
        self._family.look()
        if self._broker is not None and self._broker.fileno() in ready:
            self._hear_broker(self._broker)
        for fd in ready.intersection(self._recorder.wants()):
            self._recorder.ready(fd)
        worker = self._worker
        if worker is not None and worker.fileno() in ready and not self._hear_worker(worker):
            return False
        asked = self._story.fileno() in ready and self._hear_daemon()
        if not self._story.heard:
            asked |= self._story.look_for_daemon()
        if self._welcome is not None:
            self._look_again(asked=asked)
        return not self._cut_reason

    def _wait(self) -> set[int]:
        poll = select.poll()
        for end in (self._worker, self._broker, self._family):
            if end is not None:
                poll.register(end, select.POLLIN)
        for fd in self._recorder.wants():
            poll.register(fd, select.POLLIN)
        if self._story.heard:
            poll.register(self._story, select.POLLIN)
        waits = []
        if self._deadline is not None:
            waits.append(max(0.0, self._deadline - time.monotonic()))
        if not self._story.heard:
            waits.append(min(self._story.patience(), self._settings.recheck_every))
        return {fd for fd, _ in poll.poll(min(waits) * 1000 if waits else None)}

    def _hear_worker(self, link: Link) -> bool:
        try:
            said = link.receive(FromWorker)
        except EOFError:
            return False
        if said.last_words is not None and not self._last_words:
            self._last_words = said.last_words
        elif said.sign is not None:
            link.send(self._sign(said.sign), wait=False)
        elif said.login is not None and self._welcome is None:
            self._answer_login(link, said.login)
        else:
            self._hear_more(link, said)
        return True

    def _hear_broker(self, link: Link) -> None:
        try:
            said = link.receive(FromBroker)
        except EOFError:
            link.close()
            self._broker = None  # the worker notices by itself and ends
            return
        home = self._lodging
        assert home is not None  # it came with the broker
        if said.started is not None:
            self._story.started(said.started)
            home.started(said.started)
            self._recorder.started(said.started)
        elif said.ended is not None:
            self._recorder.ended(said.ended)
            home.ended(said.ended)
            self._story.ended(said.ended, self._cut_reason)

    # --- signatures and logins

    def _sign(self, asked: Sign) -> Reply:
        """One signature before the login, as in sshd; after it one for each key exchange."""
        if self._session_id is not None and self._welcome is None:
            raise Malformed("the worker asks for a second signature before the login")
        signature = self._ask_signer(ToSigner(sign=asked)).signature
        if signature is None:
            raise Denied("the signer gave no signature")
        if self._session_id is None:
            # RFC 4253 §7.2: the hash of the first key exchange, for the whole connection.
            self._session_id = asked.exchange_hash
        return Reply(ok=True, data=signature)

    def _ask_signer(self, asked: ToSigner) -> FromSigner:
        self._signer.send(asked)
        answer = self._signer.receive(FromSigner)
        if answer.reason:
            raise Denied(answer.reason)
        return answer

    def _answer_login(self, link: Link, login: Login) -> None:
        try:
            welcome = self._gate.admit(login, self._session_id)
        except Error as why:
            self._refuse(link, login, why)
            return
        if login.signature is None:
            link.send(Reply(ok=True), wait=False)
            return
        self._let_in(link, welcome)

    def _refuse(self, link: Link, login: Login, why: Error) -> None:
        self._failures += 1
        self._no_account |= not self._is_somebody(login.login)
        if login.algorithm.endswith(SUFFIX):
            self._story.refused(login.login, why.log or why.message)
        else:
            self._story.plain_key(login.login)
        last = self._failures >= self._settings.tries
        if last:
            self._deadline = time.monotonic() + _GOODBYE
        link.send(Reply(ok=False, last=last), wait=False)

    def _is_somebody(self, login: str) -> bool:
        return exists(login)

    def _let_in(self, link: Link, welcome: Admitted) -> None:
        assert isinstance(welcome, Welcome)
        connection = self._connection
        self._lodging = Lodging(
            welcome,
            host=self._host,
            peer=connection.peer,
            local=connection.local,
            settings=self._settings,
        )
        self._broker, for_worker = self._lodging.open(self._family)
        self._is_in(welcome)
        link.send(Reply(ok=True), for_worker.fileno(), wait=False)
        for_worker.close()

    def _is_in(self, welcome: Admitted) -> None:
        self._welcome, self._deadline = welcome, None
        self._seen = self._gate.mark()
        self._story.logged_in(welcome)

    def _look_again(self, *, asked: bool) -> None:
        """Cut the visitor off if a lock or a changed role says so."""
        mark = self._gate.mark()
        if self._welcome is None or (not asked and mark == self._seen):
            return
        self._seen = mark
        try:
            verdict = self._gate.decide_again(self._welcome.visitor)
        except Error as why:
            # Who is inside stays: a file that cannot be read right now is no verdict.
            self._story.note(f"can not check {self._welcome.visitor.user} again: {why.message}")
            return
        if isinstance(verdict, Refused):
            self._cut_reason = verdict.reason

    # --- children

    def _start_worker(self, host: Host) -> None:
        ours, theirs = Link.pair()
        task = workers.Task(
            tcp=self._connection.tcp,
            monitor=theirs,
            host=host,
            account=self._worker_account(),
            memory=self._settings.worker_memory,
            secret=self._settings.data_dir / identity.FILE,
            banner=banner(self._settings.banner),
        )
        keep = (task.tcp.fileno(), theirs.fileno())
        self._family.start("worker", lambda: self._work(task), keep)
        theirs.close()
        self._worker = ours

    def _worker_account(self) -> struct_passwd | None:
        """Without root there is nobody else to become; only our own user may log in then."""
        if os.geteuid() != 0:
            return None
        return worker_account(self._settings.worker_accounts, self._settings.data_dir)

    # --- the end

    def _finish(self) -> None:
        """The worker first: then nothing moves any more on the connection."""
        if self._last_words:
            self._story.note(self._last_words)
        if self._welcome is None:
            self._family.wait("worker", 0.0 if self._late else _GOODBYE)
            self._story.nobody_came_in(self._judge())
        self._family.end("worker")
        if self._broker is not None:
            self._end_broker(self._broker)
        self._family.end("broker")
        if self._cut_reason:
            self._family.sweep()
            self._story.note(f"cut off: {self._cut_reason}")
        self._recorder.close()
        if self._lodging is not None:
            self._lodging.close()
        self._story.ended_all(self._cut_reason or "the connection was lost")

    def _judge(self) -> Outcome:
        """How a connection ended on which nobody logged in."""
        if self._family.status("worker") or self._lied:
            return Outcome.CRASH
        if self._no_account:
            return Outcome.INVALID_USER
        if self._failures:
            return Outcome.AUTH_FAILED
        return Outcome.GRACE if self._late else Outcome.NO_AUTH

    def _end_broker(self, link: Link) -> None:
        """It hangs its shells up by itself when the worker is gone; hear how they ended."""
        with suppress(EOFError):
            if self._cut_reason:
                link.send(ToBroker(cut=Cut()), wait=False)
        deadline = time.monotonic() + 2 * self._settings.hang_up_time + _GOODBYE
        while self._broker is not None and (left := deadline - time.monotonic()) > 0:
            if select.select([link], [], [], left)[0]:
                self._hear_broker(link)

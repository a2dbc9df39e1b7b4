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
from teleport_lite.errors import Error, Malformed
from teleport_lite.net.ssh_line import Outcome
from teleport_lite.node import worker as workers
from teleport_lite.node.account import exists
from teleport_lite.node.confine import adopt_orphans, secretive, worker_account
from teleport_lite.node.family import Family
from teleport_lite.node.forward_story import ForwardStory
from teleport_lite.node.gate import Admitted, Gate, Welcome
from teleport_lite.node.lodging import Lodging
from teleport_lite.node.notices import banner
from teleport_lite.node.recorder import House, Recorder
from teleport_lite.node.settings import Settings
from teleport_lite.node.signatures import Signatures
from teleport_lite.node.stay import Stay
from teleport_lite.node.story import Story
from teleport_lite.node.wire import (
    Cut,
    FromBroker,
    FromWorker,
    Host,
    Link,
    Login,
    Reply,
    ToBroker,
)
from teleport_lite.pki.ssh_cert import SUFFIX

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
        self._signatures = Signatures(connection.signer)
        self._family = Family(self.TITLE)
        self._lodging: Lodging | None = None
        self._recorder = Recorder(
            settings=settings, clock=clock, family=self._family, story=self._story
        )
        self._stay = Stay(settings.data_dir, clock)
        self._told = ForwardStory(self._story, clock)
        self._deadline: float | None = time.monotonic() + settings.grace
        self._worker: Link | None = None
        self._broker: Link | None = None
        self._failures = 0
        self._no_account = self._late = self._lied = self._was_last = False
        self._welcome: Admitted | None = None
        self._seen: tuple[int, ...] = ()
        self._last_words = self._cut_reason = ""

    def run(self) -> None:
        secretive()
        adopt_orphans()
        try:
            host = self._signatures.host()
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
            makes_accounts=self._settings.create_host_users and os.geteuid() == 0,
            strict=self._settings.strict_locks,
        )

    def _hear_daemon(self) -> bool:
        """Does it want us to look again?"""
        return self._story.asked_to_recheck()

    def _hear_more(self, link: Link, said: FromWorker) -> None:
        if self._welcome is None or not self._recorder.hear(link, said):
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
        self._recorder.tick()
        worker = self._worker
        if worker is not None and worker.fileno() in ready and not self._hear_worker(worker):
            return False
        asked = self._story.fileno() in ready and self._hear_daemon()
        if not self._story.heard:
            asked |= self._story.look_for_daemon()
        if self._welcome is not None:
            self._look_again(asked=asked)
        told = self._family.told_to_end or self._recorder.overdue()
        self._cut_reason = self._cut_reason or told
        return not self._cut_reason and not self._stay.look()

    def _wait(self) -> set[int]:
        poll = select.poll()
        for end in (self._worker, self._broker, self._family):
            if end is not None:
                poll.register(end, select.POLLIN)
        for fd in self._recorder.wants():
            poll.register(fd, select.POLLIN)
        if self._story.heard:
            poll.register(self._story, select.POLLIN)
        waits = [] if (left := self._stay.patience()) is None else [left]
        if self._deadline is not None:
            waits.append(max(0.0, self._deadline - time.monotonic()))
        if not self._story.heard:
            waits.append(min(self._story.patience(), self._settings.recheck_every))
        if (patience := self._recorder.patience()) is not None:
            waits.append(patience)
        return {fd for fd, _ in poll.poll(min(waits) * 1000 if waits else None)}

    def _hear_worker(self, link: Link) -> bool:
        try:
            said = link.receive(FromWorker)
        except EOFError:
            return False
        if said.last_words is not None and not self._last_words:
            self._last_words = said.last_words
        elif said.sign is not None:
            is_in = self._welcome is not None
            link.send(self._signatures.sign(said.sign, logged_in=is_in), wait=False)
        elif said.login is not None and self._welcome is None:
            self._answer_login(link, said.login)
        elif said.idle:
            self._stay.was_idle()
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
            recorded = self._recorder.is_recorded(said.started.sid)
            if self._story.started(said.started, recorded=recorded):
                home.started(said.started)
                self._recorder.started(said.started)
        elif said.file is not None:
            self._recorder.files.tell(said.file)
        elif said.ended is not None:
            home.ended(said.ended)
            self._recorder.ended(said.ended, self._why())
        elif said.happened is not None:
            self._told.tell(said.happened)

    # --- logins

    def _answer_login(self, link: Link, login: Login) -> None:
        if self._was_last:
            raise Malformed("the worker tries to log in after the last try")
        try:
            self._seen = self._gate.mark()  # what comes while they move in is looked at after it
            welcome = self._gate.admit(login, self._signatures.session_id)
        except Error as why:
            self._refuse(link, login, why)
            return
        if login.signature is None:
            link.send(Reply(ok=True), wait=False)
            return
        try:
            self._let_in(link, welcome)
        except Error as why:
            self._refuse(link, login, why, shown=why.message)

    def _refuse(self, link: Link, login: Login, why: Error, shown: str = "") -> None:
        """`shown` is for whoever has proved to be a user; others learn nothing."""
        self._failures += 1
        self._no_account |= not self._is_somebody(login.login)
        if login.algorithm.endswith(SUFFIX):
            self._story.refused(login.login, why.log or why.message)
        else:
            self._story.plain_key(login.login)
        last = bool(shown) or self._failures >= self._settings.tries  # the account stays the same
        if last:
            self._was_last, self._deadline = True, time.monotonic() + _GOODBYE
        link.send(Reply(ok=False, last=last, reason=shown), wait=False)

    def _is_somebody(self, login: str) -> bool:
        return exists(login)

    def _let_in(self, link: Link, welcome: Admitted) -> None:
        assert isinstance(welcome, Welcome)
        if not self._stay.begin(welcome):  # they have proved who they are, and may hear why
            self._story.logged_in(welcome)
            self._was_last = True
            self._told.rejected(self._stay.reason)
            link.send(Reply(ok=False, last=True, reason=self._stay.reason), wait=False)
            return
        connection = self._connection
        self._lodging = Lodging(
            welcome,
            host=self._host,
            peer=connection.peer,
            local=connection.local,
            settings=self._settings,
            clock=self._clock,
            note=self._story.note,
        )
        self._broker, for_worker = self._lodging.open(self._family)
        welcome = self._lodging.welcome
        self._recorder.moved_in(
            House(
                welcome=welcome, host=self._host, gate=self._gate, account=self._worker_account()
            ),
            self._tell_broker,
        )
        self._is_in(welcome)
        idle = self._stay.idle_seconds
        link.send(Reply(ok=True, idle=idle), for_worker.fileno(), wait=False)
        for_worker.close()

    def _is_in(self, welcome: Admitted) -> None:
        self._welcome, self._deadline = welcome, None
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
        else:
            self._recorder.look_again()

    def _tell_broker(self, said: ToBroker) -> None:
        with suppress(EOFError):
            if self._broker is not None:
                self._broker.send(said, wait=False)

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
            banner=self._settings.banner_text or banner(self._settings.banner),
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
            if not self._why():
                self._story.nobody_came_in(self._judge())
        elif self._worker is not None and self._why():
            with suppress(EOFError):  # who does not tell its client is ended in any case
                self._worker.send(Reply(ok=False, goodbye=self._why()), wait=False)
                self._family.wait("worker", _GOODBYE)
        self._family.end("worker")
        if self._broker is not None:
            self._end_broker(self._broker)
        if self._lodging is not None:
            self._lodging.end(self._family)
        self._recorder.close(hurry=bool(self._cut_reason))
        if self._cut_reason:
            self._family.sweep()
            self._story.note(f"cut off: {self._cut_reason}")
        if self._lodging is not None:
            self._lodging.close(self._family)
        self._story.ended_all(self._why() or "the connection was lost")
        self._told.close(self._why() if self._welcome is not None else "")
        self._stay.close()

    def _why(self) -> str:
        """Why we have ended the connection; "" if somebody else did. Who is not welcome any more
        loses everything, who has only stayed too long loses what a lost line takes."""
        return self._cut_reason or self._stay.reason

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
                try:
                    self._hear_broker(link)
                except Malformed:  # it belongs to the user, who must not stop what follows here
                    link.close()
                    self._broker = None

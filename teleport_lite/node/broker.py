"""The broker: the login user's own process, which does all that touches the user's world.

It has become that user for good before it hears a word from the worker. What a client may
have is decided here, by `permit.may`, since here it is done; the worker only carries bytes
between the client and the descriptors it is handed.
"""

import os
import select
import signal
import time
from contextlib import suppress
from dataclasses import dataclass

from teleport_lite.ambient import SystemChance
from teleport_lite.errors import Malformed
from teleport_lite.net.ssh_policy import MAX_SESSIONS
from teleport_lite.node.account import Account
from teleport_lite.node.children import Children
from teleport_lite.node.commands import Run, to_run
from teleport_lite.node.files import FLAGS, FileLogs
from teleport_lite.node.forwards import Forwards, reason_of
from teleport_lite.node.permit import Refusal, Rights, demand
from teleport_lite.node.processes import signal_session
from teleport_lite.node.shell import SIGNALS, Preparation, Running, spawn
from teleport_lite.node.story import MAX_SHOWN_COMMAND
from teleport_lite.node.surroundings import Surroundings
from teleport_lite.node.tty import foreground_group, set_size
from teleport_lite.node.wire import (
    Close,
    Ended,
    Env,
    FromBroker,
    Link,
    Pty,
    Reply,
    Resize,
    SessionEnded,
    SessionStarted,
    Signal,
    Start,
    ToBroker,
    ToWorker,
)

_SHOWN = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """What the certificate and the monitor say about the visitor."""

    rights: Rights
    force_command: str | None
    around: Surroundings
    displays: tuple[int, int]  # first and last that X11 forwarding may use


@dataclass(frozen=True, slots=True, kw_only=True)
class _Session:
    sid: str
    channel: int
    pid: int


class Broker:
    """`run` returns when the connection is over and its shells have been hung up."""

    def __init__(
        self,
        *,
        worker: Link,
        monitor: Link,
        account: Account,
        guest: Guest,
        hang_up_time: float,
    ) -> None:
        self._worker, self._monitor = worker, monitor
        self._account, self._guest = account, guest
        self._hang_up_time = hang_up_time
        self._children = Children()
        self._preparations: dict[int, Preparation] = {}
        # Both by process id of the shell. The master stays open here to resize and to hang up.
        self._sessions: dict[int, _Session] = {}
        self._masters: dict[int, int] = {}
        self._most = guest.rights.options.max_sessions or MAX_SESSIONS
        self._forwards = Forwards(
            worker=worker,
            monitor=monitor,
            rights=guest.rights,
            displays=guest.displays,
            xauth_env={"HOME": account.home, "USER": account.name, "PATH": "/usr/bin:/bin"},
        )
        self._files = FileLogs(lambda op: monitor.send(FromBroker(file=op)))
        # By channel, the ids of sessions on terminals; by process, when who was stopped is killed.
        self._expected: dict[int, str] = {}
        self._doomed: dict[int, float] = {}
        self._cut = False

    def run(self) -> None:
        try:
            while not self._cut:
                self._turn()
        except (EOFError, Malformed):
            pass  # one end is gone, or talks nonsense, which is worse
        self._worker.close()
        self._forwards.close()
        self._hang_up_all()

    def _turn(self) -> None:
        poll = select.poll()
        for end in (self._worker, self._monitor, self._children):
            poll.register(end, select.POLLIN)
        for fd, events in (*self._forwards.wants(), *self._files.wants()):
            poll.register(fd, events)
        self._kill_doomed()
        patience = self._patience()
        found = poll.poll(None if patience is None else patience * 1000)
        ready = {fd for fd, _ in found}
        # Shells that have ended come first: their end is news for the worker.
        self._reap()
        # Before anything is asked: a new descriptor must not be taken for one that was ready.
        self._forwards.turn(ready)
        self._files.turn(ready)
        if self._monitor.fileno() in ready:
            self._obey(self._monitor.receive(ToBroker))
        elif self._worker.fileno() in ready:
            self._serve(self._worker.receive(ToBroker))

    def _obey(self, said: ToBroker) -> None:
        """The monitor, who is not asked why."""
        if said.cut is not None:
            self._cut = True
        elif said.expect is not None:
            self._expected[said.expect.channel] = said.expect.sid
        elif said.stop is not None:
            for session in self._sessions.values():
                if session.sid == said.stop.sid:
                    self._hang_up(session)
                    self._doomed[session.pid] = time.monotonic() + self._hang_up_time

    def _kill_doomed(self) -> None:
        """Who does not go when told to."""
        for pid, until in list(self._doomed.items()):
            if time.monotonic() >= until:
                del self._doomed[pid]
                signal_session(pid, signal.SIGKILL)

    def _patience(self) -> float | None:
        """Seconds to wait for something to happen."""
        doomed = (max(0.0, until - time.monotonic()) for until in self._doomed.values())
        waits = [self._forwards.patience(), self._files.patience(), *doomed]
        return min((each for each in waits if each is not None), default=None)

    def _serve(self, asked: ToBroker) -> None:
        """Answer one request: always one reply, with descriptors if a shell was started."""
        fds: tuple[int, ...] = ()
        try:
            data = b""
            if asked.start:
                fds = self._start(asked.start)
            else:
                data = self._do(asked)
            reply = Reply(ok=True, data=data)
        except (Refusal, Malformed, OSError) as why:
            reply = Reply(ok=False, reason=reason_of(why))
        try:
            self._worker.send(ToWorker(reply=reply), *fds)
        finally:
            for fd in set(fds) - set(self._masters.values()):
                os.close(fd)

    def _do(self, asked: ToBroker) -> bytes:
        """What the reply adds."""
        if asked.ask:
            self._check(asked.ask.what)
        elif asked.pty:
            self._pty(asked.pty)
        elif asked.env:
            self._env(asked.env)
        elif asked.resize:
            self._resize(asked.resize)
        elif asked.signal:
            self._signal(asked.signal)
        elif asked.close:
            self._close(asked.close)
        else:
            return self._forwards.do(asked)
        return b""

    def _check(self, what: str) -> None:
        demand(what, self._guest.rights)
        if what == "open session":
            self._room_for_one()

    def _room_for_one(self) -> None:
        if reason := self._guest.rights.stale():
            self._forwards.tell("session rejected", {"reason": reason})
            raise Refusal(reason)
        if len(self._sessions) < min(self._most, MAX_SESSIONS):
            return
        reason = "too many sessions"
        if self._most < MAX_SESSIONS:
            reason = f"too many sessions: {self._most} on a connection, says the role"
        self._forwards.tell("session rejected", {"reason": reason, "maximum": str(self._most)})
        raise Refusal(reason)

    def _preparation(self, channel: int) -> Preparation:
        if self._on(channel) is not None:
            raise Refusal("the shell has started already")
        if channel not in self._preparations and len(self._preparations) >= MAX_SESSIONS:
            raise Refusal("too many sessions")
        return self._preparations.setdefault(channel, Preparation(self._guest.around.accept))

    def _pty(self, asked: Pty) -> None:
        self._check("request pty-req")
        preparation = self._preparation(asked.channel)
        if preparation.pty is not None:
            raise Refusal("there is a terminal already")
        preparation.pty = asked

    def _env(self, asked: Env) -> None:
        self._check("request env")
        if not self._preparation(asked.channel).set_env(asked.name, asked.value):
            raise Refusal("not a variable that clients may set")

    def _start(self, asked: Start) -> tuple[int, ...]:
        run = self._to_run(asked)
        preparation = self._preparation(asked.channel)
        self._room_for_one()
        sid = self._sid(run, preparation, asked.channel)
        around, command = self._guest.around, run.command
        env = around.env(sid, preparation.env, forced=run.forced)
        for name, value in self._forwards.env(asked.channel).items():
            env[name.encode()] = os.fsencode(value)
        if run.original is not None:
            env[b"SSH_ORIGINAL_COMMAND"] = run.original
        greeting = around.greeting(
            login_shell=command is None, terminal=preparation.pty is not None
        )
        shell = self._spawn(run, preparation, env, greeting, sid)
        del self._preparations[asked.channel]
        self._sessions[shell.pid] = _Session(sid=sid, channel=asked.channel, pid=shell.pid)
        if shell.pty:
            self._masters[shell.pid] = shell.fds[0]
        shown = None
        if command is not None:
            shown = command.decode("utf-8", "backslashreplace")[:MAX_SHOWN_COMMAND]
        started = SessionStarted(
            sid=sid,
            command=shown,
            pty=shell.pty,
            tty=shell.tty,
            pid=shell.pid,
            channel=asked.channel,
        )
        self._monitor.send(FromBroker(started=started))
        return shell.fds

    def _sid(self, run: Run, preparation: Preparation, channel: int) -> str:
        if preparation.pty is None:
            return SystemChance().uuid()
        if run.files:
            raise Refusal("files are copied without a terminal")  # where they are told one by one
        # So that no terminal goes unrecorded where it must not.
        sid = self._expected.pop(channel, "")
        if not sid:
            raise Refusal("a terminal that was not announced")
        return sid

    def _spawn(
        self,
        run: Run,
        preparation: Preparation,
        env: dict[bytes, bytes],
        greeting: bytes,
        sid: str,
    ) -> Running:
        if not run.files or run.command is None:
            return spawn(self._account, run.command, preparation, env, greeting)
        ours, theirs = FileLogs.pipe()
        try:
            logging = run.command + FLAGS
            # Who may only copy files could copy a .bashrc: then no shell starts.
            run_as = (self._account, logging, preparation, env, greeting, theirs)
            shell = spawn(*run_as, direct=run.forced)
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        self._files.add(sid, ours, shell.relay)
        return shell

    def _to_run(self, asked: Start) -> Run:
        facts = {"name": asked.subsystem[:_SHOWN]}
        try:
            run = to_run(asked, self._guest.force_command, self._guest.rights)
        except Refusal as why:
            if asked.subsystem:
                self._forwards.tell("subsystem failed", facts | {"reason": str(why)})
            raise
        if asked.subsystem:
            self._forwards.tell("subsystem", facts)
        return run

    def _resize(self, asked: Resize) -> None:
        self._check("request window-change")
        session = self._on(asked.channel)
        master = self._masters.get(session.pid) if session else None
        if master is None:
            raise Refusal("there is no terminal")
        set_size(master, asked.columns, asked.rows, asked.width, asked.height)

    def _signal(self, asked: Signal) -> None:
        self._check("request signal")
        session, number = self._on(asked.channel), SIGNALS.get(asked.name)
        if session is None or number is None:
            raise Refusal("no such signal, or nobody to send it to")
        master = self._masters.get(session.pid)
        group = foreground_group(master) if master is not None else 0
        os.killpg(group or session.pid, number)

    def _close(self, asked: Close) -> None:
        self._preparations.pop(asked.channel, None)
        self._forwards.channel_closed(asked.channel)
        session = self._on(asked.channel)
        if session is not None:
            self._hang_up(session)

    def _on(self, channel: int) -> _Session | None:
        return next((one for one in self._sessions.values() if one.channel == channel), None)

    # --- ends

    def _reap(self) -> None:
        for pid, status in self._children.ended().items():
            session = self._sessions.pop(pid, None)
            self._doomed.pop(pid, None)
            if session is None:
                continue
            self._drop_master(pid)
            ended = _ended(session.channel, status)
            self._report(session, ended)
            try:
                self._worker.send(ToWorker(ended=ended))
            except EOFError:
                continue  # it has gone; `run` will notice

    def _report(self, session: _Session, ended: Ended | None) -> None:
        with suppress(EOFError):
            self._files.end(session.sid)
        code = None if ended is None or ended.signal else ended.code
        told = SessionEnded(sid=session.sid, code=code, signal=ended.signal if ended else "")
        try:
            self._monitor.send(FromBroker(ended=told))
        except EOFError:
            return  # nobody is left who could record it

    def _hang_up(self, session: _Session) -> None:
        """As when the line of a modem drops: SIGHUP, and SIGCONT for those that are stopped."""
        signal_session(session.pid, signal.SIGHUP)
        signal_session(session.pid, signal.SIGCONT)
        self._drop_master(session.pid)

    def _drop_master(self, pid: int) -> None:
        master = self._masters.pop(pid, None)
        if master is not None:
            os.close(master)

    def _hang_up_all(self) -> None:
        sids = list(self._sessions)
        for session in self._sessions.values():
            self._hang_up(session)
        self._wait_for_shells()
        if self._cut:
            for sid in sids:
                signal_session(sid, signal.SIGKILL)
            self._wait_for_shells()
        for session in self._sessions.values():
            self._report(session, None)

    def _wait_for_shells(self) -> None:
        deadline = time.monotonic() + self._hang_up_time
        while self._sessions and (left := deadline - time.monotonic()) > 0:
            select.select([self._children], [], [], left)
            self._reap()


def _ended(channel: int, status: int) -> Ended:
    if not os.WIFSIGNALED(status):
        return Ended(channel=channel, code=os.WEXITSTATUS(status))
    number = os.WTERMSIG(status)
    known = next((name for name, value in SIGNALS.items() if value == number), "")
    # RFC 4254 §6.10: other names take the form name@domain.
    return Ended(
        channel=channel,
        signal=known or f"{signal.Signals(number).name[3:]}@teleport-lite",
        core=os.WCOREDUMP(status),
    )

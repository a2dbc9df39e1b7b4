"""PostgreSQL servers of our own: never the system's cluster, only a UNIX socket, a data
directory of their own.

`shared` is one server for the whole pytest run, whichever workers ask; it ends with the last of
them, killed or not. `private` is for tests that stop, kill or starve it.
"""

import contextlib
import fcntl
import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import psycopg

from tests.support import eventually

OWNER = "keeper"  # who may do everything, without a password; the name is in no test otherwise
# Nothing here has to survive a power cut, unless a test says so.
FAST = ("fsync=off", "full_page_writes=off", "wal_level=replica", "shared_buffers=16MB")
QUIET = ("listen_addresses=", "max_connections=200", "log_line_prefix=%m %a ", "timezone=UTC")

# Nobody waits for them here, and a Popen that is collected would complain.
_started: list["subprocess.Popen[bytes]"] = []


def binaries() -> Path:
    """Where initdb and postgres are: Debian keeps them out of PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=_version)
    if found:
        return found[-1].parent
    elsewhere = shutil.which("initdb")
    if elsewhere is None:
        raise RuntimeError("PostgreSQL is missing: apt-get install postgresql")
    return Path(elsewhere).resolve().parent


def _version(path: Path) -> int:
    name = path.parent.parent.name
    return int(name) if name.isdecimal() else 0


@dataclass(frozen=True, slots=True)
class Postgres:
    """A server on the socket in `directory`, with its data and log beside it."""

    directory: Path
    durable: bool = False

    @property
    def socket(self) -> Path:
        return self.directory / "socket"

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text("utf-8", "replace")

    @property
    def pid(self) -> int:
        """Of the postmaster; 0 when there is none. One that was killed leaves its file behind, and
        the number may be somebody else's by now."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().split()[0])
            return pid if os.readlink(f"/proc/{pid}/cwd") == str(self.data) else 0
        except (OSError, IndexError, ValueError):
            return 0

    def conn_string(self, database: str = "postgres", user: str = OWNER, password: str = "") -> str:
        """As it stands in a config file."""
        secret = f":{password}" if password else ""
        return f"postgresql://{user}{secret}@/{database}?host={self.socket}"

    def database(self) -> str:
        """Make one; its conn_string."""
        name = f"t_{uuid.uuid4().hex[:12]}"
        self.execute(f"CREATE DATABASE {name}")
        return self.conn_string(name)

    def drop(self, conn_string: str) -> None:
        name = conn_string.partition("@/")[2].partition("?")[0]
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def execute(self, statement: str, conn_string: str = "") -> list[tuple[Any, ...]]:
        """By the owner, each in its own transaction."""
        with psycopg.connect(conn_string or self.conn_string(), autocommit=True) as db:
            cursor = db.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def cut(self, conn_string: str = "", *, where: str = "true") -> int:
        """End the connections to a database (all without one); how many. `where` narrows it, with
        columns of pg_stat_activity."""
        name = conn_string.partition("@/")[2].partition("?")[0]
        database = f"datname = '{name}'" if name else "datname IS NOT NULL"
        found = self.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            f"WHERE pid <> pg_backend_pid() AND {database} AND {where}"
        )
        return int(found[0][0])

    def start(self, *settings: str) -> None:
        """Start, and wait until it answers. `settings` like "lock_timeout=1s"."""
        wanted = (*QUIET, *(() if self.durable else FAST), *settings)
        words = [word for each in wanted for word in ("-c", each)]
        with (self.directory / "log").open("ab") as log:
            command = [*as_user(), str(binaries() / "postgres"), "-D", str(self.data)]
            process = _go([*command, "-k", str(self.socket), *words], log)
        eventually(lambda: self.answers() or process.poll() is not None, seconds=60)
        ended = process.poll()
        assert ended is None, f"PostgreSQL has not started ({ended}): {self.log[-2000:]}"

    def answers(self) -> bool:
        try:
            with psycopg.connect(self.conn_string(), connect_timeout=5) as db:
                return db.execute("SELECT 1").fetchone() == (1,)
        except psycopg.OperationalError:
            return False

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: clients are cut off, no crash. SIGQUIT and SIGKILL: as in a crash. Waits."""
        pid = self.pid
        if not pid:
            return
        if how == signal.SIGKILL:
            _halt(pid)  # no more backends, or one would be missed below
        children = _children(pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, how)
            eventually(lambda: not _runs(pid), seconds=60, what="PostgreSQL has ended")
        for each in children:  # of a killed postmaster they notice by themselves, but later
            eventually(lambda each=each: not _runs(each), seconds=60, what="its backends, too")
        if how == signal.SIGKILL:
            for left in (self.data / "postmaster.pid", self.socket / ".s.PGSQL.5432.lock"):
                left.unlink(missing_ok=True)

    def restart(self, how: signal.Signals = signal.SIGINT) -> None:
        self.stop(how)
        self.start()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Nobody is answered meanwhile, and no connection ends: a server that hangs."""
        first = self.pid
        assert first, "there is no server to freeze"
        _halt(first)  # before its children are counted: it would have more
        pids = [first, *_children(first)]
        for pid in pids[1:]:
            _halt(pid)
        try:
            yield
        finally:
            for pid in pids:
                _signal(pid, signal.SIGCONT)


def make(directory: Path, *, durable: bool = False) -> Postgres:
    """A data directory; the server is not started. `directory` is there, and empty."""
    server = Postgres(directory, durable)
    for path in (server.data, server.socket):
        path.mkdir(mode=0o700)
    directory.chmod(0o755)  # another user has to get to what is below
    if user := account():
        for path in (server.data, server.socket):
            os.chown(path, user.pw_uid, user.pw_gid)
    command = [
        *as_user(),
        str(binaries() / "initdb"),
        *("-D", str(server.data), "-U", OWNER, "--no-sync", "--encoding=UTF8", "--locale=C"),
        *("--auth-local=trust", "--auth-host=reject"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)
    if done.returncode:
        raise RuntimeError(f"initdb failed: {done.stderr}")
    rules = f"local all {OWNER} trust\nlocal all all scram-sha-256\n"
    (server.data / "pg_hba.conf").write_text(rules + f"local replication {OWNER} trust\n")
    return server


@contextlib.contextmanager
def private(*settings: str, durable: bool = False) -> Iterator[Postgres]:
    """A running server for one test or module. `durable`: with fsync, where power is tested."""
    where = tempfile.gettempdir() if durable else _quick_place()
    directory = Path(tempfile.mkdtemp(prefix="teleport-lite-pg-", dir=where))
    with _locked(directory / "users", fcntl.LOCK_SH):
        try:
            _leave_watchman(directory, directory / "users")
            server = make(directory, durable=durable)
            server.start(*settings)
            yield server
        finally:
            Postgres(directory).stop(signal.SIGQUIT)
            shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def shared(run: Path) -> Iterator[Postgres]:
    """The one of this pytest run. `run`: a directory that all of its workers have in common."""
    named = hashlib.sha256(str(run.resolve()).encode()).hexdigest()[:12]
    directory = Path(_quick_place()) / f"teleport-lite-pg-{named}"
    users = run / "postgres.users"
    with _locked(run / "postgres.start", fcntl.LOCK_EX):
        use = _lock(users, fcntl.LOCK_SH)
        server = Postgres(directory)
        if not (server.pid and server.answers()):
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(mode=0o700)
            server = make(directory)
            server.start()
            _leave_watchman(directory, users)
    try:
        yield server
    finally:
        os.close(use)


def _quick_place() -> str:
    """In memory if there is plenty: a server and its databases come to some 200 MB."""
    with contextlib.suppress(OSError):
        if shutil.disk_usage("/dev/shm").free > 4 << 30:
            return "/dev/shm"
    return tempfile.gettempdir()


def _leave_watchman(directory: Path, users: Path) -> None:
    """Whoever uses a server has a shared lock on `users`, the watchman waits for an exclusive one:
    the kernel gives back the locks of those who were killed."""
    with (directory / "watchman").open("ab") as log:
        _go([sys.executable, str(Path(__file__)), str(directory), str(users)], log)


def _go(command: list[str], log: BinaryIO) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
        cwd="/",
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    _started.append(process)
    return process


def _keep_watch(directory: Path, users: Path) -> None:
    """Stop the server once nobody uses it any more."""
    with _locked(users, fcntl.LOCK_EX):
        Postgres(directory).stop(signal.SIGQUIT)
        shutil.rmtree(directory, ignore_errors=True)


def _lock(path: Path, how: int) -> int:
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, how)
    return lock


@contextlib.contextmanager
def _locked(path: Path, how: int) -> Iterator[None]:
    lock = _lock(path, how)
    try:
        yield
    finally:
        os.close(lock)


def account() -> pwd.struct_passwd | None:
    """PostgreSQL refuses to run as root. None: we are not root."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def as_user() -> list[str]:
    user = account()
    if user is None:
        return []
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


def _children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(each) for each in text.split()]


def _runs(pid: int) -> bool:
    """Our own child is waited for: as a zombie it would pass for a server that is still there."""
    state = _state(pid)
    if not state:
        return False
    if state not in ("Z", "X"):
        return True
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)
    return False


def _halt(pid: int) -> None:
    """The signal is sent at once, and taken a little later."""
    _signal(pid, signal.SIGSTOP)
    eventually(lambda: not _runs(pid) or _state(pid) == "T", what=f"{pid} to stand still")


def _state(pid: int) -> str:
    """Empty once it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def _signal(pid: int, what: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, what)


if __name__ == "__main__":
    _keep_watch(Path(sys.argv[1]), Path(sys.argv[2]))

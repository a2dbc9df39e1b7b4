"""What the trail hears of files that are copied, renamed and removed."""

import os
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teleport_lite.node.commands import sftp_server
from teleport_lite.node.file_story import BURST, CODES, FileStory, scp
from teleport_lite.node.files import FLAGS, FileLogs, Messages, shown
from teleport_lite.node.wire import FileOp
from tests.node.house import ME, House
from tests.support import eventually

OPEN = 0x1A  # write, create, truncate


class Server:
    """The system's own sftp-server, with raw requests (draft-ietf-secsh-filexfer-02)."""

    def __init__(self, place: Path) -> None:
        self.ops: list[FileOp] = []
        self._log, theirs = FileLogs.pipe()
        os.set_blocking(self._log, True)
        words = [os.fsdecode(each) for each in (sftp_server() + FLAGS).split()]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=theirs, cwd=place)
        os.close(theirs)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self._number = 0
        self._send(1, struct.pack(">I", 3))

    def _read(self) -> None:
        messages = Messages("sid")
        while message := os.read(self._log, 8192):
            self.ops += messages.feed(message)[0]
        self.ops += messages.flush()

    def _send(self, kind: int, body: bytes) -> bytes:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(struct.pack(">IB", len(body) + 1, kind) + body)
        self._process.stdin.flush()
        size = struct.unpack(">I", self._process.stdout.read(4))[0]
        return self._process.stdout.read(size)

    def ask(self, kind: int, *texts: bytes, rest: bytes = b"") -> bytes:
        self._number += 1
        words = b"".join(struct.pack(">I", len(each)) + each for each in texts)
        return self._send(kind, struct.pack(">I", self._number) + words + rest)

    def put(self, name: bytes, data: bytes) -> None:
        reply = self.ask(3, name, rest=struct.pack(">II", OPEN, 0))
        if reply[0] != 102:
            return
        handle = reply[9:]
        size = struct.pack(">I", len(data))
        self.ask(6, handle, rest=struct.pack(">Q", 0) + size + data)
        self.ask(4, handle)

    def end(self) -> list[FileOp]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._reader.join(30)
        self._process.stdout.close()
        self._process.wait(30)
        os.close(self._log)
        return self.ops


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    if not server._process.stdout or not server._process.stdout.closed:
        server.end()


ODD = [
    (b"plain", "plain"),
    (b'q"uo new "te', 'q"uo new "te'),
    (b'a" bytes read 1 written 2', 'a" bytes read 1 written 2'),
    (b'nl\nremove name "x"\r\nsent status OK', 'nl\\x0aremove name "x"\\x0d\\x0asent status OK'),
    (b"inv\xff\xfe", "inv\\xff\\xfe"),
    (b"back\\slash", "back\\\\slash"),
    (b"\\101", "\\\\101"),
    (b"esc\x1b[31m", "esc\\x1b[31m"),
    ("ü€".encode(), "ü€"),
    (b"%s%n", "%s%n"),
    (b"tab\there", "tab\\x09here"),
]


def test_any_name_is_told_as_it_is_and_safe_to_look_at(server: Server) -> None:
    for name, _ in ODD:
        server.put(name, b"hello")
    told = server.end()
    assert [(op.action, op.path, op.written, op.error) for op in told] == [
        ("close", path, 5, "") for _, path in ODD
    ]
    assert {op.flags for op in told} == {"WRITE,CREATE,TRUNCATE"}
    assert all(op.path.isprintable() for op in told)


def test_each_request_is_told_once_with_how_it_ended(server: Server, tmp_path: Path) -> None:
    def attributes(flags: int, *values: int) -> bytes:
        return struct.pack(f">I{len(values)}I", flags, *values)

    (tmp_path / "file").write_text("12345")
    nothing = struct.pack(">I", 0)
    server.ask(14, b"dir", rest=nothing)
    server.ask(14, b"dir", rest=nothing)
    server.ask(7, b"none")  # lstat: not told, and its failure is nobody else's
    server.ask(18, b"file", b"file2")
    server.ask(200, b"posix-rename@openssh.com", b"file2", b"file3")
    server.ask(200, b"hardlink@openssh.com", b"file3", b"file4")
    server.ask(20, b"file3", b"link")
    server.ask(9, b"file3", rest=attributes(4, 0o600))
    server.ask(9, b"none", rest=attributes(4, 0o600))
    server.ask(11, b"dir")
    server.ask(15, b"dir")
    server.ask(13, b"file3")
    server.ask(17, b"none")
    server.ask(13, b"none")
    server.ask(3, b"none", rest=struct.pack(">II", 1, 0))
    assert [(op.action, op.path, op.target, op.error) for op in server.end()] == [
        ("mkdir", "dir", "", ""),
        ("mkdir", "dir", "", "Failure"),
        ("rename", "file", "file2", ""),
        ("rename", "file2", "file3", ""),
        ("link", "file3", "file4", ""),
        ("symlink", "file3", "link", ""),
        ("setstat", "file3", "", ""),
        ("setstat", "none", "", "No such file"),
        ("opendir", "dir", "", ""),
        ("rmdir", "dir", "", ""),
        ("remove", "file3", "", ""),
        ("remove", "none", "", "No such file"),
        ("open", "none", "", "No such file"),
    ]


def test_a_write_that_fails_is_an_error_of_the_file(server: Server) -> None:
    server.put(b"/dev/full", b"hello")
    [op] = server.end()
    assert (op.action, op.path, op.written) == ("close", "/dev/full", 0)
    assert op.error == "No space left on device"


def test_a_file_that_is_never_closed_is_told_at_the_end(server: Server) -> None:
    server.ask(3, b"open", rest=struct.pack(">II", OPEN, 0))
    [op] = server.end()
    assert (op.action, op.path) == ("close", "open")


def test_a_name_that_is_too_long_for_a_message_is_cut(server: Server) -> None:
    name = b"/".join([b"d" * 200] * 6)
    server.ask(13, name)
    [op] = server.end()
    assert op.action == "remove"
    assert name.decode().startswith(op.path.rstrip('"'))
    assert len(op.path) > 900


@given(st.lists(st.binary(max_size=200)))
def test_noise_is_no_message_and_no_crash(lines: list[bytes]) -> None:
    messages = Messages("sid")
    for line in lines:
        for ending in (b"", b"\r\n"):
            done, ours = messages.feed(line + ending)
            assert ours == (line + ending).endswith(b"\r\n")
            assert all(op.path.isprintable() for op in done)


@given(st.binary(max_size=64), st.binary(max_size=64))
def test_a_shown_name_is_printable_and_names_differ(one: bytes, other: bytes) -> None:
    texts = [shown(raw.replace(b"\\", b"\\\\")) for raw in (one, other)]
    assert all(text.isprintable() for text in texts)
    assert (texts[0] == texts[1]) == (one == other)


# --- what is told of it


class Trail:
    """A story that only remembers."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def tell(self, kind: str, code: str, outcome: str, **facts: str) -> None:
        self.events.append((code, facts | {"kind": kind, "outcome": outcome}))


def test_a_flood_is_summed_up_and_hides_nothing_of_another_kind() -> None:
    trail = Trail()
    story = FileStory(trail)  # type: ignore[arg-type]  # all it uses
    for number in range(100_000):
        story.tell(FileOp(sid="s", action="close", path=f"f{number}", read=10))
    story.tell(FileOp(sid="s", action="remove", path="secret"))
    assert BURST <= len(trail.events) < BURST + 100
    assert trail.events[-1][0] == CODES["remove"] + "I"
    story.sum()
    code, facts = trail.events[-1]
    assert code == "TS021I"
    assert facts["action"] == "close"
    told = sum(each == "TS002I" for each, _ in trail.events)
    assert int(facts["left_out"]) == 100_000 - told
    assert int(facts["bytes_read"]) == 10 * (100_000 - told)
    before = len(trail.events)
    story.sum()
    assert len(trail.events) == before


def test_an_action_that_nobody_knows_is_not_told() -> None:
    trail = Trail()
    FileStory(trail).tell(FileOp(sid="s", action="x" * 100, path="p"))  # type: ignore[arg-type]
    assert trail.events == []


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("scp -t /tmp/x", ("T3005", "upload", "/tmp/x")),
        ("/usr/bin/scp -v -r -p -f -- '/a b'", ("T3004", "download", "/a b")),
        ("scp -pf dir", ("T3004", "download", "dir")),
        ("scp a b", None),
        ("scpx -t a", None),
        ("echo scp -t a", None),
        ("scp 'unfinished", None),
        ("", None),
    ],
    ids=range(8),
)
def test_what_is_a_copy_by_scp(command: str, found: tuple[str, str, str] | None) -> None:
    assert scp(command) == found


# --- with real clients


def copy(
    house: House, program: str, *words: str, **more: Any
) -> subprocess.CompletedProcess[bytes]:
    flags = house.visitor().command()
    options = [flags[at] for at in range(len(flags)) if flags[at].startswith("-o")]
    command = [program, "-F", "none", *options, "-P", str(house.port), *words]
    return subprocess.run(command, capture_output=True, timeout=60, **more)


def test_sftp_is_told_file_by_file(house: House, tmp_path: Path) -> None:
    (tmp_path / "from").write_bytes(b"x" * 1000)
    here = tmp_path
    batch = f"put {here}/from {here}/to\nrename {here}/to {here}/then\n-rm {here}/no\n"
    done = copy(house, "sftp", "-b", "-", f"{ME}@127.0.0.1", input=batch.encode())
    assert done.returncode == 0, done
    assert b"close" not in done.stderr  # the log is not the client's
    put = house.event("TS002I", path=f"{tmp_path}/to")["facts"]
    assert (put["bytes_written"], put["bytes_read"], put["user"]) == ("1000", "0", "alice")
    assert house.event("T2000I", sid=put["sid"])["facts"]["recorded"] == "no"
    renamed = house.event("TS016I", path=f"{tmp_path}/to")["facts"]
    assert renamed["target"] == f"{tmp_path}/then"
    gone = house.event("TS011E", path=f"{tmp_path}/no")
    assert (gone["outcome"], gone["facts"]["error"]) == ("failed", "No such file")


def test_what_was_done_last_is_told_while_the_client_stays(house: House, tmp_path: Path) -> None:
    (tmp_path / "from").write_text("x")
    flags = house.visitor().command()
    options = [each for each in flags if each.startswith("-o")]
    command = ["sftp", "-F", "none", *options, "-P", str(house.port), "-b", "-", f"{ME}@127.0.0.1"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as client:
        assert client.stdin
        client.stdin.write(f"rm {tmp_path}/from\n".encode())
        client.stdin.flush()
        house.event("TS011I", path=f"{tmp_path}/from")
        assert client.poll() is None
        client.stdin.close()


@pytest.mark.parametrize("old", [False, True], ids=["sftp", "old"])
def test_scp_is_told_by_either_protocol(house: House, tmp_path: Path, old: bool) -> None:
    (tmp_path / "from").write_bytes(b"y" * 5000)
    flag = ["-O"] if old else []
    there, back = f"{ME}@127.0.0.1:{tmp_path}/there", f"{tmp_path}/back"
    assert copy(house, "scp", *flag, f"{tmp_path}/from", there).returncode == 0
    assert copy(house, "scp", *flag, there, back).returncode == 0
    if old:
        up = house.event("T3005I", path=f"{tmp_path}/there")["facts"]
        down = house.event("T3004I", path=f"{tmp_path}/there")["facts"]
        assert (up["direction"], down["direction"]) == ("upload", "download")
        assert int(up["bytes_up"]) > 5000 > int(up["bytes_down"])
        assert int(down["bytes_down"]) > 5000 > int(down["bytes_up"])
        missing = f"{ME}@127.0.0.1:{tmp_path}/missing"
        assert copy(house, "scp", *flag, missing, back).returncode != 0
        assert house.event("T3004E", path=f"{tmp_path}/missing")["outcome"] == "failed"
    else:
        house.event("TS002I", path=f"{tmp_path}/there", bytes_written="5000")
        house.event("TS002I", path=f"{tmp_path}/there", bytes_read="5000")


def test_what_the_shell_says_still_reaches_the_client(house: House, tmp_path: Path) -> None:
    logs = FileLogs(lambda _op: None)
    ours, theirs = FileLogs.pipe()
    client, relay = os.pipe()
    logs.add("sid", ours, relay)
    os.write(theirs, b"sh: no such program\n")
    os.write(theirs, b'remove name "x"\r\n')
    os.close(theirs)
    logs.end("sid")
    assert os.read(client, 100) == b"sh: no such program\n"
    assert os.read(client, 100) == b""
    os.close(client)


def test_the_log_of_a_silent_client_is_told_after_a_moment() -> None:
    told: list[FileOp] = []
    logs = FileLogs(told.append)
    ours, theirs = FileLogs.pipe()
    client, relay = os.pipe()
    logs.add("sid", ours, relay)
    os.write(theirs, b'remove name "x"\r\n')
    logs.turn({ours})
    assert told == []
    assert logs.patience() is not None
    logs.turn(set())
    assert [op.path for op in told] == ["x"]
    assert logs.patience() is None
    os.close(theirs)
    logs.end("sid")
    os.close(client)
    assert eventually(lambda: len(told) == 1)


def test_on_a_terminal_there_is_no_sftp(house: House) -> None:
    """Its log would have no way out, and what is done to files would not be told."""
    done = house.visitor().ssh("sftp", options=["-tt", "-s"])
    assert done.returncode != 0
    assert b"files are copied without a terminal" in done.stdout + done.stderr

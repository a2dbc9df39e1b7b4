"""Where tokens come from, and that what a file holds is never told."""

import io
import logging
import os

import pytest

from teleport_lite.config import token_source
from teleport_lite.config.token_source import MAX_FILE, StaticToken, TokenSource
from teleport_lite.errors import Denied, Error, Malformed, NotFound

SECRET = "abcd123-insecure-do-not-use-this"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def token_file(tmp_path):
    path = tmp_path / "token.file"

    def write(content: str | bytes, mode: int = 0o600):
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(mode)
        return path

    return write


def read(text: object) -> str:
    return TokenSource.parse(str(text)).read().reveal()


def refusal(text: object, kind: type[Error] = Malformed) -> str:
    with pytest.raises(kind) as refused:
        read(text)
    return refused.value.message


def test_a_value_is_the_token():
    assert read(SECRET) == SECRET


def test_a_file_gives_its_line_without_the_newline(token_file):
    for content in (SECRET, f"{SECRET}\n", f"{SECRET}\r\n", f"  {SECRET}\n\n"):
        assert read(token_file(content)) == SECRET


def test_the_file_is_read_when_it_is_asked_for_not_before(token_file, tmp_path):
    source = TokenSource.parse(str(tmp_path / "token.file"))
    token_file(SECRET)
    assert source.read().reveal() == SECRET


def test_a_variable_gives_its_value(monkeypatch):
    monkeypatch.setenv("JOIN_TOKEN", SECRET)
    assert read("env:JOIN_TOKEN") == SECRET


def test_a_dash_reads_one_line_of_standard_input(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{SECRET}\nanother line\n"))
    assert read("-") == SECRET


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        (f"{SECRET}\n{SECRET}\n", "has more than one line"),
        ("x" * (MAX_FILE + 1), f"is larger than {MAX_FILE} bytes"),
        ("two words", "holds characters that no token has"),
        (f"{SECRET}\x1b[2J", "holds characters that no token has"),
        (b"\xff\xfe\x00", "holds characters that no token has"),
        ("t\u00f6ken-value", "holds characters that no token has"),
    ],
)
def test_a_file_that_holds_no_token_is_refused_by_name(token_file, content, why):
    path = token_file(content)
    assert refusal(path) == f"token file {path} {why}"


def test_a_missing_file_is_told_by_name(tmp_path):
    path = tmp_path / "gone"
    assert refusal(path, NotFound) == f"token file {path} does not exist"


def test_a_directory_a_device_and_a_pipe_are_no_token_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", "/dev/zero"):
        assert refusal(path) == f"token file {path} is not a regular file"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, 0o604])
def test_a_file_that_others_can_read_works_with_a_warning(token_file, mode):
    path, said = token_file(SECRET, mode), []
    assert TokenSource.parse(str(path)).read(said.append).reveal() == SECRET
    assert said == [f"token file {path} can be read by others (mode {mode:04o}): chmod 600"]


def test_a_private_file_gives_no_warning(token_file):
    said = []
    TokenSource.parse(str(token_file(SECRET))).read(said.append)
    assert said == []


def test_the_warning_reaches_the_log_by_itself(token_file, caplog):
    with caplog.at_level(logging.WARNING):
        read(token_file(SECRET, 0o644))
    assert "can be read by others" in caplog.text


def test_a_link_of_ours_is_followed(token_file, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(token_file(SECRET))
    assert read(link) == SECRET


def test_a_link_to_nowhere_and_a_loop_are_refused(tmp_path):
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "does not exist" in refusal(tmp_path / "nowhere", NotFound)
    assert "cannot be opened" in refusal(tmp_path / "loop")


@as_root
def test_a_link_that_somebody_else_planted_is_refused(token_file, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(token_file(SECRET))
    os.chown(link, 12345, 12345, follow_symlinks=False)
    assert refusal(link, Denied) == f"token file {link} is a symbolic link of uid 12345"


def test_a_link_to_the_password_file_tells_nothing_of_it(tmp_path):
    link = tmp_path / "link"
    link.symlink_to("/etc/passwd")
    assert refusal(link) == f"token file {link} has more than one line"


@pytest.mark.parametrize(
    "text",
    [
        "hunter2 hunter2",
        "hunter2\nhunter2",
        "./hunter2",
        "a/hunter2",
        "hunter2\x00",
        "env:hunter 2",
    ],
)
def test_what_cannot_be_a_token_is_refused_without_being_shown(text):
    assert "hunter2" not in refusal(text)


def test_a_variable_that_is_not_set_or_empty_is_refused(monkeypatch):
    monkeypatch.delenv("JOIN_TOKEN", raising=False)
    assert refusal("env:JOIN_TOKEN", NotFound) == "environment variable JOIN_TOKEN is not set"
    monkeypatch.setenv("JOIN_TOKEN", "")
    assert refusal("env:JOIN_TOKEN") == "environment variable JOIN_TOKEN is empty"


def test_blanks_do_not_make_a_file_longer_than_it_may_be(token_file):
    assert read(token_file(SECRET.ljust(MAX_FILE))) == SECRET
    path = token_file(SECRET.ljust(MAX_FILE + 1))
    assert refusal(path) == f"token file {path} is larger than {MAX_FILE} bytes"


def test_no_descriptor_stays_open(token_file):
    path = token_file(SECRET)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        read(path)
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_variable_holds_no_more_than_a_file(monkeypatch):
    monkeypatch.setenv("JOIN_TOKEN", "x" * MAX_FILE)
    assert read("env:JOIN_TOKEN") == "x" * MAX_FILE
    monkeypatch.setenv("JOIN_TOKEN", "x" * (MAX_FILE + 1))
    said = f"environment variable JOIN_TOKEN is larger than {MAX_FILE} bytes"
    assert refusal("env:JOIN_TOKEN") == said


def test_a_file_that_may_not_be_read_is_denied(token_file, monkeypatch):
    def forbid(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(token_source, "opened", forbid)
    path = token_file(SECRET)
    assert refusal(path, Denied) == f"token file {path} may not be read by uid {os.geteuid()}"


def test_empty_standard_input_is_refused(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert refusal("-") == "the token on standard input is empty"


def test_a_source_prints_where_it_leads_and_never_the_value():
    assert SECRET not in f"{TokenSource.parse(SECRET)} {TokenSource.parse(SECRET)!r}"
    shown = [str(TokenSource.parse(text)) for text in (SECRET, "/a/b", "env:X", "-")]
    assert shown == ["a value", "/a/b", "env:X", "-"]


def test_a_short_static_token_in_a_file_is_refused_unless_allowed(token_file):
    path = token_file("short-token")
    source = TokenSource.parse(str(path))
    with pytest.raises(Malformed, match=f"static token from {path} is shorter than 16"):
        StaticToken(roles=("Node",), source=source).read()
    allowed = StaticToken(roles=("Node",), source=source, weak_ok=True)
    assert allowed.read().reveal() == "short-token"

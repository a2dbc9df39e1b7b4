"""Where a config may come from, and what is refused before a line of it is read."""

import base64
import os
import time
from pathlib import Path

import pytest

from teleport_lite.config import load as loading
from teleport_lite.config.load import (
    Flags,
    default_file,
    defaults,
    for_start,
    from_environment,
    invited,
    load,
    parse,
)
from teleport_lite.config.yaml import MAX_BYTES
from teleport_lite.errors import Denied, Error, Malformed, NotFound

TEXT = "teleport:\n  nodename: web-1\n"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "teleport.yaml"
    path.write_text(TEXT)
    path.chmod(0o644)
    return path


@pytest.fixture
def refusal(book):
    def refuse(path: Path, kind: type[Error]) -> Error:
        begun = time.thread_time()  # of ours alone: others may have the machine for long
        with pytest.raises(kind) as refused:
            load(path, book)
        assert type(refused.value) is kind
        assert time.thread_time() - begun < 1
        assert str(path) in refused.value.message
        return refused.value

    return refuse


def test_a_file_becomes_a_config_that_knows_its_source(file, book):
    config = load(file, book)
    assert (config.nodename, config.source) == ("web-1", str(file))


def test_an_empty_file_means_defaults_and_says_so(file, book):
    file.write_text("# nothing\n")
    config = load(file, book)
    assert config.warnings == (f"{file}: is empty, defaults apply",)
    assert config.roles == defaults(book).roles


@pytest.mark.parametrize(
    "text",
    [
        "teleport: {auth_token: join-token}\n",
        'auth_service: {tokens: ["node:secret-token-value"]}\n',
    ],
)
def test_a_file_with_a_token_that_others_can_read_is_warned_about(file, book, text):
    said = f"{file}: holds a token and can be read by others (mode 0644): chmod 600"
    file.write_text(text)
    assert said in load(file, book).warnings
    file.chmod(0o600)
    assert said not in load(file, book).warnings


def test_a_file_that_only_names_a_token_file_may_be_read_by_all(file, book):
    file.write_text("teleport: {auth_token: /etc/token.file}\n")
    assert load(file, book).warnings == ()


def test_a_missing_file_is_not_found(tmp_path, refusal):
    assert refusal(tmp_path / "gone", NotFound).message.endswith("does not exist")


def test_a_directory_a_device_and_a_pipe_are_refused_at_once(tmp_path, refusal):
    os.mkfifo(tmp_path / "pipe")
    assert "is a directory" in refusal(tmp_path, Malformed).message
    assert "is not a regular file" in refusal(tmp_path / "pipe", Malformed).message
    assert "is not a regular file" in refusal(Path("/dev/zero"), Malformed).message


def test_a_link_is_refused_with_the_file_it_leads_to(file, tmp_path, refusal):
    link = tmp_path / "link"
    link.symlink_to(file)
    why = refusal(link, Denied)
    assert why.message == f"{link}: is a symbolic link, give the file it leads to"
    assert why.hint == f"teleport-lite start -c {file}"


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o620, 0o602])
def test_a_file_that_others_may_write_is_refused_with_path_and_mode(file, refusal, mode):
    file.chmod(mode)
    why = refusal(file, Denied)
    assert why.message == f"{file}: may be written by others (mode {mode:04o})"
    assert why.hint == f"chmod go-w {file}"


@as_root
def test_a_file_of_another_user_is_refused_with_path_and_mode(file, refusal):
    os.chown(file, 12345, 12345)
    why = refusal(file, Denied)
    assert why.message == f"{file}: belongs to uid 12345 (mode 0644), who could change it"
    assert why.hint == f"chown 0 {file}"


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"a: " + b"x" * MAX_BYTES, f" is larger than {MAX_BYTES} bytes"),
        (b"a: " + b"x" * 20_000_000, f" is larger than {MAX_BYTES} bytes"),
        (TEXT.encode("utf-16"), "1: is UTF-16 or binary, save it as UTF-8"),
        (TEXT.encode("utf-16-be"), "1: is UTF-16 or binary, save it as UTF-8"),
        (TEXT.encode("utf-32-le"), "1: is UTF-16 or binary, save it as UTF-8"),
        (b"a: b\nc: \xff\n", "2: is not UTF-8 text"),
        (b"version: v3\nb: \x00\n", "2: holds the character '\\x00', remove it"),
        (b"teleport:\n\tnodename: x\n", "2: is indented with a tab, use spaces"),
        (b"teleport: {}\nteleport: {}\n", "2: 'teleport' is given twice, first in line 1"),
        (b"a: " + b"[" * 5000, "1: is nested deeper than 32 levels"),
    ],
)
def test_content_that_is_no_config_is_refused_by_line(file, refusal, raw, why):
    file.write_bytes(raw)
    assert refusal(file, Malformed).message == f"{file}:{why}"


def test_a_utf_8_mark_and_windows_line_ends_do_no_harm(file, book):
    file.write_bytes(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())
    assert load(file, book).nodename == "web-1"


def encoded(text: str) -> dict[str, str]:
    return {"TELEPORT_CONFIG": base64.b64encode(text.encode()).decode()}


def test_the_environment_may_hold_the_whole_file(book):
    config = from_environment(encoded(TEXT), book)
    assert (config.nodename, config.source) == ("web-1", "$TELEPORT_CONFIG")
    wrapped = base64.encodebytes(TEXT.encode() * 1 + b"#" * 200).decode()
    assert from_environment({"TELEPORT_CONFIG": wrapped}, book).nodename == "web-1"


def test_an_environment_without_a_config_has_none(book):
    assert from_environment({}, book) is None
    assert from_environment({"TELEPORT_CONFIG": ""}, book) is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("nodename: x", "$TELEPORT_CONFIG: is not the base64 form of a file"),
        ("/w==", "$TELEPORT_CONFIG:1: is not UTF-8 text"),
        ("A" * 3 * MAX_BYTES, f"$TELEPORT_CONFIG: is larger than {MAX_BYTES} bytes"),
        (
            encoded("teleport:\n  nodenme: x")["TELEPORT_CONFIG"],
            "$TELEPORT_CONFIG:2: teleport.nodenme: unknown key, did you mean nodename",
        ),
    ],
)
def test_a_variable_that_is_no_config_is_refused_by_name(book, text, why):
    with pytest.raises(Malformed) as refused:
        from_environment({"TELEPORT_CONFIG": text}, book)
    assert refused.value.message == why


def test_start_takes_the_named_file_then_the_environment_then_the_usual_file(book, file, tmp_path):
    usual = tmp_path / "usual.yaml"
    usual.write_text(TEXT.replace("web-1", "usual"))
    usual.chmod(0o600)
    environ = {"TELEPORT_LITE_CONFIG": str(usual)}
    both = environ | encoded(TEXT.replace("web-1", "env"))

    def name(path: Path | None, environ: dict[str, str]) -> str:
        return for_start(path, Flags(), book, environ).nodename

    assert name(file, both) == "web-1"
    assert name(None, both) == "env"
    assert name(None, environ) == "usual"


def test_start_without_any_file_takes_the_defaults_but_a_named_one_must_exist(book, tmp_path):
    environ = {"TELEPORT_LITE_CONFIG": str(tmp_path / "gone")}
    assert for_start(None, Flags(), book, environ).source == ""
    with pytest.raises(NotFound):
        for_start(tmp_path / "gone", Flags(), book, environ)


def test_a_usual_file_that_is_there_but_wrong_is_never_passed_over(book, tmp_path):
    link = tmp_path / "usual.yaml"
    link.symlink_to(tmp_path / "gone")
    with pytest.raises(Denied, match="is a symbolic link"):
        for_start(None, Flags(), book, {"TELEPORT_LITE_CONFIG": str(link)})


def test_flags_win_over_the_file_and_the_file_over_defaults(book, file):
    assert for_start(file, Flags(nodename="flag"), book, {}).nodename == "flag"
    assert for_start(file, Flags(), book, {}).nodename == "web-1"


def test_the_usual_file_is_in_etc():
    assert default_file({}) == Path("/etc/teleport-lite.yaml")


def test_plugins_can_be_asked_for_before_their_sections_are_known(file, book):
    file.write_text("plugins:\n  directories: [/etc/p]\nprinter_service: {enabled: yes}\n")
    assert invited(file, {}).directories == (Path("/etc/p"),)
    with pytest.raises(Malformed, match="printer_service: unknown key"):
        load(file, book)


def test_plugins_are_asked_for_in_the_file_that_will_be_read(file, tmp_path):
    """The named one, else the variable, else the usual one, else there are none."""
    text = "plugins: {{directories: [{}]}}\n"
    usual = tmp_path / "usual.yaml"
    usual.write_text(text.format("/usual"))
    usual.chmod(0o600)
    file.write_text(text.format("/named"))
    environ = {"TELEPORT_LITE_CONFIG": str(usual)}
    both = environ | encoded(text.format("/env"))
    asked = [(file, both), (None, both), (None, environ), (None, {"TELEPORT_LITE_CONFIG": "/gone"})]
    found = [invited(path, environ).directories for path, environ in asked]
    assert found == [(Path("/named"),), (Path("/env"),), (Path("/usual"),), ()]


def test_an_error_in_what_plugins_are_asked_for_names_its_source(tmp_path):
    wrong = "plugins: {directories: 3}\n"
    with pytest.raises(Malformed, match=r"^\$TELEPORT_CONFIG:1: plugins.directories"):
        invited(None, encoded(wrong))


def test_a_file_that_may_not_be_read_is_denied(file, refusal, monkeypatch):
    def forbid(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(loading, "opened", forbid)
    assert refusal(file, Denied).message == f"{file}: may not be read by uid {os.geteuid()}"


def test_a_file_name_that_the_system_does_not_take_is_malformed(file, refusal, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(40, "Too many levels of symbolic links")

    monkeypatch.setattr(loading, "opened", fail)
    assert refusal(file, Malformed).message == f"{file}: cannot be opened"


def test_a_name_with_nul_is_malformed(book):
    with pytest.raises(Malformed, match="cannot be opened"):
        load(Path("/tmp/a\0b"), book)


def test_a_file_of_exactly_the_limit_is_read(file, book):
    file.write_bytes(TEXT.encode().ljust(MAX_BYTES, b"#"))
    assert load(file, book).nodename == "web-1"


def test_the_source_stands_in_front_of_every_error(book):
    with pytest.raises(Malformed) as refused:
        parse("version: v9", "/etc/x.yaml", book)
    assert refused.value.message == "/etc/x.yaml:1: version: 'v9': must be one of v1, v2, v3"

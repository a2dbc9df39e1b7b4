"""Where a passphrase comes from."""

import io
from pathlib import Path

import pytest

from teleport_lite.config.load import parse
from teleport_lite.config.passphrase import PassphraseSource
from teleport_lite.errors import Denied, Malformed, NotFound
from teleport_lite.plugin.builtin import builtin_book

WORDS = "correct horse battery staple"


def read(text: str) -> str:
    return PassphraseSource.parse(text).read().reveal()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "words"
    path.write_text(f"{WORDS}\n")
    path.chmod(0o600)
    return path


def test_it_stands_in_a_file_the_environment_a_credential_or_is_typed(file, monkeypatch):
    assert read(str(file)) == WORDS
    monkeypatch.setenv("KEYRING", WORDS)
    assert read("env:KEYRING") == WORDS
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(file.parent))
    assert read(f"credential:{file.name}") == WORDS
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{WORDS}\nmore"))
    assert read("-") == WORDS


def test_it_may_have_so_many_characters_and_names_may_have_dots(file, monkeypatch):
    long = "x" * 1024
    for end in ("", "\n", "\r\n"):
        file.write_text(long + end, newline="")
        assert read(str(file)) == long
        monkeypatch.setattr("sys.stdin", io.StringIO(long + end))
        assert read("-") == long
    monkeypatch.setattr("sys.stdin", io.StringIO(long + "x\n"))
    with pytest.raises(Malformed, match="standard input must be one line"):
        read("-")
    assert str(PassphraseSource.parse("credential:my-key.v1")) == "credential:my-key.v1"


@pytest.mark.parametrize("text", [WORDS, "", "words", "env:", "credential:../x", "file:/x"])
def test_it_is_never_the_passphrase_itself_and_that_is_not_shown(text):
    with pytest.raises(Malformed) as why:
        PassphraseSource.parse(text)
    assert "horse" not in why.value.message


def test_a_file_that_others_can_read_is_refused(file):
    file.chmod(0o640)
    with pytest.raises(Denied, match="others may not have access"):
        read(str(file))


@pytest.mark.parametrize("text", ["", "\n", "two\nlines", "x" * 1025, "tab\tbed", "nul\0"])
def test_what_is_no_line_of_text_is_refused(file, text):
    file.write_text(text)
    with pytest.raises(Malformed) as why:
        read(str(file))
    assert "two" not in why.value.message


def test_what_is_not_there_is_named(monkeypatch):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    for text, named in (
        ("/nonexistent/words", "/nonexistent/words does not exist"),
        ("env:NO_SUCH", "environment variable NO_SUCH is not set"),
        ("credential:keyring", "credential keyring: systemd has given none"),
    ):
        with pytest.raises(NotFound, match=named):
            read(text)


def storage(text: str):
    return parse(f"teleport:\n  storage: {text}\n", "t.yaml", builtin_book()).storage


def test_the_config_names_the_source_and_the_plugin():
    found = storage("{keyring_passphrase: 'credential:keyring', keyring_plugin: vault}")
    assert str(found.keyring_passphrase) == "credential:keyring"
    assert found.keyring_plugin == "vault"
    assert storage("{type: sqlite}").keyring_passphrase is None


def test_the_config_takes_no_passphrase_and_no_file_beside_what_it_protects():
    with pytest.raises(Malformed, match=r"keyring_passphrase: a passphrase is given by") as why:
        storage(f"{{keyring_passphrase: {WORDS}}}")
    assert "horse" not in why.value.message
    with pytest.raises(Malformed, match="must be outside data_dir"):
        storage("{keyring_passphrase: /var/lib/teleport-lite/words}")

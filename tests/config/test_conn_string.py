"""Where the connection string of the database comes from."""

from pathlib import Path

import pytest

from teleport_lite.config.conn_string import MAX_LENGTH, ConnString
from teleport_lite.errors import Denied, Malformed, NotFound

URI = "postgresql://teleport:hidden@db/teleport"


@pytest.mark.parametrize("text", [URI, "postgres://db", "host=db password='a b'", "host = db"])
def test_a_string_may_stand_in_the_config_and_is_never_shown(text: str) -> None:
    place = ConnString.parse(text)
    assert place.read().reveal() == text
    assert str(place) == "the config"
    assert "hidden" not in repr(place)


@pytest.mark.parametrize(
    "text", ["", "hidden", "mysql://hidden", "env:", "env:a b", "credential:../x", "host=a\nb=c"]
)
def test_what_can_be_no_string_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(Malformed) as refused:
        ConnString.parse(text)
    assert "hidden" not in refused.value.message + refused.value.hint + refused.value.log


def test_a_string_comes_from_a_private_file(tmp_path: Path) -> None:
    secret = tmp_path / "database"
    secret.write_text(f"{URI}\n")
    secret.chmod(0o600)
    place = ConnString.parse(str(secret))
    assert place.read().reveal() == URI
    assert str(place) == str(secret)
    secret.chmod(0o644)
    with pytest.raises(Denied, match=str(secret)):
        place.read()


@pytest.mark.parametrize("content", ["", "hidden", f"{URI}\n{URI}", "host=" + "x" * MAX_LENGTH])
def test_a_file_without_a_string_is_named_and_not_shown(tmp_path: Path, content: str) -> None:
    secret = tmp_path / "database"
    secret.write_text(content)
    secret.chmod(0o600)
    with pytest.raises(Malformed) as refused:
        ConnString.parse(str(secret)).read()
    assert str(secret) in refused.value.message
    assert "hidden" not in refused.value.message + refused.value.log


def test_a_string_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    place = ConnString.parse("env:DATABASE")
    monkeypatch.delenv("DATABASE", raising=False)
    with pytest.raises(NotFound, match="DATABASE is not set"):
        place.read()
    monkeypatch.setenv("DATABASE", URI)
    assert place.read().reveal() == URI


def test_a_string_comes_from_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = ConnString.parse("credential:database")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(NotFound, match="systemd has given none"):
        place.read()
    (tmp_path / "database").write_text(URI)
    (tmp_path / "database").chmod(0o400)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert place.read().reveal() == URI

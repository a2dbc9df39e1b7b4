"""tbot configure writes a file that start reads as the same thing."""

import stat

import pytest

from teleport_lite.cli.tbot.configure import render
from teleport_lite.cli.tbot.settings import Flags, read_file, settle

EVERYTHING = Flags(
    token="bot-token-0123456789",
    auth_server="auth.example.com:4025",
    ca_pins=("sha256:" + "a" * 64, "sha256:" + "b" * 64),
    join_method="token",
    certificate_ttl="50m",
    renewal_interval="10m",
    storage="/srv/storage",
    destinations=("/opt/one", "/opt/two words"),
    oneshot=True,
)
THROUGH_PROXY = Flags(proxy_server="p.example.com", destinations=("/opt/one",))
LITTLE = Flags(auth_server="auth.example.com", destinations=("/opt/one",))


@pytest.mark.parametrize(
    "flags", [EVERYTHING, LITTLE, THROUGH_PROXY], ids=["everything", "little", "proxy"]
)
def test_the_file_reads_back_as_what_was_asked_for(flags):
    assert settle(Flags(), read_file(render(flags), "tbot.yaml")) == settle(flags)


def test_the_file_goes_to_stdout_unless_told_otherwise(run):
    done = run("tbot", "configure", "--auth-server=a", "--destination=/opt/one")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("# Written by tbot configure.")
    assert "auth_server: a:3025" in done.out


def test_a_file_is_private_because_it_may_hold_a_token(run, tmp_path):
    path = tmp_path / "tbot.yaml"
    words = ("tbot", "configure", "--auth-server=a", "--destination=/opt/one", f"-ofile://{path}")
    done = run(*words)
    assert done.code == 0
    assert done.out.endswith(f"> tbot start -c {path}\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_is_not_overwritten(run, tmp_path):
    path = tmp_path / "tbot.yaml"
    path.write_text("mine\n")
    done = run("tbot", "configure", "--auth-server=a", "--destination=/opt/one", f"-o{path}")
    assert (done.code, path.read_text()) == (1, "mine\n")
    assert "exists already" in done.err


def test_what_start_would_refuse_is_not_written(run, tmp_path):
    path = tmp_path / "tbot.yaml"
    done = run("tbot", "configure", "--auth-server=a", f"-o{path}")
    assert done.code == 1
    assert "a destination for the certificates is missing" in done.err
    assert not path.exists()

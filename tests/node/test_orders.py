"""What a daemon may tell a zygote outside of its sandbox, and what it may not."""

import json
from pathlib import Path
from typing import Any

import pytest

from teleport_lite.errors import Denied, Malformed
from teleport_lite.node.notices import MAX_BANNER
from teleport_lite.node.orders import MAX_ORDER, build, obey, order
from teleport_lite.node.settings import Settings
from teleport_lite.proto.codec import write


def said(data_dir: Path, **changes: Any) -> bytes:
    """An order as it is, but for `changes`."""
    return json.dumps({**json.loads(write(order(Settings(data_dir=data_dir)))), **changes}).encode()


def test_all_that_an_administrator_sets_arrives(tmp_path: Path) -> None:
    banner = tmp_path / "banner"
    banner.write_text("no\x1b[2Jtrespassing\n")
    settings = {
        "data_dir": tmp_path,
        "accept_env": ("LANG", "LC_*"),
        "permit_user_env": True,
        "pam_service": "sshd",
        "pam_environment": (("EMAIL", "{{external.email}}"),),
        "create_host_users": False,
        "port_forwarding": False,
        "file_copy": False,
        "x11": True,
        "x11_first": 5,
        "x11_last": 6,
        "recording_spool_quota": 7,
        "strict_locks": True,
    }
    got = obey(write(order(Settings(banner=str(banner), **settings))), tmp_path)
    assert got == Settings(banner_text="no?[2Jtrespassing\n", **settings)


def test_the_processes_own_limits_are_nobodys_to_choose(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="of our own"):
        order(Settings(data_dir=tmp_path, worker_accounts=("root",)))
    with pytest.raises(Malformed, match="worker_accounts"):
        obey(said(tmp_path, worker_accounts=["root"]), tmp_path)


def test_no_file_is_named_for_root_to_read_to_strangers(tmp_path: Path) -> None:
    with pytest.raises(Malformed, match="banner"):
        obey(said(tmp_path, banner="/etc/shadow"), tmp_path)
    got = obey(said(tmp_path, banner_text="\x07" * 2 * MAX_BANNER), tmp_path)
    assert got.banner_text == "?" * MAX_BANNER


def test_another_build_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Denied, match=r"'0\.0\.9 elsewhere'.*by now") as refused:
        obey(said(tmp_path, build="0.0.9 elsewhere", new_restriction=True), tmp_path)
    assert refused.value.hint == "systemctl restart teleport-lite"
    assert build() in refused.value.message


def test_the_data_directory_is_the_units(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for each in (ours, theirs):
        each.mkdir(mode=0o700)
    with pytest.raises(Denied, match=r"sessions@\.service has") as refused:
        obey(said(theirs), ours)
    assert f"TELEPORT_LITE_DATA_DIR={theirs}" in refused.value.hint
    link = tmp_path / "link"
    link.symlink_to(ours)
    assert obey(said(link), ours).data_dir == link
    with pytest.raises(Denied, match="no directory"):
        obey(said(ours), tmp_path / "nowhere")


def test_nor_may_others_write_to_it(tmp_path: Path) -> None:
    tmp_path.chmod(0o770)
    with pytest.raises(Denied, match="mode 0770"):
        obey(said(tmp_path), tmp_path)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"pam_service": "../../tmp/mine"}, "no file in /etc/pam.d"),
        ({"pam_service": ".."}, "no file in /etc/pam.d"),
        ({"pam_environment": [["LD_PRELOAD", "/tmp/mine.so"]]}, "which code runs"),
        ({"pam_environment": [["A=B", "1"]]}, "which code runs"),
        ({"pam_environment": [["EMAIL", "a\nb"]]}, "one line"),
        ({"pam_environment": [[f"A{at}", ""] for at in range(65)]}, "more than 64"),
        ({"accept_env": ["LD_PRELOAD"]}, "never accepted"),
        ({"accept_env": "LANG"}, "accept_env"),
        ({"x11_first": 0}, "displays"),
        ({"x11_last": 65536}, "displays"),
        ({"recording_spool_quota": -1}, "quota"),
        ({"file_copy": "yes"}, "file_copy"),
        ({"jump": True}, "jump"),
    ],
)
def test_what_a_daemon_that_was_taken_over_might_say_is_refused(
    tmp_path: Path, changes: dict[str, Any], why: str
) -> None:
    with pytest.raises(Malformed, match=why):
        obey(said(tmp_path, **changes), tmp_path)


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b'{"build": ["x"]}', b" " * (MAX_ORDER + 1)])
def test_what_is_no_order_is_refused(tmp_path: Path, raw: bytes) -> None:
    with pytest.raises((Malformed, Denied)):
        obey(raw, tmp_path)

"""What gets into a published install.sh: allowed characters only, each value in single quotes."""

import subprocess

import pytest

from teleport_lite.errors import Malformed
from teleport_lite.release.assets import text
from teleport_lite.release.script import EMPTY, Join, stamped

BASE = "https://proxy.example.com:3080/webapi/releases"
KEYS = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + letter * 43 for letter in "xY"]
PIN = "sha256:" + "0f" * 32
JOIN = Join("proxy.example.com:3080", "a-b_c.9", (PIN, PIN), {"env": "prod", "a/b": "x y", "e": ""})
HOSTILE = [
    "$(id)",
    "`id`",
    "';id;'",
    "a b",
    "a\nid",
    "a\r\nid",
    "a\n",
    "\na",
    "a\0",
    "a'",
    'a"',
    "a\\",
    "a;id",
    "a|id",
    "a&id",
    "a>x",
    "a*",
    "a\x1b]0;x\x07",
    "\uff41",
    "a" * 10_000,
]


def test_the_values_are_what_the_shell_reads_and_nothing_else_changes():
    script = stamped(text("install.sh"), base=BASE, keys=KEYS, join=JOIN)
    [start] = [at for at in range(len(script)) if script.startswith(EMPTY[:40], at)]
    block = script[start : script.index("# ---\n", start) + len("# ---\n")]
    assert script.replace(block, EMPTY) == text("install.sh")
    names = ["base", "keys", "join_proxy", "join_token", "join_pins", "join_labels"]
    show = "printf '%s|' " + " ".join(f'"${name}"' for name in names)
    said = subprocess.run(["sh", "-c", block + show], capture_output=True, text=True, check=True)
    values = [BASE, "\n".join(KEYS), JOIN.proxy, JOIN.token, f"{PIN} {PIN}", "env=prod,a/b=x y,e="]
    assert said.stdout == "|".join(values) + "|"


def test_without_a_cluster_to_join_only_the_source_is_filled_in():
    script = stamped(text("install.sh"), base=BASE, keys=[])
    assert f"\nbase='{BASE}'\nkeys=''\njoin_proxy=''\njoin_token=''\njoin_pins=''\n" in script


@pytest.mark.parametrize("bad", HOSTILE)
def test_no_value_may_hold_what_a_shell_could_run(bad):
    script = text("install.sh")
    for base in (bad, BASE + bad, f"https://{bad}/x", f"https://proxy.example.com/{bad}/x"):
        with pytest.raises(Malformed):
            stamped(script, base=base, keys=[])
    with pytest.raises(Malformed):
        stamped(script, base=BASE, keys=[KEYS[0] + bad])
    for proxy in (bad, f"{bad}:443", f"host:{bad}", f"host:443{bad}"):
        with pytest.raises(Malformed):
            Join(proxy, "token")
    with pytest.raises(Malformed):
        Join("host:443", bad)
    with pytest.raises(Malformed):
        Join("host:443", "token", (PIN + bad,))
    with pytest.raises(Malformed):
        Join("host:443", "token", (), {bad: "x"})
    if bad != "a b":  # a value may hold a space between words
        with pytest.raises(Malformed):
            Join("host:443", "token", (), {"x": bad})


@pytest.mark.parametrize(
    "base",
    [
        "http://proxy.example.com/x",
        "http://127.0.0.1.example.com/x",
        "ftp://proxy.example.com",
        "https://",
        "https://host/../x",
        "https://host/.x",
        "https://user@host/x",
        "https://host/x?y",
        "https://host/x/",
        "",
    ],
)
def test_a_base_is_https_or_loopback_and_a_plain_path(base):
    with pytest.raises(Malformed, match="can not be the address of the releases"):
        stamped(text("install.sh"), base=base, keys=[])


@pytest.mark.parametrize("base", ["http://127.0.0.1:8000/x", "http://[::1]:80", "https://[::1]/v1"])
def test_tests_may_use_loopback_without_tls_and_ipv6_is_an_address(base):
    assert f"\nbase='{base}'\n" in stamped(text("install.sh"), base=base, keys=[])


def test_a_message_never_shows_the_token():
    with pytest.raises(Malformed) as why:
        Join("host:443", "s3cret token")
    assert "s3cret" not in str(why.value)


def test_only_an_empty_script_is_filled_in():
    once = stamped(text("install.sh"), base=BASE, keys=[])
    for script in (once, "", EMPTY + EMPTY):
        with pytest.raises(Malformed, match="nothing to fill in"):
            stamped(script, base=BASE, keys=[])


def test_lists_have_an_end():
    with pytest.raises(Malformed, match="more than 32 release keys"):
        stamped(text("install.sh"), base=BASE, keys=KEYS * 17)
    with pytest.raises(Malformed, match="more than 32 labels"):
        Join("host:443", "token", (), {f"k{number}": "" for number in range(33)})

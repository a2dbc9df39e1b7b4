"""Scripts from a proxy, as people run them: by bash, whatever was asked for and by whom."""

import logging
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from teleport_lite.errors import Denied, Unavailable
from teleport_lite.proto.script import TokenLook
from teleport_lite.proxy.scripts import GONE
from teleport_lite.release import assets
from tests.proxy.test_releases import publish
from tests.proxy.webrig import JOIN, PIN, TOKEN, WebServing

NODE = f"/scripts/{JOIN}/install-node.sh"
INSTALL = (
    "/install.sh",
    "/scripts/install.sh",
    "/install-v16.4.12.sh",
    "/webapi/releases/install.sh",
)
WRONG = "a-token-that-does-not-exist"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("releases")
    publish(where, "1.2.3")
    return where


@pytest.fixture
def web(root: Path) -> Iterator[WebServing]:
    with WebServing(releases=root) as running:
        yield running


class Canary:
    """A shell in which some commands of theirs leave a trace."""

    def __init__(self, where: Path) -> None:
        self.where, self.trace = where, where / "trace"
        (where / "bin").mkdir()
        for name in ("id", "canary"):
            path = where / "bin" / name
            path.write_text(f"#!/bin/sh\necho {name} >> '{self.trace}'\n")
            path.chmod(0o755)
        (where / "cwd").mkdir()

    def run(self, script: bytes) -> "subprocess.CompletedProcess[bytes]":
        """As `curl ... | bash` does."""
        env = {"PATH": f"{self.where / 'bin'}:{os.environ['PATH']}", "HOME": str(self.where)}
        cwd = self.where / "cwd"
        return subprocess.run(
            ["bash"], input=script, env=env, cwd=cwd, capture_output=True, timeout=60
        )

    @property
    def sang(self) -> bool:
        return self.trace.exists() or any((self.where / "cwd").iterdir())


@pytest.fixture
def canary(tmp_path: Path) -> Canary:
    return Canary(tmp_path)


def raw(web: WebServing, target: bytes, *fields: bytes) -> tuple[int, bytes, bytes]:
    """A request as bytes, since no client sends some of these: status, head, body."""
    with web.connect() as wire:
        lines = (b"GET " + target + b" HTTP/1.1", *fields, b"Connection: close", b"", b"")
        wire.sendall(b"\r\n".join(lines))
        said = b""
        while chunk := wire.recv(65536):
            said += chunk
    head, _, body = said.partition(b"\r\n\r\n")
    return int(head.split()[1]), head, body


def stamps(text: str) -> dict[str, str]:
    """What bash makes of the lines that were filled in."""
    names = ("base", "keys", "join_proxy", "join_token", "join_pins", "join_labels")
    lines = [line for line in text.splitlines() if line.partition("=")[0] in names][: len(names)]
    shown = "".join(f'printf "%s\\n" "${name}"\n' for name in names)
    program = "\n".join([*lines, shown])
    said = subprocess.check_output(["bash", "-euc", program], text=True, timeout=60)
    return dict(zip(names, said.splitlines(), strict=True))


# --- install.sh


@pytest.mark.parametrize("path", INSTALL)
def test_the_installer_of_this_build_knows_where_it_is_from(web, path):
    answer = web.ask("GET", path)
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    said = stamps(answer.text)
    assert said.pop("base") == "https://proxy.example.com:443/webapi/releases"
    assert said.pop("keys") == "\n".join(assets.release_keys())
    assert set(said.values()) == {""}
    assert answer.text.splitlines()[-3:] == assets.text("install.sh").splitlines()[-3:]


def test_a_head_request_gets_its_size(web):
    size = len(web.ask("GET", "/install.sh").text.encode())
    for path in ("/install.sh", NODE):
        answer = web.ask("HEAD", path)
        assert (answer.status, answer.text) == (200, "")
        assert int(answer.headers["content-length"]) >= size


@pytest.mark.parametrize(
    "path", ["/install-1.2.3.sh", "/install-vlatest.sh", "/install-v1.2.3%0aid.sh", "/install-.sh"]
)
def test_it_is_called_by_a_version_or_not_at_all(web, path):
    assert web.ask("GET", path).status == 404


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"published": ""}, "does not know by which address others reach it"),
        ({"releases": ()}, "has no file of the program to hand out"),
        ({"published": "$(id):443"}, "can not make the script"),
    ],
)
def test_a_proxy_that_can_not_install_says_so_in_a_script_that_fails(web, canary, facts, why):
    web.facts = replace(web.facts, **facts)
    for path in ("/install.sh", NODE):
        answer = web.ask("GET", path)
        assert answer.status == 503
        assert answer.headers["retry-after"] == "15"
        done = canary.run(answer.text.encode())
        assert (done.returncode, done.stdout) == (1, b"")
        assert why in done.stderr.decode()
    assert not canary.sang
    assert web.auth.asked == []


def test_curl_itself_fails_without_a_script(web):
    web.facts = replace(web.facts, published="")
    words = ("curl", "-fsSLk", f"https://127.0.0.1:{web.port}/install.sh")
    done = subprocess.run(words, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout) == (22, b"")


# --- with a token


def test_a_token_that_works_is_in_the_script_with_all_that_a_host_needs(web):
    answer = web.ask("GET", NODE)
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert stamps(answer.text) == {
        "base": "https://proxy.example.com:443/webapi/releases",
        "keys": "\n".join(assets.release_keys()),
        "join_proxy": "proxy.example.com:443",
        "join_token": JOIN,
        "join_pins": PIN,
        "join_labels": "env=prod",
    }
    assert web.auth.asked == [TokenLook(token=JOIN, source="127.0.0.1")]


@pytest.mark.parametrize("token", [WRONG, "short", "x" * 128, "x" * 129, TOKEN])
def test_a_token_that_does_not_work_is_refused_in_the_same_words(web, canary, token):
    web.auth.asked.clear()
    answer = web.ask("GET", f"/scripts/{token}/install-node.sh")
    assert answer.status == 404
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    done = canary.run(answer.text.encode())
    assert done.returncode == 1
    said = f"ERROR: {GONE}\n  try: tctl tokens add --type=node\n"
    assert (done.stdout, done.stderr.decode()) == (b"", said)
    assert len(web.auth.asked) == (8 <= len(token) <= 128)
    if token == WRONG:
        web.auth.refuses_looks = Denied("another reason")
        assert web.ask("GET", f"/scripts/{token}/install-node.sh").text == answer.text


def test_only_hosts_have_such_a_script(web):
    for name in ("install-app.sh", "install-database.sh", "install-discovery.sh", "x"):
        assert web.ask("GET", f"/scripts/{JOIN}/{name}").status == 404
    assert web.ask("POST", NODE, "x").status == 405
    assert web.auth.asked == []


HOSTILE = [
    b"$(canary)$(id)",
    b"`canary`",
    b";canary;id;",
    b"a|canary|id",
    b"%0d%0acanary%0d%0aid",
    b"%0acanary%0a",
    b"%27;canary;id;%27",
    b"'\ncanary\n'",
    b"%22$(canary)%22",
    b"%24%28canary%29",
    b"..%2f..%2fcanary",
    b"..",
    b"%2e%2e%2fcanary",
    b"abcdefgh%00canary",
    b"abcdefgh\x00canary",
    b"abcdefgh\x1bcanary",
    "caf\u00e9-canary".encode(),
    b"%c3%a9%e2%80%a8canary",
    b"%ff%fecanary",
    b"%u0027canary",
    b"${canary} canary",
    b"canary" * 1700,
    b"%27canary" * 400,
    b"-canary;id",
    b"//canary",
    b"\\canary;id",
    b"<(canary)",
    b"&canary&id",
    b"#canary",
    b"?canary",
]


AROUND = {
    b"/scripts/": b"",
    b"/install-v": b".sh",
    b"/webapi/releases/": b"/SHA256SUMS",
    b"/webapi/releases/1.2.3/": b"",
    b"/webapi/ping/": b"",
    b"/v1/webapi/automaticupgrades/channel/": b"/version",
}
# Answers that bash has had. There are few, as nothing of a request is in them.
_RUN: set[bytes] = set()


@pytest.mark.parametrize("token", HOSTILE, ids=lambda token: ascii(token)[2:30])
def test_no_byte_of_a_hostile_token_comes_back_and_no_command_runs(web, canary, token):
    for target in (b"/scripts/" + token + b"/install-node.sh", b"/" + token, token):
        _asked(web, canary, target)
    assert not canary.sang
    assert web.auth.asked == []


@pytest.mark.parametrize("before", AROUND, ids=lambda path: path.decode())
@pytest.mark.parametrize("word", [b"$(canary)$(id)", b"%27;canary;id;%27", b"%22$(canary)%22"])
def test_nor_of_a_hostile_word_elsewhere(web, canary, before, word):
    _asked(web, canary, before + word + AROUND[before])
    assert not canary.sang


def _asked(web: WebServing, canary: Canary, target: bytes) -> None:
    status, head, body = raw(web, target, b"Host: proxy.example.com")
    assert status in (400, 404) or b"?" in target or b"#" in target
    assert b"canary" not in head + body
    if body not in _RUN:
        _RUN.add(body)
        canary.run(body)


@pytest.mark.parametrize(
    "fields",
    [
        (b"Host: $(canary)",),
        (b"Host: evil.example.com:1", b"X-Forwarded-Host: ';canary;'"),
        (b"Host: x", b"X-Forwarded-Host: evil.example.com", b"Forwarded: host=canary;proto=http"),
        (b"Host: x", b"X-Forwarded-Proto: http", b"X-Forwarded-Port: 1;canary"),
        (b"Host: x", b"User-Agent: $(canary)", b"Referer: `canary`", b"Cookie: canary=1"),
        (b"Host: canary", b"Host: canary"),
        (b"Host: x", b"X: \x01canary"),
        (b"Host: x", b"$(canary): x"),
        (b"Host: x", b"Expect: $(canary)"),
        (b"Host: x", b"Content-Length: $(canary)"),
        (b"Host: x", b"Transfer-Encoding: $(canary)"),
        (b"Host: x\r\n canary",),
    ],
)
def test_nor_does_a_header_change_a_script(web, canary, fields):
    for path in ("/install.sh", NODE):
        usual = web.ask("GET", path).text.encode()
        status, head, body = raw(web, path.encode(), *fields)
        assert b"canary" not in head + body
        if status == 200:
            assert body == usual
        else:
            canary.run(body)
    assert not canary.sang


def test_the_canary_does_sing(canary):
    assert canary.run(b'echo "a $(canary) b"').returncode == 0
    assert canary.sang


@pytest.mark.parametrize("value", ["';canary;'", "$(canary)", "a\u2028canary", "a,b=canary"])
def test_labels_that_no_script_can_carry_give_none(web, canary, value):
    web.auth.labels = {"env": "prod", "note": value}
    answer = web.ask("GET", NODE)
    assert answer.status == 409
    assert "canary" not in answer.text
    done = canary.run(answer.text.encode())
    assert (done.returncode, canary.sang) == (1, False)
    assert "has labels that a script can not carry" in done.stderr.decode()


def test_who_guesses_is_stopped_here_and_on_the_pages_of_invitations(web):
    statuses = [web.ask("GET", f"/scripts/guess-{n:04}/install-node.sh").status for n in range(25)]
    assert statuses[:10] == [404] * 10
    assert statuses[-1] == 429
    assert len(web.auth.asked) < 25
    refused = web.ask("GET", NODE)
    assert (refused.status, refused.headers["retry-after"]) == (429, "60")
    assert "wait a few minutes" in refused.text
    assert web.ask("GET", f"/web/invite/{TOKEN}").status == 429
    assert web.ask("GET", "/install.sh").status == 200
    web.clock.tick(seconds=600)
    assert web.ask("GET", NODE).status == 200


def test_auth_away_is_no_reason_to_throw_a_token_away(web, canary):
    web.auth.down = Unavailable("auth can not be reached right now")
    answer = web.ask("GET", NODE)
    assert answer.status == 503
    done = canary.run(answer.text.encode())
    assert (done.returncode, done.stderr) == (1, b"ERROR: auth can not be reached right now\n")


def test_a_bug_says_a_trace_in_a_script_that_fails(web, canary):
    web.auth.bug = RuntimeError("the secret inside")
    answer = web.ask("GET", NODE)
    assert answer.status == 500
    done = canary.run(answer.text.encode())
    assert (done.returncode, done.stderr) == (1, b"ERROR: internal error, trace trace-1\n")


def test_no_log_knows_the_token(web, caplog):
    caplog.set_level(logging.DEBUG)
    web.ask("GET", NODE)
    web.ask("GET", f"/scripts/{WRONG}/install-node.sh")
    raw(web, NODE.encode() + b"\x00", b"Host: x")
    raw(web, NODE.encode() + b" x y", b"Host: x")
    web.auth.labels = {"note": "$x"}
    web.ask("GET", NODE)
    assert "no script for a node: label note" in caplog.text
    for secret in (JOIN, WRONG):
        assert secret not in caplog.text


# --- the home page


def test_the_home_page_says_how_to_install_where_that_can_work(web):
    line = "curl -fsSL https://proxy.example.com:443/install.sh | bash"
    assert line not in web.ask("GET", "/").text  # curl does not know our certificate
    web.trusted = True
    assert line in web.ask("GET", "/").text
    for change in ({"published": ""}, {"releases": ("1.2.2",)}):
        there, web.facts = web.facts, replace(web.facts, **change)
        assert "curl" not in web.ask("GET", "/").text
        web.facts = there

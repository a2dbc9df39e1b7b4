"""Joins that must not work: one clear error, the right exit code, nothing written, a trace."""

import json
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from teleport_lite.model.authority import CaType
from tests.flow.cluster import Cluster
from tests.support import eventually, free_port

USAGE, ERROR, DENIED, UNREACHABLE = 2, 1, 4, 5


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("refusals")) as running:
        yield running


def refused(cluster: Cluster, *flags: str, name: str, code: int, says: str, env: Any = None) -> str:
    """Start must end with `code` and one error block, and leave no trace on this host."""
    done = cluster.fails("--roles=app", *flags, name=name, env=env)
    assert done.returncode == code, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
    assert len(errors) == 1, done.stderr
    assert says in errors[0]
    assert "Traceback" not in done.stderr
    assert not (cluster.root / name).exists(), "something was written"
    return errors[0]


def last_refusal(cluster: Cluster, node: str) -> dict[str, Any]:
    found = [e for e in cluster.events("instance.join") if e.get("node_name") == node]
    assert found, f"no audit entry for {node}"
    assert found[-1]["outcome"] != "ok"
    assert found[-1]["code"] == "TJ002E"
    return found[-1]


def test_a_wrong_token(cluster: Cluster) -> None:
    refused(
        cluster,
        "--token=not-a-token-of-this-cluster",
        f"--ca-pin={cluster.pin}",
        f"--auth-server={cluster.address}",
        name="wrong-token",
        code=DENIED,
        says="wrong-token can not join the cluster, token expired or not found",
    )
    assert last_refusal(cluster, "wrong-token")["reason"] == "wrong or unknown token"


def test_an_expired_token(cluster: Cluster) -> None:
    token = cluster.token("app", "--ttl=1s")
    eventually(lambda: token not in cluster.tctl("tokens", "ls"), what="the token expires")
    error = refused(
        cluster,
        f"--token={token}",
        f"--ca-pin={cluster.pin}",
        f"--auth-server={cluster.address}",
        name="expired-token",
        code=DENIED,
        says="token expired or not found",
    )
    assert token not in error
    assert last_refusal(cluster, "expired-token")["outcome"] == "denied"


def test_a_token_without_the_role(cluster: Cluster) -> None:
    token = cluster.token("node")
    refused(
        cluster,
        f"--token={token}",
        f"--ca-pin={cluster.pin}",
        f"--auth-server={cluster.address}",
        name="wrong-role",
        code=DENIED,
        says='wrong-role can not join the cluster, the token does not allow "App" role',
    )
    assert "does not allow" in last_refusal(cluster, "wrong-role")["reason"]


def test_an_empty_token_file_is_told_before_anything_is_asked(cluster: Cluster) -> None:
    empty = cluster.root / "empty.token"
    empty.write_text("\n")
    empty.chmod(0o600)
    refused(
        cluster,
        f"--token={empty}",
        f"--auth-server={cluster.address}",
        name="empty-file",
        code=ERROR,
        says=str(empty),
    )


def test_a_wrong_pin(cluster: Cluster) -> None:
    token = cluster.token("app")
    wrong = "sha256:" + "0" * 64
    error = refused(
        cluster,
        f"--token={token}",
        f"--ca-pin={wrong}",
        f"--auth-server={cluster.address}",
        name="wrong-pin",
        code=DENIED,
        says=wrong,
    )
    assert cluster.pin in error


@pytest.mark.parametrize("pin", ["md5:abc", "sha256:xyz", "7e12c17c20d9", "sha256:" + "0" * 63])
def test_a_malformed_pin_is_refused_before_any_connection(cluster: Cluster, pin: str) -> None:
    closed = free_port()
    refused(
        cluster,
        "--token=abcd123-insecure-do-not-use-this",
        f"--ca-pin={pin}",
        f"--auth-server=127.0.0.1:{closed}",
        name="bad-pin",
        code=ERROR,
        says="CA pin",
    )


def test_an_auth_server_that_is_not_there(cluster: Cluster) -> None:
    port = free_port()
    refused(
        cluster,
        f"--token={cluster.token('app')}",
        f"--ca-pin={cluster.pin}",
        f"--auth-server=127.0.0.1:{port}",
        name="nobody-there",
        code=UNREACHABLE,
        says=f"127.0.0.1:{port}: Connection refused",
    )


def test_a_name_that_does_not_resolve(cluster: Cluster) -> None:
    refused(
        cluster,
        f"--token={cluster.token('app')}",
        "--auth-server=auth.invalid:3025",
        name="no-dns",
        code=UNREACHABLE,
        says="host name auth.invalid does not resolve",
    )


def test_a_proxy_given_as_auth_server_is_recognised(cluster: Cluster) -> None:
    with tls_server(_proxy_answer) as (port, _):
        refused(
            cluster,
            f"--token={cluster.token('app')}",
            f"--ca-pin={cluster.pin}",
            f"--auth-server=127.0.0.1:{port}",
            name="at-proxy",
            code=UNREACHABLE,
            says=f"127.0.0.1:{port} is a proxy, not an auth server",
        )


def test_a_clock_that_is_an_hour_off(cluster: Cluster) -> None:
    token = cluster.token("app")
    done = cluster.faked(
        "+1 hour",
        "start",
        "--roles=app",
        "--nodename=clock-off",
        f"--data-dir={cluster.root / 'clock-off'}",
        f"--token={token}",
        f"--ca-pin={cluster.pin}",
        f"--auth-server={cluster.address}",
    )
    assert done.returncode == UNREACHABLE, done.stderr
    assert re.search("the clock of this host is (0:59|1:0[0-9]):", done.stderr), done.stderr
    assert "ahead of the auth server's" in done.stderr
    assert not (cluster.root / "clock-off").exists()
    assert "clock" in last_refusal(cluster, "clock-off")["reason"]


def test_a_bot_token_that_was_used(cluster: Cluster, tmp_path: Path) -> None:
    token = cluster.tctl("tokens", "add", "--type=bot", "--format=text").strip()

    def tbot(name: str) -> Any:
        return cluster.run(
            "tbot",
            "start",
            "--oneshot",
            f"--token={token}",
            f"--auth-server={cluster.address}",
            f"--ca-pin={cluster.pin}",
            f"--destination-dir={tmp_path / name}",
            f"--storage={tmp_path / name}-storage",
        )

    assert tbot("first").returncode == 0
    second = tbot("second")
    assert second.returncode == DENIED, second.stderr
    assert "token expired or not found" in second.stderr
    assert not list((tmp_path / "second").glob("*")) if (tmp_path / "second").exists() else True
    refusals = [e for e in cluster.events("instance.join") if e.get("roles", "").lower() == "bot"]
    assert [e["outcome"] for e in refusals][-2:] == ["ok", "denied"]


def test_a_hijacked_auth_address_learns_nothing_of_the_token(cluster: Cluster) -> None:
    """No pin is given. Whoever terminates TLS shows a CA of its own and relays the rest."""
    token, evil_ca = cluster.token("app"), []
    with tls_server(_relay_to(cluster, evil_ca), evil_ca) as (port, transcript):
        done = cluster.fails(
            "--roles=app",
            f"--token={token}",
            f"--auth-server=127.0.0.1:{port}",
            name="hijacked",
        )
    assert done.returncode == DENIED, done.stderr
    assert not (cluster.root / "hijacked").exists()
    said = b"".join(transcript)
    assert b"/v1/join/finish" in said, "the hijacker did not get to the proof"
    assert token.encode() not in said
    assert bytes.fromhex(token) not in said
    assert last_refusal(cluster, "hijacked")["reason"] == "wrong or unknown token"


def _proxy_answer(request: bytes) -> bytes:
    path = request.split(b" ")[1]
    body = b"{}"
    status = b"404 Not Found"
    if path == b"/webapi/find":
        body = json.dumps({"proxy": {"ssh": {}}, "server_version": "16.4.12"}).encode()
        status = b"200 OK"
    head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % (status, len(body)) + body


def _relay_to(cluster: Cluster, evil_ca: list[str]) -> Any:
    """Pass every request on to the real auth, over a TLS connection of our own."""

    def relay(request: bytes) -> bytes:
        answer = forward(request)
        if not request.startswith(b"GET /v1/ca "):
            return answer
        bundle = json.loads(answer.partition(b"\r\n\r\n")[2])
        body = json.dumps({**bundle, "host_cas": evil_ca}).encode()
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

    def forward(request: bytes) -> bytes:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with (
            socket.create_connection(("127.0.0.1", cluster.port)) as plain,
            context.wrap_socket(plain) as wire,
        ):
            wire.settimeout(60)
            wire.sendall(request)
            return _http(wire)

    return relay


@contextmanager
def tls_server(answer: Any, own_ca: list[str] | None = None) -> Iterator[tuple[int, list[bytes]]]:
    """A TLS server with a CA of its own; `answer` turns each request into a response."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca = _own_certificate(context)
    if own_ca is not None:
        own_ca.append(ca)
    listener = socket.create_server(("127.0.0.1", 0))
    transcript: list[bytes] = []

    threads: list[threading.Thread] = []

    def serve() -> None:
        with suppress(OSError):  # until the listener is closed
            while True:
                plain, _ = listener.accept()
                threads.append(threading.Thread(target=talk, args=(plain,), daemon=True))
                threads[-1].start()

    def talk(plain: socket.socket) -> None:
        """One of several connections that somebody may have at a time."""
        with suppress(OSError), context.wrap_socket(plain, server_side=True) as wire:
            wire.settimeout(60)
            while request := _http(wire):
                transcript.append(request)
                wire.sendall(answer(request))

    accepting = threading.Thread(target=serve, daemon=True)
    accepting.start()
    try:
        yield listener.getsockname()[1], transcript
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join(60)
        listener.close()
        for thread in threads:
            thread.join(60)


def _own_certificate(context: ssl.SSLContext) -> str:
    from datetime import UTC, datetime, timedelta

    from teleport_lite.net.tls import _load_identity
    from teleport_lite.pki.authority import Authority, new_ca
    from teleport_lite.pki.keys import csr, new_ssh_key, new_tls_key, public_of_csr
    from teleport_lite.pki.plan import HostCertPlan, host_principals
    from teleport_lite.proto.join import AUTH_SERVER_NAME

    now, host_id = datetime.now(UTC), "00000000-0000-4000-8000-000000000000"
    keys = {
        each: new_ca(each, cluster="evil.example.com", id=each.value, now=now)
        for each in (CaType.HOST, CaType.USER)
    }
    private = new_tls_key()
    plan = HostCertPlan(
        cluster="evil.example.com",
        host_id=host_id,
        name="evil",
        roles=("Auth",),
        principals=host_principals(host_id, "evil.example.com", "evil", ()),
        dns_names=(AUTH_SERVER_NAME,),
        ssh_public=new_ssh_key()[1],
        tls_public=public_of_csr(csr(private, "evil")),
        starts=now - timedelta(minutes=2),
        ends=now + timedelta(days=1),
        serial=1,
    )
    signed = Authority(keys[CaType.HOST], keys[CaType.USER]).sign_host(plan)
    _load_identity(context, signed.tls_cert, private)
    return keys[CaType.HOST].public.tls_cert


def _http(wire: ssl.SSLSocket) -> bytes:
    """One HTTP message with a Content-Length, or b"" at the end."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = wire.recv(65536)
        if not more:
            return data
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    while len(body) < length:
        body += wire.recv(65536)
    return head + b"\r\n\r\n" + body

"""The auth service as hosts, people and strangers speak to it: every route, and the agent stream.

Nothing behind it is faked but time, chance and the disk (`tests/auth/bench.py`), so an answer may
be an error that we mean, and nothing else.
"""

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from teleport_lite.auth.api import ROUTES, answer
from teleport_lite.auth.caller import Caller, Kind
from teleport_lite.errors import Error
from teleport_lite.model.host import Host
from teleport_lite.proto.codec import write
from tests.auth.bench import (
    PROXY_ID,
    SSH_KEY,
    TLS_CSR,
    Applicant,
    Bench,
    Visitor,
    stranger,
    the_host,
)
from tests.auth.test_api import WORDS
from tests.fuzz.target import Finding, Pieces, any_of, framed, target

PATHS = sorted(ROUTES)
NODE_ID = "d52527f9-b260-41d0-bb5a-e23b0cfe0f8f"
_PERSON = Caller(kind=Kind.USER, name="alice", address="192.0.2.7", roles=("editor", "access"))
# As good as it gets for each route.
CALLERS: Sequence[Caller] = (
    stranger(),
    Caller(kind=Kind.ADMIN, name="root", address="local"),
    the_host(NODE_ID, "Node", "App"),
    the_host(PROXY_ID, "Proxy"),
    _PERSON,
)


def _asked(caller: int, path: str) -> bytes:
    return framed(bytes([caller, PATHS.index(path)]) + json.dumps(WORDS[path]).encode())


def _who(path: str) -> int:
    if path.startswith("/v1/recordings/") and path.rpartition("/")[2] in ("begin", "part", "end"):
        return 2
    if path.startswith("/v1/invite/"):
        return 3
    return 4 if path.startswith("/v1/me") else 0 if "login" in path or "join" in path else 1


def _bench() -> Bench:
    bench = Bench()
    for host_id, role in ((NODE_ID, "Node"), (PROXY_ID, "Proxy")):
        host = Host(
            id=host_id,
            name=role.lower(),
            roles=(role,),
            joined_at=bench.clock.now(),
            token_id="t",
            ssh_key=f"key of {role}",
            tls_key="PEM",
        )
        bench.store.write(lambda tx, host=host: tx.put_host(host))
    bench.ask("/v1/users/add", name="alice", roles=["editor", "access"])
    return bench


@target(
    raises=(),
    seeds=lambda: [_asked(_who(path), path) for path in PATHS],
    parts=lambda: any_of([_asked(_who(path), path) for path in PATHS]),
)
def questions_to_auth(data: bytes) -> None:
    """Some questions, one after the other."""
    bench, pieces = _bench(), Pieces(data)
    for _ in range(8):
        words = pieces.text()
        if len(words) < 2:
            return
        caller, path = CALLERS[words[0] % len(CALLERS)], PATHS[words[1] % len(PATHS)]
        try:
            write(answer(bench.desks, path, caller, words[2:]))
        except Error as why:
            if len(why.message) > 4000 or not why.message.isprintable():
                raise Finding(f"{path}: {why.message[:200]!r}") from why


_ANNOUNCED = {"kind": "app", "name": "wiki", "labels": {}, "spec": {"uri": "http://localhost"}}
_PLACE = {"public": ["proxy.example.com:443"]}
_SESSION = {
    "sid": NODE_ID,
    "user": "alice",
    "login": "root",
    "started": 1.0,
    "addr": "192.0.2.9",
    "command": "",
    "recorded": True,
}
FRAMES = [
    {"hello": {"boot_id": "b", "version": "1", "roles": ["Node"]}},
    {"beat": {"time": 1.5, "address": "192.0.2.7:3022", "labels": {"env": "prod"}}},
    {"beat": {"time": 1e300, "tunnels": [PROXY_ID], "resources": [_ANNOUNCED]}},
    {"beat": {"time": 0, "proxy": _PLACE, "sessions": [_SESSION]}},
    {
        "events": [
            {"kind": "session.start", "code": "T2000I", "at": 1.0, "outcome": "ok", "facts": {}}
        ]
    },
    {
        "events": [
            {"kind": "auth", "code": "T", "at": 1e300, "outcome": "x" * 99, "facts": {"a": "b"}}
        ]
    },
    {"goodbye": {}},
    {"renew": {"hello": {"node_name": "w", "roles": ["node"], "ssh_key": "x", "tls_csr": "y"}}},
]


@target(
    raises=(),
    seeds=lambda: [
        bytes([which]) + framed(*(json.dumps(each).encode() for each in FRAMES)) for which in (2, 3)
    ],
    parts=lambda: any_of([json.dumps(each).encode() for each in FRAMES]).map(framed),
)
def frames_of_agents(data: bytes) -> None:
    """What a host says on its stream; auth says what is wrong with it, and ends. Whatever it has
    taken it can show to administrators."""
    bench, pieces = _bench(), Pieces(data)
    caller = CALLERS[2 + pieces.number() % 2]
    said: list[bytes | None] = []
    stream = bench.desks.streams.open(caller, said.append)
    for _ in range(12):
        stream.frame(pieces.text())
    stream.closed()
    for path in ("/v1/sessions/list", "/v1/nodes/list", "/v1/audit/list", "/v1/audit/verify"):
        write(bench.ask(path))
    if None in said and said[-1] is not None:
        raise Finding("something was said after the end")


@cache
def _house() -> Bench:
    """With a token and a user who has a password: those are slow to make."""
    bench = _bench()
    bench.token()
    bench.user("bob")
    return bench


def _proofs() -> list[bytes]:
    now = _house().clock.now().timestamp()
    final = b"c=cD10bHMtc2VydmVyLWVuZC1wb2ludCwsAAAA,r=NONCE,p=" + b"A" * 43 + b"="
    join, login = Applicant().first(now).client_first, Visitor(name="bob").first(now).client_first
    return [b"\0" + framed(join.encode(), final), b"\1" + framed(login.encode(), final)]


@target(raises=(), seeds=_proofs, most=1024)
def proofs(data: bytes) -> None:
    """SCRAM, of tokens and of passwords: nobody gets in without one."""
    bench, pieces = _house(), Pieces(data)
    bench.clock.tick(minutes=5)  # so that nobody is locked out
    way, caller = "login" if pieces.number() % 2 else "join", stranger()
    first, final = (pieces.text().decode("utf-8", "replace") for _ in range(2))
    start: dict[str, object] = {"client_first": first, "time": bench.clock.now().timestamp()}
    keys: dict[str, object] = {"ssh_key": SSH_KEY, "tls_csr": TLS_CSR}
    if way == "join":
        start["node_name"] = "w"
        keys = {"hello": keys | {"node_name": "w", "roles": ["node"]}}
    try:
        challenge: Any = answer(bench.desks, f"/v1/{way}/start", caller, _json(start))
        nonce = challenge.server_first.partition(",")[0].removeprefix("r=")
        proof = final.replace("NONCE", nonce)
        last = {"session": challenge.session, "client_final": proof, **keys}
        found = answer(bench.desks, f"/v1/{way}/finish", caller, _json(last))
    except Error:
        return
    raise Finding(f"{way} without a proof: {found}")


def _json(words: dict[str, object]) -> bytes:
    return json.dumps(words).encode()


_DOOR: list[Bench] = []


def _door() -> Bench:
    """With a token; a new one before the trail of the last gets long."""
    if not _DOOR or len(_DOOR[0].events()) > 500:
        _DOOR[:] = [Bench()]
        _DOOR[0].token(ttl="48h")
    _DOOR[0].later(seconds=20)  # so that nobody is locked out
    return _DOOR[0]


def _join_seeds() -> list[bytes]:
    start = {"client_first": "p=tls-server-end-point,,n=x,r=y", "node_name": "web-1", "time": 1.0}
    hello = json.loads(write(Applicant().hello))
    finish = {"session": "x", "client_final": "c=eA==,r=y,p=eA==", "hello": hello}
    return [bytes([kind]) + _json(words) for kind, words in enumerate((start, finish, hello))]


@target(raises=(), seeds=_join_seeds, most=2048)
def join_bodies(data: bytes) -> None:
    """The bodies of a join: of a stranger, and the hello of somebody who has proved the token."""
    bench, who = _door(), Applicant()
    kind, body = data[:1], data[1:]
    if kind == b"\2":
        last = bench.begin(who)
        known = {"session": last.session, "client_final": last.client_final}
        body = _json(known)[:-1] + b', "hello": ' + body + b"}"
    path = "/v1/join/start" if kind == b"\0" else "/v1/join/finish"
    hosts = bench.hosts()
    try:
        found = answer(bench.desks, path, stranger(), body)
    except Error as why:
        if len(why.message) > 4000 or not why.message.isprintable():
            raise Finding(f"{path}: {why.message[:200]!r}") from why
        if bench.hosts() != hosts:
            raise Finding("a host that was refused is in the store") from why
        return
    if kind != b"\0" and (kind != b"\2" or found.roles != ["Node"]):
        raise Finding(f"let in as {found.roles} by {body!r}")

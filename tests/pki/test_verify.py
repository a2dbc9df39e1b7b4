"""SSH user certificates at the door of a node. sshd's opinion is in test_against_sshd.py."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teleport_lite.errors import Denied
from teleport_lite.model.user import Options
from teleport_lite.pki.verify import (
    Visitor,
    ssh_blob,
    verify_login_signature,
    verify_user_certificate,
)
from teleport_lite.testing.certs import FOREVER, PaperCluster, SshForgery, options
from tests.pki import forgeries
from tests.pki.forgeries import ED, MATRIX, Case

CLUSTER = forgeries.cluster()
NOW = CLUSTER.now


def visit(
    blob: bytes,
    *,
    algorithm: str = ED,
    login: str | None = "root",
    peer_ip: str = "127.0.0.1",
    now: datetime = NOW,
) -> Visitor:
    return verify_user_certificate(
        blob,
        algorithm=algorithm,
        login=login,
        trusted_cas=forgeries.trusted_blobs(),
        peer_ip=peer_ip,
        now=now,
    )


def forged(**changes: object) -> bytes:
    return CLUSTER.forgery(forgeries.ed_key(), **changes).blob()


def reason(blob: bytes, **more: object) -> str:
    with pytest.raises(Denied) as refusal:
        visit(blob, **more)  # type: ignore[arg-type]  # keyword arguments of visit
    assert refusal.value.message == "user certificate is not accepted"
    assert refusal.value.hint == ""
    return refusal.value.log


def lets_in(case: Case) -> bool:
    blob = case.blob("root")
    try:
        visit(blob, algorithm=case.algorithm)
    except Denied:
        return False
    return verify_login_signature(
        blob, algorithm=case.algorithm, signed=b"session", signature=case.sign(b"session")
    )


@pytest.mark.parametrize("name", MATRIX)
def test_the_matrix_gets_its_verdicts(name: str) -> None:
    assert lets_in(MATRIX[name]) == MATRIX[name].ours


@pytest.mark.parametrize("name", [name for name, case in MATRIX.items() if not case.ours])
def test_every_refusal_sounds_the_same_and_keeps_its_reason_on_one_line(name: str) -> None:
    case = MATRIX[name]
    blob = case.blob("root")
    if name.startswith(("login sign", "RSA login", "ECDSA login")):
        return  # the certificate is right, the proof is not
    log = reason(blob, algorithm=case.algorithm)
    assert log
    assert log.isprintable()
    assert log.isascii()


def test_without_a_login_any_principal_that_is_one_will_do() -> None:
    """At a jump host, which has no accounts. Everything else is checked as ever."""
    visitor = visit(forged(principals=(b"somebody",)), login=None)
    assert (visitor.login, visitor.principals) == ("", ("somebody",))
    assert visit(forged(principals=(b"*", b"somebody")), login=None)
    for odd in (b"", b"*", b"a,b", b"a b", b"a\0", b"a\n", b"\xff", b"x" * 33):
        assert reason(forged(principals=(odd,)), login=None) == "no principal is a login"
    assert reason(forged(principals=()), login=None) == "0 principals"
    assert reason(forged(valid_before=1), login=None) == "expired or not yet valid"
    assert "not from" in reason(
        ssh_blob(CLUSTER.user(source_address="192.0.2.0/24").ssh_cert), login=None
    )


def test_names_that_are_no_text_are_shown_and_harm_nobody() -> None:
    odd = options((b"new\xff@example.com", b"anything"))
    visitor = visit(forged(principals=(b"root", b"a\xff"), extensions=odd))
    assert visitor.principals == ("root", "a\\xff")
    assert visitor.extensions == {"new\\xff@example.com"}


# No calendar has the first (2^64 - 1), no clock of this system the second, no datetime the third.
@pytest.mark.parametrize("end", [FOREVER, 1 << 60, 253_402_300_800])
def test_an_end_beyond_all_calendars_is_the_last_moment_there_is(end: int) -> None:
    assert visit(forged(valid_before=end)).not_after == datetime.max.replace(tzinfo=UTC)


def test_a_visitor_is_what_the_ca_has_written() -> None:
    papers = CLUSTER.user(
        "alice@example.com",
        roles=("access", "auditor"),
        logins=("root", "ubuntu"),
        traits={"logins": ("root", "ubuntu"), "team": ()},
        options=Options(forward_agent=True, x11_forwarding=True),
        source_address="127.0.0.0/8",
    )
    visitor = visit(ssh_blob(papers.ssh_cert), login="ubuntu")
    assert visitor == Visitor(
        user="alice@example.com",
        serial=visitor.serial,
        login="ubuntu",
        roles=("access", "auditor"),
        traits={"logins": ("root", "ubuntu"), "team": ()},
        principals=("root", "ubuntu"),
        not_after=NOW + timedelta(hours=12),
        extensions=frozenset(
            {
                "permit-pty",
                "permit-port-forwarding",
                "permit-agent-forwarding",
                "permit-X11-forwarding",
                "teleport-roles",
                "teleport-traits",
                "teleport-id",
            }
        ),
        force_command=None,
        id=papers.id,
        ca_blob=ssh_blob(CLUSTER.user_ca.public.ssh_key),
    )
    assert visitor.serial > 0


def test_a_certificate_that_says_nothing_gives_no_roles() -> None:
    visitor = visit(forged())
    assert (visitor.roles, visitor.traits, visitor.extensions, visitor.id) == ((), {}, set(), "")


def test_a_forced_command_reaches_the_caller() -> None:
    blob = forged(critical=options((b"force-command", "echo ä".encode())))
    assert visit(blob).force_command == "echo ä"


def test_a_certificate_for_ever_has_a_last_moment() -> None:
    visitor = visit(forged(valid_before=(1 << 64) - 1))
    assert visitor.not_after == datetime.max.replace(tzinfo=UTC)


def test_the_first_second_counts_and_the_last_does_not() -> None:
    start = int(NOW.timestamp())
    blob = forged(valid_after=start, valid_before=start + 10)
    assert visit(blob, now=NOW).user == "alice"
    assert visit(blob, now=NOW + timedelta(seconds=9.999)).user == "alice"
    assert "expired" in reason(blob, now=NOW + timedelta(seconds=10))
    assert "not yet" in reason(blob, now=NOW - timedelta(microseconds=1))


def test_a_certificate_without_logins_opens_nothing() -> None:
    papers = CLUSTER.user(logins=())
    blob = ssh_blob(papers.ssh_cert)
    assert "not among" in reason(blob, login="root")
    # Not even by its own placeholder: no system takes so long a name.
    assert "is not one" in reason(blob, login=f"no-login-{papers.id}")


@pytest.mark.parametrize("login", ["", "*", "root\0", "-oProxy=x", "a b", "r\u00f6t", "\ud800"])
def test_a_login_that_is_no_name_is_refused(login: str) -> None:
    principal = login.encode("utf-8", "surrogatepass")
    assert "is not one" in reason(forged(principals=(principal,)), login=login)


@pytest.mark.parametrize(
    ("written", "peer", "expected"),
    [
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "::ffff:10.1.2.3", True),
        ("10.0.0.0/8", "11.0.0.0", False),
        ("10.0.0.1", "10.0.0.1", True),
        ("2001:db8::/32", "2001:db8::1", True),
        ("2001:db8::/32", "2001:db9::1", False),
        ("::/0", "10.1.2.3", False),
        ("fe80::/10", "fe80::1%eth0", True),
        ("0.0.0.0/0", "not an address", False),
        ("0.0.0.0/0", "", False),
    ],
)
def test_a_source_address_binds(written: str, peer: str, expected: bool) -> None:
    blob = forged(critical=options((b"source-address", written.encode())))
    if expected:
        assert visit(blob, peer_ip=peer).user == "alice"
    else:
        assert reason(blob, peer_ip=peer)


def test_without_a_source_address_any_peer_will_do() -> None:
    assert visit(forged(), peer_ip="not an address").user == "alice"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"teleport-roles", b"["),
        (b"teleport-roles", b'["access"]'),
        (b"teleport-roles", b'{"roles":["access"]}'),
        (b"teleport-roles", b'{"version":"v2","roles":["access"]}'),
        (b"teleport-roles", b'{"version":"v1","roles":"access"}'),
        (b"teleport-roles", b'{"version":"v1","roles":[1]}'),
        (b"teleport-roles", b'{"version":"v1","roles":["access"],"more":1}'),
        (b"teleport-roles", b"\xff"),
        (b"teleport-roles", b"[]"),
        (b"teleport-traits", b"[]"),
        (b"teleport-roles", b"[" * 20000),
        (b"teleport-traits", b'{"logins":"root"}'),
        (b"teleport-traits", b'{"logins":[["root"]]}'),
        (b"teleport-traits", b"1" * 5000),
        (b"teleport-id", b"../../etc"),
        (b"teleport-id", b"x" * 65),
    ],
)
def test_facts_that_make_no_sense_are_refused(name: bytes, value: bytes) -> None:
    assert reason(forged(extensions=options((name, value))))


def test_a_ca_that_is_no_longer_trusted_is_refused() -> None:
    stranger = PaperCluster("other.example")
    assert "do not trust" in reason(ssh_blob(stranger.user().ssh_cert))
    assert "do not trust" in reason(forged(signer=forgeries.ed_key(8)))


def test_a_certificate_for_anybody_is_refused_as_such() -> None:
    assert reason(forged(principals=())) == "0 principals"


def test_a_certificate_full_of_roles_and_traits_still_fits() -> None:
    """What a plan allows, the verifier reads."""
    traits = {"logins": ("root",), "teams": tuple(f"team-{nth:06}" for nth in range(1100))}
    papers = CLUSTER.user(traits=traits)
    assert visit(ssh_blob(papers.ssh_cert)).traits == traits


def test_a_weak_ca_is_refused_even_when_trusted() -> None:
    weak = forgeries.rsa_key(1024, 7)
    forgery = CLUSTER.forgery(forgeries.ed_key(), signer=weak)
    with pytest.raises(Denied) as refusal:
        verify_user_certificate(
            forgery.blob(),
            algorithm=ED,
            login="root",
            trusted_cas=frozenset({forgeries.public_blob(weak)}),
            peer_ip="127.0.0.1",
            now=NOW,
        )
    assert "1024 bits" in refusal.value.log


def test_a_plain_key_proves_nothing() -> None:
    plain = forgeries.public_blob(forgeries.ed_key())
    signature = forgeries.ssh_signature(forgeries.ed_key(), b"x")
    assert not verify_login_signature(plain, algorithm=ED, signed=b"x", signature=signature)
    assert not verify_login_signature(
        plain, algorithm="ssh-ed25519", signed=b"x", signature=signature
    )


def test_every_prefix_and_every_flipped_bit_is_refused() -> None:
    blob = forged()
    dice = random.Random(1)
    for size in range(len(blob)):
        assert reason(blob[:size])
    for at in range(len(blob)):
        flipped = bytes([blob[at] ^ (1 << dice.randrange(8))])
        assert reason(blob[:at] + flipped + blob[at + 1 :])


def test_the_size_limit_is_32_kib() -> None:
    def of_size(size: int) -> bytes:
        padding = size - len(forged(extensions=options((b"x@y", b""))))
        return forged(extensions=options((b"x@y", b"A" * padding)))

    assert len(of_size(32 * 1024)) == 32 * 1024
    assert visit(of_size(32 * 1024)).user == "alice"
    assert "32769 bytes" in reason(of_size(32 * 1024 + 1))


# --- fuzz: Denied or a Visitor, True or False; nothing else comes out -------------------------


@given(st.binary(max_size=600), st.sampled_from([ED, forgeries.RSA512, "", "x"]))
def test_any_bytes_are_denied(blob: bytes, algorithm: str) -> None:
    with pytest.raises(Denied):
        visit(blob, algorithm=algorithm)
    assert not verify_login_signature(blob, algorithm=algorithm, signed=b"", signature=blob)


small = st.binary(max_size=40)
numbers = st.integers(0, (1 << 64) - 1)


@settings(deadline=None, max_examples=300)
@given(
    key_id=small,
    principals=st.lists(st.sampled_from([b"root", b"", b"*"]) | small, max_size=4),
    life=st.tuples(numbers, numbers),
    kind=st.integers(0, 4),
    critical=small | st.just(options((b"source-address", b"127.0.0.1"))),
    extensions=small | st.binary(max_size=60).map(lambda data: options((b"teleport-roles", data))),
    reserved=small,
    login=st.text(max_size=20) | st.just("root"),
    peer_ip=st.text(max_size=20) | st.just("127.0.0.1"),
)
def test_anything_our_ca_could_have_signed_is_a_visitor_or_denied(
    key_id: bytes,
    principals: list[bytes],
    life: tuple[int, int],
    kind: int,
    critical: bytes,
    extensions: bytes,
    reserved: bytes,
    login: str,
    peer_ip: str,
) -> None:
    forgery = CLUSTER.forgery(
        forgeries.ed_key(),
        key_id=key_id,
        principals=tuple(principals),
        valid_after=life[0],
        valid_before=life[1],
        type=kind,
        critical=critical,
        extensions=extensions,
        reserved=reserved,
    )
    try:
        visitor = visit(forgery.blob(), login=login, peer_ip=peer_ip)
    except Denied:
        return
    assert login in visitor.principals


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_key_material_from_strangers_is_true_false_or_denied(data: st.DataObject) -> None:
    """The user's key inside a certificate our CA signed, and the signature of the login."""
    key, algorithm = data.draw(
        st.sampled_from(
            [
                (forgeries.ed_key(), ED),
                (forgeries.rsa_key(2048), forgeries.RSA512),
                (forgeries.ec_key(256), forgeries.P256),
                (forgeries.ec_key(521), forgeries.P521),
            ]
        )
    )
    right: SshForgery = CLUSTER.forgery(key)
    fields = data.draw(st.none() | st.binary(max_size=80))
    blob = replace(right, key_fields=fields).blob()
    try:
        visit(blob, algorithm=algorithm)
    except Denied:
        assert fields is not None
    plain = algorithm.encode().removesuffix(b"-cert-v01@openssh.com")
    raw = data.draw(st.binary(max_size=300))
    signature = data.draw(st.just(forgeries.packed(plain) + forgeries.packed(raw)) | st.just(raw))
    assert not verify_login_signature(
        blob, algorithm=algorithm, signed=b"session", signature=signature
    )

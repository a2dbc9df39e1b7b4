"""What the CAs sign, read by other people's programs."""

import subprocess
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from teleport_lite.model.authority import CaKeys, CaType
from teleport_lite.model.user import Options
from teleport_lite.pki.authority import Authority, new_ca
from teleport_lite.pki.keys import new_tls_key
from teleport_lite.secret import Secret
from teleport_lite.testing.certs import PaperCluster
from tests.pki.forgeries import rsa_key

CLUSTER = PaperCluster()
NOW = CLUSTER.now


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def listed(tmp_path: Path, cert: str) -> str:
    """As `ssh-keygen -L` sees it."""
    (tmp_path / "cert.pub").write_text(cert + "\n")
    return run("ssh-keygen", "-L", "-f", tmp_path / "cert.pub")


def section(text: str, title: str) -> list[str]:
    """The indented lines below `title` in the output of ssh-keygen."""
    lines = text.partition(f"{title}: ")[2].splitlines()[1:]
    inside = []
    for line in lines:
        if not line.startswith(" " * 16):
            break
        inside.append(line.strip())
    return inside


def pem(text: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(text.encode())


def test_ssh_keygen_reads_a_host_certificate(tmp_path: Path) -> None:
    papers = CLUSTER.host("web1", extra=("10.0.0.1", "::1", "db.corp"))
    text = listed(tmp_path, papers.ssh_cert)
    assert "ssh-ed25519-cert-v01@openssh.com host certificate" in text
    assert f'Key ID: "{papers.id}"' in text
    assert section(text, "Principals") == [
        f"{papers.id}.test.example",
        papers.id,
        "web1.test.example",
        "web1",
        "10.0.0.1",
        "::1",
        "db.corp",
    ]
    assert "Critical Options: (none)" in text
    assert "Extensions: (none)" in text


def test_ssh_keygen_reads_a_user_certificate(tmp_path: Path) -> None:
    papers = CLUSTER.user("alice", logins=("root", "ubuntu"), source_address="127.0.0.0/8,::1")
    text = listed(tmp_path, papers.ssh_cert)
    assert "ssh-ed25519-cert-v01@openssh.com user certificate" in text
    assert 'Key ID: "alice"' in text
    assert section(text, "Principals") == ["root", "ubuntu"]
    assert section(text, "Critical Options") == ["source-address 127.0.0.0/8,::1"]
    names = [line.split()[0] for line in section(text, "Extensions")]
    assert names == [
        "permit-port-forwarding",
        "permit-pty",
        "teleport-id",
        "teleport-roles",
        "teleport-traits",
    ]
    assert names == sorted(names)  # PROTOCOL.certkeys


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (Options(port_forwarding=False), {"permit-pty"}),
        (
            Options(forward_agent=True, x11_forwarding=True),
            {
                "permit-pty",
                "permit-port-forwarding",
                "permit-agent-forwarding",
                "permit-X11-forwarding",
            },
        ),
    ],
    ids=["least", "most"],
)
def test_only_what_the_roles_allow_is_permitted(
    tmp_path: Path, options: Options, expected: set[str]
) -> None:
    text = listed(tmp_path, CLUSTER.user(options=options).ssh_cert)
    names = {line.split()[0] for line in section(text, "Extensions")}
    assert {name for name in names if name.startswith("permit-")} == expected


def test_a_user_without_logins_is_not_valid_for_everybody(tmp_path: Path) -> None:
    papers = CLUSTER.user(logins=())
    text = listed(tmp_path, papers.ssh_cert)
    assert section(text, "Principals") == [f"no-login-{papers.id}"]


def test_a_bot_certificate_counts_its_renewals(tmp_path: Path) -> None:
    papers = CLUSTER.user("bot-ci", bot=True, generation=7, life=timedelta(days=7))
    found = section(listed(tmp_path, papers.ssh_cert), "Extensions")
    packed = "0000000137"  # the text "7" with its length
    assert f"teleport-generation UNKNOWN OPTION: {packed} (len 5)" in found


@pytest.mark.parametrize("ca", [CaType.HOST, CaType.USER])
def test_openssl_verifies_the_chain(tmp_path: Path, ca: CaType) -> None:
    is_host = ca is CaType.HOST
    keys = CLUSTER.host_ca if is_host else CLUSTER.user_ca
    papers = CLUSTER.host() if is_host else CLUSTER.user()
    (tmp_path / "ca.pem").write_text(keys.public.tls_cert)
    (tmp_path / "leaf.pem").write_text(papers.tls_cert)
    verify = ["openssl", "verify", "-x509_strict", "-check_ss_sig", "-CAfile", tmp_path / "ca.pem"]
    run(*verify, "-purpose", "sslclient", tmp_path / "leaf.pem")
    server = [*verify, "-purpose", "sslserver"]
    if is_host:
        run(*server, "-verify_hostname", "web1.test.example", tmp_path / "leaf.pem")
        run(*server, "-verify_ip", "127.0.0.1", tmp_path / "leaf.pem")
    else:
        server.append(tmp_path / "leaf.pem")
        assert subprocess.run(server, capture_output=True, check=False).returncode != 0


def test_openssl_refuses_what_a_leaf_signs(tmp_path: Path) -> None:
    """pathLen 0 and no CA flag: nobody below the CA makes certificates."""
    papers = CLUSTER.host()
    leaf = pem(papers.tls_cert)
    key = serialization.load_pem_private_key(papers.tls_private.reveal().encode(), None)
    below = CLUSTER.tls_forgery(signer=key, issuer=leaf.subject)
    (tmp_path / "ca.pem").write_text(CLUSTER.host_cas[0])
    (tmp_path / "leaf.pem").write_text(papers.tls_cert)
    (tmp_path / "below.pem").write_text(below.pem())
    command = ["openssl", "verify", "-CAfile", tmp_path / "ca.pem"]
    command += ["-untrusted", tmp_path / "leaf.pem", tmp_path / "below.pem"]
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0


def _bits(usage: x509.KeyUsage) -> set[str]:
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
    )
    return {name for name in names if getattr(usage, name)}


def test_a_ca_certificate_says_what_a_ca_may_do() -> None:
    ca = pem(CLUSTER.host_cas[0])
    assert ca.subject.rfc4514_string() == "CN=test.example host CA"
    basic = ca.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)
    usage = ca.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert _bits(usage.value) == {"key_cert_sign", "crl_sign"}
    ski = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    aki = ca.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert aki.key_identifier == ski.digest
    key = ca.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"
    assert ca.not_valid_after_utc - ca.not_valid_before_utc == timedelta(days=3650, minutes=2)
    assert ca.not_valid_before_utc == NOW - timedelta(minutes=2)


def test_a_host_leaf_says_who_it_is() -> None:
    papers = CLUSTER.host(
        "web1",
        roles=("Auth", "Node"),
        extra=("10.0.0.1", "::1", "web1..odd"),
        dns_names=("auth.teleport-lite.internal",),
        life=timedelta(days=30),
    )
    leaf = pem(papers.tls_cert)
    names = leaf.subject
    assert names.rfc4514_string() == f"O=Node,O=Auth,CN={papers.id}.test.example"
    alt = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uris = alt.get_values_for_type(x509.UniformResourceIdentifier)
    assert uris == [f"spiffe://test.example/host/{papers.id}"]
    assert alt.get_values_for_type(x509.DNSName) == [
        f"{papers.id}.test.example",
        papers.id,
        "web1.test.example",
        "web1",
        "auth.teleport-lite.internal",
    ]
    addresses = alt.get_values_for_type(x509.IPAddress)
    assert [str(each) for each in addresses] == ["10.0.0.1", "::1"]
    purposes = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(purposes) == {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert _bits(usage.value) == {"digital_signature"}
    basic = leaf.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value.ca) == (True, False)
    aki = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    ca_ski = pem(CLUSTER.host_cas[0]).extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    assert aki.key_identifier == ca_ski.value.digest
    assert leaf.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    assert leaf.not_valid_after_utc == NOW + timedelta(days=30)
    assert leaf.not_valid_before_utc == NOW - timedelta(minutes=2)


def test_a_user_leaf_is_for_clients_only() -> None:
    leaf = pem(CLUSTER.user("alice", roles=("access", "editor")).tls_cert)
    assert leaf.subject.rfc4514_string() == "O=editor,O=access,CN=alice"
    alt = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(each.value) for each in alt] == ["spiffe://test.example/user/alice"]
    purposes = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_both_certificates_of_a_plan_share_serial_and_life(tmp_path: Path) -> None:
    papers = CLUSTER.user()
    leaf = pem(papers.tls_cert)
    assert f"Serial: {leaf.serial_number}\n" in listed(tmp_path, papers.ssh_cert)


@pytest.mark.parametrize("type", CaType)
def test_every_ca_has_the_keys_it_needs_and_no_more(type: CaType) -> None:
    ca = new_ca(type, cluster="test.example", id="7", now=NOW)
    assert (ca.type, ca.id, ca.public.type, ca.created_at) == (type, "7", type, NOW)
    assert ca.active
    kinds = {
        "ssh": (ca.ssh_private, ca.public.ssh_key),
        "tls": (ca.tls_private, ca.public.tls_cert),
        "jwt": (ca.jwt_private, ca.public.jwt_key),
    }
    present = {kind for kind, (private, public) in kinds.items() if private and public}
    absent = {kind for kind, (private, public) in kinds.items() if not private and not public}
    expected = {
        CaType.HOST: {"ssh", "tls"},
        CaType.USER: {"ssh", "tls"},
        CaType.DB: {"tls"},
        CaType.OPENSSH: {"ssh"},
        CaType.JWT: {"jwt"},
    }
    assert present == expected[type]
    assert present | absent == {"ssh", "tls", "jwt"}
    assert "PRIVATE" not in repr(ca)


def test_two_cas_never_share_a_key() -> None:
    other = PaperCluster()
    keys = {
        each
        for cluster in (CLUSTER, other)
        for ca in (cluster.host_ca, cluster.user_ca)
        for each in (ca.public.ssh_key, ca.public.tls_cert)
    }
    assert len(keys) == 8


def test_a_ca_name_is_cut_where_x509_ends() -> None:
    ca = new_ca(CaType.HOST, cluster="c" * 128, id="1", now=NOW)
    names = pem(ca.public.tls_cert).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert [each.value for each in names] == ["c" * 64]


def mixed_up(name: str) -> tuple[CaKeys, CaKeys]:
    host, user = CLUSTER.host_ca, CLUSTER.user_ca
    return {
        "exchanged": (user, host),
        "the same twice": (host, host),
        "a user CA for hosts": (user, user),
        "no SSH key": (replace(host, ssh_private=None), user),
        "no TLS key": (host, replace(user, tls_private=None)),
        "SSH key of another": (replace(host, ssh_private=user.ssh_private), user),
        "TLS key of another": (replace(host, tls_private=user.tls_private), user),
        "SSH key of a new kind": (replace(host, ssh_private=_ec_in_openssh()), user),
        "TLS key of a new kind": (replace(host, tls_private=_rsa()), user),
    }[name]


def _ec_in_openssh() -> Secret:
    key = serialization.load_pem_private_key(new_tls_key().reveal().encode(), None)
    raw = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    return Secret(raw.decode())


def _rsa() -> Secret:
    raw = rsa_key(2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return Secret(raw.decode())


@pytest.mark.parametrize(
    "name",
    [
        "exchanged",
        "the same twice",
        "a user CA for hosts",
        "no SSH key",
        "no TLS key",
        "SSH key of another",
        "TLS key of another",
        "SSH key of a new kind",
        "TLS key of a new kind",
    ],
)
def test_keys_that_do_not_belong_together_sign_nothing(name: str) -> None:
    with pytest.raises(ValueError, match=r"needs a host CA|has no|do not fit"):
        Authority(*mixed_up(name))


# One generation vouches for the next


def believed(chain: list[str], root: CaKeys, tmp_path: Path) -> bool:
    """By `openssl verify`, for a leaf that comes with what is behind it in `chain`."""
    for name, text in (("root", root.public.tls_cert), ("leaf", chain[0])):
        (tmp_path / f"{name}.pem").write_text(text)
    (tmp_path / "behind.pem").write_text("".join(chain[1:]) or chain[0])
    names = [tmp_path / f"{name}.pem" for name in ("root", "behind", "leaf")]
    done = subprocess.run(
        ["openssl", "verify", "-CAfile", names[0], "-untrusted", names[1], names[2]],
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


def test_who_trusts_the_old_generation_believes_the_new_and_not_the_other_way_round(
    tmp_path: Path,
) -> None:
    old, new = PaperCluster(), PaperCluster()
    vouched = Authority(old.host_ca, old.user_ca).vouch(new.host_ca.public.tls_cert, old.now)
    of_old, of_new = old.host().tls_cert, new.host().tls_cert
    assert believed([of_new, vouched], old.host_ca, tmp_path)
    assert believed([of_new], new.host_ca, tmp_path)
    assert not believed([of_new], old.host_ca, tmp_path), "without it nobody would"
    assert not believed([of_old, vouched], new.host_ca, tmp_path), "what is retired stays so"
    assert pem(vouched).not_valid_after_utc == old.now + timedelta(days=2)


def test_a_ca_vouches_for_nobody_but_its_own_next_generation() -> None:
    cluster = PaperCluster()
    authority = Authority(cluster.host_ca, cluster.user_ca)
    for stranger in (cluster.user_ca, PaperCluster("other.example").host_ca):
        with pytest.raises(ValueError, match="next generation of itself only"):
            authority.vouch(stranger.public.tls_cert, cluster.now)

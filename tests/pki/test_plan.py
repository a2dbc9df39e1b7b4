"""Plans: what could be built may be signed, so nothing wrong can be built."""

from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from teleport_lite.errors import Malformed
from teleport_lite.model import names
from teleport_lite.model.user import Options
from teleport_lite.pki.keys import ssh_line
from teleport_lite.pki.plan import (
    BACKDATE,
    HostCertPlan,
    UserCertPlan,
    host_principals,
    is_address,
    is_dns_name,
)
from teleport_lite.proto.alpn import PROXY_SERVER_NAME, proxy_name, proxy_of
from tests.pki.forgeries import ec_key, ed_key, rsa_key

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
ID, OTHER = "11111111-2222-4333-8444-555555555555", "99999999-2222-4333-8444-555555555555"
SPKI = ec_key(256).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
HOST = HostCertPlan(
    cluster="example.com",
    host_id=ID,
    name="web1",
    roles=("Node",),
    principals=host_principals(ID, "example.com", "web1", ["10.0.0.1"]),
    ssh_public=ssh_line(ed_key().public_key()),
    tls_public=SPKI.decode(),
    starts=NOW - BACKDATE,
    ends=NOW + timedelta(days=30),
    serial=1,
)
USER = UserCertPlan(
    cluster="example.com",
    user="alice@example.com",
    roles=("access",),
    logins=("root", "ubuntu"),
    traits={"logins": ("root", "ubuntu")},
    ssh_public=HOST.ssh_public,
    tls_public=HOST.tls_public,
    starts=NOW - BACKDATE,
    ends=NOW + timedelta(hours=12),
    serial=1,
    id="22222222-2222-4333-8444-555555555555",
)
FIRST = f"{ID}.example.com"


def test_principals_stand_in_the_order_of_certainty() -> None:
    found = host_principals(ID, "example.com", "web1", ["web1", "10.0.0.1", "::1", "db.corp"])
    assert found == (FIRST, ID, "web1.example.com", "web1", "10.0.0.1", "::1", "db.corp")


def test_principals_are_in_lower_case() -> None:
    # `ssh WEB1` looks for web1.
    assert host_principals(ID, "Example.COM", "WEB1", ["Db.Corp"]) == (
        FIRST,
        ID,
        "web1.example.com",
        "web1",
        "db.corp",
    )
    replace(HOST, cluster="Example.COM", name="WEB1")


NOT_PRINCIPALS = [
    "",
    "*",
    "*.example.com",
    "web?",
    "!web1",
    "web1,root",
    "web 1",
    "web1\n",
    "web1\0",
    "web\u00e4",
    "-web1",
    "web1.",
    "root@web1",
    "[::1]",
    "10.0.0.1/8",
    "fe80::1%eth0",
    "0.0.0.0",
    "::",
    "224.0.0.1",
    "a" * 254,
    OTHER,
    OTHER.upper(),
    f"{OTHER}.example.com",
    f"{OTHER}.elsewhere.org",
    "auth.teleport-lite.internal",
    "Node.Teleport-Lite.Internal",
    "x.y.teleport-lite.internal",
]


@pytest.mark.parametrize("wrong", NOT_PRINCIPALS, ids=ascii)
def test_a_host_is_not_called_just_anything(wrong: str) -> None:
    with pytest.raises(Malformed, match="can not be used") as refusal:
        host_principals(ID, "example.com", "web1", [wrong])
    assert ascii(wrong.lower()[:64]) in refusal.value.message
    with pytest.raises(ValueError, match="can not be used"):
        replace(HOST, principals=(FIRST, wrong))


@pytest.mark.parametrize("wrong", ["", "*", "web,1", OTHER, "a" * 254])
def test_a_wrong_node_name_is_malformed(wrong: str) -> None:
    with pytest.raises(Malformed, match="can not be used"):
        host_principals(ID, "example.com", wrong)


@given(st.text(max_size=40))
def test_any_name_is_a_principal_or_malformed(name: str) -> None:
    try:
        found = host_principals(ID, "example.com", "web1", [name])
    except Malformed:
        return
    assert names.HOST_NAME.fullmatch(found[-1]) or is_address(found[-1])


BAD_HOSTS: dict[str, dict[str, object]] = {
    "no principals": {"principals": ()},
    "first principal of another": {"principals": (f"{OTHER}.example.com", ID)},
    "first principal not the full one": {"principals": (ID, FIRST)},
    "too many principals": {"principals": (FIRST, *(f"h{n}" for n in range(256)))},
    "no roles": {"roles": ()},
    "role that is no name": {"roles": ("Node,Auth",)},
    "empty role": {"roles": ("",)},
    "cluster that is no name": {"cluster": "a b"},
    "cluster with a slash": {"cluster": "a/host"},
    "empty cluster": {"cluster": ""},
    "host id that is no UUID": {
        "host_id": "web1",
        "principals": ("web1.example.com", "web1"),
    },
    "cluster of 129 letters": {
        "cluster": "c" * 129,
        "principals": (f"{ID}.{'c' * 129}", ID),
    },
    "host id in capitals": {"host_id": "AAAAAAAA-2222-4333-8444-555555555555"},
    "host id with a newline": {"host_id": ID + "\n"},
    "name with a space": {"name": "web 1"},
    "DNS wildcard": {"dns_names": ("*.example.com",)},
    "DNS name that is none": {"dns_names": ("a..b",)},
    "DNS name that is an address": {"dns_names": ("10.0.0.1",)},
    "DNS name of a role it has not": {"dns_names": ("auth.teleport-lite.internal",)},
    "DNS name of a role it has not, in capitals": {"dns_names": ("AUTH.Teleport-Lite.INTERNAL",)},
    "DNS name below that of a role": {"dns_names": ("x.node.teleport-lite.internal",)},
    "UUID of its own below a role it has not": {
        "dns_names": (f"{ID}.proxy.teleport-lite.internal",),
    },
    "UUID of another below a role it has": {
        "roles": ("Proxy",),
        "dns_names": (f"{OTHER}.proxy.teleport-lite.internal",),
    },
    "principal of a proxy": {"principals": (FIRST, f"{ID}.proxy.teleport-lite.internal")},
    "31 days": {"ends": NOW + timedelta(days=31)},
    "a second too long": {"ends": NOW + timedelta(days=30, seconds=1)},
    "no life": {"ends": HOST.starts},
    "backwards": {"ends": HOST.starts - timedelta(seconds=1)},
    "no time zone": {"starts": HOST.starts.replace(tzinfo=None)},
    "no time zone at the end": {"ends": HOST.ends.replace(tzinfo=None)},
    "serial 0": {"serial": 0},
    "negative serial": {"serial": -1},
    "serial of 65 bits": {"serial": 1 << 64},
    "weak SSH key": {"ssh_public": ssh_line(rsa_key(1024).public_key())},
    "private SSH key": {"ssh_public": "-----BEGIN OPENSSH PRIVATE KEY-----"},
    "no SSH key": {"ssh_public": ""},
    "no TLS key": {"tls_public": ""},
    "two TLS keys": {"tls_public": SPKI.decode() * 2},
}


@pytest.mark.parametrize("name", BAD_HOSTS)
def test_a_wrong_host_plan_can_not_be_built(name: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        replace(HOST, **BAD_HOSTS[name])  # type: ignore[arg-type]  # field names


BAD_USERS: dict[str, dict[str, object]] = {
    "login with a space": {"logins": ("root", "a b")},
    "login as a list": {"logins": ("deploy,root",)},
    "login as a wildcard": {"logins": ("*",)},
    "empty login": {"logins": ("",)},
    "login with a newline": {"logins": ("root\n",)},
    "login that looks like an option": {"logins": ("-oProxyCommand",)},
    "login with a letter no system takes": {"logins": ("r\u00f6t",)},
    "login of 33 letters": {"logins": ("a" * 33,)},
    "login placeholder": {"logins": ("{{internal.logins}}",)},
    "too many logins": {"logins": tuple(f"u{n}" for n in range(257))},
    "empty user": {"user": ""},
    "user with a slash": {"user": "a/b"},
    "user with a newline": {"user": "alice\n"},
    "role that is no name": {"roles": ("a b",)},
    "cluster that is no name": {"cluster": "*"},
    "empty id": {"id": ""},
    "id with a slash": {"id": "a/b"},
    "id of 65 letters": {"id": "a" * 65},
    "traits without end": {"traits": {"x": ("y" * 20_000,)}},
    "31 hours": {"ends": NOW + timedelta(hours=31)},
    "a second too long": {"ends": NOW + timedelta(hours=30, seconds=1)},
    "longer than the roles allow": {
        "options": Options(max_session_ttl=timedelta(hours=1)),
        "ends": NOW + timedelta(hours=1, seconds=1),
    },
    "no life": {"ends": USER.starts},
    "no time zone": {"starts": USER.starts.replace(tzinfo=None)},
    "bot of 8 days": {"bot": True, "ends": NOW + timedelta(days=8)},
    "source address that is none": {"source_address": "office"},
    "source address with host bits": {"source_address": "10.0.0.1/8"},
    "pinned to no address": {"options": Options(pin_source_ip=True)},
    "negative generation": {"bot": True, "generation": -1},
    "serial 0": {"serial": 0},
    "weak SSH key": {"ssh_public": ssh_line(rsa_key(1024).public_key())},
    "no TLS key": {"tls_public": "x"},
}


@pytest.mark.parametrize("name", BAD_USERS)
def test_a_wrong_user_plan_can_not_be_built(name: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        replace(USER, **BAD_USERS[name])  # type: ignore[arg-type]  # field names


def test_the_limits_themselves_are_fine() -> None:
    replace(USER, ends=NOW + timedelta(hours=30))
    replace(USER, bot=True, ends=NOW + timedelta(days=7))
    replace(USER, serial=(1 << 64) - 1, logins=tuple(f"u{n}" for n in range(256)))
    replace(USER, options=Options(pin_source_ip=True), source_address="192.0.2.0/24,2001:db8::1")
    replace(HOST, principals=(FIRST, *(f"h{n}" for n in range(255))))
    replace(HOST, roles=("Auth", "Proxy"), dns_names=("auth.teleport-lite.internal", "x.org"))


@pytest.mark.parametrize(
    "cluster", ["example.com", "c" * 128, "PROXY.example", "1.2.3.4", "lite.internal"]
)
def test_a_proxy_is_called_by_its_uuid_in_any_cluster(cluster: str) -> None:
    names = host_principals(ID, cluster, "proxy-1")
    plan = replace(
        HOST,
        cluster=cluster,
        roles=("Proxy", "Node"),
        principals=names,
        dns_names=(PROXY_SERVER_NAME, proxy_name(ID)),
    )
    assert proxy_of(plan.dns_names[1]) == ID


@pytest.mark.parametrize(
    "name", [PROXY_SERVER_NAME, proxy_name(ID), proxy_name(OTHER), proxy_name(ID).upper()]
)
def test_a_name_of_a_proxy_can_not_be_asked_for(name: str) -> None:
    with pytest.raises(Malformed, match="can not be used"):
        host_principals(ID, "example.com", "web1", [name])
    with pytest.raises(Malformed, match="can not be used"):
        host_principals(ID, "example.com", name)


def test_a_user_without_logins_has_a_principal_nobody_has() -> None:
    plan = replace(USER, logins=())
    assert plan.principals == (f"no-login-{USER.id}",)
    assert not names.LOGIN.fullmatch(plan.principals[0])
    assert USER.principals == ("root", "ubuntu")


def test_a_plan_does_not_change_afterwards() -> None:
    with pytest.raises(FrozenInstanceError):
        HOST.principals = ("*",)  # type: ignore[misc]  # what must not work


@pytest.mark.parametrize(
    ("name", "fit"),
    [
        ("web1", True),
        ("web1.example.com", True),
        ("a" * 63, True),
        ("a" * 64, False),
        ("-a.b", False),
        ("a-.b", False),
        ("a..b", False),
        ("", False),
        ("10.0.0.1", False),
        ("1.2.3", False),
        ("a.1", False),
        ("1a.b", True),
        (".".join(["a" * 49] * 5) + "." + "b" * 3, True),
        (".".join(["a" * 49] * 5) + "." + "b" * 4, False),
    ],
)
def test_dns_names(name: str, fit: bool) -> None:
    assert is_dns_name(name) is fit

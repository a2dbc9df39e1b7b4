"""Every text that configure writes loads again, with the meaning that was asked for."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teleport_lite.config.load import Flags, parse
from teleport_lite.config.model import Config
from teleport_lite.config.sample import Wish, render
from teleport_lite.errors import Malformed
from teleport_lite.plugin.builtin import builtin_book

BOOK = builtin_book()


def loaded(wish: Wish) -> tuple[str, Config]:
    text = render(wish, BOOK)
    return text, parse(text, "new.yaml", BOOK)


def wish(**given: object) -> Wish:
    names = set(Flags.__dataclass_fields__)
    flags = Flags(**{name: given.pop(name) for name in names & given.keys()})
    return Wish(flags=flags, **given)


def test_without_wishes_it_is_a_whole_cluster_with_samples():
    text, config = loaded(wish())
    assert text.startswith("#\n# Sample Teleport configuration file")
    assert config.version == "v3"
    assert config.roles == {"Auth", "Proxy", "Node"}
    assert config.node.labels == {"env": "example"}
    assert config.node.commands[0].argv == ("hostname",)
    assert config.warnings == ()
    assert (
        "  log:\n    output: stderr\n    severity: INFO\n    format:\n      output: text\n" in text
    )
    assert "period: 1m0s" in text


def test_a_node_that_joins_through_a_proxy():
    text, config = loaded(wish(roles="node", token="join-token", proxy="teleport.example.com:443"))
    assert config.roles == {"Node"}
    assert config.token.read().reveal() == "join-token"
    assert config.proxy_server == "teleport.example.com:443"
    assert "  join_params:\n    token_name: join-token\n    method: token\n" in text
    assert '\nauth_service:\n  enabled: "no"\n' in text
    assert '\nproxy_service:\n  enabled: "no"\n' in text


@pytest.mark.parametrize("version", ["v1", "v2", "v3"])
def test_every_version_names_the_auth_server_in_its_own_way(version):
    _, config = loaded(wish(version=version, auth_servers=("auth-service",)))
    assert (config.version, config.auth_servers) == (version, ("auth-service:3025",))


def test_several_auth_servers_need_an_older_version():
    both = ("10.0.0.1", "10.0.0.2:99")
    _, config = loaded(wish(version="v2", auth_servers=both))
    assert config.auth_servers == ("10.0.0.1:3025", "10.0.0.2:99")
    with pytest.raises(Malformed, match="--auth-server: a v3 file holds one"):
        render(wish(auth_servers=both), BOOK)


def test_seds_of_the_guide_fill_the_pin_in():
    text = render(wish(roles="node", token="join-token", auth_servers=("auth-service",)), BOOK)
    assert text.count(' ca_pin: ""') == 1
    filled = re.sub(' ca_pin: ""', ' ca_pin: "sha256:aa"', text)
    assert parse(filled, "new.yaml", BOOK).ca_pins == ("sha256:aa",)


def test_pins_that_are_given_stand_in_the_file():
    assert loaded(wish(ca_pins=("sha256:aa",)))[1].ca_pins == ("sha256:aa",)
    assert loaded(wish(ca_pins=("sha256:aa,/etc/pins",)))[1].ca_pins == ("sha256:aa", "/etc/pins")


def test_acme_certificates_and_apps():
    _, config = loaded(wish(cluster_name="tele.example.com", acme=True, acme_email="a@example.com"))
    assert config.auth.cluster_name == "tele.example.com"
    assert config.proxy.web_listen_addr == "0.0.0.0:443"
    assert config.proxy.public_addrs == ("tele.example.com:443",)
    assert (config.proxy.acme.enabled, config.proxy.acme.email) == (True, "a@example.com")
    _, config = loaded(wish(cert_file="/c.pem", key_file="/k.pem", public_addrs=("t.example.com",)))
    assert str(config.proxy.https_keypairs[0].key_file) == "/k.pem"
    assert config.proxy.public_addrs == ("t.example.com:3080",)
    _, config = loaded(wish(roles="node", app_name="grafana", app_uri="http://localhost:3000"))
    assert config.roles == {"Node", "App"}
    assert config.sections["App"]["apps"][0]["uri"] == "http://localhost:3000"


def test_the_public_address_is_the_nodes_when_there_is_no_proxy():
    _, config = loaded(wish(roles="node", public_addrs=("node.example.com",)))
    assert config.node.public_addrs == ("node.example.com:3022",)


@pytest.mark.parametrize("flag", [role.flag for role in BOOK if role.section])
def test_every_role_can_be_asked_for(flag):
    _, config = loaded(wish(roles=flag))
    assert config.roles == set(BOOK.parse(flag))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"version": "v4"}, "--version: 'v4' is not one of v1, v2, v3"),
        ({"acme": True}, "--acme: needs --cluster-name or --public-addr"),
        ({"acme": True, "cluster_name": "home"}, "--acme: needs --cluster-name or --public-addr"),
        (
            {"acme": True, "cluster_name": "a.example", "cert_file": "/c", "key_file": "/k"},
            "--acme: --cert-file is given too",
        ),
        (
            {"acme": True, "cluster_name": "a.example", "acme_email": "admin"},
            "--acme-email: 'admin' is not like admin@example.com",
        ),
        ({"cert_file": "/c"}, "--cert-file: needs --key-file"),
        ({"cert_file": "c", "key_file": "/k"}, "--cert-file, --key-file: 'c' is not an absolute"),
        ({"app_name": "a"}, "--app-name: needs --app-uri"),
        ({"cluster_name": "a b"}, "--cluster-name: 'a b' is no name for a cluster"),
        ({"public_addrs": ("a b",)}, "--public-addr: 'a b' is not host:port"),
        ({"token": "a: b\nc: d"}, "--token: the token has more than one line"),
        ({"nodename": "a: b"}, "--nodename: node name 'a: b' is not valid"),
        ({"labels": "a=b\nc: d"}, "--labels: value of label a must be printable"),
        ({"roles": "nod"}, "--roles: role 'nod' does not exist"),
    ],
)
def test_a_value_that_no_file_could_hold_is_refused_by_its_flag(given, message):
    with pytest.raises(Malformed) as refused:
        render(wish(**given), BOOK)
    assert refused.value.message.startswith(message)


NASTY = """yes ~ null 1:30 # {a} [b] &a *a !t %d ' " \\ | > @x `x 0x10 2024-01-01 . ... --- = <<"""
values = st.sampled_from([*NASTY.split(), "a #b", "a: b", "- x"]) | st.text(max_size=20)


@given(token=values, label=values, pin=values, app=values, email=values, name=values)
def test_hostile_values_come_back_as_they_were_or_are_refused(token, label, pin, app, email, name):
    email = email and f"{email}@example.com"
    quoted = label.replace("\\", "\\\\").replace('"', '\\"')
    try:
        asked = wish(
            token=token,
            labels=f'key="{quoted}"',
            ca_pins=(pin,),
            app_name=app and "app",
            app_uri=app,
            cluster_name="c.example",
            acme=True,
            acme_email=email,
            nodename=name,
        )
        config = loaded(asked)[1]
    except Malformed:
        return
    assert config.roles == {"Auth", "Proxy", "Node"} | ({"App"} if app else set())
    assert config.node.labels == {"key": label}
    assert config.ca_pins == tuple(each.strip() for each in pin.split(",") if each.strip())
    assert config.proxy.acme.email == email
    assert not token or str(config.token) == token or config.token.read().reveal() == token.strip()
    assert not name or config.nodename == name
    assert not app or config.sections["App"]["apps"][0]["uri"] == app

"""What a proxy says of itself."""

from dataclasses import replace

from teleport_lite.config.model import Channel
from teleport_lite.proxy.find import Facts, channel_of, found, pinged

FACTS = Facts(
    cluster="test.example",
    version="1.2.3",
    public=("proxy.example.com:443", "other.example.com:443"),
    web_listen="0.0.0.0:3080",
    ssh_listen="0.0.0.0:3023",
    tunnel_listen="0.0.0.0:3024",
    ssh_public=("proxy.example.com:3023",),
    tunnel_public=("proxy.example.com:3024",),
    ca_pins=("sha256:aa",),
)


def test_clients_learn_where_the_ports_are():
    said = found(FACTS)
    assert said["proxy"] == {
        "ssh": {
            "listen_addr": "0.0.0.0:3023",
            "tunnel_listen_addr": "0.0.0.0:3024",
            "web_listen_addr": "0.0.0.0:3080",
            "public_addr": "proxy.example.com:443",
            "ssh_public_addr": "proxy.example.com:3023",
            "ssh_tunnel_public_addr": "proxy.example.com:3024",
        },
        "tls_routing_enabled": True,
    }
    assert (said["cluster_name"], said["server_version"]) == ("test.example", "1.2.3")
    assert said["min_client_version"] == "0.0.0"
    assert found(replace(FACTS, version="7.1.0"))["min_client_version"] == "6.0.0"
    assert said["ca_pins"] == ["sha256:aa"]
    assert (said["edition"], said["fips"]) == ("oss", False)


def test_a_ping_also_says_how_people_log_in():
    said = pinged(FACTS)
    assert found(FACTS).items() <= said.items()
    assert said["auth"]["type"] == "local"
    assert said["auth"]["second_factor"] == "off"


def test_the_default_channel_is_our_own_version_unless_configured():
    assert channel_of(FACTS, "default") == Channel(version="v1.2.3")
    other = replace(FACTS, channels={"default": Channel(version="v1.3.0", critical=True)})
    assert channel_of(other, "default") == Channel(version="v1.3.0", critical=True)
    assert found(other)["auto_update"]["agent_version"] == "1.3.0"
    assert channel_of(other, "stable") is None


def test_what_people_type_is_the_first_public_address():
    assert FACTS.proxy == "proxy.example.com:443"
    assert replace(FACTS, public=()).proxy == "0.0.0.0:3080"


def test_agents_are_told_to_upgrade_only_where_the_version_is_to_be_had():
    for facts, is_there in (
        (FACTS, False),  # a proxy from a checkout hands out nothing
        (replace(FACTS, releases=("1.2.4", "1.2.3")), True),
        (replace(FACTS, releases=("1.2.4",)), False),
        (
            replace(FACTS, releases=("1.2.3",), channels={"default": Channel(version="v1.3.0")}),
            False,
        ),
        (
            replace(FACTS, releases=("1.3.0",), channels={"default": Channel(version="v1.3.0")}),
            True,
        ),
    ):
        said = found(facts)
        assert said["auto_update"]["agent_auto_update"] is is_there
        assert said["automatic_upgrades"] is is_there
        assert said["auto_update"]["tools_auto_update"] is False

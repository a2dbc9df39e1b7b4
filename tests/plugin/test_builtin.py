"""Our own roles: nine token types as the documentation spells them, in any case and alias."""

import pytest

from teleport_lite.errors import Malformed, Unavailable
from teleport_lite.plugin import builtin, builtin_book
from teleport_lite.plugin.builtin import seat_builtin
from teleport_lite.plugin.guests import Guests
from teleport_lite.proto.alpn import PROXY_SERVER_NAME
from teleport_lite.proto.join import AUTH_SERVER_NAME

NINE = {
    "app": "App",
    "auth": "Auth",
    "bot": "Bot",
    "db": "Db",
    "discovery": "Discovery",
    "kube": "Kube",
    "node": "Node",
    "proxy": "Proxy",
    "windowsdesktop": "WindowsDesktop",
}
ALIASES = {
    "windows_desktop": "WindowsDesktop",
    "trusted_cluster": "trusted_cluster",
    "trustedcluster": "trusted_cluster",
}


@pytest.mark.parametrize("shape", [str.lower, str.upper, str.title], ids=lambda f: f.__name__)
@pytest.mark.parametrize(("word", "name"), [*NINE.items(), *ALIASES.items()])
def test_every_type_parses_in_any_case(word, name, shape):
    assert builtin_book().parse(shape(word)) == (name,)


@pytest.mark.parametrize("name", NINE.values())
def test_every_canonical_name_parses(name):
    assert builtin_book().parse(name) == (name,)


def test_a_list_of_types_keeps_its_order():
    assert builtin_book().parse("node, Proxy,KUBE") == ("Node", "Proxy", "Kube")


def test_there_are_nine_types_and_the_cluster():
    assert {role.name for role in builtin_book()} == {*NINE.values(), "trusted_cluster"}


@pytest.mark.parametrize("words", ["", ",", "node,", "nod e", "signup", "admin", "node;auth"])
def test_an_unknown_type_is_malformed(words):
    with pytest.raises(Malformed):
        builtin_book().parse(words)


def test_a_type_given_twice_is_malformed():
    with pytest.raises(Malformed, match="given twice"):
        builtin_book().parse("windowsdesktop,windows_desktop")


def test_the_nearest_type_is_suggested():
    with pytest.raises(Malformed, match="did you mean windowsdesktop"):
        builtin_book().parse("windowsdesktp")


def test_a_kube_token_lets_in_app_and_discovery_as_well():
    assert builtin_book().with_implied(("Kube",)) == ("Kube", "App", "Discovery")


def test_only_tokens_of_bots_and_clusters_are_spent_on_use():
    spent = {role.name for role in builtin_book() if role.spends_token}
    assert spent == {"Bot", "trusted_cluster"}


def test_bots_and_clusters_are_no_machines():
    no_hosts = {role.name for role in builtin_book() if not role.is_host}
    assert no_hosts == {"Bot", "trusted_cluster"}


def test_only_auth_may_be_found_under_the_name_of_auth():
    claims = [role.name for role in builtin_book() if AUTH_SERVER_NAME in role.dns_names]
    assert claims == ["Auth"]


def test_only_proxies_may_be_found_under_the_name_of_proxies():
    claims = [role.name for role in builtin_book() if PROXY_SERVER_NAME in role.dns_names]
    assert claims == ["Proxy"]


def test_auth_proxy_and_node_run_unless_told_otherwise():
    running = {role.name for role in builtin_book() if role.on_by_default}
    assert running == {"Auth", "Proxy", "Node"}


def test_each_role_reads_the_section_people_know():
    sections = {role.flag: role.section for role in builtin_book() if role.section}
    assert sections == {
        "auth": "auth_service",
        "proxy": "proxy_service",
        "node": "ssh_service",
        "app": "app_service",
        "db": "db_service",
        "kube": "kubernetes_service",
        "windowsdesktop": "windows_desktop_service",
        "discovery": "discovery_service",
    }


def test_each_role_announces_its_kind():
    kinds = {role.flag: role.announces for role in builtin_book() if role.announces}
    assert kinds == {
        "node": "node",
        "app": "app_server",
        "db": "db_server",
        "kube": "kube_server",
        "windowsdesktop": "windows_desktop",
        "discovery": "discovery",
    }


def test_what_is_not_there_yet_says_so():
    unbuilt = {role.name for role in builtin_book() if not role.built}
    assert unbuilt == {
        "App",
        "Db",
        "Kube",
        "WindowsDesktop",
        "Discovery",
    }


def test_every_role_names_the_command_that_runs_it():
    by = {role.name: role.run_by for role in builtin_book()}
    assert by.pop("Bot") == "tbot start"
    assert by.pop("trusted_cluster") == ""
    assert set(by.values()) == {"teleport-lite start"}


def test_a_missing_part_of_the_program_is_named(monkeypatch):
    monkeypatch.setattr(builtin, "PACKAGES", ("app", "gone"))
    with pytest.raises(Unavailable, match="plugin gone: can not be loaded, ModuleNotFoundError"):
        seat_builtin(Guests())

"""Who sits at the table: roles through `teleport_lite_system_roles`, resources through
`teleport_lite_announce`, and what is refused."""

from dataclasses import replace
from importlib import import_module

import pytest

from teleport_lite.errors import Conflict, Denied, Malformed, NotFound, Unavailable
from teleport_lite.model.schema import Field, Kind
from teleport_lite.model.system_role import SystemRole
from teleport_lite.plugin.api import hookimpl
from teleport_lite.plugin.builtin import seat_builtin
from teleport_lite.plugin.guests import OWN_SECTIONS, Guests, State
from teleport_lite.proto.alpn import PROXY_SERVER_NAME
from teleport_lite.proto.join import AUTH_SERVER_NAME
from tests.plugin.makers import LAB, LabPlugin, lab_server, seated, showing


def refused(*roles: object) -> str:
    with pytest.raises(Unavailable) as why:
        seated(LabPlugin(roles))
    assert why.value.hint == "teleport-lite plugins ls"
    return why.value.message


# teleport_lite_system_roles


def test_a_role_of_a_plugin_is_in_the_book_under_all_its_names():
    book = seated(LabPlugin()).book
    assert book.parse("LABORATORY") == book.parse("lab") == ("Lab",)


def test_a_plugin_may_bring_several_roles_or_none_at_all():
    class Quiet:
        @hookimpl
        def teleport_lite_announce(self):
            return None

    other = SystemRole(name="Shed", flag="shed")
    assert [role.name for role in seated(LabPlugin((LAB, other))).book] == ["Lab", "Shed"]
    assert list(seated(Quiet()).book) == []


def test_a_role_without_a_service_is_told_so_in_the_listing():
    [guest] = seated(LabPlugin((replace(LAB, built=False),)))
    assert (guest.state, guest.reason) == (State.PARTLY, "joins and announces only: Lab")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"name": "Db"}, "role db"),
        ({"flag": "node"}, "role node"),
        ({"aliases": frozenset({"windows_desktop"})}, "role windows_desktop"),
        ({"aliases": frozenset({"trustedcluster"})}, "role trustedcluster"),
        ({"section": "db_service"}, "section db_service"),
    ],
)
def test_a_clash_stops_with_an_error_that_names_both(change, word):
    guests = seat_builtin(Guests())
    before = [guest.name for guest in guests]
    with pytest.raises(Conflict) as why:
        guests.seat("lab", LabPlugin((replace(LAB, **change),)), source="test")
    assert why.value.message.startswith(f"{word} is used by plugin ")
    assert why.value.message.endswith("and by plugin lab")
    assert [guest.name for guest in guests] == before


def test_two_roles_of_one_plugin_can_clash_too():
    with pytest.raises(Conflict, match="role shed is used by plugin lab and by plugin lab"):
        seated(
            LabPlugin(
                (
                    LAB,
                    SystemRole(name="Hut", flag="shed", aliases=frozenset({"shed"})),
                    SystemRole(name="Shed", flag="shed2"),
                )
            )
        )


def test_sections_of_ours_are_not_for_roles():
    for section in OWN_SECTIONS:
        with pytest.raises(Conflict, match=f"section {section} is used by teleport-lite itself"):
            seated(LabPlugin((replace(LAB, section=section),)))


def test_two_plugins_of_one_name_are_refused():
    guests = seated(LabPlugin())
    with pytest.raises(Conflict, match="two plugins are called lab"):
        guests.seat("lab", LabPlugin((SystemRole(name="Shed", flag="shed"),)), source="test")


@pytest.mark.parametrize(
    ("role", "cause"),
    [
        (replace(LAB, name="La b"), "role name 'La b' is not valid"),
        (replace(LAB, name="x" * 33), "role name"),
        (replace(LAB, flag="Lab,node"), "flag 'Lab,node' is not valid"),
        (replace(LAB, flag=""), "flag '' is not valid"),
        (replace(LAB, aliases=frozenset({"\x1b[2J"})), "alias"),
        (replace(LAB, section="lab service"), "section"),
        (replace(LAB, announces="Lab Server"), "kind"),
        (replace(LAB, dns_names=("*",)), "DNS name '*' is not valid"),
        (replace(LAB, extra_principals=("a,b",)), "principal 'a,b' is not valid"),
        (replace(LAB, dns_names=(AUTH_SERVER_NAME,)), "claims the server name of the auth role"),
        (replace(LAB, dns_names=(AUTH_SERVER_NAME.upper(),)), "the server name of the auth role"),
        (replace(LAB, dns_names=(PROXY_SERVER_NAME,)), "a server name of our own"),
        (replace(LAB, dns_names=("a", f"x.{PROXY_SERVER_NAME}")), "a server name of our own"),
        (replace(LAB, dns_names=("new.teleport-lite.internal",)), "a server name of our own"),
        (replace(LAB, announces="token"), "announces token, a kind of our own"),
        (replace(LAB, announces="node"), "announces node, a kind of our own"),
    ],
)
def test_a_role_that_could_do_harm_is_refused(role, cause):
    assert cause in refused(role)


def test_keys_of_a_section_are_fields_described_once():
    once = Field(name="racks", kind=Kind.TEXT, help="")
    assert "lab_service.racks is described twice" in refused(replace(LAB, fields=(once, once)))
    enabled = replace(once, name="enabled")
    assert "lab_service.enabled is described twice" in refused(replace(LAB, fields=(enabled,)))
    inner = replace(once, kind=Kind.LIST, fields=(replace(once, name="two words"),))
    assert "lab_service.racks has a field that is not" in refused(replace(LAB, fields=(inner,)))
    assert "has a field that is not" in refused(replace(LAB, fields=("racks",)))


@pytest.mark.parametrize("said", [7, "Lab", LAB, [LAB, "Lab"], {"Lab": LAB}], ids=repr)
def test_an_answer_that_is_no_list_of_roles_is_refused(said):
    with pytest.raises(Unavailable, match="plugin lab: teleport_lite_system_roles must return"):
        seated(LabPlugin(said))


def test_a_crash_names_the_plugin_the_hook_and_the_place_and_nobody_is_seated():
    class Broken:
        @hookimpl
        def teleport_lite_system_roles(self):
            return 1 / 0

    guests = Guests()
    with pytest.raises(Unavailable) as why:
        guests.seat("lab", Broken(), source="test")
    assert "plugin lab: teleport_lite_system_roles failed with ZeroDivisionError at" in str(
        why.value
    )
    assert "test_guests.py:" in why.value.message
    assert "ZeroDivisionError: division by zero" in why.value.log
    assert list(guests) == []
    guests.seat("lab", LabPlugin(), source="test")  # the name is free again


def test_a_plugin_can_not_end_our_process():
    class Quitter:
        @hookimpl
        def teleport_lite_system_roles(self):
            raise SystemExit(0)

    with pytest.raises(Unavailable, match="failed with SystemExit"):
        seated(Quitter())


# signatures


def test_a_hook_may_take_fewer_parameters_than_it_is_offered():
    class Short:
        @hookimpl
        def teleport_lite_system_roles(self):
            return [LAB]

        @hookimpl
        def teleport_lite_announce(self, settings):
            return [lab_server(str(settings["name"]))]

    assert seated(Short()).announce("Lab", {"name": "a"}) == (lab_server("a"),)


def test_a_parameter_we_do_not_have_is_refused():
    class Wrong:
        @hookimpl
        def teleport_lite_system_roles(self, ca_keys):
            return [LAB]

    guests = Guests()
    with pytest.raises(Unavailable, match=r"plugin lab: has a wrong hook: .*ca_keys"):
        guests.seat("lab", Wrong(), source="test")
    assert list(guests) == []


def test_a_hook_we_do_not_have_is_refused():
    class Guess:
        @hookimpl
        def teleport_lite_system_rolls(self):
            return [LAB]

    with pytest.raises(Unavailable, match=r"plugin lab: has a wrong hook: .*system_rolls"):
        seated(Guess())


def test_a_plugin_without_hooks_is_refused():
    with pytest.raises(Unavailable, match="plugin lab: has none of our hooks"):
        seated(object())


def test_a_function_named_like_a_hook_but_not_marked_is_refused():
    class Unmarked(LabPlugin):
        def teleport_lite_announce(self, role, settings):
            return None

    with pytest.raises(Unavailable, match="teleport_lite_announce is not marked with @hookimpl"):
        seated(Unmarked())


@pytest.mark.parametrize("how", ["wrapper", "hookwrapper"])
def test_a_plugin_can_not_wrap_the_hooks_of_others(how):
    class Wrapper:
        @hookimpl(**{how: True})
        def teleport_lite_system_roles(self):
            yield

    guests = seat_builtin(Guests())
    with pytest.raises(Unavailable, match="may not wrap other plugins' hooks"):
        guests.seat("lab", Wrapper(), source="test")


# teleport_lite_announce


def test_what_a_plugin_announces_comes_back():
    one, two = lab_server("a", labels={"env": "prod"}, spec={"uri": "x"}), lab_server("b")
    assert showing(one, two).announce("Lab", {}) == (one, two)


def test_not_mine_is_nothing_to_show():
    assert seated(LabPlugin(announce=lambda role, settings: None)).announce("Lab", {}) == ()


def test_a_plugin_without_the_hook_shows_nothing():
    assert seat_builtin(Guests()).announce("Bot", {}) == ()


def test_only_the_plugin_that_brought_a_role_sees_its_settings():
    asked = []

    def spy(role, settings):
        asked.append(role)
        return

    guests = seat_builtin(Guests())
    guests.seat("lab", LabPlugin(announce=spy), source="test")
    guests.announce("Db", {"databases": ()})
    guests.announce("Lab", {})
    assert asked == ["Lab"]


def test_a_role_nobody_brought_is_malformed():
    with pytest.raises(Malformed, match="role 'Lab' is not known here"):
        seat_builtin(Guests()).announce("Lab", {})


@pytest.mark.parametrize("kind", [Malformed, Denied])
def test_a_refusal_of_the_plugin_passes_as_it_is(kind):
    def refuse(role, settings):
        raise kind("lab_service.racks is wrong", hint="docs/plugins.md")

    with pytest.raises(kind) as why:
        seated(LabPlugin(announce=refuse)).announce("Lab", {})
    assert why.value.message == "lab_service.racks is wrong"


def test_a_crash_in_announce_does_not_quote_the_settings():
    def crash(role, settings):
        raise RuntimeError(f"cannot use {settings['password']}")

    with pytest.raises(Unavailable) as why:
        seated(LabPlugin(announce=crash)).announce("Lab", {"password": "hunter2"})
    assert why.value.message.startswith(
        "plugin lab: teleport_lite_announce failed with RuntimeError"
    )
    assert "hunter2" not in why.value.message + why.value.hint


@pytest.mark.parametrize(
    ("shown", "cause"),
    [
        ("lab-1", "must return a list of Resource"),
        (replace(lab_server(), kind="token"), "announces 'token', role Lab shows lab_server"),
        (lab_server("a b"), "announces the name 'a b', which is not valid"),
        (lab_server("\x1b[2J"), "which is not valid"),
        (lab_server(labels={"teleport.dev/origin": "x"}), "is reserved"),
        (lab_server(labels={"a": "\n"}), "must be printable"),
        (lab_server(spec={"a": 7}), "spec must be text to text"),
    ],
)
def test_what_is_announced_is_checked(shown, cause):
    with pytest.raises(Unavailable) as why:
        showing(shown).announce("Lab", {})
    assert why.value.message.startswith("plugin lab: ")
    assert cause in why.value.message


def test_a_name_is_announced_once():
    with pytest.raises(Unavailable, match="announces lab_server a twice"):
        showing(lab_server("a"), lab_server("a")).announce("Lab", {})


def test_the_number_of_resources_has_a_limit():
    many = [lab_server(f"lab-{at}") for at in range(1001)]
    assert len(showing(*many[:1000]).announce("Lab", {})) == 1000
    with pytest.raises(Unavailable, match="announces 1001 resources, the most is 1000"):
        showing(*many).announce("Lab", {})


# teleport_lite_wrap_key and teleport_lite_unwrap_key

KEY = bytes(range(32))


class KeyPlugin:
    def __init__(self, wrapped: object, unwrapped: object = KEY) -> None:
        self.wrapped, self.unwrapped = wrapped, unwrapped

    @hookimpl
    def teleport_lite_wrap_key(self, key):
        return self.wrapped

    @hookimpl
    def teleport_lite_unwrap_key(self, wrapped):
        if isinstance(self.unwrapped, Exception):
            raise self.unwrapped
        return self.unwrapped


def test_a_plugin_keeps_a_key_by_its_own_settings(tmp_path):
    master = tmp_path / "master"
    master.write_bytes(b"m")
    keeper = seated(import_module("tests.plugin.keeper"), "keeper")
    wrapper = keeper.wrapper("keeper", {"master": str(master)})
    wrapped = wrapper.wrap(KEY)
    assert KEY not in wrapped
    assert wrapper.unwrap(wrapped) == KEY
    master.write_bytes(b"another")
    with pytest.raises(Denied, match="does not know this key"):
        wrapper.unwrap(wrapped)
    master.unlink()
    with pytest.raises(Unavailable, match="the keeper can not be asked"):
        wrapper.wrap(KEY)


@pytest.mark.parametrize("said", [None, "text", b"", bytes(8193), bytearray(32)])
def test_a_wrapped_key_that_is_none_is_refused_by_name(said):
    wrapper = seated(KeyPlugin(said)).wrapper("lab", {})
    with pytest.raises(Unavailable, match="plugin lab: teleport_lite_wrap_key must return 1 to"):
        wrapper.wrap(KEY)


def test_a_key_in_the_words_of_a_mistake_is_not_shown():
    wrapper = seated(KeyPlugin(b"x", ValueError(KEY.hex()))).wrapper("lab", {})
    with pytest.raises(Unavailable) as why:
        wrapper.unwrap(b"x")
    assert "plugin lab: teleport_lite_unwrap_key failed with ValueError" in why.value.message
    assert KEY.hex() not in why.value.message


def test_a_keeper_that_nobody_invited_is_not_asked():
    with pytest.raises(NotFound, match="plugin vault is to keep the key of the keyring"):
        seated(LabPlugin()).wrapper("vault", {})


def test_a_plugin_that_keeps_no_keys_says_so():
    with pytest.raises(Unavailable, match="plugin lab: teleport_lite_wrap_key must return"):
        seated(LabPlugin()).wrapper("lab", {}).wrap(KEY)

"""Invited plugins come, from directories and distributions. Others are not even imported."""

import sys
from pathlib import Path

import pytest

from teleport_lite.errors import Conflict, Denied, Error, Malformed, NotFound, Unavailable
from teleport_lite.plugin.guests import State
from teleport_lite.plugin.invited import gather, look, uninvited
from tests.plugin.makers import GOOD, installed, on_disk

BOOM = "raise RuntimeError('no queue')\n"


@pytest.fixture
def site(tmp_path, monkeypatch) -> Path:
    """A place on sys.path where distributions can be installed."""
    place = tmp_path / "site"
    place.mkdir(mode=0o755)
    monkeypatch.syspath_prepend(str(place))
    yield place
    for name in [name for name in sys.modules if name.startswith("lab_")]:
        del sys.modules[name]


def test_a_directory_that_is_invited_brings_its_roles(tmp_path):
    home = on_disk(tmp_path)
    guests = gather(directories=[home], below=tmp_path)
    assert guests.book.parse("LAB") == ("Lab",)
    lab = [guest for guest in guests if guest.name == "lab"]
    assert [(guest.source, guest.state) for guest in lab] == [(str(home), State.READY)]


def test_nothing_is_invited_by_default(tmp_path):
    names = [guest.name for guest in gather()]
    assert names[:3] == ["auth", "proxy", "node"]
    assert len(names) == 9


def test_a_neighbour_of_an_invited_directory_is_not_imported(tmp_path):
    on_disk(tmp_path, "other", BOOM)
    gather(directories=[on_disk(tmp_path)], below=tmp_path)


def test_a_plugin_of_several_files_imports_its_own(tmp_path):
    home = on_disk(tmp_path, text="from .roles import teleport_lite_system_roles\n")
    (home / "roles.py").write_text(GOOD)
    assert "Lab" in gather(directories=[home], below=tmp_path).book


def test_a_plugin_can_shadow_no_module(tmp_path):
    """Its directory never gets onto sys.path: a plugin called json is a plugin called json."""
    import json

    before = list(sys.path)
    guests = gather(directories=[on_disk(tmp_path, "json")], below=tmp_path)
    assert "json" in [guest.name for guest in guests]
    assert sys.modules["json"] is json
    assert sys.path == before


def test_importing_a_plugin_writes_nothing_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    home = on_disk(tmp_path, text="from .roles import teleport_lite_system_roles\n")
    (home / "roles.py").write_text(GOOD)
    gather(directories=[home], below=tmp_path)
    assert sorted(path.name for path in home.iterdir()) == ["__init__.py", "roles.py"]
    assert sys.dont_write_bytecode is False


def refusal(tmp_path: Path, *directories: Path) -> Error:
    with pytest.raises(Error) as why:
        gather(directories=directories, below=tmp_path)
    return why.value


def test_a_world_writable_directory_is_not_imported(tmp_path):
    home = on_disk(tmp_path, text=BOOM)
    home.chmod(0o777)
    why = refusal(tmp_path, home)
    assert isinstance(why, Denied)
    assert why.message == f"plugin path {home} can be changed by others, mode 0777"


def test_a_symbolic_link_is_not_imported(tmp_path):
    link = tmp_path / "link"
    link.symlink_to(on_disk(tmp_path, text=BOOM))
    assert refusal(tmp_path, link).message == f"plugin path {link} is a symbolic link"


def test_a_plugin_in_tmp_is_not_imported():
    with pytest.raises(Denied, match="plugin path /tmp can be changed by others"):
        gather(directories=[Path("/tmp/lab")])


def test_a_directory_without_a_package_is_named(tmp_path):
    (tmp_path / "plugins").mkdir(mode=0o755)
    on_disk(tmp_path / "plugins")
    why = refusal(tmp_path, tmp_path / "plugins")
    assert isinstance(why, NotFound)
    assert why.message == f"plugin directory {tmp_path / 'plugins'} has no __init__.py"


@pytest.mark.parametrize("name", ["Lab", "lab.d", "1lab", "-lab"])
def test_a_directory_whose_name_is_no_plugin_name_is_malformed(tmp_path, name):
    assert isinstance(refusal(tmp_path, on_disk(tmp_path, name)), Malformed)


def test_a_relative_directory_is_malformed():
    with pytest.raises(Malformed, match="must be an absolute path"):
        gather(directories=[Path("plugins/lab")])


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (BOOM, "can not be loaded, RuntimeError at {file}:1: no queue"),
        ("def x(:", "can not be loaded, SyntaxError"),
        ("import no_such_module", "can not be loaded, ModuleNotFoundError at {file}:1"),
        ("raise SystemExit(0)", "can not be loaded, SystemExit"),
        ("", "has none of our hooks"),
        (GOOD.replace("roles()", "roles(ca_keys)"), "has a wrong hook"),
        (GOOD.replace("@hookimpl", ""), "is not marked with @hookimpl"),
        (GOOD.replace("return [", "return 1 / 0 ["), "failed with TypeError"),
    ],
)
@pytest.mark.filterwarnings("ignore::SyntaxWarning")
def test_a_plugin_that_can_not_load_stops_start_up_with_one_error(tmp_path, text, cause):
    home = on_disk(tmp_path, text=text)
    why = refusal(tmp_path, home)
    assert isinstance(why, Unavailable)
    assert why.message.startswith("plugin lab: ")
    assert cause.format(file=home / "__init__.py") in why.message
    assert "\n" not in why.message
    assert "teleport_lite_guest_lab" not in sys.modules or "loaded" not in cause


def test_two_plugins_with_one_role_stop_start_up_and_both_are_named(tmp_path):
    why = refusal(tmp_path, on_disk(tmp_path, "lab"), on_disk(tmp_path, "labor"))
    assert isinstance(why, Conflict)
    assert why.message == "role lab is used by plugin lab and by plugin labor"


def test_one_directory_twice_is_a_clash(tmp_path):
    home = on_disk(tmp_path)
    assert refusal(tmp_path, home, home).message == "two plugins are called lab"


def test_a_distribution_that_is_invited_brings_its_roles(tmp_path, site):
    installed(site)
    guests = gather(distributions=["Lab_Plugins"], below=tmp_path)
    assert "Lab" in guests.book
    assert [guest.source for guest in guests][-1] == "distribution Lab_Plugins"


def test_a_distribution_that_is_installed_but_not_invited_is_reported_and_not_imported(site):
    (installed(site) / "__init__.py").write_text(BOOM)
    [guest] = [guest for guest in look() if guest.state is State.UNINVITED]
    assert (guest.name, guest.source) == ("lab", "distribution lab-plugins 1.0")
    assert guest.reason == "lab-plugins is not in plugins.distributions"
    assert "lab_plugins" not in sys.modules
    assert uninvited(["LAB.plugins"]) == []


def test_a_distribution_that_is_not_installed_is_not_found():
    with pytest.raises(NotFound, match="distribution 'lab-gone' is not installed here"):
        gather(distributions=["lab-gone"])


def test_a_distribution_without_plugins_is_malformed():
    with pytest.raises(Malformed, match="distribution pytest has no entry point of group"):
        gather(distributions=["pytest"])


def test_a_distribution_that_others_can_change_is_not_imported(tmp_path, site):
    package = installed(site)
    (package / "__init__.py").write_text(BOOM)
    package.chmod(0o777)
    with pytest.raises(Denied, match="can be changed by others"):
        gather(distributions=["lab-plugins"], below=tmp_path)
    assert "lab_plugins" not in sys.modules


def test_a_distribution_without_its_module_is_not_found(tmp_path, site):
    package = installed(site)
    (package / "__init__.py").unlink()
    package.rmdir()
    with pytest.raises(NotFound, match="distribution lab-plugins has no module lab_plugins"):
        gather(distributions=["lab-plugins"], below=tmp_path)


def test_a_module_in_the_working_directory_does_not_pass_for_an_installed_one(
    tmp_path, site, monkeypatch
):
    (installed(site) / "__init__.py").write_text(BOOM)
    monkeypatch.chdir(site)
    with pytest.raises(Denied, match="the working directory or PYTHONPATH"):
        gather(distributions=["lab-plugins"], below=tmp_path)


def test_a_module_of_pythonpath_does_not_pass_for_an_installed_one(tmp_path, site, monkeypatch):
    (installed(site) / "__init__.py").write_text(BOOM)
    monkeypatch.setenv("PYTHONPATH", f"/somewhere:{site}")
    with pytest.raises(Denied, match="the working directory or PYTHONPATH"):
        gather(distributions=["lab-plugins"], below=tmp_path)


def test_the_listing_shows_who_failed_and_goes_on(tmp_path):
    bad, good = on_disk(tmp_path, "bad", BOOM), on_disk(tmp_path, "good")
    rows = look(directories=[bad, good], distributions=["lab-gone"], below=tmp_path)
    shown = {guest.name: guest for guest in rows}
    assert shown["good"].state is State.READY
    assert [role.name for role in shown["good"].roles] == ["Lab"]
    assert shown["bad"].state is State.FAILED
    assert "no queue" in shown["bad"].reason
    assert shown["lab-gone"].reason == "distribution 'lab-gone' is not installed here"

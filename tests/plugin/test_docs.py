"""The example of docs/plugins.md is a plugin that loads and works as the page says."""

import re
from pathlib import Path

import pytest

from teleport_lite.config.load import parse
from teleport_lite.errors import Malformed
from teleport_lite.model.schema import Kind
from teleport_lite.plugin.invited import gather
from tests.plugin.makers import on_disk

PAGE = (Path(__file__).parents[2] / "docs/plugins.md").read_text()


def example(name: str) -> str:
    [text] = re.findall(rf"<!-- example: {re.escape(name)} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    return text


@pytest.fixture
def guests(tmp_path):
    home = on_disk(tmp_path, "printer", example("printer/__init__.py"))
    return gather(directories=[home], below=tmp_path)


def test_the_example_loads_and_brings_its_role(guests):
    role = guests.book.get("Printer")
    assert guests.book.parse("PRINT") == ("Printer",)
    assert (role.section, role.announces) == ("printer_service", "printer")
    [printers] = role.fields
    assert printers.kind is Kind.LIST


def test_the_example_announces_what_its_settings_say(guests):
    settings = {"printers": ({"name": "lobby", "queue": "10.0.0.9:631", "labels": {"floor": "g"}},)}
    [shown] = guests.announce("Printer", settings)
    assert (shown.kind, shown.name, shown.labels) == ("printer", "lobby", {"floor": "g"})
    assert shown.spec == {"queue": "10.0.0.9:631"}


def test_the_config_of_the_page_is_read_and_announced(guests):
    config = parse(f"version: v3\n{example('printer.yaml')}", "teleport.yaml", guests.book)
    assert "Printer" in config.roles
    [shown] = guests.announce("Printer", config.sections["Printer"])
    assert (shown.name, shown.spec) == ("lobby", {"queue": "10.0.0.9:631"})


def test_the_example_refuses_a_printer_without_a_queue(guests):
    with pytest.raises(Malformed, match=r"printer_service\.printers\[0\]\.queue is missing"):
        guests.announce("Printer", {"printers": ({"name": "lobby"},)})

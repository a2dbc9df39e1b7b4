"""The generated table of keys."""

from teleport_lite.config.build import OWN
from teleport_lite.config.reference import reference
from teleport_lite.config.schema.teleport import PLUGINS, TELEPORT
from teleport_lite.model.schema import Field


def test_every_section_and_key_has_a_line(book):
    text = reference(book)
    for role in book:
        assert not role.section or f"### `{role.section}`\n" in text
    for field in (*TELEPORT, *PLUGINS, *(each for fields in OWN.values() for each in fields)):
        assert f"| `{field.name}` |" in text
    assert "| `join_params.token_name` |" in text
    assert "| `commands[].period` | length of time, like `1m0s` | required |" in text
    assert "| `ciphers` | list of text |  | of SSH (no effect yet) |" in text


def test_every_key_of_ours_says_what_it_means():
    def walk(fields: tuple[Field, ...]):
        for field in fields:
            yield field
            yield from walk(field.fields)

    for fields in (TELEPORT, PLUGINS, *OWN.values()):
        assert [field.name for field in walk(fields) if not field.help] == []

"""Any file is a Config or one error: nothing else comes out, whatever stands where."""

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st

from teleport_lite.config.build import ENABLED, OWN
from teleport_lite.config.load import parse
from teleport_lite.config.model import Config
from teleport_lite.config.schema.teleport import PLUGINS, TELEPORT
from teleport_lite.config.yaml import dump
from teleport_lite.errors import Malformed
from teleport_lite.model.schema import Field
from teleport_lite.plugin.builtin import builtin_book

BOOK = builtin_book()
WORDS = """
yes no 1 0 5m 1:30 ~ v1 v3 /a /a/../b a.example.com :3080 0.0.0.0:0 ::1 sqlite json INFO stdout
node,proxy:secret-token-value auth:/path bot:secret-token-value env=prod 2024-01-01
"""
scalars = st.sampled_from([*WORDS.split(), ""]) | st.text(max_size=6)


def values(field: Field) -> st.SearchStrategy[object]:
    """Often of the right shape, so that the checks behind the shape are reached too."""
    inner = section(field.fields) if field.fields else scalars
    return inner | st.lists(inner, max_size=2) | scalars | st.dictionaries(scalars, scalars)


def section(fields: tuple[Field, ...]) -> st.SearchStrategy[object]:
    return st.fixed_dictionaries({}, optional={field.name: values(field) for field in fields})


SECTIONS = {
    "version": scalars,
    "teleport": section(TELEPORT),
    "plugins": section(PLUGINS),
    **{name: section((ENABLED, *fields)) for name, fields in OWN.items()},
    **{role.section: section((ENABLED, *role.fields)) for role in BOOK if role.fields},
}


@settings(max_examples=150, deadline=None)
@given(st.fixed_dictionaries({}, optional=SECTIONS))
def test_any_sections_are_a_config_or_malformed(tree):
    with contextlib.suppress(Malformed):
        assert isinstance(parse(dump(tree), "f.yaml", BOOK), Config)


@given(st.sampled_from(sorted(SECTIONS)), st.data())
def test_any_one_section_is_a_config_or_an_error_that_names_the_file(name, data):
    text = dump({name: data.draw(SECTIONS[name])})
    try:
        said = parse(text, "f.yaml", BOOK).source
    except Malformed as why:
        said = why.message
    assert said.startswith("f.yaml")
    assert said.isprintable()

"""Pages: everything escaped, nothing but text and a form."""

import re
from html.parser import HTMLParser

import pytest
from jinja2 import UndefinedError

from teleport_lite.proxy.pages import page, style

FACTS = {
    "home": {"title": "t", "cluster": "c", "proxy": "p:443", "install": "p:443"},
    "invite": {
        "title": "t",
        "kind": "invite",
        "user": "alice",
        "cluster": "c",
        "expires": "soon",
        "min_length": 12,
        "max_length": 256,
        "error": "wrong",
    },
    "done": {"title": "t", "user": "alice", "proxy": "p:443"},
    "problem": {"title": "t", "message": "m", "trace": "abc"},
}


@pytest.mark.parametrize("name", FACTS)
def test_no_page_has_a_script_or_anything_from_elsewhere(name):
    found = Tags(page(name, **FACTS[name]))
    assert not {"script", "iframe", "object", "embed", "img"} & found.tags
    assert not [name for name in found.attributes if name.startswith("on") or name == "style"]
    assert all(where.startswith("/") for where in found.links)


@pytest.mark.parametrize("name", FACTS)
def test_what_others_said_is_escaped(name):
    nasty = "\"><script>alert(1)</script>'"
    facts = {key: nasty if isinstance(value, str) else value for key, value in FACTS[name].items()}
    text = page(name, **facts)
    assert "script" not in Tags(text).tags
    assert "<script" not in text


@pytest.mark.parametrize("name", FACTS)
def test_a_fact_that_is_missing_is_a_bug_and_not_a_blank(name):
    facts = dict(list(FACTS[name].items())[:-1])
    with pytest.raises(UndefinedError):
        page(name, **facts)


def test_the_style_sheet_loads_nothing_from_elsewhere():
    assert not re.search(r"url\(|@import|//", style())


def test_the_form_asks_twice_and_tells_password_managers_whose_it_is():
    text = page("invite", **FACTS["invite"])
    assert text.count('type="password"') == 2
    assert 'autocomplete="new-password"' in text
    assert 'value="alice" autocomplete="username"' in text


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value for name, value in attrs if name in ("href", "src", "action")]

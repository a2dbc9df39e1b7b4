"""Templates in roles."""

import pytest

from teleport_lite.access.traits import expand

TRAITS = {"logins": ("alice", "www"), "team": ("db",), "none": ()}


@pytest.mark.parametrize(
    ("pattern", "texts"),
    [
        ("root", ("root",)),
        ("{{internal.logins}}", ("alice", "www")),
        ("{{ internal.logins }}", ("alice", "www")),
        ("{{external.team}}", ("db",)),
        ("svc-{{internal.team}}-ro", ("svc-db-ro",)),
        ("*", ("*",)),
    ],
)
def test_a_template_becomes_its_values(pattern: str, texts: tuple[str, ...]) -> None:
    assert expand([pattern], TRAITS) == texts


@pytest.mark.parametrize(
    "pattern",
    [
        "{{internal.missing}}",
        "{{internal.none}}",
        "{{internal.}}",
        "{{internal.logins",
        "{{email.local(external.team)}}",
        "x{{",
        "{{internal.team}}{{internal.missing}}",
        "",
    ],
)
def test_a_template_without_a_value_gives_nothing(pattern: str) -> None:
    assert expand([pattern], TRAITS) == ()


def test_a_value_is_not_a_template_itself() -> None:
    assert expand(["{{internal.a}}"], {"a": ("{{internal.b}}",), "b": ("root",)}) == ()


def test_each_text_comes_once_in_its_order() -> None:
    assert expand(["www", "{{internal.logins}}", "root"], TRAITS) == ("www", "alice", "root")

"""Versions: one spelling each, in the order of releases."""

import pytest

from teleport_lite.errors import Malformed
from teleport_lite.release.version import Version


def test_a_version_is_read_with_and_without_its_v() -> None:
    assert str(Version.parse("v1.2.3")) == str(Version.parse("1.2.3")) == "1.2.3"
    assert str(Version.parse("v1.2.0-pre.2")) == "1.2.0-pre.2"


def test_versions_are_in_the_order_of_releases() -> None:
    names = [
        "0.1.0-7",
        "0.1.0-a",
        "0.1.0-pre.2",
        "0.1.0-pre.10",
        "0.1.0",
        "0.9.0",
        "0.10.0",
        "1.0.0-1",
        "1.0.0",
    ]
    assert [str(each) for each in sorted(map(Version.parse, reversed(names)))] == names


@pytest.mark.parametrize(
    "text",
    ["", "v", "1.2", "1.2.3.4", "vv1.2.3", "V1.2.3", " 1.2.3", "1.2.3\n", "01.2.3", "1.2.3-",
     "1.2.3-a/b", "1.2.3-" + "a" * 33, "123456.0.0", "1.2.3;id", "../1.2.3", "1.2.٣", "-1.2.3"],
)  # fmt: skip
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(Malformed, match="not a version"):
        Version.parse(text)

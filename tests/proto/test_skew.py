"""Which versions speak with each other."""

import pytest

from teleport_lite.errors import Denied
from teleport_lite.proto.skew import check_host, install_line, major, majors_ahead, oldest_client


@pytest.mark.parametrize(
    ("version", "number"),
    [("1.2.3", 1), ("v12.0.0-pre.1", 12), ("0.1.0+dev", 0), ("", None), ("1.2", None)],
)
def test_a_major_is_the_first_number(version: str, number: int | None) -> None:
    assert major(version) == number


@pytest.mark.parametrize("version", ["1.2", "x", "-1.0.0", "999999.0.0", "\u0661.0.0", "1.0.0\n"])
def test_what_is_no_version_is_neither_ahead_nor_behind(version: str) -> None:
    assert major(version) is None
    assert majors_ahead(version, "9.0.0") == majors_ahead("9.0.0", version) == 0
    check_host(version, ours="9.0.0", proxy="")


def test_clients_of_the_major_before_are_still_understood() -> None:
    assert oldest_client("3.4.5") == "2.0.0"
    assert oldest_client("1.0.0-pre.1") == oldest_client("0.9.0") == "0.0.0"


@pytest.mark.parametrize("version", ["1.9.9", "2.0.0", "2.5.1", "3.0.0"])
def test_a_host_may_be_one_major_off(version: str) -> None:
    check_host(version, ours="2.5.0", proxy="")


@pytest.mark.parametrize(("version", "off"), [("0.9.9", 2), ("4.0.0", 2), ("12.0.0", 10)])
def test_a_host_that_is_further_off_is_told_both_versions_and_what_to_do(
    version: str, off: int
) -> None:
    with pytest.raises(Denied) as refused:
        check_host(version, ours="2.5.0", proxy="tele.example.com:443")
    assert refused.value.message == (
        f"this host runs teleport-lite {version}, auth 2.5.0: they may be one major apart, "
        f"and are {off}"
    )
    assert refused.value.hint == "curl -fsSL https://tele.example.com:443/install.sh | bash"


def test_a_version_that_is_long_or_odd_is_shown_on_one_line() -> None:
    with pytest.raises(Denied) as refused:
        check_host("9.0.0-\x1b[2J" + "x" * 9999, ours="1.0.0", proxy="")
    assert refused.value.message.isprintable()
    assert len(refused.value.message) < 200


def test_without_a_known_proxy_the_line_says_where_to_put_one() -> None:
    assert install_line("") == "curl -fsSL https://PROXY/install.sh | bash"

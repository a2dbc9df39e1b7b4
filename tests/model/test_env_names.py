"""Which variables clients may set, and which nobody may."""

import pytest

from teleport_lite.errors import Malformed
from teleport_lite.model.env_names import ACCEPTED, MAX_PATTERNS, accepts, check_patterns, never

DANGEROUS = """
LD_PRELOAD LD_LIBRARY_PATH LD_AUDIT PATH BASH_ENV ENV IFS PYTHONPATH PYTHONSTARTUP PERL5LIB PERL5OPT
RUBYOPT NODE_OPTIONS JAVA_TOOL_OPTIONS _JAVA_OPTIONS GCONV_PATH GLIBC_TUNABLES MALLOC_CHECK_
SHELLOPTS
PS4 PROMPT_COMMAND CDPATH SSH_AUTH_SOCK SSH_ORIGINAL_COMMAND SSH_CONNECTION TELEPORT_SESSION
SSH_TELEPORT_USER HOME USER LOGNAME SHELL SUDO_USER GIT_SSH_COMMAND GIT_EXEC_PATH LOCPATH NLSPATH
TERMINFO TERMINFO_DIRS XDG_CONFIG_HOME DBUS_SESSION_BUS_ADDRESS KRB5CCNAME LESSOPEN PAGER EDITOR
BASH_FUNC_ls OPENSSL_CONF HOSTALIASES RES_OPTIONS LOCALDOMAIN TMPDIR ZDOTDIR
""".split()  # noqa: SIM905  # a list of them would be a page


@pytest.mark.parametrize("name", DANGEROUS)
def test_what_decides_which_code_runs_is_never_accepted(name: str) -> None:
    assert never(name)
    assert not accepts(("*", name), name)
    with pytest.raises(Malformed, match="never accepted"):
        check_patterns([name])


@pytest.mark.parametrize(
    "name", ["LANG", "LC_ALL", "LC_PAPER", "COLORTERM", "NO_COLOR", "TZ", "GIT_PROTOCOL"]
)
def test_what_is_accepted_unasked(name: str) -> None:
    assert accepts(ACCEPTED, name)


def test_the_rest_is_what_the_config_says() -> None:
    assert not accepts(ACCEPTED, "MY_VAR")
    assert accepts(("MY_*",), "MY_VAR")
    assert accepts(("MY_?AR",), "MY_VAR")
    assert not accepts(("MY_?",), "MY_VAR")
    assert accepts(("*",), "ANYTHING")
    assert accepts(("GIT_AUTHOR_NAME",), "GIT_AUTHOR_NAME")


@pytest.mark.parametrize("name", ["", "A B", "A=B", "1A", "A;B", "LC_\n", "A" * 200, "LC_é"])
def test_what_is_no_name_is_never_accepted(name: str) -> None:
    assert not accepts(("*",), name)


def test_patterns_are_few_and_plain() -> None:
    assert check_patterns(ACCEPTED) == ACCEPTED
    assert check_patterns([]) == ()
    for wrong in ("A[B]", "", "-", "1"):
        with pytest.raises(Malformed, match="no name of a variable"):
            check_patterns([wrong])
    with pytest.raises(Malformed, match="at most"):
        check_patterns(["A"] * (MAX_PATTERNS + 1))

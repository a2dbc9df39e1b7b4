"""install.sh as it is published: with where it downloads from and whom it trusts written into it.

And as it makes a machine a node of a cluster, with a token as well. Text from outside that got
into such a script has run as code elsewhere (CVE-2022-36633); here every value as a whole has to
match a list of allowed characters, and all of them stand in single quotes.
Standard library only: packaging/build.py imports this before there is anything else.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from teleport_lite.errors import Malformed

# What an install.sh that nobody has published holds, to the byte.
EMPTY = """\
# --- filled in where this script is published (teleport_lite/release/script.py); \
empty in a checkout
base=''
keys=''
join_proxy=''
join_token=''
join_pins=''
join_labels=''
# ---
"""
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])"
_PATH = r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,99}){0,16}"
# Plain http is for tests: nobody else listens on a loopback address.
_LOOPBACK = r"(?:127\.0\.0\.1|localhost|\[::1\])"
BASE = re.compile(rf"(?:https://{_HOST}|http://{_LOOPBACK})(?::[0-9]{{1,5}})?{_PATH}")
PROXY = re.compile(rf"{_HOST}:[0-9]{{1,5}}")
TOKEN = re.compile(r"[A-Za-z0-9._-]{1,128}")
PIN = re.compile(r"sha256:[0-9a-f]{64}")
# The 51 bytes of "ssh-ed25519" and a key, each behind its length (RFC 8709 §4), are 68 of base64.
KEY = re.compile(r"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI[A-Za-z0-9+/]{43}")
LABEL_KEY = re.compile(r"[A-Za-z0-9/_.:-]{1,128}")
LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9/_.:@+-]+(?: [A-Za-z0-9/_.:@+-]+)*)?")
# More than anybody needs; the script stays something that can be read.
MAX_VALUES, MAX_LABEL = 32, 256


@dataclass(frozen=True, slots=True)
class Join:
    """What makes an installed machine a node: the proxy it joins through, and with which token."""

    proxy: str  # host:port
    token: str
    pins: tuple[str, ...] = ()  # sha256:..., of the cluster's CAs
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # The token is a secret, and the wrong one is somebody's secret too: no message shows it.
        _checked("the address of the proxy", self.proxy, PROXY)
        if not TOKEN.fullmatch(self.token):
            raise Malformed("the token holds characters that no token has")
        _few("CA pins", self.pins)
        for pin in self.pins:
            _checked("a CA pin", pin, PIN)
        _few("labels", self.labels)
        for key, value in self.labels.items():
            _checked("the key of a label", key, LABEL_KEY)
            if len(value) > MAX_LABEL or not LABEL_VALUE.fullmatch(value):
                raise Malformed(f"label {key} has a value that no install script can carry")


def stamped(text: str, *, base: str, keys: Sequence[str], join: Join | None = None) -> str:
    """The install.sh `text` (of assets.text) for those who download from `base`.

    `base` is the URL of the directory of releases, without a slash at its end. `keys` are the
    OpenSSH public keys a release has to be signed by, without comments; with none the script
    compares digests only, and says so. Raises Malformed, naming the value.
    """
    _checked("the address of the releases", base, BASE)
    _few("release keys", keys)
    for key in keys:
        _checked("a release key", key, KEY)
    values = {"base": base, "keys": "\n".join(keys)}
    if join is not None:
        values["join_proxy"] = join.proxy
        values["join_token"] = join.token
        values["join_pins"] = " ".join(join.pins)
        values["join_labels"] = ",".join(f"{key}={value}" for key, value in join.labels.items())
    if text.count(EMPTY) != 1:
        raise Malformed("this is no install.sh as a checkout holds it: nothing to fill in")
    filled = EMPTY
    for name, value in values.items():
        filled = filled.replace(f"\n{name}=''\n", f"\n{name}='{value}'\n")
    return text.replace(EMPTY, filled)


def _checked(what: str, value: str, form: re.Pattern[str]) -> None:
    if not form.fullmatch(value):
        raise Malformed(f"{value[:80]!a} can not be {what}")


def _few(what: str, values: Sequence[str] | Mapping[str, str]) -> None:
    if len(values) > MAX_VALUES:
        raise Malformed(f"more than {MAX_VALUES} {what}")

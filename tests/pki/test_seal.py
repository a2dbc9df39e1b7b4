"""Sealing: a stolen database is worth nothing without the keyring."""

import hashlib
import os
import stat
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from teleport_lite.errors import Denied, Malformed, NotFound
from teleport_lite.pki.custody import Custody
from teleport_lite.pki.seal import Keyring

RING, OTHER = Keyring([b"k" * 32]), Keyring([b"o" * 32])


@given(st.binary(max_size=200), st.text(max_size=20))
def test_what_was_sealed_opens_again(plain: bytes, purpose: str) -> None:
    sealed = RING.seal(plain, purpose)
    assert RING.unseal(sealed, purpose) == plain
    assert len(plain) < 8 or plain not in sealed


def test_the_format_is_the_one_described() -> None:
    sealed = RING.seal(b"12345", "p")
    key_id = hashlib.sha256(b"teleport-lite key id\0" + b"k" * 32).digest()[:8]
    assert sealed[:9] == b"\x01" + key_id
    assert len(sealed) == 1 + 8 + 12 + 5 + 16
    opened = AESGCM(b"k" * 32).decrypt(sealed[9:21], sealed[21:], sealed[:9] + b"p")
    assert opened == b"12345"


def test_the_same_thing_never_looks_the_same() -> None:
    assert len({RING.seal(b"token", "t") for _ in range(100)}) == 100


def test_another_key_does_not_open_it() -> None:
    with pytest.raises(ValueError, match="not in the keyring"):
        OTHER.unseal(RING.seal(b"x", "p"), "p")


def test_another_purpose_does_not_open_it() -> None:
    sealed = RING.seal(b"x", "ca/host/1")
    for purpose in ("ca/user/1", "ca/host/", "ca/host/12", ""):
        with pytest.raises(ValueError, match="another purpose"):
            RING.unseal(sealed, purpose)


def test_no_bit_can_be_flipped_and_no_byte_cut_off() -> None:
    sealed = RING.seal(b"secret", "p")
    for bit in range(len(sealed) * 8):
        changed = bytearray(sealed)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError, match=r"not in the keyring|another purpose"):
            RING.unseal(bytes(changed), "p")
    for size in range(len(sealed)):
        with pytest.raises(ValueError, match=r"not in the keyring|another purpose"):
            RING.unseal(sealed[:size], "p")
    with pytest.raises(ValueError, match="another purpose"):
        RING.unseal(sealed + b"\0", "p")


@given(st.binary(max_size=80))
def test_any_bytes_do_not_open(sealed: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        RING.unseal(sealed, "p")


def test_an_older_key_still_opens_and_the_first_one_seals() -> None:
    rotated = Keyring([b"n" * 32, b"k" * 32])
    assert rotated.unseal(RING.seal(b"x", "p"), "p") == b"x"
    with pytest.raises(ValueError, match="not in the keyring"):
        RING.unseal(rotated.seal(b"x", "p"), "p")


@pytest.mark.parametrize("keys", [[], [b"short"], [b"k" * 32, b""]])
def test_a_keyring_without_a_whole_key_does_not_exist(keys: list[bytes]) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Keyring(keys)


def test_the_first_start_makes_a_keyring_and_the_next_uses_it(tmp_path: Path) -> None:
    path = tmp_path / "etc" / "keyring"
    sealed = Keyring.load_or_make(path).seal(b"x", "p")
    assert Keyring.load_or_make(path).unseal(sealed, "p") == b"x"
    assert Keyring.load(path).unseal(sealed, "p") == b"x"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert os.listdir(path.parent) == ["keyring"]


def test_two_keyrings_are_different(tmp_path: Path) -> None:
    one, two = (Keyring.load_or_make(tmp_path / name) for name in "ab")
    with pytest.raises(ValueError, match="not in the keyring"):
        one.unseal(two.seal(b"x", "p"), "p")


def test_loading_does_not_make_one(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        Keyring.load(tmp_path / "keyring")
    assert not (tmp_path / "keyring").exists()


def test_a_keyring_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keyring"
    Keyring.load_or_make(path)
    path.chmod(0o640)
    with pytest.raises(Denied, match="0640"):
        Keyring.load_or_make(path)


def test_a_keyring_that_is_a_link_is_refused(tmp_path: Path) -> None:
    Keyring.load_or_make(tmp_path / "real")
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(Denied, match="symbolic link"):
        Keyring.load_or_make(tmp_path / "link")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "teleport-lite keyring v1\n",
        "teleport-lite keyring v2\n{good}\n",
        "{good}\n",
        "teleport-lite keyring v1\n{good}\n{key}\n",
        "teleport-lite keyring v1\n0000000000000000 {key}\n",
        "teleport-lite keyring v1\n{id} !\n",
        "teleport-lite keyring v1\n{id}\n",
        "teleport-lite keyring v1\n{good}\n\n",
        "\u00e4",
    ],
    ids=range(10),
)
def test_a_broken_keyring_is_named_but_not_shown(tmp_path: Path, content: str) -> None:
    path = tmp_path / "keyring"
    Keyring.load_or_make(path)
    name, key = path.read_text().splitlines()[1].split()
    path.write_text(content.format(good=f"{name} {key}", id=name, key=key))
    with pytest.raises(Malformed) as refusal:
        Keyring.load_or_make(path)
    assert str(path) in refusal.value.message
    assert key not in refusal.value.message + refusal.value.log + refusal.value.hint


def test_several_keys_are_read_from_one_file(tmp_path: Path) -> None:
    one, two, both = tmp_path / "one", tmp_path / "two", tmp_path / "both"
    sealed = Keyring.load_or_make(one).seal(b"x", "p")
    Keyring.load_or_make(two)
    both.write_text(two.read_text() + one.read_text().splitlines()[1] + "\n")
    both.chmod(0o600)
    assert Keyring.load(both).unseal(sealed, "p") == b"x"


def test_of_many_that_start_at_once_one_makes_the_keyring(tmp_path: Path) -> None:
    path, many = tmp_path / "keyring", 16
    gate = threading.Barrier(many)

    def start(nth: int) -> bytes:
        gate.wait()
        return Keyring.load_or_make(path).seal(b"%d" % nth, "p")

    with ThreadPoolExecutor(many) as racers:
        sealed = list(racers.map(start, range(many)))
    ring = Keyring.load(path)
    assert [ring.unseal(each, "p") for each in sealed] == [b"%d" % nth for nth in range(many)]
    assert os.listdir(tmp_path) == ["keyring"]


def test_of_two_threads_that_read_the_file_none_goes_back_to_what_it_was(tmp_path: Path) -> None:
    """To open a file takes long; it is replaced, and read by another thread, meanwhile."""
    path, meanwhile = tmp_path / "keyring", list[Callable[[], None]]()

    class Slow(Custody):
        def open(self, raw: bytes, where: str) -> bytes:
            text = super().open(raw, where)
            while meanwhile:
                meanwhile.pop()()
            return text

    ring, first, second = Keyring.load_or_make(path, Slow()), Keyring.new(), Keyring.new()

    def replace() -> None:
        second.save(path)
        assert ring.refresh()

    first.save(path)
    meanwhile.append(replace)
    ring.refresh()
    assert ring.ids == second.ids


def test_a_keyring_does_not_show_its_keys() -> None:
    assert "kkkk" not in repr(RING) + str(RING) + f"{RING!r:>10}"

"""What guards the file of the keyring."""

import base64
import logging
from pathlib import Path

import pytest

from teleport_lite.errors import Conflict, Denied, Malformed, NotFound, Unavailable
from teleport_lite.pki.custody import NO_CUSTODY, Custody, Wrapper, sealed_by
from teleport_lite.pki.seal import Keyring, sealed_under, way_of
from teleport_lite.secret import Secret

WORDS = "correct horse battery staple"
# The real cost takes a third of a second.
QUICK = 4


def under(words: str = WORDS) -> Custody:
    return Custody(passphrase=lambda: Secret(words), cost=QUICK)


def xor(key: bytes) -> bytes:
    return bytes(byte ^ 0x5A for byte in key)


def by_plugin(name: str = "vault", unwrap=xor) -> Custody:
    return Custody(wrapper=Wrapper(plugin=name, wrap=xor, unwrap=unwrap))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keyring"


@pytest.mark.parametrize("custody", [NO_CUSTODY, under(), by_plugin()], ids=lambda c: c.way)
def test_a_keyring_is_made_and_opened_again_in_every_custody(path, custody):
    made = Keyring.load_or_make(path, custody)
    assert Keyring.load_or_make(path, custody).ids == made.ids
    assert path.stat().st_mode & 0o777 == 0o600
    assert way_of(path) == custody.way
    assert (made.text() == path.read_bytes()) is (custody is NO_CUSTODY)


def test_a_sealed_file_shows_no_key_and_never_looks_the_same():
    ring = Keyring([b"k" * 32])
    key = base64.b64encode(b"k" * 32)
    files = {under().close(ring.text()) for _ in range(5)}
    files |= {by_plugin().close(ring.text()) for _ in range(5)}
    assert len(files) == 10
    assert not any(key in each or ring.ids[0].encode() in each for each in files)


def test_the_real_cost_is_the_one_promised(path):
    real = Custody(passphrase=lambda: Secret(WORDS))
    ring = Keyring.load_or_make(path, real)
    assert b"passphrase scrypt 16 8 2 " in path.read_bytes()
    assert Keyring.load(path, under()).ids == ring.ids


def test_another_passphrase_does_not_open_it(path):
    Keyring.load_or_make(path, under())
    with pytest.raises(Denied, match="the passphrase is another one") as why:
        Keyring.load(path, under("correct horse battery stable"))
    assert "horse" not in why.value.message + why.value.hint + why.value.log


def test_without_a_passphrase_it_says_what_to_set(path):
    Keyring.load_or_make(path, under())
    with pytest.raises(Denied, match="sealed under a passphrase, and none is given") as why:
        Keyring.load_or_make(path)
    assert why.value.hint == "set teleport.storage.keyring_passphrase"


def test_another_plugin_does_not_open_it(path):
    Keyring.load_or_make(path, by_plugin())
    for custody in (NO_CUSTODY, under(), by_plugin("tpm")):
        with pytest.raises(Denied, match="sealed by plugin vault, which is not the one"):
            Keyring.load(path, custody)


@pytest.mark.parametrize("key", [b"", b"short", bytes(32)])
def test_a_plugin_that_gives_another_key_back_is_told(path, key):
    Keyring.load_or_make(path, by_plugin())
    with pytest.raises((Denied, Malformed), match=r"a wrong key|is damaged"):
        Keyring.load(path, by_plugin(unwrap=lambda wrapped: key))


def test_a_passphrase_that_is_soon_guessed_seals_nothing(path):
    with pytest.raises(Malformed, match="at least 12 characters"):
        Keyring.load_or_make(path, under("short"))
    assert not path.exists()


@pytest.mark.parametrize("custody", [under(), by_plugin()], ids=lambda c: c.way)
def test_no_byte_can_be_changed_or_cut_off(custody):
    raw = custody.close(Keyring([b"k" * 32]).text())
    for at in range(len(raw)):
        for changed in (raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :], raw[:at]):
            try:
                opened = custody.open(changed, "keyring x")
            except (Denied, Malformed):
                continue
            # Whose title is broken is taken for an open one, and is none.
            with pytest.raises(Malformed, match="is not a keyring"):
                Keyring.parse(opened, "x")


@pytest.mark.parametrize("words", ["18 8 2", "16 9 2", "16 8 5", "0 8 2", "-1 8 2", "1e3 8 2"])
def test_work_that_would_never_end_is_refused(words):
    raw = under().close(b"x").replace(f"scrypt {QUICK} 8 2".encode(), f"scrypt {words}".encode())
    with pytest.raises(Malformed, match="is damaged"):
        under().open(raw, "keyring x")


def test_who_claims_what():
    assert sealed_by(b"teleport-lite keyring v1\n") == "plain"
    assert sealed_by(under().close(b"x")) == "passphrase"
    assert sealed_by(by_plugin().close(b"x")) == "plugin vault"


# keys


def test_a_key_is_added_behind_used_and_taken_out():
    old = Keyring([b"o" * 32])
    fresh = Keyring.new()
    both = old.added(fresh)
    assert both.ids == (*old.ids, *fresh.ids)
    assert both.added(fresh).ids == both.ids
    sealed = both.seal(b"x", "p")
    assert sealed_under(sealed) == old.ids[0]
    used = both.preferring(fresh.ids[0][:6])
    assert used.ids == (*fresh.ids, *old.ids)
    assert used.unseal(sealed, "p") == b"x"
    assert (used.current(sealed), used.current(used.seal(b"y", "p"))) == (False, True)
    assert used.without(old.ids[0]).ids == fresh.ids
    with pytest.raises(Conflict, match="is the one that seals"):
        used.without(fresh.ids[0])
    for id in ("", "nosuch"):
        with pytest.raises(NotFound, match="the keyring has no key"):
            used.preferring(id)


def test_a_key_that_was_put_into_the_file_is_found_when_it_is_needed(path):
    ours = Keyring.load_or_make(path)
    theirs = Keyring.new()
    sealed = theirs.seal(b"x", "p")
    with pytest.raises(ValueError, match="not in the keyring"):
        ours.unseal(sealed, "p")
    ours.added(theirs).save(path)
    assert ours.unseal(sealed, "p") == b"x"
    assert not ours.refresh()


def test_a_file_that_is_gone_takes_no_key_away(path, caplog):
    ring = Keyring.load_or_make(path)
    sealed = ring.seal(b"x", "p")
    path.unlink()
    with caplog.at_level(logging.DEBUG), pytest.raises(ValueError, match="not in the keyring"):
        ring.unseal(Keyring.new().seal(b"x", "p"), "p")
    assert ring.unseal(sealed, "p") == b"x"


def test_a_save_that_fails_leaves_the_old_keyring(path):
    ring = Keyring.load_or_make(path)
    with pytest.raises(Malformed):
        ring.added(Keyring.new()).save(path, under("short"))
    assert Keyring.load(path).ids == ring.ids
    with pytest.raises(Conflict):
        ring.save(path, replace=False)


@pytest.mark.parametrize(
    "custody",
    [
        by_plugin(unwrap=lambda key: b"o" * 32),
        Custody(wrapper=Wrapper(plugin="v", wrap=lambda _: b"gone", unwrap=lambda _: b"gone")),
    ],
    ids=["another key", "no key"],
)
def test_a_keyring_that_would_not_open_again_replaces_none(path, custody):
    made = Keyring.load_or_make(path)
    before = path.read_bytes()
    with pytest.raises((Denied, Malformed), match="as it would be written"):
        made.save(path, custody)
    assert path.read_bytes() == before


def test_a_keyring_that_is_too_long_to_be_read_is_not_written(path):
    made = Keyring.load_or_make(path)
    before = path.read_bytes()
    many = Keyring([number.to_bytes(32) for number in range(300)])
    with pytest.raises(Unavailable, match="it would not open again"):
        made.added(many).save(path)
    assert path.read_bytes() == before


def test_a_file_that_is_as_it_was_is_not_opened_again(path):
    asked: list[bytes] = []

    def unwrap(wrapped: bytes) -> bytes:
        asked.append(wrapped)
        return xor(wrapped)

    made = Keyring.load_or_make(path, by_plugin())
    ring = Keyring.load(path, by_plugin(unwrap=unwrap))
    stranger = Keyring.new()
    for _ in range(3):
        with pytest.raises(ValueError, match="not in the keyring"):
            ring.unseal(stranger.seal(b"x", "p"), "p")
    assert len(asked) == 1
    made.added(stranger).save(path, by_plugin())
    assert ring.unseal(stranger.seal(b"x", "p"), "p") == b"x"
    assert len(asked) == 2

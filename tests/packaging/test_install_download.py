"""install.sh as people pipe it: from a real HTTPS server; what is not right installs nothing."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.packaging.published import STAND_IN, Published, new_key, public, published, sign

VERSION = "1.2.3"
SUMS, SIGNATURE = f"{VERSION}/SHA256SUMS", f"{VERSION}/SHA256SUMS.sig"
FILE = f"{VERSION}/teleport-lite-{VERSION}.pyz"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    with published(tmp_path_factory.mktemp("published")) as server:
        yield server


@pytest.fixture
def site(server: Published) -> Published:
    """With one good release."""
    server.fresh()
    server.release(VERSION)
    return server


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def refused(site: Published, home: Path, cause: str, *words: str, **more: str) -> str:
    said = site.piped(home, *words, **more)
    assert said.returncode == 1, said.stdout
    assert cause in said.stderr.replace(site.base, "BASE")
    assert site.calls() == []
    assert not (home / "prefix").exists()
    return said.stderr


def flip(path: Path, place: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[place] ^= 1
    path.write_bytes(raw)


def test_a_release_is_checked_and_places_itself(site, home):
    said = site.piped(home)
    assert said.returncode == 0, said.stderr
    assert said.stderr == ""
    lib = f"{home}/prefix/lib/teleport-lite"
    common = {"version": VERSION, "root": lib, "flags": [1, 1], "stdin": ""}
    files = ["SHA256SUMS", "SHA256SUMS.sig", f"teleport-lite-{VERSION}.pyz"]
    unpack, install = site.calls()
    assert unpack == common | {"words": ["self", "unpack", lib], "from": []}
    assert install == common | {
        "words": ["install", "self", f"--prefix={home}/prefix"],
        "from": files,
    }


def test_what_is_here_already_is_not_downloaded_again(site, home):
    site.piped(home)
    site.asked.clear()
    assert site.piped(home, "v1.2.3", "enterprise").returncode == 0
    assert site.asked == [f"/releases/{SUMS}", f"/releases/{SIGNATURE}"]
    (home / f"prefix/lib/teleport-lite/{VERSION}/teleport-lite.pyz").write_text("damaged")
    assert site.piped(home).returncode == 0
    assert site.asked[-1] == f"/releases/{FILE}"


@pytest.mark.parametrize("words", [["latest"], ["v1.2.3", "edition"]])
def test_a_version_may_be_said_in_many_ways(site, home, words):
    said = site.piped(home, *words, "--dry-run")
    assert said.returncode == 0, said.stderr
    assert "would install teleport-lite 1.2.3 in " in said.stdout
    assert ("oss, enterprise and cloud are the same here" in said.stdout) == (len(words) > 1)


def test_a_dry_run_changes_nothing(site, home):
    assert site.piped(home, "--dry-run").returncode == 0
    assert not (home / "prefix").exists()
    [call] = site.calls()
    assert call["words"] == ["install", "self", f"--prefix={home}/prefix", "--dry-run"]
    assert str(call["root"]).endswith("/trees")


@pytest.mark.parametrize("words", [[""], ["", "oss"], ["cloud"], ["edition"], ["null", "oss"]])
def test_a_version_that_somebody_failed_to_ask_for_is_told(site, home, words):
    said = site.piped(home, *words)
    assert said.returncode == 1
    assert (
        "what should have asked the cluster for it has failed\n  try: bash -s latest" in said.stderr
    )
    assert site.asked == []


def test_upgrade_goes_to_the_newest_but_only_where_something_is(site, home):
    refused(site, home, "there is nothing to upgrade in ", "--upgrade")
    current(home, "1.2.3")
    site.release("1.3.0")
    assert site.piped(home, "--upgrade", "--no-restart", "--no-systemd").returncode == 0
    assert current(home).readlink() == Path("1.3.0")
    assert site.calls()[-1]["words"][2:] == [
        f"--prefix={home}/prefix",
        "--no-restart",
        "--no-systemd",
    ]
    assert site.piped(home, "--upgrade", "1.2.3").returncode == 2


def current(home: Path, version: str = "") -> Path:
    """The link to what is installed, to be set to `version` or read."""
    link = home / "prefix/lib/teleport-lite/current"
    if version:
        link.unlink(missing_ok=True)
        (link.parent / version).mkdir(parents=True)
        (link.parent / version / "teleport-lite.pyz").touch()
        link.symlink_to(version)
    return link


def test_a_server_that_says_an_old_version_is_the_newest_takes_nobody_back(site, home):
    for there in ("1.2.4", "1.10.0", "1.3.0-rc.1"):
        current(home, there)
        said = site.piped(home, "--upgrade")
        assert said.returncode == 0
        assert (
            f"nothing changed: {there} is installed, and the newest release is 1.2.3" in said.stdout
        )
    assert site.calls() == []
    assert site.piped(home, "1.2.3").returncode == 0  # who says so goes back
    assert current(home).readlink() == Path("1.2.3")


def test_a_link_to_a_version_that_is_gone_is_no_reason_not_to_install(site, home):
    current(home, "1.2.4").readlink()
    (home / "prefix/lib/teleport-lite/1.2.4/teleport-lite.pyz").unlink()
    said = site.piped(home)
    assert said.returncode == 0, said.stderr
    assert current(home).readlink() == Path("1.2.3")


def test_another_program_by_our_name_is_not_said_to_be_ours(site, home):
    name = home / "prefix/bin/teleport-lite"
    name.parent.mkdir(parents=True)
    name.write_text("#!/bin/sh\n")
    said = site.piped(home)
    assert said.returncode == 0, said.stderr
    assert f"WARNING: {name} is another program; teleport-lite 1.2.3 is " in said.stdout
    assert f"1.2.3 is {name}\n" not in said.stdout


def test_a_release_follows_what_came_before_it(site, home):
    current(home, "1.2.3-rc.1")
    assert site.piped(home).returncode == 0
    assert current(home).readlink() == Path("1.2.3")


def another_version(site: Published) -> None:
    """All of an old release under the name of a new one: validly signed."""
    site.release("1.0.0")
    for name in ("SHA256SUMS", "SHA256SUMS.sig", "teleport-lite-1.0.0.pyz"):
        old = site.file(f"1.0.0/{name}")
        old.rename(site.file(f"{VERSION}/{name.replace('1.0.0', VERSION)}"))
    site.file("latest").write_text("1.2.3")


def signed_anew(change: Callable[[str], str]) -> Callable[[Published], None]:
    def spoil(site: Published) -> None:
        sums = site.file(SUMS)
        sums.write_text(change(sums.read_text()))
        sign(sums, site.key)

    return spoil


def by_another_key(site: Published) -> None:
    key = site.directory.parent / "other"
    sign(site.file(SUMS), key if key.exists() else new_key(key))


def by_a_key_of_another_kind(site: Published) -> None:
    key = site.directory.parent / "ecdsa"
    sign(site.file(SUMS), key if key.exists() else new_key(key, "ecdsa"))


UNSIGNED = "SHA256SUMS has no right signature"
SPOILT: dict[str, tuple[Callable[[Published], object], str]] = {
    "a bit of the file": (lambda site: flip(site.file(FILE), -5), ".pyz is damaged: its SHA-256"),
    "file cut": (lambda site: site.file(FILE).write_bytes(b"#!/bin/sh\n"), ".pyz is damaged"),
    "a bit of the list": (lambda site: flip(site.file(SUMS), 100), UNSIGNED),
    "a bit of the signature": (lambda site: flip(site.file(SIGNATURE), 200), UNSIGNED),
    "the last bit of its text": (lambda site: flip(site.file(SIGNATURE), -1), UNSIGNED),
    "no signature": (
        lambda site: site.file(SIGNATURE).unlink(),
        "can not download BASE/1.2.3/SHA256",
    ),
    "empty signature": (lambda site: site.file(SIGNATURE).write_text(""), UNSIGNED),
    "another key": (by_another_key, f"{UNSIGNED}: it is not by a release key"),
    "another kind of key": (by_a_key_of_another_kind, f"{UNSIGNED}: it is not by a release key"),
    "another purpose": (lambda site: sign(site.file(SUMS), site.key, purpose="file"), UNSIGNED),
    "another version": (another_version, "does not list teleport-lite-1.2.3.pyz"),
    "no such name": (signed_anew(lambda sums: sums.replace(".pyz", ".exe")), "does not list"),
    "name twice": (signed_anew(lambda sums: sums + sums), "does not list"),
    "longer name": (signed_anew(lambda sums: sums.replace(" tele", " ../tele")), "does not list"),
    "no digest": (signed_anew(lambda sums: sums.replace("0", "g")), "does not list"),
    "no file": (lambda site: site.file(FILE).unlink(), "can not download"),
    "no latest": (lambda site: site.file("latest").unlink(), "can not download BASE/latest"),
}


@pytest.mark.parametrize("what", SPOILT)
def test_a_release_that_is_not_right_is_refused_and_nothing_installed(site, home, what):
    spoil, cause = SPOILT[what]
    spoil(site)
    refused(site, home, cause)


@pytest.mark.parametrize("what", ["a bit of the list", "another key"])
def test_the_verifier_needs_no_ssh_keygen(site, home, what):
    path = only(home, "curl")
    assert site.piped(home, PATH=path).returncode == 0
    site.fresh()
    site.release(VERSION)
    spoil, cause = SPOILT[what]
    spoil(site)
    said = site.piped(home, f"--prefix={home}/other", PATH=path)
    assert said.returncode == 1
    assert cause in said.stderr
    assert not (home / "other").exists()


def test_one_of_several_keys_is_enough_and_sha256_is_fine(site, home):
    other = site.directory.parent / "second"
    keys = [public(new_key(other)), public(site.key)]
    script = site.script(keys=keys)
    assert site.piped(home, script=script).returncode == 0
    sign(site.file(SUMS), other, "-O", "hashalg=sha256")
    assert site.piped(home, script=script).returncode == 0


def test_without_keys_a_digest_is_all_and_that_is_said(site, home):
    script = site.script(keys=[])
    flip(site.file(SIGNATURE), 200)
    said = site.piped(home, script=script)
    assert said.returncode == 0, said.stderr
    assert "WARNING: this install.sh knows no release key" in said.stdout
    flip(site.file(FILE), -5)
    site.log.unlink()
    again = site.piped(home, f"--prefix={home}/other", script=script)
    assert again.returncode == 1
    assert "is damaged" in again.stderr


def test_a_digest_that_was_given_has_to_fit(site, home):
    digest = hashlib.sha256(STAND_IN.format(version=VERSION).encode()).hexdigest()
    refused(site, home, "not what TELEPORT_LITE_SHA256 says", TELEPORT_LITE_SHA256="*")
    assert site.piped(home, TELEPORT_LITE_SHA256=digest).returncode == 0


HOSTILE = {
    "substitution": b"1.2.3;$(touch ran)`touch ran`\n",
    "up": b"../../1.2.3\n",
    "two lines": b"1.2.3\n1.2.4\n",
    "escape sequence": b"\x1b]0;title\x07\x1b[2J",
    "NUL": b"1.2.3\0",
    "NUL within": b"1.\0002.3",
    "nothing": b"",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_version_from_a_hostile_server_is_refused_and_shown_without_control(site, home, what):
    site.file("latest").write_bytes(HOSTILE[what])
    said = refused(site, home, "BASE/latest should name a version")
    assert said.replace("\n", "").isprintable()
    assert [str(path) for path in home.rglob("ran")] == []


def test_what_is_too_large_is_not_taken(site, home):
    site.file("latest").write_bytes(b"1" * 10_000_000)
    refused(site, home, "can not download BASE/latest")
    site.answers["/releases/latest"] = (200, {"Content-Length": ""}, b"1" * 10_000_000)
    refused(site, home, "can not download BASE/latest")


PAGES = {
    "captive portal": b"<!DOCTYPE html>\n<title>Please log in</title>",
    "after a byte order mark": "\ufeff\r\n\r\n<html>".encode(),
    "after a comment": b"\n<!-- proxy -->\n",
}


@pytest.mark.parametrize("page", PAGES)
def test_a_web_page_in_place_of_a_file_is_told(site, home, page):
    for name in ("latest", SUMS, FILE):
        site.answers = {f"/releases/{name}": (200, {}, PAGES[page])}
        refused(site, home, f"BASE/{name} is a web page, not the file")


def only(home: Path, *more: str) -> str:
    """A PATH with what the script needs, and of the rest only these."""
    place = home / "only"
    place.mkdir(parents=True)
    needed = [
        "bash",
        "uname",
        "id",
        "mktemp",
        "rm",
        "sha256sum",
        "cut",
        "tail",
        "tr",
        "sed",
        "sort",
    ]
    needed += ["readlink", "cp", "mv", "mkdir", "cat", "dirname", "grep"]
    for name in (*needed, *more):
        (place / name).symlink_to(f"/usr/bin/{name}")
    return str(place)


@pytest.mark.parametrize("tool", ["curl", "wget", "python3"])
def test_each_way_to_download_checks_the_server_and_stays_with_https(site, home, tool):
    path = only(home, *([tool] if tool != "python3" else []))
    trust = home / ".wgetrc"
    trust.write_text(f"ca_certificate = {site.certificate}\n")
    assert site.piped(home, PATH=path).returncode == 0
    site.log.unlink()
    site.asked.clear()
    prefix = f"--prefix={home}/other"

    site.answers["/releases/latest"] = (
        302,
        {"Location": f"http://localhost:{site.plain}/releases/latest"},
        b"",
    )
    astray = site.piped(home, prefix, PATH=path)
    assert astray.returncode == 1
    assert "ERROR: can not download " in astray.stderr
    assert set(site.asked) == {"/releases/latest"}

    site.asked.clear()
    trust.unlink()
    ours = {"CURL_CA_BUNDLE": "/etc/hosts", "SSL_CERT_FILE": "/etc/hosts"}
    untrusted = site.piped(home, prefix, PATH=path, **ours)
    assert untrusted.returncode == 1
    assert "certificate" in untrusted.stderr.lower()
    assert site.asked == site.calls() == []


@pytest.mark.parametrize("tool", ["curl", "wget", "python3"])
def test_a_redirect_to_https_is_followed(site, home, tool):
    path = only(home, *([tool] if tool != "python3" else []))
    (home / ".wgetrc").write_text(f"ca_certificate = {site.certificate}\n")
    site.answers["/releases/latest"] = (302, {"Location": "/elsewhere"}, b"")
    site.answers["/elsewhere"] = (200, {}, b"v1.2.3\n")
    assert site.piped(home, "--dry-run", PATH=path).returncode == 0


def test_plain_http_is_for_loopback_alone(site, home):
    script = site.script(base=f"http://127.0.0.1:{site.plain}/releases")
    assert site.piped(home, script=script).returncode == 0
    assert site.asked[0] == "http:/releases/latest"
    for base in (
        "http://192.0.2.1/releases",
        "https://a b/c",
        "file:///etc",
        "https://h/../x",
        "-K/x",
    ):
        said = site.piped(home, TELEPORT_LITE_BASE=base)
        assert said.returncode == 1
        assert "this install.sh does not know where releases are" in said.stderr


def test_the_curl_settings_of_a_user_do_not_turn_the_checks_off(site, home):
    home.mkdir()
    (home / ".curlrc").write_text("insecure\nproto-redir = all\n")
    refused(site, home, "certificate", CURL_CA_BUNDLE="/etc/hosts")

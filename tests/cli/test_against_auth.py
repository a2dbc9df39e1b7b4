"""The whole way from a typed command to the auth service's desks and back."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from teleport_lite.auth.desks import Desks
from teleport_lite.client import identity_file
from teleport_lite.model.system_role import NODE
from tests.cli import real_auth
from tests.cli.conftest import Tool
from tests.cli.fake_auth import FakeAuth
from tests.cli.real_auth import ADDRESS, CLUSTER


@pytest.fixture
def desks(auth: FakeAuth) -> Desks:
    made = real_auth.desks()
    real_auth.put_behind(auth, made)
    return made


@pytest.mark.usefixtures("desks")
class TestTokens:
    def test_every_type_can_be_invited(self, tctl: Tool) -> None:
        types = "app auth bot db discovery kube node proxy windowsdesktop trusted_cluster"
        for type in types.split():
            made = tctl("tokens", "add", f"--type={type}")
            assert made.code == 0, made.err
            assert re.search(r"token: [0-9a-f]{32}$", made.out, re.MULTILINE)
        listed = tctl("tokens", "ls").out
        assert len(listed.splitlines()) == 2 + len(types.split())
        assert "Kube,App,Discovery" in listed

    def test_a_token_is_made_listed_and_revoked(self, tctl: Tool) -> None:
        made = tctl("nodes", "add", "--ttl=5m", "--roles=node,proxy", "--token=secret-value")
        assert made.out.startswith("The invite token: secret-value\nThis token will expire in 5 ")
        assert f"   --auth-server={ADDRESS}\n" in made.out
        assert made.err.startswith("WARN: this token has less than 16 characters")
        [row] = tctl("tokens", "ls").out.splitlines()[2:]
        assert re.fullmatch(
            r"secret-value  Node,Proxy +\d\d \w{3} \d\d \d\d:\d\d UTC \((4m\d+s|5m0s)\)", row
        )
        removed = tctl("tokens", "rm", "secret")
        assert removed.out == "Token secret-value has been deleted\n"
        assert tctl("tokens", "ls").out == "No active tokens found.\n"
        assert tctl("tokens", "rm", "secret").code == 3

    def test_the_same_value_cannot_be_added_twice(self, tctl: Tool) -> None:
        twice = [tctl("tokens", "add", "--type=node", f"--value={'x' * 16}") for _ in "ab"]
        assert [each.code for each in twice] == [0, 1]
        assert "already exists), please use another name" in twice[1].err

    def test_a_wrong_type_is_told_with_the_right_ones(self, tctl: Tool) -> None:
        refused = tctl("tokens", "add", "--type=nod")
        assert refused.code == 1
        assert refused.err == (
            "ERROR: role 'nod' does not exist, did you mean node\n  try: one or more of "
            "app,auth,bot,db,discovery,kube,node,proxy,trusted_cluster,windowsdesktop\n"
        )


@pytest.mark.usefixtures("desks")
class TestPeople:
    def test_users_come_and_go(self, tctl: Tool) -> None:
        assert tctl("users", "add", "alice", "--roles=access", "--logins=root").code == 0
        assert tctl("users", "add", "alice", "--roles=access").code == 1
        assert tctl("users", "add", "bob", "--roles=nope").code == 3
        assert tctl("users", "update", "alice", "--set-logins=ubuntu").code == 0
        [user] = json.loads(tctl("users", "ls", "--format=json").out)
        assert (user["name"], user["roles"], user["logins"]) == ("alice", ["access"], ["ubuntu"])
        assert tctl("users", "rm", "alice").out == 'User "alice" has been deleted\n'
        assert tctl("users", "rm", "alice").code == 3

    def test_the_link_of_a_user_is_a_token_of_type_signup(self, tctl: Tool) -> None:
        said = tctl("users", "add", "alice", "--roles=access").out
        assert "No proxy is running yet" in said
        token = said.partition("/web/invite/")[2].split()[0]
        [row] = tctl("tokens", "ls").out.splitlines()[2:]
        assert re.fullmatch(rf"{token}  Signup +\d\d \w{{3}} \d\d .* \((59m\d+s|1h0m0s)\)", row)
        assert "not set, link until" in tctl("users", "ls").out
        assert tctl("tokens", "rm", token[:8]).out == f"Token {token} has been deleted\n"
        assert tctl("users", "ls").out.splitlines()[2] == "alice  access  not set"
        assert "/web/reset/" in tctl("users", "reset", "alice").out
        assert tctl("users", "unlock", "alice").out == 'User "alice" was not locked out\n'
        assert tctl("users", "reset", "nobody").code == 3

    def test_bots_come_and_go(self, tctl: Tool) -> None:
        made = tctl("bots", "add", "deploy", "--roles=access")
        assert made.code == 0, made.err
        assert "  - This invitation token works once\n" in made.out
        assert tctl("bots", "ls").out.splitlines()[2] == "deploy  bot-deploy  access"
        assert tctl("bots", "rm", "deploy").code == 0
        assert tctl("bots", "ls").out == "No bots found\n"

    def test_locks_are_made_and_lifted(self, tctl: Tool) -> None:
        made = re.fullmatch(r'Created a lock with name "(.+)"\.\n', tctl("lock", "--user=eve").out)
        assert made
        [lock] = json.loads(tctl("get", "locks", "--format=json").out)
        assert lock["spec"]["target"] == {"user": "eve"}
        assert tctl("rm", f"lock/{made[1]}").out == f'lock "{made[1]}" has been deleted\n'
        assert tctl("get", "locks").out == ""


@pytest.mark.usefixtures("desks")
class TestResources:
    def test_roles_go_round(self, tctl: Tool, tmp_path: Path) -> None:
        [role] = json.loads(tctl("get", "role/access", "--format=json").out)
        role["metadata"] = {"name": "dev"}
        file = tmp_path / "role.yaml"
        file.write_text(yaml.safe_dump(role))
        assert tctl("create", str(file)).out == 'role "dev" has been created\n'
        assert tctl("create", str(file)).code == 1
        assert tctl("create", "-f", str(file)).out == 'role "dev" has been updated\n'
        [made] = yaml.safe_load_all(tctl("get", "role/dev").out)
        assert made["spec"] == role["spec"]
        assert tctl("rm", "role/dev").code == 0
        assert tctl("get", "role/dev").code == 3

    def test_every_kind_of_all_exists(self, tctl: Tool) -> None:
        kinds = {doc["kind"] for doc in yaml.safe_load_all(tctl("get", "all").out)}
        assert {"cert_authority", "role"} <= kinds
        assert "PRIVATE" not in tctl("get", "all", "--format=json").out

    def test_an_unknown_kind_is_told_with_the_right_ones(self, tctl: Tool) -> None:
        refused = tctl("get", "wat")
        assert refused.code == 1
        assert "kind 'wat' does not exist\n  try: one of " in refused.err


@pytest.mark.usefixtures("desks")
class TestCertificates:
    def test_one_file_holds_everything(self, tctl: Tool, tmp_path: Path) -> None:
        tctl("users", "add", "alice", "--roles=access", "--logins=root")
        out = tmp_path / "alice"
        signed = tctl("auth", "sign", "--user=alice", f"--out={out}", "--ttl=1h")
        assert signed.code == 0, signed.err
        assert signed.out.startswith(f"The credentials have been written to {out}\n")
        assert out.stat().st_mode & 0o777 == 0o600
        identity = identity_file.load(out)
        assert identity.cluster == CLUSTER
        shown = subprocess.run(["ssh-keygen", "-Lf", out], capture_output=True, text=True).stdout
        assert "Type: ecdsa-sha2-nistp256-cert-v01@openssh.com user certificate" in shown
        assert 'Key ID: "alice"' in shown
        derived = subprocess.run(["ssh-keygen", "-yf", out], capture_output=True, text=True)
        assert derived.stdout.startswith("ecdsa-sha2-nistp256 "), derived.stderr

    def test_openssh_gets_its_two_files(self, tctl: Tool, tmp_path: Path) -> None:
        tctl("users", "add", "alice", "--roles=access", "--logins=root")
        out = tmp_path / "alice"
        signed = tctl("auth", "sign", "--user=alice", "--format=openssh", f"-o{out}")
        lines = signed.out.splitlines()
        assert lines[0] == f"The credentials have been written to {out}, {out}-cert.pub"
        assert re.fullmatch(r"They are valid until .* UTC \((12h0m0s|11h59m\d+s)\)", lines[1])
        assert lines[3:] == [
            "To log in with them:",
            "",
            "> tctl auth export --type=host > known_hosts",
            f"> ssh -i {out} -o UserKnownHostsFile=known_hosts -o HostKeyAlias=NODE.{CLUSTER} "
            "-p 3022 LOGIN@ADDRESS",
        ]
        assert out.read_text().startswith("-----BEGIN OPENSSH PRIVATE KEY-----\n")
        cert = Path(f"{out}-cert.pub")
        assert (out.stat().st_mode & 0o777, cert.stat().st_mode & 0o777) == (0o600, 0o644)
        shown = subprocess.run(["ssh-keygen", "-Lf", cert], capture_output=True, text=True).stdout
        assert re.search(r"Principals: \s+root\n", shown)

    def test_tls_gets_key_certificate_and_cas(self, tctl: Tool, tmp_path: Path) -> None:
        tctl("users", "add", "alice", "--roles=access")
        out = tmp_path / "alice"
        signed = tctl("auth", "sign", "--user=alice", "--format=tls", f"--out={out}")
        assert signed.out.splitlines()[0] == (
            f"The credentials have been written to {out}.key, {out}.crt, {out}.cas"
        )
        begins = [(tmp_path / f"alice.{end}").read_text()[:27] for end in ("key", "crt", "cas")]
        assert begins == ["-----BEGIN PRIVATE KEY-----", *["-----BEGIN CERTIFICATE-----"] * 2]

    def test_hosts_that_are_not_ours_get_certificates_too(self, tctl: Tool, tmp_path: Path) -> None:
        out = tmp_path / "db"
        signed = tctl("auth", "sign", "--host=db-1,db-1.lan", "--format=openssh", f"--out={out}")
        assert signed.code == 0, signed.err
        assert "To log in" not in signed.out
        shown = subprocess.run(
            ["ssh-keygen", "-Lf", f"{out}-cert.pub"], capture_output=True, text=True
        ).stdout
        assert "host certificate" in shown
        assert "db-1.lan\n" in shown

    @pytest.mark.parametrize("existing", ["alice", "alice-cert.pub"])
    def test_nothing_is_replaced_or_signed_unasked(
        self, tctl: Tool, auth: FakeAuth, tmp_path: Path, existing: str
    ) -> None:
        tctl("users", "add", "alice", "--roles=access")
        out, there = tmp_path / "alice", tmp_path / existing
        there.write_text("precious")
        auth.asked.clear()
        words = ("auth", "sign", "--user=alice", "--format=openssh", f"--out={out}")
        refused = tctl(*words)
        assert (refused.code, auth.asked, there.read_text()) == (1, [], "precious")
        assert refused.err.startswith(f"ERROR: {there} exists already\n")
        assert tctl(*words, "--overwrite").code == 0
        assert there.read_text() != "precious"

    def test_a_link_is_never_written_through(self, tctl: Tool, tmp_path: Path) -> None:
        tctl("users", "add", "alice", "--roles=access")
        target, out = tmp_path / "target", tmp_path / "alice"
        target.write_text("precious")
        out.symlink_to(target)
        refused = tctl("auth", "sign", "--user=alice", f"--out={out}", "--overwrite")
        assert (refused.code, target.read_text()) == (1, "precious")

    @pytest.mark.parametrize("who", [(), ("--user=a", "--host=b")])
    def test_it_is_either_a_user_or_a_host(self, tctl: Tool, who: tuple[str, ...]) -> None:
        refused = tctl("auth", "sign", "--out=x", *who)
        assert refused.code == 2
        assert refused.err == (
            "ERROR: one of --user and --host is needed, and only one\n"
            "  try: tctl auth sign --help\n"
        )

    def test_private_keys_are_not_sent(self, tctl: Tool, auth: FakeAuth, tmp_path: Path) -> None:
        tctl("users", "add", "alice", "--roles=access")
        for shape in ("file", "openssh", "tls"):
            out = tmp_path / shape
            tctl("auth", "sign", "--user=alice", f"--format={shape}", f"--out={out}")
        assert "PRIVATE" not in json.dumps(auth.asked)

    def test_cas_are_exported_and_listed(self, tctl: Tool) -> None:
        host = tctl("auth", "export", "--type=host").out
        assert re.fullmatch(
            rf"@cert-authority \*\.{CLUSTER},{CLUSTER} ssh-ed25519 \S+ type=host\n", host
        )
        user = tctl("auth", "export", "--type=user").out
        assert user.startswith("cert-authority ssh-ed25519 ")
        assert tctl("auth", "export").out == user + host
        assert "BEGIN CERTIFICATE" in tctl("auth", "export", "--type=tls-host").out
        assert tctl("auth", "export", "--type=wat").code == 1
        rows = [line.split() for line in tctl("auth", "ls").out.splitlines()[2:]]
        assert [CLUSTER, "host", "active"] in rows
        assert len(list(yaml.safe_load_all(tctl("auth", "ls", "--format=yaml").out))) == len(rows)


@pytest.mark.usefixtures("desks")
class TestTheTrail:
    def test_what_was_done_is_listed_and_the_chain_is_whole(self, tctl: Tool) -> None:
        tctl("tokens", "add", "--type=node")
        tctl("users", "rm", "nobody")
        header, _, *rows = tctl("audit", "ls").out.splitlines()
        assert re.split(r" {2,}", header) == ["Seq", "Time", "Event", "Code", "Outcome", "Facts"]
        assert "cluster.create" in rows[0]
        assert "join_token.create" in rows[1]
        assert "user=admin:root" in rows[1]
        assert tctl("audit", "verify").out == f"{len(rows)} events, the chain is whole\n"

    def test_a_part_of_it_says_how_to_go_on(self, tctl: Tool) -> None:
        for _ in "abc":
            tctl("tokens", "add", "--type=node")
        part = tctl("audit", "ls", "--after=1", "--limit=2", "--format=json")
        assert [event["seq"] for event in json.loads(part.out)] == [2, 3]
        assert part.err == "WARN: there may be more, tctl audit ls --after=3 goes on\n"


def test_nodes_are_listed_as_the_service_knows_them(desks: Desks, tctl: Tool) -> None:
    assert tctl("nodes", "ls").out.splitlines()[0].split() == [
        *("Host", "UUID", "Public", "Address", "Labels", "Version")
    ]
    assert NODE in desks.invites._book  # the kind of host this listing is about
    assert tctl("status").out.startswith(f"Cluster     {CLUSTER}\nVersion     0.1.0\n")

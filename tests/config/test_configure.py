"""teleport-lite configure, as it is typed."""

import io
import subprocess

import pytest
import typer
import typer.main

from teleport_lite.cli.exit import guarded
from teleport_lite.cli.teleport.configure import configure, node_configure
from teleport_lite.config.load import load
from teleport_lite.config.token_source import TokenSource


@pytest.fixture
def run(capsys):
    """Run a command; gives its exit code, stdout and stderr."""

    def run(command, *words: str) -> tuple[int, str, str]:
        app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
        app.command()(command)
        inner = typer.main.get_command(app)
        code = guarded(lambda: inner.main(args=list(words), standalone_mode=False))
        return code, *capsys.readouterr()

    return run


JOIN = ("--roles=node", "--token=join-token", "--proxy=teleport.example.com:443")


def test_by_default_the_file_goes_to_stdout(run):
    code, text, said = run(configure)
    assert (code, said) == (0, "")
    assert text.startswith("#\n# Sample Teleport configuration file")
    assert run(configure, "--output=stdout")[1] == text


def test_the_word_file_means_the_usual_place(run, tmp_path, monkeypatch, book):
    path = tmp_path / "teleport.yaml"
    monkeypatch.setenv("TELEPORT_LITE_CONFIG", str(path))
    code, text, said = run(configure, *JOIN, "-o", "file")
    assert (code, said) == (0, "")
    assert text == f"The config is in {path}. To start with it:\n\n  sudo teleport-lite start\n"
    assert load(path, book).proxy_server == "teleport.example.com:443"


def test_a_file_url_and_a_path_are_places_too(run, tmp_path):
    for output in (f"file://{tmp_path}/a.yaml", f"{tmp_path}/b.yaml"):
        code, text, _ = run(configure, *JOIN, f"--output={output}")
        assert code == 0
        assert f"sudo teleport-lite start --config={tmp_path}/" in text


def test_the_file_is_private_because_it_holds_the_token(run, tmp_path):
    run(configure, *JOIN, "-o", f"{tmp_path}/a.yaml")
    assert (tmp_path / "a.yaml").stat().st_mode & 0o777 == 0o600


def test_an_existing_file_is_never_overwritten(run, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("precious")
    code, text, said = run(configure, *JOIN, "-o", f"file://{path}")
    assert (code, text) == (1, "")
    assert said == (
        f"ERROR: {path} exists, and configure never overwrites a file\n"
        f"  try: mv {path} {path}.old\n"
    )
    assert path.read_text() == "precious"


def test_a_link_in_the_way_is_not_followed(run, tmp_path):
    (tmp_path / "a.yaml").symlink_to(tmp_path / "elsewhere")
    assert run(configure, *JOIN, "-o", f"{tmp_path}/a.yaml")[0] != 0
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("output", ["x.yaml", "file://x.yaml", "http://x/y"])
def test_any_other_place_is_refused(run, output):
    code, _, said = run(configure, f"--output={output}")
    assert code == 1
    assert "is not stdout, file or file:///a/path" in said


def test_silent_says_nothing(run, tmp_path):
    assert run(configure, "--silent", "-o", f"{tmp_path}/a.yaml") == (0, "", "")


def test_node_configure_needs_no_roles(run, tmp_path, book):
    path = tmp_path / "a.yaml"
    code, _, _ = run(
        node_configure,
        *JOIN[1:],
        "--labels=env=prod",
        "--node-name=web-1",
        "--ca-pin=sha256:aa,sha256:bb",
        "--join-method=token",
        "--data-dir=/srv/t",
        f"--output={path}",
    )
    config = load(path, book)
    assert code == 0
    assert config.roles == {"Node"}
    assert (config.nodename, config.node.labels) == ("web-1", {"env": "prod"})
    assert config.ca_pins == ("sha256:aa", "sha256:bb")
    assert str(config.data_dir) == "/srv/t"


def test_the_guides_configure_and_sed(run, tmp_path, book):
    path = tmp_path / "teleport.yaml"
    words = ["--roles=node", "--token=join-token", "--auth-server=auth-service:3025"]
    assert run(configure, *words, "-o", str(path))[0] == 0
    sed = ["sed", "-i", 's| ca_pin: ""| ca_pin: "ca-pin"|', str(path)]
    subprocess.run(sed, check=True)
    config = load(path, book)
    assert config.ca_pins == ("ca-pin",)
    assert config.auth_servers == ("auth-service:3025",)
    assert config.token == TokenSource.parse("join-token")


def test_a_token_can_be_typed_and_stays_out_of_the_process_list(run, tmp_path, monkeypatch, book):
    monkeypatch.setattr("sys.stdin", io.StringIO("typed-token\n"))
    run(configure, "--roles=node", "--token=-", "-o", f"{tmp_path}/a.yaml")
    assert load(tmp_path / "a.yaml", book).token.read().reveal() == "typed-token"


@pytest.mark.parametrize("command", [configure, node_configure])
def test_other_join_methods_are_refused(run, command):
    code, text, said = run(command, "--join-method=iam")
    assert (code, text) == (1, "")
    assert "--join-method: 'iam' is not built yet, only token is" in said


def test_a_proxy_with_a_certificate_by_acme(run, tmp_path, book):
    path = tmp_path / "teleport.yaml"
    name = "tele.example.com"
    words = ["--acme", "--acme-email=admin@example.com", f"--cluster-name={name}", "-o", str(path)]
    code, _, said = run(configure, *words)
    assert (code, said) == (0, "")
    proxy = load(path, book).proxy
    assert (proxy.web_listen_addr, proxy.public_addrs) == ("0.0.0.0:443", (f"{name}:443",))
    assert (proxy.acme.enabled, proxy.acme.email) == (True, "admin@example.com")


def test_a_proxy_with_certificate_files(run, tmp_path, book):
    path = tmp_path / "teleport.yaml"
    words = ["--cert-file=/c.pem", "--key-file=/k.pem", "--public-addr=tele.example.com:443"]
    assert run(configure, "--roles=proxy", *words, "-o", str(path))[0] == 0
    config = load(path, book)
    assert config.roles == {"Proxy"}
    assert config.proxy.public_addrs == ("tele.example.com:443",)
    [pair] = config.proxy.https_keypairs
    assert (str(pair.cert_file), str(pair.key_file)) == ("/c.pem", "/k.pem")


def test_a_wrong_flag_writes_nothing(run, tmp_path):
    code, _, said = run(configure, "--node-labels=a", "-o", f"{tmp_path}/a.yaml")
    assert code == 1
    assert "--labels: label 'a' is not key=value" in said
    assert list(tmp_path.iterdir()) == []


def test_test_says_ok_on_stderr(run, tmp_path):
    path = tmp_path / "a.yaml"
    run(configure, *JOIN, "-o", str(path))
    assert run(configure, "--test", str(path)) == (0, "", f"OK {path}\n")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("teleport:\n  nodenme: x\n", ":2: teleport.nodenme: unknown key, did you mean nodename"),
        ("version: v3\nteleport:\n  auth_servers: [a]\n", ":3: teleport.auth_servers: is for"),
        ('teleport: {ca_pin: "sha256:aa"}\n', "CA pin"),
        ("plugins: {directories: [/nowhere/printer]}\n", "/nowhere"),
    ],
)
def test_test_says_fail_and_why_on_stderr(run, tmp_path, text, why):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    path.chmod(0o600)
    code, out, said = run(configure, "--test", str(path))
    assert (code, out) == (1, "")
    assert said.startswith(f"FAIL {path}\nERROR: ")
    assert why in said


def test_test_of_a_missing_file_fails(run, tmp_path):
    code, _, said = run(configure, "--test", f"{tmp_path}/gone")
    assert code == 1
    assert said.startswith(f"FAIL {tmp_path}/gone\nERROR: {tmp_path}/gone: does not exist\n")

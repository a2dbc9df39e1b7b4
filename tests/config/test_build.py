"""From YAML to Config: versions, addresses, roles, storage, and what the guides promise."""

from datetime import timedelta
from pathlib import Path

import pytest

from teleport_lite.config.build import UNBUILT, build, default_keyring
from teleport_lite.config.load import defaults
from teleport_lite.config.model import LogConfig
from teleport_lite.errors import Malformed
from teleport_lite.model.names import CLUSTER_NAME, HOST_NAME
from teleport_lite.model.schema import Field, Kind
from teleport_lite.model.system_role import RoleBook, SystemRole

NODE_ONLY = "auth_service: {enabled: no}\nproxy_service: {enabled: no}\n"


def test_the_defaults_are_a_whole_cluster_on_the_usual_ports(book):
    config = defaults(book)
    assert config.roles == {"Auth", "Proxy", "Node"}
    assert config.data_dir == Path("/var/lib/teleport-lite")
    assert config.storage.path == Path("/var/lib/teleport-lite/backend")
    assert config.storage.keyring == Path("/etc/teleport-lite/keyring")
    assert config.auth.listen_addr == "0.0.0.0:3025"
    assert config.node.listen_addr == "0.0.0.0:3022"
    proxy = config.proxy
    ports = (proxy.listen_addr, proxy.tunnel_listen_addr, proxy.web_listen_addr)
    assert ports == ("0.0.0.0:3023", "0.0.0.0:3024", "0.0.0.0:3080")
    assert config.auth_servers == ("127.0.0.1:3025",)
    assert (config.token, config.ca_pins, config.diag_addr, config.pid_file) == (None, (), "", None)
    assert config.log == LogConfig(output="stderr", severity="INFO", format="text")
    assert config.warnings == ()


def test_names_come_from_the_host_and_are_made_valid(book, monkeypatch):
    class Uname:
        nodename = "-Bad_Host name\u00e4."

    monkeypatch.setattr("os.uname", Uname)
    config = defaults(book)
    assert config.nodename == config.auth.cluster_name == "Bad-Host-name"
    Uname.nodename = "___"
    assert HOST_NAME.fullmatch(defaults(book).nodename)
    assert CLUSTER_NAME.fullmatch(defaults(book).auth.cluster_name)


@pytest.mark.parametrize("version", ["", "version: v1\n", "version: v2\n", 'version: "v2"\n'])
def test_old_versions_list_auth_servers(desk, version):
    config = desk.read(f"{version}teleport: {{auth_servers: [10.12.0.6, 'p.example.com:3080']}}")
    assert config.auth_servers == ("10.12.0.6:3025", "p.example.com:3080")
    assert config.version == (version[-4:].strip('"\n:') or "v1").strip()


@pytest.mark.parametrize("key", ["auth_server", "proxy_server"])
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_old_versions_do_not_know_the_new_keys(desk, version, key):
    text = f"version: {version}\nteleport:\n  {key}: a.example.com\n"
    assert desk.refusal(text) == (
        f"f.yaml:3: teleport.{key}: is supported from version v3 on; "
        f"write 'version: v3' or auth_servers (now {version})"
    )


def test_v3_takes_one_auth_server_or_one_proxy_and_no_list(desk):
    v3 = "version: v3\nteleport:\n  {}\n"
    config = desk.read(v3.format("auth_server: auth.example.com"))
    assert (config.auth_servers, config.proxy_server) == (("auth.example.com:3025",), "")
    config = desk.read(v3.format("proxy_server: teleport.example.com"))
    assert (config.auth_servers, config.proxy_server) == ((), "teleport.example.com:3080")
    assert desk.refusal(v3.format("auth_servers: [a]")) == (
        "f.yaml:3: teleport.auth_servers: is for version v1 and v2; "
        "in v3 write auth_server or proxy_server"
    )
    assert desk.refusal(v3.format("auth_server: a\n  proxy_server: b")) == (
        "f.yaml:4: teleport.proxy_server: auth_server is given too, one of them is enough"
    )


@pytest.mark.parametrize("version", ["v4", "3", "V3", "[v3]"])
def test_other_versions_do_not_exist(desk, version):
    said = desk.refusal(f"\nversion: {version}\n")
    assert said.startswith("f.yaml:2: version: ")
    assert said.endswith("must be one of v1, v2, v3")


def test_only_v1_opens_ports_for_ssh_and_tunnels_by_itself(desk):
    for version in ("v2", "v3"):
        proxy = desk.read(f"version: {version}").proxy
        assert (proxy.listen_addr, proxy.tunnel_listen_addr) == ("", "")
        assert proxy.multiplexed
        proxy = desk.read(f"version: {version}\nproxy_service: {{listen_addr: 0.0.0.0}}").proxy
        assert proxy.listen_addr == "0.0.0.0:3023"
    assert not desk.read("version: v1").proxy.multiplexed


def test_the_same_address_twice_means_one_port_even_in_v1(desk):
    text = "proxy_service: {web_listen_addr: 0.0.0.0:443, tunnel_listen_addr: 0.0.0.0:443}"
    assert desk.read(text).proxy.multiplexed


def test_our_three_roles_run_unless_disabled_and_others_only_when_enabled(desk):
    assert desk.read("app_service: {apps: []}").roles == {"Auth", "Proxy", "Node"}
    assert desk.read(NODE_ONLY).roles == {"Node"}
    assert desk.read('app_service: {enabled: "yes"}').roles == {"Auth", "Proxy", "Node", "App"}


def test_a_config_that_runs_nothing_is_refused(desk):
    said = desk.refusal(f"{NODE_ONLY}ssh_service: {{enabled: no}}\n")
    assert said == "f.yaml: every service is disabled, enable one or give --roles"


def test_a_plugins_section_is_read_by_its_own_fields():
    fields = (
        Field(name="queue", kind=Kind.TEXT, help="", required=True, example="office"),
        Field(name="every", kind=Kind.DURATION, help="", default=timedelta(minutes=5)),
    )
    role = SystemRole(name="Printer", flag="printer", section="printer_service", fields=fields)
    book = RoleBook([role])

    def read(text: str):
        from teleport_lite.config.load import parse

        return parse(text, "f.yaml", book)

    config = read("printer_service: {enabled: yes, queue: 1:30}")
    assert config.roles == {"Printer"}
    assert config.sections == {"Printer": {"queue": "1:30", "every": timedelta(minutes=5)}}
    with pytest.raises(Malformed, match=r"f.yaml:2: printer_service.queue: is missing, like off"):
        read("\nprinter_service: {enabled: yes}")
    with pytest.raises(Malformed, match=r"f.yaml:1: printer_service.quue: .* did you mean queue"):
        read("printer_service: {quue: x}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("version: v3\naap_service: {}", "2: aap_service: unknown key, did you mean app_service"),
        ("sshd_service: {}", "1: sshd_service: unknown key, did you mean ssh_service"),
        (
            "teleport:\n  nodenme: x",
            "2: teleport.nodenme: unknown key, did you mean nodename",
        ),
        (
            "teleport:\n  nodename: a_b",
            "2: teleport.nodename: node name 'a_b' is not valid, expected something like 'web-1'",
        ),
        (
            "teleport:\n  data_dir: var/lib",
            "2: teleport.data_dir: 'var/lib' is not an absolute path, "
            "like '/var/lib/teleport-lite'",
        ),
        (
            "teleport:\n  diag_addr: 3000x",
            "2: teleport.diag_addr: '3000x' is not host:port, like '0.0.0.0:3000'",
        ),
        (
            "teleport:\n  advertise_ip: 0.0.0.0",
            "2: teleport.advertise_ip: '0.0.0.0' is an address nobody can connect to, "
            "like '10.1.0.5'",
        ),
        (
            "teleport:\n  auth_token: abcdefgh\n  join_params: {token_name: abcdefgh}",
            "2: teleport.auth_token: join_params.token_name is given too, one of them is enough",
        ),
        (
            "teleport:\n  join_params:\n    method: iam",
            "3: teleport.join_params.method: 'iam' is not one of token",
        ),
        (
            "teleport:\n  auth_token: has space",
            "2: teleport.auth_token: the token holds characters that no token has",
        ),
        (
            "teleport:\n  log:\n    severity: LOUD",
            "3: teleport.log.severity: 'LOUD' is not one of "
            "TRACE, DEBUG, INFO, WARN, WARNING, ERROR, ERR",
        ),
        (
            "teleport:\n  log:\n    output: file.log",
            "3: teleport.log.output: 'file.log' is not stderr, stdout, syslog or an absolute path",
        ),
        (
            "teleport:\n  storage:\n    type: etcd",
            "3: teleport.storage.type: 'etcd' is not one of sqlite, postgresql, dir",
        ),
        (
            "teleport:\n  storage:\n    type: postgresql",
            "3: teleport.storage.type: postgresql needs teleport.storage.conn_string, "
            "like postgresql://teleport@db.example.com/teleport?sslmode=verify-full",
        ),
        (
            "teleport:\n  storage:\n    conn_string: postgresql://x:hidden@y/z",
            "3: teleport.storage.conn_string: is of teleport.storage.type postgresql",
        ),
        (
            "teleport:\n  storage:\n    type: postgresql\n    conn_string: hidden@y",
            "4: teleport.storage.conn_string: it holds no connection string of PostgreSQL",
        ),
        (
            "teleport:\n  storage:\n    type: postgresql\n    conn_string: [hidden]",
            "4: teleport.storage.conn_string: a list is not secret text, like "
            "postgresql://teleport@db.example.com/teleport?sslmode=verify-full",
        ),
        (
            "teleport:\n  data_dir: /d\n  storage:\n    keyring: /d/x/../keyring",
            "4: teleport.storage.keyring: must be outside data_dir (/d), like /d.keyring",
        ),
        (
            "plugins:\n  directories: [/a, b]",
            "2: plugins.directories[1]: 'b' is not an absolute path, like '/var/lib/teleport-lite'",
        ),
        (
            "plugins:\n  settings: {a: b}",
            "2: plugins.settings: must hold a mapping for each plugin's name",
        ),
        ("teleport: nodename", "1: teleport: must hold keys, like {key: value}"),
    ],
)
def test_a_wrong_value_is_refused_by_line_and_key(desk, text, message):
    assert desk.refusal(text) == f"f.yaml:{message}"


def test_the_whole_teleport_section(desk):
    config = desk.read(
        """
teleport:
  nodename: web-1
  data_dir: /srv/t/
  pid_file: /run/t.pid
  join_params: {method: token, token_name: /etc/token.file}
  ca_pin: ["sha256:aa", /etc/pins]
  advertise_ip: 10.1.0.5
  diag_addr: 127.0.0.1:3000
  log: {output: /var/log/t.log, severity: warning, format: {output: json}}
  storage: {type: dir, path: /srv/db}
plugins:
  directories: [/etc/p/printer]
  distributions: [teleport-lite-lab]
  settings: {printer: {queue: on}}
"""
    )
    assert (config.nodename, config.data_dir) == ("web-1", Path("/srv/t"))
    assert config.pid_file == Path("/run/t.pid")
    assert str(config.token) == "/etc/token.file"
    assert config.ca_pins == ("sha256:aa", "/etc/pins")
    assert (config.advertise_ip, config.diag_addr) == ("10.1.0.5", "127.0.0.1:3000")
    assert config.log == LogConfig(output="/var/log/t.log", severity="WARN", format="json")
    assert config.storage.type == "sqlite"
    assert config.storage.path == Path("/srv/db")
    assert config.storage.keyring == Path("/srv/t.keyring")
    assert config.plugins.directories == (Path("/etc/p/printer"),)
    assert config.plugins.distributions == ("teleport-lite-lab",)
    assert config.plugins.settings == {"printer": {"queue": "on"}}


def test_the_keyring_stands_beside_a_data_directory_of_ones_own():
    assert default_keyring(Path("/srv/t")) == Path("/srv/t.keyring")
    assert default_keyring(Path("/var/lib/teleport-lite")) == Path("/etc/teleport-lite/keyring")


@pytest.mark.parametrize("text", ['ca_pin: ""', "ca_pin: []", "ca_pin: ~", 'auth_token: ""'])
def test_an_empty_pin_or_token_is_none(desk, text):
    config = desk.read(f"teleport: {{{text}}}")
    assert (config.ca_pins, config.token) == ((), None)


def test_a_date_or_a_number_is_a_fine_token(desk):
    for token in ("2024-01-01", "12345678", "1e5", "0x10"):
        config = desk.read(f"teleport: {{auth_token: {token}}}")
        assert config.token.read().reveal() == token


def test_syslog_is_not_built_and_says_so(desk):
    config = desk.read("teleport:\n  log:\n    output: syslog")
    assert config.log.output == "stderr"
    assert config.warnings == (
        "f.yaml:3: teleport.log.output: syslog is not built yet, the log goes to stderr",
    )


def test_keys_that_nothing_uses_yet_are_listed_with_their_line(desk):
    config = desk.read(
        "teleport:\n  ciphers: [a]\n  cache: {enabled: yes}\n"
        "proxy_service:\n  ui: {scrollback_lines: 10}\n"
        "ssh_service:\n  enhanced_recording: {enabled: no}\n"
    )
    assert set(config.warnings) == {
        "f.yaml:2: teleport.ciphers: has no effect yet",
        "f.yaml:3: teleport.cache: has no effect yet",
        "f.yaml:5: proxy_service.ui: has no effect yet",
        "f.yaml:7: ssh_service.enhanced_recording: has no effect yet",
    }


def test_sections_of_services_that_do_not_exist_here_are_read_and_told():
    config = build_without_roles("".join(f"{name}: {{enabled: yes}}\n" for name in UNBUILT))
    assert config.warnings == tuple(
        f"f.yaml:{line}: {name}: has no effect yet" for line, name in enumerate(UNBUILT, 1)
    )


def build_without_roles(text: str):
    from teleport_lite.config.yaml import load_yaml

    return build(load_yaml(text, "f.yaml"), "f.yaml", RoleBook([]))


def test_the_guides_config_of_a_joining_node(desk):
    pin = "sha256:7e12c17c20d9cb504bbcb3f0236be3f446861f1396dcbb44425fe28ec1c108f1"
    config = desk.read(
        f"""
teleport:
  auth_token: "abcd123-insecure-do-not-use-this"
  ca_pin: "{pin}"
  auth_servers:
    - "10.12.0.6:3025"
"""
    )
    assert config.token.read().reveal() == "abcd123-insecure-do-not-use-this"
    assert config.ca_pins == (pin,)
    assert config.auth_servers == ("10.12.0.6:3025",)
    assert config.version == "v1"


@pytest.mark.parametrize(
    "text",
    [
        """# Config section in `/etc/teleport.yaml` file for the auth server
auth_service:
    enabled: true
    tokens:
    # This static token allows new hosts to join the cluster as "proxy" or "node"
    - "proxy,node:secret-token-value"
    # A token can also be stored in a file. In this example the token for adding
    # new auth servers are stored in /path/to/tokenfile
    - "auth:/path/to/tokenfile"
""",
        """auth_service:
  enabled: true
  tokens:
    - 'proxy,node:secret-token-value'
    - 'auth:/path/to/tokenfile'
""",
    ],
)
def test_the_guides_static_tokens(desk, text):
    first, second = desk.read(text).auth.tokens
    assert first.roles == ("Proxy", "Node")
    assert first.read().reveal() == "secret-token-value"
    assert second.roles == ("Auth",)
    assert str(second.source) == "/path/to/tokenfile"


def test_the_guides_one_port_for_tunnels_and_web(desk):
    text = "proxy_service:\n  web_listen_addr: 0.0.0.0:3080\n  tunnel_listen_addr: 0.0.0.0:3080\n"
    assert desk.read(text).proxy.multiplexed


@pytest.mark.parametrize(
    ("said", "output", "severity"),
    [
        ("{}", "stderr", "INFO"),
        ("{output: stdout, severity: ERR}", "stdout", "ERROR"),
        ("{output: stderr, severity: WARNING}", "stderr", "WARN"),
        ("{output: /var/log//x, severity: DEBUG}", "/var/log/x", "DEBUG"),
    ],
)
def test_the_log_goes_where_it_is_told(desk, said, output, severity):
    log = desk.read(f"teleport: {{log: {said}}}").log
    assert (log.output, log.severity) == (output, severity)


def test_a_database_is_sqlite_unless_it_is_postgresql(desk):
    assert desk.read("teleport: {storage: {}}").storage.type == "sqlite"
    assert desk.read("teleport: {storage: {type: sqlite}}").storage.conn_string is None
    text = "teleport: {storage: {type: postgresql, conn_string: 'env:DATABASE'}}"
    storage = desk.read(text).storage
    assert (storage.type, str(storage.conn_string)) == ("postgresql", "env:DATABASE")
    wrong = "teleport:\n  storage:\n    type: sqlite\n    conn_string: env:DATABASE"
    assert desk.refusal(wrong) == (
        "f.yaml:4: teleport.storage.conn_string: is of teleport.storage.type postgresql"
    )


def test_the_passphrase_of_the_keyring_stands_outside_of_the_data(desk):
    text = "teleport:\n  data_dir: /srv/t\n  storage:\n    keyring_passphrase: {}"
    assert str(desk.read(text.format("/srv/words")).storage.keyring_passphrase) == "/srv/words"
    assert str(desk.read(text.format("env:WORDS")).storage.keyring_passphrase) == "env:WORDS"
    assert desk.refusal(text.format("/srv/t/words")) == (
        "f.yaml:4: teleport.storage.keyring_passphrase: must be outside data_dir (/srv/t)"
    )
    wrong = "teleport:\n  data_dir: /srv/t\n  storage:\n    keyring: /srv/t/key"
    assert desk.refusal(wrong).startswith("f.yaml:4: teleport.storage.keyring: must be outside")


def test_an_item_of_a_list_is_refused_at_its_own_line(desk):
    assert desk.refusal("plugins:\n  directories:\n  - /a\n  - b\n").startswith(
        "f.yaml:4: plugins.directories[1]: 'b' is not an absolute path"
    )


def test_what_is_not_said_is_empty_and_not_nothing(desk):
    config = desk.read("")
    assert config.advertise_ip == ""
    assert config.auth.public_addrs == config.node.public_addrs == ()

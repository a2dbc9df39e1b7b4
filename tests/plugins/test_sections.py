"""The six sections as people write them in YAML, through the config reader, to what is shown."""

import pytest

from teleport_lite.config.load import parse
from teleport_lite.errors import Malformed
from teleport_lite.plugin import builtin_book
from tests.plugins.makers import announce

# One of everything that the documentation of each service shows.
FULL = {
    "App": """
app_service:
  enabled: yes
  debug_app: no
  resources:
  - labels: {"*": "*"}
    aws: {assume_role_arn: "arn:aws:iam::1:role/x"}
  apps:
  - name: grafana
    uri: http://localhost:3000
    public_addr: grafana.example.com
    description: dashboards
    labels: {env: prod}
    commands:
    - name: os
      command: [/usr/bin/uname]
      period: 5s
    insecure_skip_verify: true
    rewrite:
      redirect: [localhost]
      headers: ["X-User: {{internal.logins}}"]
      jwt_claims: roles
    required_apps: [api]
    use_any_proxy_public_addr: false
  - name: aws-console
    cloud: AWS
    aws: {external_id: "1"}
""",
    "Db": """
db_service:
  enabled: yes
  resources:
  - labels: {"env": ["prod", "stage"]}
  aws:
  - types: [rds]
    regions: [eu-west-1]
    tags: {"*": "*"}
  azure: []
  databases:
  - name: orders
    description: sales
    protocol: postgres
    uri: localhost:5432
    tls:
      mode: verify-full
      server_name: db.example.com
      ca_cert_file: /etc/ca.pem
      trust_system_cert_pool: no
    mysql: {server_version: 8.0.28}
    admin_user: {name: admin, default_database: postgres}
    aws: {region: eu-west-1}
    gcp: {project_id: x}
    ad: {domain: EXAMPLE.COM}
    azure: {resource_id: x}
    oracle: {audit_user: x}
    static_labels: {env: prod}
    dynamic_labels:
    - name: now
      command: [date]
      period: 1m
""",
    "Kube": """
kubernetes_service:
  enabled: yes
  listen_addr: 0.0.0.0:3027
  public_addr: [kube.example.com:3026]
  kube_cluster_name: prod
  labels: {env: prod}
  commands:
  - name: now
    command: [date]
    period: 1m
  resources:
  - labels: {"*": "*"}
""",
    "WindowsDesktop": """
windows_desktop_service:
  enabled: yes
  listen_addr: 0.0.0.0:3028
  public_addr: desktop.example.com:3028
  show_desktop_wallpaper: no
  ldap:
    addr: dc.example.com:636
    domain: example.com
    username: 'EX\\svc'
    sid: S-1-5-21
    server_name: dc.example.com
    insecure_skip_verify: no
    ldap_ca_cert: |
      text
  static_hosts:
  - name: design-1
    ad: false
    addr: 10.0.0.7
    labels: {team: design}
  discovery:
    base_dn: "*"
    label_attributes: [location]
  host_labels:
  - match: '^10\\.'
    labels: {net: ten}
  labels: {service: one}
""",
    "Discovery": """
discovery_service:
  enabled: yes
  discovery_group: production
  poll_interval: 10m
  aws:
  - types: [ec2]
    regions: [eu-west-1]
    tags: {"env": "prod"}
    assume_role_arn: "arn:aws:iam::1:role/x"
    external_id: x
    install:
      join_params: {token_name: t, method: iam}
    ssm: {document_name: TeleportDiscoveryInstaller}
  azure:
  - types: [aks]
    regions: [eastus]
    subscriptions: [x]
    tags: {"*": "*"}
  gcp:
  - types: [gke]
    locations: ["*"]
    project_ids: [x]
  kubernetes:
  - types: [app]
    namespaces: [default]
    labels: {"*": "*"}
""",
}
SHOWN = {
    "App": ["grafana", "aws-console"],
    "Db": ["orders"],
    "Kube": ["prod"],
    "WindowsDesktop": ["design-1"],
    "Discovery": ["production"],
}


def names(role: str, text: str) -> list[str]:
    config = parse(f"version: v3\n{text}", "teleport.yaml", builtin_book())
    assert role in config.roles
    return [each.name for each in announce(role, **config.sections[role])]


@pytest.mark.parametrize("role", FULL)
def test_a_section_with_every_key_is_read_and_announced(role):
    assert names(role, FULL[role]) == SHOWN[role]


@pytest.mark.parametrize("role", ["App", "Db", "WindowsDesktop", "Discovery"])
def test_a_section_that_only_says_enabled_shows_nothing(role):
    section = builtin_book().get(role).section
    assert names(role, f"{section}: {{enabled: yes}}\n") == []


@pytest.mark.parametrize("role", FULL)
def test_a_section_is_off_unless_it_says_enabled(role):
    text = FULL[role].replace("enabled: yes", "enabled: no")
    assert role not in parse(f"version: v3\n{text}", "teleport.yaml", builtin_book()).roles


@pytest.mark.parametrize(
    ("role", "right", "wrong", "near"),
    [
        ("App", "public_addr", "public_adr", "public_addr"),
        ("Db", "protocol", "protocoll", "protocol"),
        ("Kube", "kube_cluster_name", "cluster_name", "kube_cluster_name"),
        ("WindowsDesktop", "static_hosts", "static_host", "static_hosts"),
        ("Discovery", "poll_interval", "pol_interval", "poll_interval"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_right_one(role, right, wrong, near):
    text = FULL[role].replace(f"{right}:", f"{wrong}:", 1)
    with pytest.raises(Malformed) as why:
        names(role, text)
    assert wrong in why.value.message
    assert near in why.value.message


@pytest.mark.parametrize(
    ("role", "right", "wrong", "key"),
    [
        ("Db", "mode: verify-full", "mode: verify-some", "db_service.databases[0].tls.mode"),
        ("App", "jwt_claims: roles", "jwt_claims: all", "app_service.apps[0].rewrite.jwt_claims"),
        ("Discovery", "poll_interval: 10m", "poll_interval: 10", "discovery_service.poll_interval"),
        (
            "WindowsDesktop",
            "ad: false",
            "ad: maybe",
            "windows_desktop_service.static_hosts[0].ad",
        ),
        ("Kube", "listen_addr: 0.0.0.0:3027", "listen_addr: x y", "kubernetes_service.listen_addr"),
    ],
)
def test_a_wrong_value_is_refused_with_file_line_and_key(role, right, wrong, key):
    assert right in FULL[role]
    with pytest.raises(Malformed, match=r"^teleport\.yaml:\d+: ") as why:
        names(role, FULL[role].replace(right, wrong, 1))
    assert f" {key}: " in why.value.message

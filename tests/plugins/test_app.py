"""The app role announces the applications of app_service, and refuses what none can be."""

import pytest

from teleport_lite.model.host import Resource
from tests.plugins.makers import announce, keys, refusal

GRAFANA = {"name": "grafana", "uri": "http://localhost:3000"}


def test_an_application_is_announced_with_what_people_need_to_find_it():
    app = {
        **GRAFANA,
        "public_addr": "grafana.example.com",
        "description": "dashboards",
        "labels": {"env": "prod"},
    }
    assert announce("App", apps=[app]) == (
        Resource(
            kind="app_server",
            name="grafana",
            labels={"env": "prod"},
            spec={
                "uri": "http://localhost:3000",
                "public_addr": "grafana.example.com",
                "description": "dashboards",
            },
        ),
    )


def test_no_applications_are_nothing_to_show():
    assert announce("App") == ()
    assert announce("App", apps=()) == ()


@pytest.mark.parametrize(
    "uri",
    [
        "http://localhost:8080",
        "https://[::1]:8443/path",
        "tcp://10.0.0.1:5432",
        "cloud://AWS",
        "mcp+stdio://",
    ],
)
def test_every_kind_of_uri_is_taken(uri):
    [app] = announce("App", apps=[{"name": "a", "uri": uri}])
    assert app.spec["uri"] == uri


def test_a_cloud_console_needs_no_uri():
    [app] = announce("App", apps=[{"name": "aws", "cloud": "AWS"}])
    assert app.spec == {"uri": "cloud://AWS", "cloud": "AWS"}


def test_ports_of_a_tcp_application_may_stand_apart():
    [app] = announce("App", apps=[{"name": "a", "uri": "tcp://db", "tcp_ports": [{"port": 1}]}])
    assert app.spec["uri"] == "tcp://db"


@pytest.mark.parametrize(
    ("uri", "cause"),
    [
        ("", "is missing, is not a URI like"),
        ("localhost:8080", "is not a URI like http://localhost:8080"),
        ("ftp://files", "is not a URI like"),
        ("http://", "is not a URI like"),
        ("http://host:port", "has a host or port that is none"),
        ("http://host:99999", "has a host or port that is none"),
        ("http://[::1", "has a host or port that is none"),
        ("tcp://host", "has no port, expected tcp://host:port"),
        ("http://admin:hunter2@host", "must not hold a user name or password"),
    ],
)
def test_a_wrong_uri_is_refused_and_the_key_named(uri, cause):
    message = refusal("App", apps=[GRAFANA, {"name": "a", "uri": uri}])
    assert message.startswith("app_service.apps[1].uri ")
    assert cause in message
    assert "hunter2" not in message


@pytest.mark.parametrize("name", ["", "Grafana", "a_b", "a.b", "-a", "a-", "x" * 64])
def test_a_name_that_can_not_be_part_of_a_url_is_refused(name):
    message = refusal("App", apps=[{**GRAFANA, "name": name}])
    assert message.startswith("app_service.apps[0].name ")


def test_two_applications_of_one_name_are_refused():
    assert refusal("App", apps=[GRAFANA, GRAFANA]) == (
        "app_service.apps[1].name 'grafana' is given twice"
    )


def test_the_section_takes_every_key_people_know():
    assert keys("App") == {"debug_app", "mcp_demo_server", "resources", "apps"}
    assert {"name", "uri", "public_addr", "labels", "rewrite"} <= keys("App", "apps")
    assert keys("App", "apps", "rewrite") == {"redirect", "headers", "jwt_claims"}
    assert keys("App", "apps", "commands") == {"name", "command", "period"}

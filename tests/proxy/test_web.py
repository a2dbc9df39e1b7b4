"""What the web port answers, to clients and to people with an invitation."""

import json
import logging
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest

from teleport_lite.errors import Conflict, Denied, Malformed, Unavailable
from teleport_lite.proto.login import InviteAccept, InviteLook
from tests.proxy.webrig import PASSWORD, TOKEN, WebServing

PAGE = f"/web/invite/{TOKEN}"


@pytest.fixture
def web() -> Iterator[WebServing]:
    with WebServing() as running:
        yield running


def typed(password: str = PASSWORD, again: str = PASSWORD) -> str:
    return urlencode({"username": "alice", "password": password, "again": again})


# --- /webapi


@pytest.mark.parametrize("path", ["/webapi/find", "/v1/webapi/find"])
def test_anybody_may_find_the_cluster(web, path):
    answer = web.ask("GET", path)
    assert answer.status == 200
    assert json.loads(answer.text)["cluster_name"] == "test.example"


@pytest.mark.parametrize("path", ["/webapi/ping", "/v1/webapi/ping", "/webapi/ping/local"])
def test_a_ping_tells_version_and_how_to_log_in(web, path):
    said = json.loads(web.ask("GET", path).text)
    assert said["server_version"] == "1.2.3"
    assert said["auth"]["type"] == "local"


def test_another_connector_is_not_found(web):
    answer = web.ask("GET", "/webapi/ping/github")
    assert answer.status == 404
    assert "connector 'github' does not exist" in json.loads(answer.text)["error"]["message"]


@pytest.mark.parametrize(
    ("name", "version", "critical"),
    [("default", "v1.2.3", "no"), ("stable/cloud", "v1.3.0", "yes")],
)
def test_a_channel_says_version_and_urgency_in_plain_text(web, name, version, critical):
    for prefix in ("", "/v1"):
        path = f"{prefix}/webapi/automaticupgrades/channel/{name}"
        answer = web.ask("GET", f"{path}/version")
        assert (answer.status, answer.text) == (200, version)
        assert answer.headers["content-type"].startswith("text/plain")
        assert web.ask("GET", f"{path}/critical").text == critical


def test_a_channel_that_is_not_there_is_not_found(web):
    answer = web.ask("GET", "/v1/webapi/automaticupgrades/channel/none/version")
    assert answer.status == 404
    assert "'none' does not exist" in answer.text


def test_no_join_token_is_taken_over_the_web(web):
    body = json.dumps({"token": "secret-token"})
    answer = web.ask("POST", "/webapi/host/credentials", body, Content_Type="application/json")
    said = json.loads(answer.text)["error"]
    assert (answer.status, said["code"]) == (403, "denied")
    assert "takes no join token over the web" in said["message"]
    assert said["hint"].startswith("teleport-lite start --proxy=proxy.example.com:443")
    assert web.auth.asked == []


def test_a_head_request_gets_the_headers(web):
    for path in ("/webapi/find", "/", PAGE):
        answer = web.ask("HEAD", path)
        assert (answer.status, answer.text) == (200, "")
        assert int(answer.headers["content-length"]) > 100


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/webapi/nothing", 404),
        ("GET", "/v1/ca", 404),
        ("GET", "/webapi/host/credentials", 405),
        ("POST", "/webapi/find", 405),
    ],
)
def test_errors_of_the_api_are_json(web, method, path, status):
    answer = web.ask(method, path)
    assert answer.status == status
    assert json.loads(answer.text)["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("DELETE", "/", 405), ("GET", "/web/..%2f..%2fetc/passwd", 404)],
)
def test_errors_elsewhere_are_a_page(web, method, path, status):
    answer = web.ask(method, path)
    assert answer.status == status
    assert answer.headers["content-type"].startswith("text/html")
    assert "<h1>" in answer.text


# --- every answer


@pytest.mark.parametrize("path", ["/", "/webapi/find", "/nothing", PAGE, "/web/style.css"])
def test_every_answer_is_kept_nowhere_and_framed_by_nobody(web, path):
    headers = web.ask("GET", path).headers
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["server"] == "teleport-lite"
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "set-cookie" not in headers


def test_browsers_are_tied_to_https_only_by_a_certificate_they_know(web):
    assert "strict-transport-security" not in web.ask("GET", "/").headers
    web.trusted = True
    assert web.ask("GET", "/").headers["strict-transport-security"] == "max-age=31536000"


def test_a_bug_says_a_trace_and_nothing_else(web, caplog):
    web.auth.bug = RuntimeError("the secret inside")
    answer = web.ask("GET", PAGE)
    assert answer.status == 500
    assert "trace-1" in answer.text
    assert "the secret inside" not in answer.text
    assert "trace-1" in caplog.text


# --- invitations


def test_the_page_says_whose_invitation_it_is(web):
    answer = web.ask("GET", PAGE)
    assert answer.status == 200
    assert "Welcome to test.example" in answer.text
    assert "alice" in answer.text
    assert "2026-03-02 13:00 UTC" in answer.text
    assert 'minlength="12"' in answer.text
    assert web.auth.asked == [InviteLook(token=TOKEN, source="127.0.0.1")]


def test_a_new_password_after_a_reset(web):
    web.auth.kind = "reset"
    assert "Choose a new password" in web.ask("GET", f"/web/reset/{TOKEN}").text


def test_a_password_is_set_once(web):
    answer = web.ask("POST", PAGE, typed(), Sec_Fetch_Site="same-origin")
    assert answer.status == 200
    assert "tsh login --proxy=proxy.example.com:443 --user=alice" in answer.text
    assert web.auth.asked[-1] == InviteAccept(token=TOKEN, password=PASSWORD, source="127.0.0.1")
    assert web.ask("POST", PAGE, typed(), Sec_Fetch_Site="same-origin").status == 404


@pytest.mark.parametrize("password", ["pässwört mit ünïcode", "a b+c&d=e%20f;g<h>'\"", " " * 12])
def test_any_text_is_a_password(web, password):
    assert web.ask("POST", PAGE, typed(password, password)).status == 200
    assert web.auth.password == password


@pytest.mark.parametrize(
    ("password", "again", "why"),
    [
        (PASSWORD, PASSWORD + "x", "The two passwords are not the same."),
        ("tiny", "tiny", "too short, it needs at least 12 characters"),
        ("x" * 129, "x" * 129, "too long, the most is 128 characters"),
        ("", "", "too short"),
    ],
)
def test_a_mistake_shows_the_form_again_and_not_the_password(web, password, again, why):
    answer = web.ask("POST", PAGE, typed(password, again))
    assert answer.status == 400
    assert why in answer.text
    assert "<form" in answer.text
    assert not password or password not in answer.text
    assert web.auth.password == ""


def test_what_auth_does_not_like_about_a_password_is_said_kindly(web):
    web.auth.refuses = Malformed("this password is among the most used ones")
    answer = web.ask("POST", PAGE, typed())
    assert answer.status == 400
    assert "This password is among the most used ones." in answer.text
    web.auth.refuses = Conflict("busy")
    assert "being used just now" in web.ask("POST", PAGE, typed()).text
    web.auth.refuses = None
    assert web.ask("POST", PAGE, typed()).status == 200


@pytest.mark.parametrize("token", ["f" * 32, "0", "x" * 200, "a%20b-c-d-e-f", "..", "%00" * 10])
def test_every_link_that_does_not_work_looks_the_same(web, token):
    shown = {web.ask(method, f"/web/invite/{token}", body).text for method, body in LOOKS}
    assert len(shown) == 1
    assert "has expired, was used already, or never was one" in shown.pop()


LOOKS = (("GET", None), ("POST", typed()))


def test_a_link_that_ran_out_between_two_clicks(web):
    web.ask("GET", PAGE)
    web.auth.refuses = Denied("expired")
    answer = web.ask("POST", PAGE, typed())
    assert answer.status == 404
    assert "was used already" in answer.text


def test_auth_away_is_said_on_a_page(web):
    web.auth.down = Unavailable("auth can not be reached right now")
    answer = web.ask("GET", PAGE)
    assert answer.status == 503
    assert "Auth can not be reached right now." in answer.text


def test_who_guesses_links_is_stopped_and_others_are_not_asked_for_him(web):
    statuses = [web.ask("GET", f"/web/invite/{n:032x}").status for n in range(25)]
    assert statuses[:10] == [404] * 10
    assert statuses[-1] == 429
    assert len(web.auth.asked) < 25
    web.clock.tick(minutes=10)
    assert web.ask("GET", PAGE).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "none"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "https://localhost.evil.example"},
        {"Origin": "https://["},
    ],
)
def test_another_page_can_not_send_the_form(web, headers):
    answer = web.ask("POST", PAGE, typed(), **headers)
    assert answer.status == 403
    assert "not sent by this page" in answer.text
    assert web.auth.asked == []


def test_our_own_page_can(web):
    host = f"127.0.0.1:{web.port}"
    assert web.ask("POST", PAGE, typed(), Origin=f"https://{host}").status == 200


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        ("x" * 9000, "application/x-www-form-urlencoded", 413),
        (typed(), "text/plain", 400),
        ("{}", "application/json", 400),
        ("password=a&password=b&again=b", "application/x-www-form-urlencoded", 400),
        ("password=%ff%fe&again=%ff%fe", "application/x-www-form-urlencoded", 400),
        ("&".join(f"a{n}=b" for n in range(100)), "application/x-www-form-urlencoded", 400),
        ("nonsense", "application/x-www-form-urlencoded", 400),
    ],
)
def test_what_is_no_form_of_ours_is_refused(web, body, kind, status):
    answer = web.ask("POST", PAGE, body, Content_Type=kind)
    assert answer.status == status
    assert web.auth.asked == []


def test_no_log_line_holds_a_token_or_a_password(web, caplog):
    caplog.set_level(logging.DEBUG)
    web.ask("GET", PAGE)
    web.ask("POST", PAGE, typed(), Origin="null")
    web.ask("POST", PAGE, "x" * 9000)
    web.auth.bug = RuntimeError("a bug")
    web.ask("POST", PAGE, typed())
    web.auth.bug = None
    web.ask("POST", PAGE, typed())
    assert caplog.records
    assert TOKEN not in caplog.text
    assert PASSWORD not in caplog.text
    assert web.auth.password == PASSWORD


def test_requests_are_counted(web):
    web.ask("GET", "/")
    web.ask("GET", "/nothing")
    assert web.pages.counts == {"2xx": 1, "4xx": 1}

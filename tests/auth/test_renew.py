"""Renewal: a host that is still itself gets new certificates, and never more than it had."""

from datetime import timedelta

import pytest
from cryptography import x509

from teleport_lite.auth.caller import Caller
from teleport_lite.errors import Denied, Malformed, NotFound
from teleport_lite.proto.join import Renew, Welcome
from tests.auth.bench import Applicant, Bench, the_host
from tests.auth.meanwhile import before_writing


def joined(**changes) -> tuple[Bench, str]:
    bench = Bench()
    bench.token("node,app")
    return bench, bench.join(Applicant(changes=changes)).host_id


def renew(bench: Bench, caller: Caller, who: Applicant | None = None) -> Welcome:
    return bench.desks.renewals.renew(caller, Renew(hello=(who or Applicant()).hello))


def test_a_host_gets_a_month_over_new_keys() -> None:
    bench, host_id = joined()
    bench.later(days=20)
    fresh = Applicant()
    welcome = renew(bench, the_host(host_id), fresh)
    leaf = x509.load_pem_x509_certificate(welcome.tls_cert.encode())
    assert leaf.not_valid_after_utc == bench.clock.now() + timedelta(days=30)
    [(host, _)] = bench.store.hosts()
    assert (host.id, host.ssh_key) == (host_id, fresh.ssh_key)
    assert welcome.server_final == ""


def test_it_gets_neither_roles_nor_names_by_asking_for_them() -> None:
    bench, host_id = joined(principals=["10.0.0.5"])
    greedy = Applicant(
        name="db-1", roles=("Node", "Auth"), changes={"principals": ["db-1", "10.0.0.6"]}
    )
    welcome = renew(bench, the_host(host_id, "Node"), greedy)
    assert welcome.roles == ["Node"]
    [(host, _)] = bench.store.hosts()
    assert (host.name, host.roles, host.principals) == ("web-1", ("Node",), ("10.0.0.5",))


def test_it_renews_for_itself_whatever_it_says() -> None:
    bench, host_id = joined()
    other = bench.join(Applicant(name="other")).host_id
    welcome = renew(bench, the_host(host_id), Applicant(host_id=other))
    assert welcome.host_id == host_id


def test_who_was_removed_or_locked_does_not_renew_and_it_is_recorded() -> None:
    bench, host_id = joined()
    bench.ask("/v1/locks/add", target="node", value=host_id)
    with pytest.raises(Denied, match=f"host {host_id} is locked"):
        renew(bench, the_host(host_id))
    assert bench.last_event("instance.renew").outcome == "denied"
    bench.ask("/v1/resources/remove", kind="node", name=host_id)
    with pytest.raises(NotFound, match="is not part of this cluster any more") as why:
        renew(bench, the_host(host_id))
    assert "tctl tokens add" in why.value.hint
    assert bench.last_event("instance.renew").code == "TJ003E"


def test_who_is_removed_while_it_renews_does_not_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench, host_id = joined()
    remove = lambda: bench.ask("/v1/resources/remove", kind="node", name=host_id)  # noqa: E731
    before_writing(monkeypatch, bench.store, remove)
    with pytest.raises(NotFound, match="is not part of this cluster any more"):
        renew(bench, the_host(host_id))
    assert bench.store.hosts() == []
    assert bench.last_event("instance.renew").outcome == "not_found"


def test_a_role_that_it_has_joined_with_meanwhile_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench, host_id = joined()
    grow = lambda: bench.join(  # noqa: E731
        Applicant(roles=("App",), host_id=host_id), the_host(host_id)
    )
    before_writing(monkeypatch, bench.store, grow)
    fresh = Applicant()
    welcome = renew(bench, the_host(host_id), fresh)
    assert welcome.roles == ["Node", "App"]
    [(host, _)] = bench.store.hosts()
    assert (host.roles, host.ssh_key) == (("Node", "App"), fresh.ssh_key)


@pytest.mark.parametrize("changes", [{"ssh_key": "x"}, {"tls_csr": "x"}])
def test_keys_we_would_not_sign_change_nothing(changes: dict[str, str]) -> None:
    bench, host_id = joined()
    before = bench.store.hosts()
    with pytest.raises(Malformed):
        renew(bench, the_host(host_id), Applicant(changes=changes))
    assert bench.store.hosts() == before

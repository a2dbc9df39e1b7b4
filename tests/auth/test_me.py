"""What a person may ask about herself."""

from typing import Any

import pytest

from teleport_lite.auth.caller import Caller, Kind
from teleport_lite.errors import Denied
from teleport_lite.model.host import Host, Report
from teleport_lite.model.user import Condition, Role
from tests.auth.bench import CLUSTER, Bench

NODES = {
    "web-1": {"env": "prod", "role": "web"},
    "web-2": {"env": "dev", "role": "web"},
    "db-1": {"env": "prod", "role": "db"},
}
IDS = {name: f"{n}2527f9d-b260-41d0-bb5a-e23b0cfe0f8f" for n, name in enumerate(NODES)}


@pytest.fixture
def bench() -> Bench:
    bench = Bench()

    def fill(tx: Any) -> None:
        for name, labels in NODES.items():
            host = Host(
                id=IDS[name],
                name=name,
                roles=("Node",),
                joined_at=bench.clock.now(),
                token_id="t",
                ssh_key=f"key of {name}",
                tls_key="PEM",
            )
            tx.put_host(host)
            tx.put_report(host.id, Report(labels=labels, address="10.0.0.1:3022"))
        tx.add_role(
            Role(
                name="prod",
                allow=Condition(logins=("deploy", "root"), node_labels={"env": ("prod",)}),
                deny=Condition(logins=("root",), node_labels={"role": ("db",)}),
            )
        )

    bench.store.write(fill)
    return bench


def person(bench: Bench, *roles: str, shown: tuple[str, ...] = (), logins: tuple[str, ...] = ()):
    bench.ask("/v1/users/add", name="alice", roles=list(roles), logins=list(logins))
    return Caller(kind=Kind.USER, name="alice", address="192.0.2.7", roles=shown or roles)


def mine(bench: Bench, who: Caller, **words: Any) -> dict[str, list[str]]:
    found = bench.ask("/v1/me/nodes", who, **words)["nodes"]
    return {each["hostname"]: each["logins"] for each in found}


def test_somebody_is_told_who_she_is_here(bench: Bench) -> None:
    alice = person(bench, "access", "prod", logins=("www",))
    assert bench.ask("/v1/me", alice) == {
        "user": "alice",
        "roles": ["access", "prod"],
        "logins": ["www", "deploy", "root"],
        "traits": {"logins": ["www"]},
        "cluster": CLUSTER,
    }


def test_nodes_are_those_where_a_role_allows_some_login(bench: Bench) -> None:
    alice = person(bench, "prod")
    assert mine(bench, alice) == {"db-1": ["deploy"], "web-1": ["deploy", "root"]}


def test_every_fact_of_a_listing_is_there(bench: Bench) -> None:
    bench_nodes = bench.ask("/v1/nodes/list")["nodes"]
    [node] = bench.ask("/v1/me/nodes", person(bench, "prod"), labels={"role": "db"})["nodes"]
    [listed] = [each for each in bench_nodes if each["hostname"] == "db-1"]
    assert node == listed | {"logins": ["deploy"]}


def test_without_a_login_there_are_no_nodes(bench: Bench) -> None:
    assert mine(bench, person(bench, "access", "editor")) == {}


def test_a_role_counts_while_it_is_both_given_and_in_the_certificate(bench: Bench) -> None:
    alice = person(bench, "access", "prod", shown=("access", "editor"), logins=("www",))
    assert set(mine(bench, alice)) == set(NODES)
    assert mine(bench, alice)["web-1"] == ["www"]
    bench.ask("/v1/users/update", name="alice", roles=["prod"])
    assert mine(bench, alice) == {}


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ({"labels": {"env": "prod"}}, {"web-1", "db-1"}),
        ({"labels": {"env": "prod", "role": "db"}}, {"db-1"}),
        ({"labels": {"env": "*"}}, set()),
        ({"labels": {"nosuch": ""}}, set()),
        ({"search": "WEB"}, {"web-1", "web-2"}),
        ({"search": "web env=prod"}, {"web-1"}),
        ({"search": "12527f9d"}, {"web-2"}),
        ({"search": "nosuch"}, set()),
        ({"labels": {"role": "web"}, "search": "dev"}, {"web-2"}),
        ({"search": "  "}, set(NODES)),
    ],
)
def test_they_can_be_narrowed_down(bench: Bench, words: dict[str, Any], names: set[str]) -> None:
    alice = person(bench, "access", logins=("www",))
    assert set(mine(bench, alice, **words)) == names


@pytest.mark.parametrize("path", ["/v1/me", "/v1/me/nodes"])
def test_who_was_removed_is_told_so(bench: Bench, path: str) -> None:
    alice = person(bench, "access")
    bench.ask("/v1/users/remove", name="alice")
    with pytest.raises(Denied, match="user alice does not exist any more"):
        bench.ask(path, alice)

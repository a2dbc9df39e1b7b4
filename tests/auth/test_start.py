"""What a cluster has from its first second."""

import threading

import pytest

from teleport_lite.auth.start import found_cluster
from teleport_lite.errors import Conflict, Malformed
from teleport_lite.model.authority import CaType
from teleport_lite.store.memory import MemoryStore
from teleport_lite.testing.fakes import FakeChance, FakeClock


def found(store: MemoryStore, name: str = "test.example", seed: str = "") -> str:
    return found_cluster(store, name=name, clock=FakeClock(), chance=FakeChance(seed))


def test_it_has_a_name_five_cas_and_three_roles() -> None:
    store = MemoryStore()
    assert found(store) == "test.example"
    assert [keys.type for keys in store.cas()] == list(CaType)
    assert [role.name for role in store.roles()] == ["access", "auditor", "editor"]
    [(_, event)] = store.events()
    assert (event.kind, event.code) == ("cluster.create", "TLC00I")


def test_a_second_start_finds_what_the_first_one_made() -> None:
    store = MemoryStore()
    found(store)
    before = (store.cas(), store.events())
    found(store, seed="another")
    assert (store.cas(), store.events()) == before


def test_of_two_that_start_at_once_one_founds_the_cluster() -> None:
    store, start = MemoryStore(), threading.Barrier(8)

    def race(number: int) -> None:
        start.wait()
        found(store, seed=str(number))

    threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [keys.type for keys in store.cas()] == list(CaType)
    assert len(store.events()) == 1


def test_a_cluster_does_not_change_its_name() -> None:
    store = MemoryStore()
    found(store)
    with pytest.raises(Conflict, match=r"belongs to cluster test\.example") as why:
        found(store, "other.example")
    assert "set auth_service.cluster_name to test.example" in why.value.hint


@pytest.mark.parametrize(
    "name", ["teleport-lite.internal", "proxy.teleport-lite.internal", "A.Teleport-Lite.Internal"]
)
def test_a_cluster_is_not_called_like_a_role(name: str) -> None:
    store = MemoryStore()
    with pytest.raises(Malformed, match="is reserved"):
        found(store, name)
    assert store.cas() == []


@pytest.mark.parametrize("name", ["", "a b", "*.example", "x" * 129, "a\n"])
def test_a_cluster_needs_a_name_that_fits_into_dns(name: str) -> None:
    store = MemoryStore()
    with pytest.raises(Malformed, match="cluster_name"):
        found(store, name)
    assert store.cas() == []

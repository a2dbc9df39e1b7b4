"""The cluster's CAs as the other desks need them."""

from dataclasses import replace

import pytest

from teleport_lite.auth.cas import Cas
from teleport_lite.model.authority import CaType
from teleport_lite.pki.authority import new_ca
from teleport_lite.pki.pin import pin_of
from tests.auth.bench import CLUSTER, Bench
from tests.auth.meanwhile import after_reading


def test_each_type_is_there_and_the_signing_one_first() -> None:
    bench = Bench()
    cas = Cas(bench.store, CLUSTER)
    [old] = [keys for keys in cas.all() if keys.type is CaType.HOST]
    bench.later(days=1)
    later = new_ca(CaType.HOST, cluster=CLUSTER, id="next", now=bench.clock.now())
    bench.store.write(lambda tx: tx.add_ca(replace(later, active=False)))
    assert cas.tls(CaType.HOST) == [old.public.tls_cert], "one view until it is told to look"
    cas.reload()
    assert cas.tls(CaType.HOST) == [old.public.tls_cert, later.public.tls_cert]
    assert cas.ssh(CaType.HOST) == [old.public.ssh_key, later.public.ssh_key]
    assert cas.pins() == [pin_of(old.public.tls_cert), pin_of(later.public.tls_cert)]


def test_who_reads_slowly_does_not_undo_what_others_have_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A thread stops between its last look and the view that it makes of it."""
    bench = Bench()
    cas = Cas(bench.store, CLUSTER)

    def step() -> None:
        bench.ask("/v1/auth/rotate", types=["host"], phase="init", manual=True)
        cas.reload()
        assert len(cas.tls(CaType.HOST)) == 2

    looks = iter(range(2 * len(CaType)))

    def look() -> None:
        if next(looks) == 2 * len(CaType) - 1:  # the last of those after the keys
            step()
        else:
            after_reading(monkeypatch, bench.store, "rotation", look)

    after_reading(monkeypatch, bench.store, "rotation", look)
    cas.reload()
    assert len(cas.tls(CaType.HOST)) == 2
    assert cas.view.marks() == {"host": cas.view.rotations[CaType.HOST].mark}


def test_a_type_that_signs_only_one_kind_shows_only_that() -> None:
    cas = Cas(Bench().store, CLUSTER)
    assert cas.ssh(CaType.DB) == cas.ssh(CaType.JWT) == []
    assert cas.tls(CaType.OPENSSH) == cas.tls(CaType.JWT) == []
    assert len(cas.tls(CaType.DB)) == len(cas.ssh(CaType.OPENSSH)) == 1

"""The steps of a rotation as plain values: every phase from every other, and what each leaves."""

import itertools
from dataclasses import replace
from datetime import timedelta

import pytest

from teleport_lite.auth.phases import (
    FROM,
    KEPT_RETIRED,
    NEW_SIGNS,
    Step,
    advance,
    at_once,
    begin,
    check_step,
    due_at,
    ends_at,
    safe_marks,
)
from teleport_lite.errors import Conflict
from teleport_lite.model.authority import CaKeys, CaType
from teleport_lite.model.rotation import Phase, Rotation
from teleport_lite.pki.authority import new_ca
from teleport_lite.pki.pin import pin_of
from teleport_lite.testing.fakes import T0

HOUR = timedelta(hours=1)
OLD, NEW = (new_ca(CaType.HOST, cluster="c.example", id=id, now=T0) for id in ("old", "new"))
NEVER = Rotation(type=CaType.HOST)


def begun(**changes) -> Step:
    words = {"id": "r1", "manual": False, "grace": 3 * HOUR, "now": T0} | changes
    return begin(NEVER, NEW, OLD, **words)


def generations(step: Step, before: list[CaKeys]) -> list[CaKeys]:
    """What a store would hold."""
    changed = {keys.id: keys for keys in step.change}
    kept = [changed.get(keys.id, keys) for keys in before if keys.id != step.remove]
    return [*kept, *([step.add] if step.add else [])]


def walk(*phases: Phase) -> tuple[Rotation, list[CaKeys]]:
    step = begun()
    rotation, cas = step.rotation, generations(step, [OLD])
    for phase in phases:
        step = advance(rotation, cas, phase, manual=False, now=T0 + HOUR)
        assert step.after == rotation.serial == step.rotation.serial - 1
        rotation, cas = step.rotation, generations(step, cas)
    return rotation, cas


C, S, R, END = Phase.UPDATE_CLIENTS, Phase.UPDATE_SERVERS, Phase.ROLLBACK, Phase.STANDBY
WAYS = {
    Phase.INIT: (),
    C: (C,),
    S: (C, S),
    R: (R,),
}


@pytest.mark.parametrize(("now", "wanted"), [*itertools.product(Phase, Phase)])
def test_a_phase_follows_only_where_the_drawing_says_so(now: Phase, wanted: Phase) -> None:
    legal = {
        ("standby", "init"),
        ("init", "update_clients"),
        ("update_clients", "update_servers"),
        ("update_servers", "standby"),
        ("init", "rollback"),
        ("update_clients", "rollback"),
        ("update_servers", "rollback"),
        ("rollback", "standby"),
    }
    rotation = replace(NEVER, phase=now)
    if (now, wanted) in legal:
        check_step(rotation, wanted)
        return
    with pytest.raises(Conflict) as why:
        check_step(rotation, wanted)
    if wanted is Phase.INIT:
        assert "while another is in progress" in why.value.message
    else:
        sources = " or ".join(FROM[wanted])
        assert f"can only switch to phase {wanted} from {sources}" in why.value.message
    assert f"is {now}" in why.value.message


@pytest.mark.parametrize("phase", WAYS)
def test_in_every_phase_one_of_two_generations_signs(phase: Phase) -> None:
    rotation, cas = walk(*WAYS[phase])
    assert {keys.id: keys.active for keys in cas} == {
        "old": phase not in NEW_SIGNS,
        "new": phase in NEW_SIGNS,
    }
    assert rotation.mark == f"r1/{phase}"
    assert rotation.retired == ()


def test_the_end_leaves_the_new_one_alone_and_remembers_the_old() -> None:
    rotation, [keys] = walk(C, S, END)
    assert (keys.id, keys.active, keys.last_rotated) == ("new", True, T0 + HOUR)
    assert [each.id for each in rotation.retired] == ["old"]
    assert rotation.retired[0].pin.startswith("sha256:")
    assert rotation.last_rotated == T0 + HOUR


@pytest.mark.parametrize("way", [(), (C,), (C, S)])
def test_a_rollback_from_everywhere_leaves_the_old_one_as_it_was(way: tuple[Phase, ...]) -> None:
    rotation, [keys] = walk(*way, R, END)
    assert (keys.id, keys.active, keys.last_rotated) == ("old", True, None)
    assert [each.id for each in rotation.retired] == ["new"]
    assert rotation.last_rotated is None
    assert rotation.manual


@pytest.mark.parametrize("way", [(C, S, END), (C, R, END)])
def test_what_is_gone_is_remembered_by_all_that_it_is_known_by(way: tuple[Phase, ...]) -> None:
    rotation, _ = walk(*way)
    gone = OLD if way[-2] is S else NEW
    [retired] = rotation.retired
    assert (retired.id, retired.ssh_key, retired.at) == (gone.id, gone.public.ssh_key, T0 + HOUR)
    assert retired.pin == pin_of(gone.public.tls_cert)
    assert (rotation.started_at, rotation.phase_since) == (T0, T0 + HOUR)


def test_a_ca_without_a_certificate_has_no_pin() -> None:
    bare = replace(OLD, public=replace(OLD.public, tls_cert=""))
    assert at_once(NEVER, NEW, bare, id="r1", now=T0).rotation.retired[0].pin == ""


def test_a_step_that_does_not_follow_is_never_made() -> None:
    """Nor by who has not asked `check_step` before."""
    rotation, cas = walk(C)
    for wanted in (Phase.STANDBY, C):
        with pytest.raises(Conflict, match=f"can only switch to phase {wanted} from"):
            advance(rotation, cas, wanted, manual=False, now=T0)
    for start in (begin, at_once):
        words = {"manual": False, "grace": HOUR} if start is begin else {}
        with pytest.raises(Conflict, match="while another is in progress"):
            start(rotation, NEW, OLD, id="r2", now=T0, **words)


def test_without_a_grace_period_there_is_never_a_second_one() -> None:
    step = at_once(NEVER, NEW, OLD, id="r1", now=T0)
    [keys] = generations(step, [OLD])
    assert (keys.id, keys.active, keys.last_rotated) == ("new", True, T0)
    assert (step.rotation.phase, step.rotation.serial, step.after) == (Phase.STANDBY, 1, 0)
    assert [each.id for each in step.rotation.retired] == ["old"]
    assert "r1/update_servers" in safe_marks(step.rotation)


def test_an_automatic_one_gives_each_phase_a_third() -> None:
    rotation = begun().rotation
    assert (due_at(rotation), ends_at(rotation)) == (T0 + HOUR, T0 + 3 * HOUR)
    later, _ = walk(C, S)
    assert (due_at(later), ends_at(later)) == (T0 + 2 * HOUR, T0 + 2 * HOUR)
    for still in (NEVER, begun(manual=True).rotation, walk(R)[0], walk(C, S, END)[0]):
        assert due_at(still) is ends_at(still) is None


def test_a_certificate_of_the_survivor_is_safe_and_no_other() -> None:
    def safe(*way: Phase) -> set[str]:
        return {mark.removeprefix("r1/") for mark in safe_marks(walk(*way)[0])}

    assert safe() == {"init"}
    assert safe(C) == safe(C, S) == {"update_clients", "update_servers"}
    assert safe(C, S, END) == {"update_clients", "update_servers", "standby"}
    assert safe(C, R) == {"rollback"}
    assert safe(C, R, END) == {"rollback", "standby"}
    assert safe_marks(NEVER) == frozenset()


def test_names_of_what_was_retired_do_not_pile_up() -> None:
    rotation, signing = NEVER, OLD
    for number in range(KEPT_RETIRED + 3):
        fresh = replace(NEW, id=f"ca-{number}")
        step = at_once(rotation, fresh, signing, id=f"r{number}", now=T0)
        rotation, signing = step.rotation, fresh
    assert len(rotation.retired) == KEPT_RETIRED
    assert rotation.retired[0].id == f"ca-{KEPT_RETIRED + 1}"


def test_a_store_that_has_lost_a_generation_is_not_led_on() -> None:
    with pytest.raises(Conflict, match="was changed a moment ago"):
        advance(begun().rotation, [OLD], C, manual=False, now=T0)

"""People of a cluster that ours trusts, at the gate of a node: decided by what auth told last."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from teleport_lite.access.verdict import Allowed, Refused
from teleport_lite.agent import knowledge
from teleport_lite.errors import Denied
from teleport_lite.model.lock import Lock, Target
from teleport_lite.model.user import Condition, HostUserMode, Options, Role
from teleport_lite.node.gate import Gate, Welcome
from teleport_lite.node.jump import JumpGate
from teleport_lite.node.wire import Login
from teleport_lite.pki.keys import ssh_blob
from teleport_lite.proto.resource import lock_doc, role_doc
from teleport_lite.proto.stream import Knowledge, RootWord
from teleport_lite.testing.certs import PaperCluster, Papers
from teleport_lite.testing.fakes import FakeClock
from tests.node.house import ME

ALGORITHM = "ssh-ed25519-cert-v01@openssh.com"
HOST = "d52527f9-b260-41d0-bb5a-e23b0cfe0f8f"
NAMED = Role(name="visitor", allow=Condition(logins=(ME,), node_labels={"*": ("*",)}))
TEMPLATE = Role(
    name="guest", allow=Condition(logins=("{{internal.logins}}",), node_labels={"*": ("*",)})
)
ADMIN = Role(name="admin", allow=Condition(logins=("root", ME), node_labels={"*": ("*",)}))


@dataclass
class Leaf:
    """A host of the leaf, and what it knows; `gate` reads it anew each time."""

    data_dir: Path
    own: PaperCluster
    root: PaperCluster
    clock: FakeClock
    changes: dict[str, Any]

    def know(self, **changes: Any) -> None:
        self.changes |= changes
        root = {
            "cluster": self.root.name,
            "user_cas": self.root.user_cas,
            "ssh_user_cas": [self.root.user_ca.public.ssh_key],
            "role_map": [
                {"remote": "access", "local": ["visitor"]},
                {"remote": "guest", "local": ["guest"]},
            ],
        } | self.changes.pop("root", {})
        words = {
            "cluster": self.own.name,
            "serial": 1,
            "host_cas": [],
            "ssh_host_cas": [],
            "ssh_user_cas": [self.own.user_ca.public.ssh_key],
            "user_cas": [],
            "roles": [role_doc(role) for role in (NAMED, TEMPLATE, ADMIN)],
            "locks": [],
            "roots": [RootWord(**root)],
        } | self.changes
        knowledge.save(self.data_dir, Knowledge(**words))
        knowledge.save_labels(self.data_dir, {})

    def gate(self, kind: type[Gate] = Gate) -> Gate:
        return kind(data_dir=self.data_dir, host_id=HOST, peer_ip="192.0.2.7", clock=self.clock)

    def enter(self, papers: Papers, login: str = ME, kind: type[Gate] = Gate) -> Any:
        """Raises Denied. The signature is another question."""
        asked = Login(
            login=login,
            algorithm=ALGORITHM,
            certificate=ssh_blob_of(papers),
            signature=None,
        )
        return self.gate(kind).admit(asked, None)

    def refuses(self, papers: Papers, login: str = ME) -> str:
        with pytest.raises(Denied) as why:
            self.enter(papers, login)
        assert why.value.message in ("login is not possible", "user certificate is not accepted")
        return why.value.log


def ssh_blob_of(papers: Papers) -> bytes:
    import base64

    return base64.b64decode(papers.ssh_cert.split()[1])


@pytest.fixture
def leaf(tmp_path: Path) -> Leaf:
    clock = FakeClock()
    own, root = (PaperCluster(name, now=clock.now()) for name in ("leaf.test", "root.example"))
    leaf = Leaf(tmp_path, own, root, clock, {})
    leaf.know()
    return leaf


def alice(leaf: Leaf, *roles: str, **more: Any) -> Papers:
    return leaf.root.user("alice", roles=roles or ("access",), logins=(ME, "root"), **more)


def test_a_user_of_the_root_has_the_roles_that_the_map_gives(leaf: Leaf) -> None:
    welcome = leaf.enter(alice(leaf))
    assert isinstance(welcome, Welcome)
    visitor = welcome.visitor
    assert (visitor.user, visitor.cluster, visitor.roles) == (
        "alice@root.example",
        "root.example",
        ("visitor",),
    )
    assert welcome.by == "visitor"


def test_roles_of_the_root_are_no_roles_of_ours(leaf: Leaf) -> None:
    """Even where they are called alike: "admin" is a role here, and no line is about it."""
    assert "no role of alice in cluster root.example is worth one" in leaf.refuses(
        alice(leaf, "admin", "visitor")
    )


def test_a_role_here_says_which_logins(leaf: Leaf) -> None:
    """The certificate of the root has it among its principals; the role of ours has not."""
    papers = leaf.root.user("alice", roles=("access",), logins=(ME, "daemon"))
    assert "no role allows login daemon here" in leaf.refuses(papers, "daemon")


def test_a_root_can_not_make_its_users_root_by_a_trait(leaf: Leaf) -> None:
    """Logins by template are the root's to choose, all but this one."""
    traits = {"logins": ("root", "web"), "team": ("root",)}
    papers = leaf.root.user("alice", roles=("guest",), logins=("root", "web"), traits=traits)
    visitor = leaf.enter(papers, kind=JumpGate).visitor
    assert visitor.traits == {"logins": ("web",), "team": ()}
    gate = leaf.gate()
    assert isinstance(gate.decide_again(replace(visitor, login="web")), Allowed)
    assert isinstance(gate.decide_again(replace(visitor, login="root")), Refused)


@pytest.mark.parametrize(
    ("template", "traits"),
    [
        ("{{internal.logins}}", {"logins": ("*",)}),
        ("{{external.team}}", {"team": ("root",)}),
        ("{{external.team}}", {"team": ("*",)}),
        ("ro{{external.team}}", {"team": ("ot",)}),
    ],
)
def test_no_template_makes_somebody_of_a_root_root(
    leaf: Leaf, template: str, traits: dict[str, tuple[str, ...]]
) -> None:
    """Neither by the word for "any login", nor letter by letter; a role that names it does."""
    role = Role(name="guest", allow=Condition(logins=(template,), node_labels={"*": ("*",)}))
    admin = replace(ADMIN, name="visitor")
    leaf.know(roles=[role_doc(role), role_doc(admin)])
    papers = leaf.root.user("alice", roles=("guest",), logins=("root",), traits=traits)
    assert "no role allows login root here" in leaf.refuses(papers, "root")
    papers = leaf.root.user("alice", roles=("guest", "access"), logins=("root",), traits=traits)
    visitor = leaf.enter(papers, kind=JumpGate).visitor
    assert isinstance(leaf.gate().decide_again(replace(visitor, login="root")), Allowed)


def test_a_root_chooses_no_groups_and_no_lines_of_sudoers(leaf: Leaf) -> None:
    templates = ("staff", "{{external.team}}")
    role = replace(
        NAMED,
        options=Options(create_host_user_mode=HostUserMode.KEEP),
        allow=replace(NAMED.allow, host_groups=templates, host_sudoers=("{{external.sudo}}",)),
    )
    leaf.know(roles=[role_doc(role)])
    traits = {"team": ("docker",), "sudo": ("ALL=(ALL) NOPASSWD: ALL",)}
    gate = leaf.gate()
    gate._makes_accounts = True
    wanted = []
    for cluster, roles in ((leaf.root, ("access",)), (leaf.own, ("visitor",))):
        papers = cluster.user("alice", roles=roles, logins=(ME,), traits=traits)
        asked = Login(
            login=ME, algorithm=ALGORITHM, certificate=ssh_blob_of(papers), signature=None
        )
        plan = gate.admit(asked, None).host_user  # type: ignore[attr-defined]
        wanted.append((plan.groups, plan.sudoers))
    assert wanted[0] == (("staff",), ())
    assert wanted[1] == (("staff", "docker"), ("ALL=(ALL) NOPASSWD: ALL",))


def test_a_namesake_of_ours_is_somebody_else(leaf: Leaf) -> None:
    ours = leaf.own.user("alice", roles=("admin",), logins=(ME,))
    assert leaf.enter(ours).visitor.user == "alice"
    assert leaf.enter(ours).visitor.cluster == ""


def test_nobody_of_ours_passes_for_somebody_of_the_root(leaf: Leaf) -> None:
    ours = leaf.own.user("alice@root.example", roles=("admin",), logins=(ME,))
    assert "is called like somebody of a trusted cluster" in leaf.refuses(ours)


@pytest.mark.parametrize(
    ("target", "value", "locked"),
    [
        (Target.USER, "alice@root.example", True),
        (Target.ROLE, "visitor", True),
        (Target.LOGIN, ME, True),
        (Target.NODE, HOST, True),
        (Target.USER, "alice", False),
        (Target.ROLE, "access", False),
    ],
)
def test_locks_of_ours_are_about_our_names(
    leaf: Leaf, target: Target, value: str, locked: bool
) -> None:
    lock = Lock(id="x", target=target, value=value, created_at=leaf.clock.now())
    leaf.know(locks=[lock_doc(lock)])
    if locked:
        assert "is locked" in leaf.refuses(alice(leaf))
    else:
        leaf.enter(alice(leaf))
        leaf.know(roots=[])
        ours = leaf.own.user("alice", roles=("access", "admin"), logins=(ME,))
        assert "is locked" in leaf.refuses(ours)


@pytest.mark.parametrize(("target", "value"), [(Target.USER, "alice"), (Target.ROLE, "access")])
def test_locks_of_the_root_hold_for_its_users_and_no_others(
    leaf: Leaf, target: Target, value: str
) -> None:
    lock = Lock(id="x", target=target, value=value, created_at=leaf.clock.now())
    leaf.know(root={"locks": [lock_doc(lock)]})
    assert f"{value} is locked in cluster root.example" in leaf.refuses(alice(leaf))
    leaf.enter(leaf.own.user("alice", roles=("admin", "access"), logins=(ME,)))


@pytest.mark.parametrize(
    "root", [{"locks": [{"kind": "lock"}]}, {"role_map": [{"remote": 1}]}, {"role_map": []}]
)
def test_what_is_known_of_a_root_and_can_not_be_read_lets_nobody_in(
    leaf: Leaf, root: dict[str, Any]
) -> None:
    leaf.know(root=root)
    assert leaf.refuses(alice(leaf))
    leaf.enter(leaf.own.user("bob", roles=("admin",), logins=(ME,)))


CHANGES: dict[str, Callable[[Leaf], None]] = {
    "trust ends": lambda leaf: leaf.know(roots=[]),
    "the map changes": lambda leaf: leaf.know(
        root={"role_map": [{"remote": "other", "local": ["visitor"]}]}
    ),
    "the map says another role": lambda leaf: leaf.know(
        root={"role_map": [{"remote": "access", "local": ["nosuch"]}]}
    ),
    "she is locked there": lambda leaf: leaf.know(
        root={
            "locks": [
                lock_doc(
                    Lock(id="x", target=Target.USER, value="alice", created_at=leaf.clock.now())
                )
            ]
        }
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_who_is_inside_leaves_when_it_changes(leaf: Leaf, change: str) -> None:
    visitor = leaf.enter(alice(leaf)).visitor
    assert isinstance(leaf.gate().decide_again(visitor), Allowed)
    CHANGES[change](leaf)
    assert isinstance(leaf.gate().decide_again(visitor), Refused)


def test_who_is_inside_stays_while_the_root_rotates_its_ca(leaf: Leaf) -> None:
    """New ones come with the new CA; those of the old one are refused when it is retired."""
    papers = alice(leaf)
    visitor = leaf.enter(papers).visitor
    second = PaperCluster("root.example", now=leaf.clock.now())
    leaf.know(root={"ssh_user_cas": [second.user_ca.public.ssh_key]})
    assert isinstance(leaf.gate().decide_again(visitor), Allowed)
    assert "signed by a CA we do not trust" in leaf.refuses(papers)
    assert leaf.enter(second.user("alice", roles=("access",), logins=(ME,))).visitor.cluster


def test_a_host_ca_of_the_root_signs_no_users(leaf: Leaf) -> None:
    impostor = PaperCluster("root.example", now=leaf.clock.now())
    impostor.authority = type(impostor.authority)(
        impostor.host_ca, replace(impostor.user_ca, **_keys_of(leaf.root.host_ca))
    )
    papers = impostor.user("alice", roles=("access",), logins=(ME,))
    assert "signed by a CA we do not trust" in leaf.refuses(papers)


def _keys_of(keys: Any) -> dict[str, Any]:
    public = replace(keys.public, type="user")
    return {
        "public": public,
        "ssh_private": keys.ssh_private,
        "tls_private": keys.tls_private,
    }


def test_a_certificate_of_the_root_ends_when_it_says(leaf: Leaf) -> None:
    papers = alice(leaf)
    leaf.clock.tick(days=2)
    assert "expired" in leaf.refuses(papers)


def test_a_name_that_no_lock_fits_is_not_let_in(leaf: Leaf) -> None:
    papers = leaf.root.user("a" * 120, roles=("access",), logins=(ME,))
    assert "no lock fits it" in leaf.refuses(papers)


def test_several_roots_are_kept_apart(leaf: Leaf) -> None:
    """One's map is not the other's, and the CA says who is whose."""
    third = PaperCluster("third.example", now=leaf.clock.now())
    roots = [
        RootWord(
            cluster=each.name,
            user_cas=each.user_cas,
            ssh_user_cas=[each.user_ca.public.ssh_key],
            role_map=[{"remote": "access", "local": [role]}],
        )
        for each, role in ((leaf.root, "visitor"), (third, "admin"))
    ]
    leaf.know(roots=roots)
    assert leaf.enter(alice(leaf)).visitor.roles == ("visitor",)
    other = leaf.enter(third.user("alice", roles=("access",), logins=(ME,))).visitor
    assert (other.user, other.roles) == ("alice@third.example", ("admin",))


def test_a_jump_host_of_the_leaf_lets_nobody_in_without_a_role(leaf: Leaf) -> None:
    assert leaf.enter(alice(leaf), kind=JumpGate).visitor.claimed_roles == ("access",)
    with pytest.raises(Denied) as why:
        leaf.enter(alice(leaf, "nothing"), kind=JumpGate)
    assert "is worth one here" in why.value.log


def test_the_fixture_is_what_it_seems(leaf: Leaf) -> None:
    """The CA of the visitor is that of the root, and time is what the certificates say."""
    visitor = leaf.enter(alice(leaf)).visitor
    assert visitor.ca_blob == ssh_blob(leaf.root.user_ca.public.ssh_key)
    assert visitor.not_after > leaf.clock.now() + timedelta(hours=1)

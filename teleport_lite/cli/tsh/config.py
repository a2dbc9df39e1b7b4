"""tsh config."""

from contextlib import suppress

import typer

from teleport_lite.cli.show import out
from teleport_lite.cli.tsh import openssh
from teleport_lite.cli.tsh.desk import Desk, desk_of
from teleport_lite.client.person import Person
from teleport_lite.errors import Error


def config(ctx: typer.Context) -> None:
    """Print a block for ~/.ssh/config for every cluster you can reach. With it, plain
    `ssh root@NODE.CLUSTER` works."""
    desk = desk_of(ctx)
    desk.trust_of_now()
    person = desk.person(even_expired=True)
    blocks = [_block(person)]
    if not person.root:
        blocks += [_block(each) for each in _at_leaves(desk, person)]
    out("".join(blocks))


def _at_leaves(desk: Desk, person: Person) -> list[Person]:
    """As far as they are known, now or when that was last asked."""
    from teleport_lite.client.leaves import at_leaf, known

    chosen = None if desk.identity else desk.profile()
    if chosen is None:
        return []
    with suppress(Error):
        desk.clusters(person)
    return [at_leaf(person, desk.home, chosen, name) for name in known(desk.home, chosen)]


def _block(person: Person) -> str:
    lines = [f"    {name} {value}\n" for name, value in openssh.settings(person)]
    return (
        f"# Nodes of cluster {person.cluster}, through {person.through()} (tsh config)\n"
        f"Host *.{person.cluster}\n{''.join(lines)}"
        f"# End of cluster {person.cluster}\n"
    )

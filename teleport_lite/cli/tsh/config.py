"""tsh config."""

import typer

from teleport_lite.cli.show import out
from teleport_lite.cli.tsh import openssh
from teleport_lite.cli.tsh.desk import desk_of


def config(ctx: typer.Context) -> None:
    """Print a block for ~/.ssh/config. With it, plain `ssh root@NODE.CLUSTER` works."""
    desk = desk_of(ctx)
    desk.trust_of_now()
    person = desk.person(even_expired=True)
    lines = [f"    {name} {value}\n" for name, value in openssh.settings(person)]
    out(
        f"# Nodes of cluster {person.cluster}, through {person.through()} (tsh config)\n"
        f"Host *.{person.cluster}\n{''.join(lines)}"
        f"# End of cluster {person.cluster}\n"
    )

"""What people type: one typer program per name, one file per group of commands."""

# Names beside teleport-lite under which the same file is called.
OTHERS = ("tctl", "tsh", "tbot")

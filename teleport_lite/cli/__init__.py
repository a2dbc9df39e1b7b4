"""What people type: one typer program per name, one file per group of commands."""

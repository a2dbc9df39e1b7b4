"""teleport-lite uninstall."""

from teleport_lite.cli.teleport.install import DryRun, Prefix


def uninstall(prefix: Prefix = "", dry_run: DryRun = False) -> None:
    """Remove what `install self` put there. Settings and data stay."""

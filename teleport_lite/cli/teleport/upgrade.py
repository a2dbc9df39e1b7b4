"""teleport-lite upgrade."""


def upgrade() -> None:
    """Become the version that the cluster wants."""

"""teleport-lite: a small, auditable access plane. One file, four commands."""

__version__ = "0.1.0"

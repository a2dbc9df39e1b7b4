"""The discovery role of teleport-lite."""

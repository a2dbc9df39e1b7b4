"""The db role of teleport-lite."""

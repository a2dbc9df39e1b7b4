"""The app role of teleport-lite."""

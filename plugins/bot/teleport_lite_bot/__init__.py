"""The bot role of teleport-lite."""

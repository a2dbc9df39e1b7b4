"""The windowsdesktop role of teleport-lite."""

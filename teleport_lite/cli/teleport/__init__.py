"""The commands of teleport-lite, one file each."""

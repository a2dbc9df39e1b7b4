"""The kube role of teleport-lite."""

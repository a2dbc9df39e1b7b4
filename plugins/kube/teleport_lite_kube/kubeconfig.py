"""Which clusters a kubeconfig file knows: the names of its contexts, and nothing else of it."""

from pathlib import Path

from teleport_lite.plugin.api import Section

# A kubeconfig with embedded certificates takes some 10 KiB per cluster.
MAX_FILE = 1 << 20


def contexts(kube: Section, key: str) -> list[str]:
    """Raises Malformed naming `key` when the file can not be read or names no context.

    Messages quote nothing of the file but names of contexts: it holds keys.
    """
    path = Path(kube.text(key))
    if not path.is_absolute():
        raise kube.wrong(key, f"{str(path)[:120]!a} is not an absolute path")
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE + 1)
    except OSError as why:
        raise kube.wrong(key, f"{path} can not be read: {why.strerror}") from why
    if len(raw) > MAX_FILE:
        raise kube.wrong(key, f"{path} is larger than {MAX_FILE} bytes")
    names = _names(raw)
    if not names:
        raise kube.wrong(key, f"{path} has no contexts with names")
    for name in names:
        if names.count(name) > 1:
            raise kube.wrong(key, f"{path} has the context {name[:64]!a} twice")
    return [kube.name(key, made=name) for name in names]


def _names(raw: bytes) -> list[str]:
    import yaml  # only a process that serves Kubernetes pays for it

    try:
        read = yaml.safe_load(raw)
    except (yaml.YAMLError, ValueError, RecursionError):
        return []
    listed = read.get("contexts") if isinstance(read, dict) else None
    entries = listed if isinstance(listed, list) else []
    found = [one.get("name") for one in entries if isinstance(one, dict)]
    return [name for name in found if isinstance(name, str) and name]

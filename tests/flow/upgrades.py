"""Single files of many versions, and daemons that are started anew from the next one."""

import io
import os
import shutil
import signal
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.flow.cluster import Cluster, Running
from tests.packaging.conftest import copy_sources


def builds(root: Path, count: int) -> Iterator[Path]:
    """Files that differ in their version: 0.9.1, 0.9.2..."""
    sources = Sources(root)
    for number in range(1, count + 1):
        yield sources.build(f"0.9.{number}")


class Sources:
    """A copy of what a file is made of, to be changed between two builds."""

    def __init__(self, root: Path) -> None:
        self._root, self._copy = root, root / "sources"
        copy_sources(self._copy)
        self._builder = _builder(self._copy)
        self._target = self._builder.Target.here()
        fetched = self._builder.fetch.site(self._target, self._copy / "build")
        self._site = self._builder.contents.of_site(fetched)
        self.package = self._copy / "teleport_lite"

    def build(self, version: str) -> Path:
        """Not compressed, as that takes longest."""
        module = f'"""Build {version}."""\n\n__version__ = "{version}"\n'
        (self.package / "__init__.py").write_text(module)
        ours = self._builder.contents.ours(self._copy)
        file = self._root / f"build-{version}.pyz"
        file.write_bytes(self._builder.assemble({str(self._target): self._site | ours}))
        file.chmod(0o755)
        return file


def _builder(sources: Path) -> Any:
    """packaging/build.py of a copy, as a module, with `packed` as fast as can be."""
    sys.path.insert(0, str(sources / "packaging"))
    try:
        names = ("build", "contents", "fetch")
        for name in names:
            sys.modules.pop(name, None)
        import build

        for name in names:
            del sys.modules[name]
    finally:
        sys.path.remove(str(sources / "packaging"))
    assert isinstance(build, ModuleType)
    compressed = build.entry  # type: ignore[attr-defined]

    def packed(files: dict[str, bytes]) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for name in sorted(files):
                mode = 0o755 if ".so" in name else 0o644
                archive.writestr(compressed(name, mode), files[name])
        return out.getvalue()

    build.packed = packed  # type: ignore[attr-defined]
    return build


class Installed:
    """Where the file is installed, and the daemons that run from it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.file = cluster.root / "bin" / "teleport-lite"
        self.first = self.file.with_name("first")  # of all that were installed
        self.file.parent.mkdir()
        self.trees = cluster.root / "trees"
        self.daemons: dict[str, tuple[tuple[str, ...], Running]] = {}
        self.env = {
            **cluster.env,
            "TELEPORT_LITE_PYTHON": sys.executable,
            "TELEPORT_LITE_ROOT": str(self.trees),
        }

    def upgrade(self, to: Path) -> None:
        if not self.first.exists():
            shutil.copy(to, self.first)
        shutil.copy(to, self.file.with_name("new"))
        self.file.with_name("new").rename(self.file)

    def start(self, name: str, *words: str) -> None:
        """`words` begin with the program."""
        self.daemons[name] = words, Running(words, self.log(name), self.env)

    def log(self, name: str) -> Path:
        return self.cluster.root / f"{name}.log"

    def stop(self) -> None:
        """Once: a second signal would end relayed sessions, too."""
        live = [each for _, each in self.daemons.values() if each.process.poll() is None]
        for running in live:
            running.process.send_signal(signal.SIGTERM)
        for running in live:
            assert running.process.wait(60) == 0

    def start_all(self) -> None:
        for name, (words, _) in list(self.daemons.items()):
            self.start(name, *words)

    def wait_for(self, words: str) -> None:
        """All of them that run now have said it."""
        for _, running in self.daemons.values():
            running.wait_for(words)

    def forget_old_trees(self, keep: set[str]) -> set[str]:
        """Remove what was unpacked before; returns what is there."""
        found = {each.name for each in self.trees.iterdir() if not each.name.startswith(".")}
        for name in keep & found:
            shutil.rmtree(self.trees / name)
        return found - keep

    def processes(self, name: str) -> dict[int, str]:
        """Of that name as ps shows it, with their arguments."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    words = (entry / "cmdline").read_bytes()
                    comm = (entry / "comm").read_text().strip()
                except OSError:
                    continue
                if comm == name and os.fsencode(self.cluster.root) in words:
                    found[int(entry.name)] = words.decode()
        return found

"""What a container engine does with a Containerfile, as far as ours uses it, without an engine.

Every FROM is the image of a machine: a minimal root with a Python. Steps run in it one after the
other, without a network; what they leave is below every container that is started. A container
has its own PIDs, mounts, names and network, an empty /sys, and the capabilities that engines leave.
"""

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.machines.wires import Namespace
from tests.support import eventually

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What docker and podman leave to root, by the names of setpriv(1).
_CAPABILITIES = "-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap"
_CAPABILITIES += ",+net_bind_service,+sys_chroot,+setfcap"
# Makes the surroundings of PID 1 and becomes it. Arguments: root, host name, how to drop, command.
_BECOME = """\
root=$1 name=$2; shift 2
hostname "$name"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for each in null zero full random urandom tty; do
  : >"$root/dev/$each"; mount --bind "/dev/$each" "$root/dev/$each"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"; ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs -o ro tmpfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
cd "$root"
pivot_root . mnt
exec chroot . sh -ec 'umount -l /mnt; exec "$@"' sh "$@"
"""


@dataclass
class Stage:
    """What one FROM begins."""

    name: str
    place: Path
    env: dict[str, str] = field(default_factory=lambda: {"PATH": _PATH})
    user: str = "root"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    volumes: list[str] = field(default_factory=list)
    ports: list[str] = field(default_factory=list)
    stop: str = "SIGTERM"

    @property
    def root(self) -> Path:
        return self.place / "root"


class Engine:
    """Builds once; `start` runs as many containers as wanted. Closed, all of it is gone."""

    def __init__(self, image: Path, context: Path, file: Path, place: Path) -> None:
        self._image, self._context, self._place = image, context, place
        # Mounts are made where nobody else sees them, and go with this process.
        self._holder = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "sleep", "infinity"],
            start_new_session=True,
        )
        self._mounts = f"--mount=/proc/{self._holder.pid}/ns/mnt"
        ours = os.readlink("/proc/self/ns/mnt")
        try:
            eventually(lambda: os.readlink(self._mounts.partition("=")[2]) != ours)
            self._do("mount", "-t", "tmpfs", "tmpfs", str(place))
            self._stages: list[Stage] = []
            for word, rest in instructions(file.read_text()):
                self._step(word, rest)
        except BaseException:
            self.close()
            raise

    @property
    def image(self) -> Stage:
        return self._stages[-1]

    def close(self) -> None:
        self._holder.kill()
        self._holder.wait()

    def start(
        self,
        name: str,
        net: Namespace,
        *words: str,
        env: Mapping[str, str] | None = None,
        user: str = "",
        hosts: str = "",
        read_only: bool = False,
    ) -> "Container":
        """As `docker run IMAGE WORDS...`; without words the image says what.

        Volumes are empty, and belong to whoever runs it (podman's `-v NAME:DIR:U`). Nothing else
        can be written if it is `read_only`.
        """
        image = self.image
        below = image.place / "upper"
        root = self._layer(name, f"{below}:{self._image}")
        self._do("sh", "-ec", 'printf %s "$1" >"$2"', "sh", hosts, str(root / "etc/hosts"))
        command = [*image.entrypoint, *(words or image.command)]
        given = {**image.env, "HOSTNAME": name, "HOME": "/root", **(env or {})}
        who = user or image.user
        for volume in image.volumes:
            self._do("mount", "-t", "tmpfs", "-o", "mode=700", "tmpfs", f"{root}{volume}")
            self._do("chroot", str(root), "chown", f"{who}:", volume)
        if read_only:
            self._do("mount", "-o", "remount,ro", str(root))
        drop = ["setpriv", f"--bounding-set={_CAPABILITIES}", "--inh-caps=-all"]
        drop += [f"--reuid={who}", f"--regid={who}", "--init-groups"] if who != "root" else []
        process = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL", "nsenter", self._mounts, f"--net={net.path}"),
                *("unshare", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child"),
                *("sh", "-ec", _BECOME, "sh", str(root), name),
                *(*drop, "env", "-i", *(f"{key}={value}" for key, value in given.items())),
                *command,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        return Container(process, given)

    # --- building

    def _do(self, *words: str) -> None:
        done = subprocess.run(["nsenter", self._mounts, *words], capture_output=True, text=True)
        assert done.returncode == 0, f"{shlex.join(words)}: {done.stdout}{done.stderr}"

    def _layer(self, name: str, below: str) -> Path:
        """A directory in which all of `below` is seen, and can be changed for itself alone."""
        place = self._place / name
        parts = [str(place / each) for each in ("upper", "work", "root")]
        self._do("mkdir", "-p", *parts)
        options = f"lowerdir={below},upperdir={parts[0]},workdir={parts[1]}"
        self._do("mount", "-t", "overlay", "-o", options, "overlay", parts[2])
        return place / "root"

    def _step(self, word: str, rest: str) -> None:
        if word == "FROM":
            found = re.fullmatch(r"\S+?/\S+:[\w.-]+( AS (\w+))?", rest)
            assert found, f"FROM {rest}: a name with a tag"
            name = found[2] or f"stage{len(self._stages)}"
            self._layer(name, str(self._image))
            self._stages.append(Stage(name=name, place=self._place / name))
            return
        stage = self._stages[-1]
        match word:
            case "RUN":
                self._run(stage, rest)
            case "COPY":
                self._copy(stage, rest.split())
            case "ENV":
                stage.env.update(pair.split("=", 1) for pair in shlex.split(rest))
            case "USER":
                stage.user = rest
            case "ENTRYPOINT":
                stage.entrypoint = json.loads(rest)
            case "CMD":
                stage.command = json.loads(rest)
            case "HEALTHCHECK":
                stage.health = json.loads(rest[rest.index("CMD ") + 4 :])
            case "VOLUME":
                stage.volumes = json.loads(rest)
            case "EXPOSE":
                stage.ports = rest.split()
            case "STOPSIGNAL":
                stage.stop = rest
            case _:
                raise AssertionError(f"{word} is not known to this test")

    def _run(self, stage: Stage, script: str) -> None:
        """Without a network: what a build downloads would be pinned by nobody."""
        root = str(stage.root)
        prepare = 'mount -t proc proc "$1/proc"; mount --bind /dev/null "$1/dev/null"; '
        self._do(
            *("unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "sh", "-ec"),
            f'{prepare} root=$1; shift; exec chroot "$root" env -i "$@"',
            *("sh", root, *(f"{key}={value}" for key, value in stage.env.items())),
            *("sh", "-c", script),
        )

    def _copy(self, stage: Stage, words: Sequence[str]) -> None:
        base = self._context
        if words[0].startswith("--from="):
            source = words[0].partition("=")[2]
            base = next(each.root for each in self._stages if each.name == source)
            words = words[1:]
        what, to = words
        source, place = base / what.lstrip("/"), stage.root / to.lstrip("/")
        if what.endswith("/"):
            self._do("cp", "-a", f"{source}/.", f"{place}/")
        else:
            self._do("cp", "--preserve=mode", str(source), str(place))


class Container:
    """A running one. Its output is what `docker logs` would show."""

    def __init__(self, process: "subprocess.Popen[bytes]", env: Mapping[str, str]) -> None:
        self._process, self._env = process, dict(env)
        self.log = ""

    @property
    def pid(self) -> int:
        """Of its first process, seen from here."""
        parent = self._process.pid
        words = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return int(words[0])

    def waits_for(self, word: str) -> None:
        """Until it has written a line with `word`."""
        assert self._process.stdout
        for line in iter(self._process.stdout.readline, b""):
            self.log += line.decode()
            if word in self.log:
                return
        raise AssertionError(f"it ended without a word of {word!r}:\n{self.log}")

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """As `docker exec`."""
        env = [f"{key}={value}" for key, value in self._env.items()]
        inside = ["nsenter", f"--target={self.pid}", "--all", "env", "-i", *env, *words]
        return subprocess.run(inside, capture_output=True, text=True, timeout=60)

    def say(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode == 0, f"{shlex.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def stop(self, number: int, *, within: float) -> int:
        """As `docker stop`: its exit code. Fails if it had to be killed."""
        os.kill(self.pid, number)
        return self.wait(within=within)

    def wait(self, *, within: float) -> int:
        rest, _ = self._process.communicate(timeout=within)
        self.log += rest.decode()
        return self._process.returncode

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Of a Containerfile: word and the rest, lines that go on put together."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        word, _, rest = line.partition(" ")
        yield word, rest.strip()

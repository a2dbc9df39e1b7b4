"""A later version of ours, made of this one: what the next release may do to the one before it."""

import re
from pathlib import Path

# As plain text, in every message that travels or lies on disk.
_KIND = re.compile(r"^class (\w+)\((Message|Statement|Confidential|Frame), frozen=True\):\n", re.M)
_SAID = "of a later version"
_FIELDS = {
    "Message": "invented: str = ''",
    "Confidential": "invented: str = ''",
    "Statement": f"invented: str = {_SAID!r}",
    "Frame": "invented: dict[str, str] | None = None",
}
_ROOMS = (
    "proto/admin.py",
    "proto/join.py",
    "proto/login.py",
    "proto/reach.py",
    "proto/recording.py",
    "proto/script.py",
    "proto/stream.py",
    "proto/tunnel.py",
    "agent/identity.py",
    "agent/knowledge.py",
    "agent/pending.py",
    "agent/ways.py",
    "net/ssh_line.py",
    "proxy/routes.py",
)
# File, words in it, and what stands there later.
_WORDS = (
    # Frames of a kind that only the later version knows, both ways, and in tunnels.
    (
        "agent/link.py",
        "        self._say(FromAgent(hello=self._hello()))\n",
        "        self._say(FromAgent(hello=self._hello()))\n"
        "        self._say(FromAgent(invented={'sky': 'blue'}))\n",
    ),
    (
        "auth/stream.py",
        "        self._say(ToAgent(knowledge=self._desk.teacher.lesson()))\n",
        "        self._say(ToAgent(knowledge=self._desk.teacher.lesson()))\n"
        "        self._say(ToAgent(invented={'sky': 'blue'}))\n",
    ),
    (
        "net/mux.py",
        "            self.greeted, self.heard = True, self._loop.time()\n",
        "            self.greeted, self.heard = True, self._loop.time()\n"
        "            self.say(Control(invented={'sky': 'blue'}))\n",
    ),
    # An event and a word of a monitor that nobody knew before.
    (
        "node/story.py",
        '        self._event("auth", LOGIN_OK, "ok", by=welcome.by)\n',
        '        self._event("auth", LOGIN_OK, "ok", by=welcome.by)\n'
        '        self._event("weather.change", "TWX00I", "ok", sky="blue")\n'
        "        self._tell(FromMonitor(invented={'sky': 'blue'}))\n",
    ),
    (
        "net/ssh_line.py",
        "    note: str | None = None  # for the log of the daemon\n",
        "    note: str | None = None  # for the log of the daemon\n"
        "    invented: dict[str, str] | None = None\n",
    ),
    # What is kept in documents, and a step of the schema.
    (
        "model/host.py",
        "    joined_at: datetime\n",
        "    joined_at: datetime\n    rack: str = 'r1'\n",
    ),
    (
        "store/migrations.py",
        "\n\ndef migrate(\n",
        "\nMIGRATIONS = (*MIGRATIONS, (\n"
        "    \"ALTER TABLE hosts ADD COLUMN rack TEXT NOT NULL DEFAULT 'r0'\",\n"
        '    "CREATE TABLE racks (name TEXT PRIMARY KEY NOT NULL) WITHOUT ROWID",\n'
        "))\n\n\ndef migrate(\n",
    ),
)


def make_later(package: Path) -> int:
    """Change the sources in `package`. Returns how many kinds of messages have a field more."""
    changed = 0
    for room in _ROOMS:
        text = (package / room).read_text()
        text, count = _KIND.subn(_with_field, text)
        assert count, f"{room} has no messages any more"
        changed += count
        (package / room).write_text(text)
    for name, before, after in _WORDS:
        text = (package / name).read_text()
        assert text.count(before) == 1, f"{name} is not what it was: {before}"
        (package / name).write_text(text.replace(before, after))
    return changed


def _with_field(found: "re.Match[str]") -> str:
    name, kind = found[1], found[2]
    if name == "FromMonitor" or (kind == "Statement" and name == "Frame"):
        return found[0]
    # Fields without a default may not follow one that has it, but with keywords.
    return f"class {name}({kind}, frozen=True, kw_only=True):\n    {_FIELDS[kind]}\n"

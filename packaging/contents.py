"""What goes into the file: our packages, the wheels less what no start needs, and metadata."""

import re
import struct
import tomllib
from pathlib import Path

Files = dict[str, bytes]

# Packages that ours name as needed but work without. Each name as the wheel spells it on disk.
LEFT_OUT = {
    "invoke": "paramiko runs commands through it, which we never ask for; its import takes 40 ms",
    "rich": "typer draws with it; our commands print plain text (rich_markup_mode=None)",
    "markdown_it": "for rich",
    "markdown_it_py": "for rich",
    "mdurl": "for rich",
    "pygments": "for rich",
    "pycparser": "cffi reads C with it while something is built",
}
# Of no use to a running program. Licences stay, for the file is passed on; so does METADATA, which
# paramiko reads about itself while it is imported.
SLIM = re.compile(
    r"\.(pyc|pyi|pyx|pxd|pxi|c|h|hash)$|^bin/|^\.lock$|/tests?/|/py\.typed$"
    r"|\.dist-info/(RECORD|WHEEL|INSTALLER|REQUESTED|top_level\.txt|zip-safe|uv_build\.json"
    r"|uv_cache\.json|direct_url\.json|entry_points\.txt)$"
)
# What tools and editors leave in a checkout.
STRAY = re.compile(r"(^|/)(\.|__pycache__/)|\.(pyc|orig|rej)$|~$")


def of_site(site: Path) -> Files:
    """The files of a directory that pip or uv installed wheels into."""
    found = {}
    for path in sorted(site.rglob("*")):
        name = path.relative_to(site).as_posix()
        top = re.split(r"[/.-]", name, maxsplit=1)[0].lower()
        if path.is_file() and top not in LEFT_OUT and not SLIM.search(name):
            data = path.read_bytes()
            found[name] = trimmed(data) if data.startswith(b"\x7fELF") else data
    return found


def trimmed(library: bytes) -> bytes:
    """A 64-bit ELF library without what the loader never reads: debug info, symbols, sections.

    Loading goes by the program headers alone (ELF gABI 4.1, chapter 5), and all they name comes
    first in the file. One wheel in the lock shrinks from 14 MB to 1.6 MB by this.
    """
    if library[4:6] != b"\x02\x01":  # not 64 bits, little end first
        return library
    (table,) = struct.unpack_from("<Q", library, 32)
    size, count = struct.unpack_from("<HH", library, 54)
    end = table + size * count
    for at in range(table, end, size):
        offset, _, _, in_file = struct.unpack_from("<QQQQ", library, at + 8)
        end = max(end, offset + in_file)
    kept = bytearray(library[:end])
    struct.pack_into("<Q", kept, 40, 0)  # e_shoff: there is no section table
    struct.pack_into("<HH", kept, 60, 0, 0)  # e_shnum, e_shstrndx
    return bytes(kept)


def version(root: Path) -> str:
    text = (root / "teleport_lite" / "__init__.py").read_text("utf-8")
    found = re.search(r'^__version__ = "([\w.+-]+)"$', text, re.MULTILINE)
    if found is None:
        raise ValueError("teleport_lite/__init__.py does not state __version__")
    return found[1]


def ours(root: Path) -> Files:
    """Our packages, those in plugins/, and the metadata by which plugins are found."""
    found: Files = {}
    packages = [root / "teleport_lite", *sorted(root.glob("plugins/*/teleport_lite_*"))]
    for package in packages:
        for path in sorted(package.rglob("*")):
            if path.is_file() and not STRAY.search(path.relative_to(package).as_posix()):
                found[path.relative_to(package.parent).as_posix()] = path.read_bytes()
    for pyproject in [root / "pyproject.toml", *sorted(root.glob("plugins/*/pyproject.toml"))]:
        found |= metadata(tomllib.loads(pyproject.read_text("utf-8"))["project"], version(root))
    found["LICENSE.teleport-lite"] = (root / "LICENSE").read_bytes()
    return found | assets(root)


def assets(root: Path) -> Files:
    """What teleport_lite/release/assets.py looks for: install.sh and the systemd units."""
    units = sorted((root / "systemd").rglob("[!.]*[!~]"))
    paths = [root / "install.sh", *(path for path in units if path.is_file())]
    place = "teleport_lite/assets"
    return {f"{place}/{path.relative_to(root).as_posix()}": path.read_bytes() for path in paths}


def metadata(project: dict[str, object], default_version: str) -> Files:
    """The dist-info that installing one of our packages would leave behind."""
    name, release = str(project["name"]), str(project.get("version", default_version))
    place = f"{re.sub(r'[-_.]+', '_', name).lower()}-{release}.dist-info"
    head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {release}\n"
    head += f"Summary: {project.get('description', '')}\nLicense: {project.get('license', '')}\n"
    groups = project.get("entry-points", {})
    assert isinstance(groups, dict)
    points = "".join(
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in sorted(names.items()))
        for group, names in sorted(groups.items())
    )
    files = {f"{place}/METADATA": head.encode()}
    if points:
        files[f"{place}/entry_points.txt"] = points.encode()
    return files

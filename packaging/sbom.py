"""What the file is made of, for machines: a CycloneDX 1.5 document (cyclonedx.org).

It holds nothing that differs between two builds of the same sources: no serial number, and a
time only if SOURCE_DATE_EPOCH gives one.
"""

import json
import os
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

import contents

PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)(.*?)(?=^\S|\Z)", re.MULTILINE | re.DOTALL)
Component = dict[str, object]


def document(
    *, project: dict[str, object], version: str, digest: str, lock: str, sites: Iterable[Path]
) -> bytes:
    """`digest` is that of the file; `lock` and `sites` say what was locked and installed."""
    about = metadata_of(sites)
    pins = {normal(name): (found, hashes) for name, found, hashes in PIN.findall(lock)}
    purls = {name: f"pkg:pypi/{name}@{found}" for name, (found, _) in pins.items()}
    ours: Component = {
        "type": "application",
        "bom-ref": f"pkg:generic/teleport-lite@{version}",
        "name": "teleport-lite",
        "version": version,
        "description": project["description"],
        "licenses": [{"expression": project["license"]}],
        "purl": f"pkg:generic/teleport-lite@{version}",
        "hashes": [{"alg": "SHA-256", "content": digest}],
    }
    wishes = [str(wish) for wish in listed(project["dependencies"])]
    needs = [(str(ours["bom-ref"]), wishes)]
    both = pins.keys() & about.keys()
    needs += [(purls[name], about[name].get_all("Requires-Dist", [])) for name in both]
    whole = {
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {**timestamp(), "component": ours},
        "components": [
            component(name, *pins[name], purls[name], about.get(name)) for name in sorted(pins)
        ],
        "dependencies": [
            {"ref": ref, "dependsOn": sorted({purls[n] for n in map(needed, names) if n in purls})}
            for ref, names in sorted(needs)
        ],
    }
    return json.dumps(whole, indent=1).encode() + b"\n"


def component(name: str, version: str, hashes: str, purl: str, about: Message | None) -> Component:
    """One locked distribution. `excluded`: it is locked, and not in the file."""
    left_out = about is None or name.replace("-", "_") in contents.LEFT_OUT
    found: Component = {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "scope": "excluded" if left_out else "required",
        "hashes": [
            {"alg": "SHA-256", "content": each}
            for each in sorted(re.findall(r"sha256:([0-9a-f]{64})", hashes))
        ],
        "purl": purl,
    }
    if about is not None and (known := licenses(about)):
        found["licenses"] = known
    return found


def licenses(about: Message) -> list[dict[str, object]]:
    """As METADATA has it: an SPDX expression (PEP 639), a few words, or trove classifiers."""
    if expression := about.get("License-Expression"):
        return [{"expression": expression}]
    words = str(about.get("License", "")).strip()
    if words and "\n" not in words and len(words) < 100:
        return [{"license": {"name": words}}]
    named = [line for line in about.get_all("Classifier", []) if line.startswith("License :: ")]
    return [{"license": {"name": line.rpartition(" :: ")[2]}} for line in sorted(named)]


def metadata_of(sites: Iterable[Path]) -> dict[str, Message]:
    """Of every distribution that was installed for any target, by normalised name."""
    found: dict[str, Message] = {}
    for site in sites:
        for path in sorted(site.glob("*.dist-info/METADATA")):
            about = HeaderParser().parsestr(path.read_text(encoding="utf-8"))
            found.setdefault(normal(str(about["Name"])), about)
    return found


def listed(value: object) -> list[object]:
    assert isinstance(value, list)
    return value


def needed(wish: str) -> str:
    """The name in a requirement (PEP 508); "" for one that an extra asks for."""
    if re.search(r"\bextra\s*==", wish):
        return ""
    found = re.match(r"[A-Za-z0-9._-]+", wish)
    return normal(found[0]) if found else ""


def normal(name: str) -> str:
    """PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def timestamp() -> dict[str, str]:
    """reproducible-builds.org/specs/source-date-epoch"""
    seconds = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not seconds.isdecimal():
        return {}
    return {"timestamp": datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}

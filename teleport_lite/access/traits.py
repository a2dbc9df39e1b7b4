"""Templates in roles: {{internal.logins}} becomes the user's own logins."""

import re
from collections.abc import Iterable, Mapping

_TEMPLATE = re.compile(r"\{\{\s*(?:internal|external)\.([A-Za-z0-9_]+)\s*\}\}")


def expand(patterns: Iterable[str], traits: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Every text with its templates filled in; a template without a value gives nothing."""
    found: list[str] = []
    for pattern in patterns:
        for text in _fill(pattern, traits):
            if text and text not in found:
                found.append(text)
    return tuple(found)


def _fill(pattern: str, traits: Mapping[str, tuple[str, ...]]) -> Iterable[str]:
    template = _TEMPLATE.search(pattern)
    if template is None:
        return () if "{{" in pattern else (pattern,)
    before, after = pattern[: template.start()], pattern[template.end() :]
    return tuple(
        filled
        for value in traits.get(template[1], ())
        for filled in _fill(before + value + after, {})
    )

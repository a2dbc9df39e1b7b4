"""The few pages a proxy shows to browsers: plain HTML and one style sheet, no scripts.

Templates are files of the package (`teleport_lite/web`), read through importlib.resources so
that they are found in a wheel, a checkout and a file with everything in it alike.
"""

import functools
from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined

STYLE = "style.css"


def page(name: str, **facts: object) -> str:
    """The page `name`, every fact escaped. A fact that is missing is a bug, not a blank."""
    return _templates().get_template(f"{name}.html").render(**facts)


@functools.cache
def style() -> str:
    return _text(STYLE)


@functools.cache
def _templates() -> Environment:
    return Environment(
        loader=FunctionLoader(_text), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )


def _text(name: str) -> str:
    return (files("teleport_lite") / "web" / name).read_text(encoding="utf-8")

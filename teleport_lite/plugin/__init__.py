"""Roles come from plugins: `api` is for authors, `guests` is who came, `builtin` is ours."""

from teleport_lite.plugin.builtin import builtin_book

__all__ = ["builtin_book"]

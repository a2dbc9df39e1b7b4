"""The roles of this program, and ways to read a config and to be refused."""

from dataclasses import dataclass

import pytest

from teleport_lite.config.flags import Flags
from teleport_lite.config.load import parse, with_flags
from teleport_lite.config.model import Config
from teleport_lite.errors import Error, Malformed
from teleport_lite.model.system_role import RoleBook
from teleport_lite.plugin.builtin import builtin_book


@dataclass(frozen=True)
class Desk:
    """Reads config texts as start would."""

    book: RoleBook

    def read(self, text: str, **flags: object) -> Config:
        return with_flags(parse(text, "f.yaml", self.book), Flags(**flags), self.book)

    def refusal(self, text: str, kind: type[Error] = Malformed, **flags: object) -> str:
        with pytest.raises(kind) as refused:
            self.read(text, **flags)
        assert type(refused.value) is kind
        assert "\n" not in refused.value.message
        return refused.value.message


@pytest.fixture(scope="session")
def book() -> RoleBook:
    return builtin_book()


@pytest.fixture(scope="session")
def desk(book: RoleBook) -> Desk:
    return Desk(book)

"""The cluster's CAs as the other desks need them: whom to trust, who signs, what is rotated."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock

from teleport_lite.model.authority import CaKeys, CaType
from teleport_lite.model.rotation import Phase, RetiredCa, Rotation
from teleport_lite.pki.authority import Authority
from teleport_lite.pki.pin import pin_of
from teleport_lite.store.protocols import Store

# Rotations change a few times a year, and their steps are seconds apart.
TRIES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """All of it at one moment: marks and keys of the same moment belong together."""

    all: tuple[CaKeys, ...]
    rotations: Mapping[CaType, Rotation]
    signer: Authority
    # Of a host CA that is being rotated: its two generations.
    old_host: Authority | None = None
    new_host: Authority | None = None

    @property
    def serving(self) -> Authority | None:
        """Who signs what hosts serve with, while it is not `signer`: people know this one."""
        in_between = self.rotations[CaType.HOST].phase is Phase.UPDATE_CLIENTS
        return self.old_host if in_between else None

    def of(self, type: CaType) -> list[CaKeys]:
        """The generations that are trusted, the signing one first."""
        return sorted((k for k in self.all if k.type is type), key=lambda k: not k.active)

    def tls(self, type: CaType) -> list[str]:
        """PEM certificates to trust, the signing one first."""
        return [keys.public.tls_cert for keys in self.of(type) if keys.public.tls_cert]

    def ssh(self, type: CaType) -> list[str]:
        """OpenSSH public key lines to trust, the signing one first."""
        return [keys.public.ssh_key for keys in self.of(type) if keys.public.ssh_key]

    def marks(self) -> dict[str, str]:
        """By type, of those that were ever rotated."""
        return {each.type.value: each.mark for each in self.rotations.values() if each.mark}


class Cas:
    """Reloaded when a rotation takes a step, by whichever auth server. Cheap to ask; holds the
    signing keys. Safe from several threads: a view is replaced, never changed."""

    def __init__(self, store: Store, cluster: str) -> None:
        self._store, self.cluster = store, cluster
        self._pins: dict[str, str] = {}
        self._guard = Lock()  # guards the next one, and held while the view is replaced
        self._replaced = object()  # another one each time
        self.reload()

    def reload(self) -> None:
        """Two reads, so look whether a step fell between them; and whether somebody else has read
        meanwhile, perhaps after a step: what is seen never goes back."""
        for left in reversed(range(TRIES)):
            before, rotations = self._replaced, self._rotations()
            found = self._store.cas()
            settled = self._rotations() == rotations
            with self._guard:
                if (settled and self._replaced is before) or not left:
                    self.view, self._replaced = _view(tuple(found), rotations), object()
                    return

    def refresh(self, types: Iterable[CaType] = (CaType.HOST, CaType.USER)) -> None:
        """Reload if another auth server has taken a step that we have not heard of yet.

        Asked before each signature: what a CA signs after it was retired locks somebody out.
        """
        for type in types:
            if self._store.rotation(type).serial != self.view.rotations[type].serial:
                return self.reload()
        return None

    @property
    def signer(self) -> Authority:
        return self.view.signer

    def all(self) -> Sequence[CaKeys]:
        return self.view.all

    def tls(self, type: CaType) -> list[str]:
        """PEM certificates to trust, the signing one first."""
        return self.view.tls(type)

    def ssh(self, type: CaType) -> list[str]:
        """OpenSSH public key lines to trust, the signing one first."""
        return self.view.ssh(type)

    def pins(self, type: CaType = CaType.HOST) -> list[str]:
        """All that are valid now; during a rotation there are two."""
        return [self._pin(pem) for pem in self.tls(type)]

    def retired(self, type: CaType) -> tuple[RetiredCa, ...]:
        """Newest first."""
        return self.view.rotations[type].retired

    def _pin(self, pem: str) -> str:
        pin = self._pins.get(pem)
        if pin is None:
            pin = self._pins[pem] = pin_of(pem)
        return pin

    def _rotations(self) -> dict[CaType, Rotation]:
        return {type: self._store.rotation(type) for type in CaType}


def _view(found: tuple[CaKeys, ...], rotations: Mapping[CaType, Rotation]) -> View:
    by_id = {(keys.type, keys.id): keys for keys in found}
    host, user = _active(found, CaType.HOST), _active(found, CaType.USER)
    rotation = rotations[CaType.HOST]
    signer, old, new = Authority(host, user), None, None
    if rotation.phase is not Phase.STANDBY:
        old = Authority(by_id[CaType.HOST, rotation.old_ca], user)
        new = Authority(by_id[CaType.HOST, rotation.new_ca], user)
    return View(all=found, rotations=rotations, signer=signer, old_host=old, new_host=new)


def _active(found: Sequence[CaKeys], type: CaType) -> CaKeys:
    return min((keys for keys in found if keys.type is type), key=lambda keys: not keys.active)

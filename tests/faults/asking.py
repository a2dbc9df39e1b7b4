"""People who want to change something, again and again, and write down what each was told and how
long it took: by plain HTTP, so that the header that says when to come again is seen as well."""

import http.client
import json
import socket
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from tests.faults.report import Report
from tests.faults.site import Auth

PATH = "/v1/tokens/add"
PAUSE = 0.1  # seconds between two wishes of one person
PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Told:
    status: int  # of HTTP; 0: no answer at all
    took: float  # seconds
    began: float  # monotonic
    token: str  # what was wished for
    later: str  # Retry-After
    words: str


def tell(auth: Auth, path: str, **fields: Any) -> tuple[int, str, str]:
    """Status, Retry-After and body of one answer on the socket of auth."""
    wire = http.client.HTTPConnection("auth", timeout=PATIENCE)
    wire.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        wire.sock.settimeout(PATIENCE)
        wire.sock.connect(str(auth.data / "auth.sock"))
        headers = {"Content-Type": "application/json"}
        wire.request("POST", path, body=json.dumps(fields), headers=headers)
        with wire.getresponse() as answer:
            return answer.status, answer.headers.get("Retry-After", ""), answer.read().decode()
    finally:
        wire.close()


class Asking:
    """`people` who add a token each, all the time. A context manager; the last ones are answered
    before it ends."""

    def __init__(self, auth: Auth, name: str, people: int) -> None:
        self._auth, self._name, self._over = auth, name, threading.Event()
        self.told: list[Told] = []  # list.append is atomic
        self._threads = [
            threading.Thread(target=self._wish, args=(number,), daemon=True)
            for number in range(people)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(timeout=2 * PATIENCE)

    def _wish(self, person: int) -> None:
        number = 0
        while not self._over.is_set():
            number += 1
            token = f"{self._name}-{person}-{number}".ljust(32, "x")
            began = time.monotonic()
            try:
                answer = tell(self._auth, PATH, types="app", ttl="1h", value=token)
            except (OSError, http.client.HTTPException) as why:
                answer = 0, "", repr(why)
            took = time.monotonic() - began
            self.told.append(Told(answer[0], took, began, token, answer[1], answer[2][:200]))
            self._over.wait(PAUSE)

    def judge(self, report: Report, seconds: float) -> int:
        """Nobody waited for longer than `seconds`, was told anything but yes or come again, or was
        told yes for nothing. Returns how many were refused."""
        refused = [each for each in self.told if each.status == 503]
        odd = [each for each in self.told if each.status not in (200, 503)]
        report.slowest("an answer, the longest", [each.took for each in self.told], seconds)
        report.told("refused with 503", len(refused), count=len(self.told))
        without = [each for each in refused if not each.later.isdecimal()]
        report.none("503 without Retry-After", without, count=len(refused))
        report.none("other answers, or none", odd, count=len(self.told))
        there = {each["token"] for each in self._auth.ask("/v1/tokens/list")["tokens"]}
        kept = [each.token for each in self.told if each.status == 200]
        report.none("acknowledged tokens that are lost", set(kept) - there, count=len(kept))
        again = [each.token for each in refused if each.token in there]
        report.told("refused, and there all the same", len(again), count=len(refused))
        return len(refused)

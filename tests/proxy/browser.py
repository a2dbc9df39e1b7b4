"""A real browser without a window, driven over its debugging protocol (Chromium, CDP)."""

import asyncio
import itertools
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import aiohttp
import pytest

from tests.support import eventually

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
needs_browser = pytest.mark.skipif(not PROGRAM, reason="needs Chromium")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--ignore-certificate-errors",
    "--remote-debugging-port=0",
)


class Browser:
    """An async context manager: one page. Everything it complained about is in `complaints`."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._numbers = itertools.count(1)
        self.complaints: list[str] = []

    async def __aenter__(self) -> Self:
        self._process = subprocess.Popen(
            [PROGRAM, *FLAGS, f"--user-data-dir={self._home}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._session = aiohttp.ClientSession()
        told = self._home / "DevToolsActivePort"
        await asyncio.to_thread(eventually, lambda: told.exists() and told.read_text(), seconds=60)
        port = told.read_text().split("\n")[0]
        async with self._session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            pages = [each for each in await answer.json() if each["type"] == "page"]
        self._wire = await self._session.ws_connect(
            pages[0]["webSocketDebuggerUrl"], max_msg_size=0
        )
        for domain in ("Page", "Log", "Runtime", "Network"):
            await self._do(f"{domain}.enable")
        return self

    async def __aexit__(self, *_: object) -> None:
        with suppress(Exception):
            await self._do("Browser.close")
        await self._session.close()
        try:
            await asyncio.to_thread(self._process.wait, 30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    async def open(self, url: str) -> None:
        await self._do("Page.navigate", url=url)
        await self.wait_for("document.readyState == 'complete' && location.href != 'about:blank'")

    async def evaluate(self, words: str) -> Any:
        """What JavaScript says in the page, as its debugger: the page's own policy is not asked."""
        answer = await self._do("Runtime.evaluate", expression=words, returnByValue=True)
        return answer.get("result", {}).get("value")

    async def wait_for(self, words: str) -> None:
        for _ in range(1200):
            with suppress(RuntimeError):  # the page is being replaced
                if await self.evaluate(words):
                    return
            await asyncio.sleep(0.05)
        raise AssertionError(f"not within 60 s: {words}; the page is {await self.text()}")

    async def text(self) -> str:
        return str(await self.evaluate("document.body.innerText"))

    async def type_into(self, field: str, text: str) -> None:
        """As a keyboard does."""
        await self.evaluate(f"document.getElementById('{field}').focus()")
        await self._do("Input.insertText", text=text)

    async def click(self, selector: str) -> None:
        await self.evaluate(f"document.querySelector('{selector}').click()")

    async def _do(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        await self._wire.send_json({"id": number, "method": method, "params": params})
        while True:
            said = await asyncio.wait_for(self._wire.receive_json(), 60)
            self._note(said)
            if said.get("id") == number:
                if "error" in said:
                    raise RuntimeError(f"{method}: {said['error']['message']}")
                return dict(said["result"])

    def _note(self, said: dict[str, Any]) -> None:
        if said.get("method") == "Log.entryAdded":
            entry = said["params"]["entry"]
            if entry["level"] in ("verbose", "info"):
                return  # like that a field had the focus before the page gave it
            self.complaints.append(f"{entry['level']}: {entry['text']} {entry.get('url', '')}")

"""The pages in a real browser: it applies the policies that we only state."""

import asyncio

from tests.proxy.browser import Browser, needs_browser
from tests.proxy.webrig import PASSWORD, TOKEN, WebServing

pytestmark = needs_browser


def test_a_person_sets_a_password(tmp_path):
    async def visit() -> tuple[str, str, str, list[str]]:
        async with Browser(tmp_path / "browser") as browser:
            await browser.open(f"https://localhost:{web.port}/web/invite/{TOKEN}")
            first = await browser.text()
            styled = await browser.evaluate(
                "getComputedStyle(document.querySelector('main')).maxWidth"
            )
            assert styled not in ("none", None)
            await browser.type_into("password", PASSWORD)
            await browser.type_into("again", PASSWORD + "x")
            await browser.click("button")
            await browser.wait_for("document.querySelector('.error') != null")
            second = await browser.text()
            await browser.type_into("password", PASSWORD)
            await browser.type_into("again", PASSWORD)
            await browser.click("button")
            await browser.wait_for("document.querySelector('pre') != null")
            third = await browser.text()
            assert await browser.evaluate("document.scripts.length + document.cookie.length") == 0
            return first, second, third, browser.complaints

    with WebServing() as web:
        first, second, third, complaints = asyncio.run(visit())
        assert web.auth.password == PASSWORD
    assert "Welcome to test.example" in first
    assert "The two passwords are not the same." in second
    assert "tsh login --proxy=proxy.example.com:443 --user=alice" in third
    # A form that is shown again comes with status 400, which the browser's console notes.
    assert [each for each in complaints if "favicon" not in each and " 400 " not in each] == []


def test_a_form_on_another_site_does_not_get_through(tmp_path):
    async def visit() -> str:
        async with Browser(tmp_path / "browser") as browser:
            page = (
                f"data:text/html,<form method=post action='{url}'>"
                f"<input name=password value={'x' * 12}><input name=again value={'x' * 12}>"
                "<button>win a prize</button></form>"
            )
            await browser.open(page)
            await browser.click("button")
            await browser.wait_for("document.querySelector('h1') != null")
            return await browser.text()

    with WebServing() as web:
        url = f"https://localhost:{web.port}/web/invite/{TOKEN}"
        assert "not sent by this page" in asyncio.run(visit())
        assert web.auth.asked == []

"""What the web port answers: /webapi for clients, and pages for people with an invitation.

    GET  /webapi/find, /webapi/ping                       also below /v1
    GET  /webapi/automaticupgrades/channel/<name>/version|critical
    POST /webapi/host/credentials                         refused: tokens never come this way
    GET  /webapi/releases/latest, /<version>/<file>       also below /v1; proxy/downloads.py
    GET  /install.sh, /scripts/install.sh, /install-v<version>.sh, /webapi/releases/install.sh
    GET  /scripts/<token>/install-node.sh                 auth is asked
    GET, POST /web/invite/<token>, /web/reset/<token>     auth is asked, and told the password

No cookies, no sessions, no scripts in pages. Errors are JSON below /webapi, a script that fails
where a script was asked for, and a page elsewhere.
"""

import asyncio
import logging
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import parse_qsl

from aiohttp import web

from teleport_lite.config.model import Channel
from teleport_lite.errors import Denied, Error, Malformed, NotFound, Unavailable
from teleport_lite.net.problems import problem
from teleport_lite.proxy import pages
from teleport_lite.proxy.downloads import Downloads
from teleport_lite.proxy.find import DEFAULT_CHANNEL, Facts, channel_of, found, pinged
from teleport_lite.proxy.invite_page import InvitePage, Shown
from teleport_lite.proxy.scripts import BASE, Script, Scripts, refusal

log = logging.getLogger("teleport_lite.proxy.web")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
# Forms of two passwords; nothing else is ever sent here.
MAX_BODY = 8 * 1024
# Of one request, from its first header to the answer.
TIME = 30.0
DEADLINE = web.RequestKey("deadline", asyncio.Timeout)
SECURE = {
    "Server": "teleport-lite",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
}
# RFC 6797. A year; only where the certificate is one that browsers take.
HSTS = "max-age=31536000"
# A word of a request that may stand in an answer: nothing in it means anything to a shell, should
# somebody be talked into piping the answer into one.
PLAIN_WORD = re.compile(r"[A-Za-z0-9_-]{1,64}")
VERSION = re.compile(r"v[0-9]{1,5}\.[0-9]{1,5}\.[0-9]{1,5}(-[0-9A-Za-z.]{1,32})?")
# Seconds after which it is worth to ask again.
LATER = {429: "60", 503: "15"}
TITLES = {403: "Not allowed", 404: "Not found", 503: "Not now"}


class WebPages:
    """The application, and what it counts. `source` names the address behind a request."""

    def __init__(
        self,
        *,
        facts: Callable[[], Facts],
        invites: InvitePage,
        scripts: Scripts,
        downloads: Downloads,
        source: Callable[[web.Request], str],
        trusted: Callable[[], bool],
        trace: Callable[[], str],
    ) -> None:
        """`trusted`: whether browsers take the certificate we show."""
        self._facts, self._invites, self._trusted = facts, invites, trusted
        self._scripts, self._downloads = scripts, downloads
        self._source, self._trace = source, trace
        self.counts: Counter[str] = Counter()  # "2xx", "4xx", "5xx"

    def application(self) -> web.Application:
        app = web.Application(client_max_size=MAX_BODY, middlewares=[self._middleware])
        add = app.router
        for prefix in ("", "/v1"):
            add.add_get(f"{prefix}/webapi/find", self._find)
            add.add_get(f"{prefix}/webapi/ping", self._ping)
            add.add_get(f"{prefix}/webapi/ping/{{connector}}", self._ping)
            channel = f"{prefix}/webapi/automaticupgrades/channel/{{name:.+}}"
            add.add_get(f"{channel}/version", self._channel_version)
            add.add_get(f"{channel}/critical", self._channel_critical)
            add.add_post(f"{prefix}/webapi/host/credentials", self._no_tokens)
            add.add_get(f"{prefix}{BASE}/latest", self._latest)
            add.add_get(f"{prefix}{BASE}/install.sh", self._install)
            add.add_get(f"{prefix}{BASE}/{{version}}/{{file}}", self._release)
        for path in ("/install.sh", "/scripts/install.sh", "/install-{version}.sh"):
            add.add_get(path, self._install)
        add.add_get("/scripts/{token}/install-node.sh", self._install_node)
        for kind in ("invite", "reset"):
            add.add_get(f"/web/{kind}/{{token}}", self._invite)
            add.add_post(f"/web/{kind}/{{token}}", self._accept)
        add.add_get("/web/style.css", self._style)
        add.add_get("/", self._home)
        add.add_get("/web", self._home)
        app.on_response_prepare.append(self._secure)
        return app

    # --- /webapi

    async def _find(self, _: web.Request) -> web.StreamResponse:
        return web.json_response(found(self._facts()))

    async def _ping(self, request: web.Request) -> web.StreamResponse:
        connector = request.match_info.get("connector", "local")
        if connector != "local":
            raise NotFound(f"connector {_word(connector)} does not exist, there is only local")
        return web.json_response(pinged(self._facts()))

    async def _channel_version(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text=self._channel(request).version)

    async def _channel_critical(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text="yes" if self._channel(request).critical else "no")

    def _channel(self, request: web.Request) -> Channel:
        name = request.match_info["name"]
        channel = channel_of(self._facts(), name)
        if channel is None:
            raise NotFound(f"upgrade channel {_word(name)} does not exist")
        return channel

    async def _no_tokens(self, _: web.Request) -> web.StreamResponse:
        raise Denied(
            "this cluster takes no join token over the web: a host proves that it has one to auth, "
            "end to end, through this proxy",
            hint=f"teleport-lite start --proxy={self._facts().proxy} --token=...",
        )

    # --- releases and scripts

    async def _latest(self, _: web.Request) -> web.StreamResponse:
        channel = channel_of(self._facts(), DEFAULT_CHANNEL)
        assert channel is not None
        return web.Response(text=f"{channel.version}\n")

    async def _release(self, request: web.Request) -> web.StreamResponse:
        version, file = request.match_info["version"], request.match_info["file"]
        return await self._downloads.send(
            request,
            version,
            file,
            self._source(request),
            begins=lambda: request[DEADLINE].reschedule(None),
        )

    async def _install(self, request: web.Request) -> web.StreamResponse:
        called = request.match_info.get("version", "v0.0.0")
        if not VERSION.fullmatch(called):  # which one it is makes no difference
            raise NotFound("there is nothing here")
        return _script(self._scripts.install())

    async def _install_node(self, request: web.Request) -> web.StreamResponse:
        token, source = request.match_info["token"], self._source(request)
        return _script(await self._scripts.node(token, source))

    # --- pages

    async def _home(self, _: web.Request) -> web.StreamResponse:
        facts = self._facts()
        install = facts.published if facts.installable and self._trusted() else ""
        text = pages.page(
            "home",
            title=facts.cluster,
            cluster=facts.cluster,
            proxy=facts.proxy,
            install=install,
        )
        return web.Response(text=text, content_type="text/html")

    async def _style(self, _: web.Request) -> web.StreamResponse:
        return web.Response(text=pages.style(), content_type="text/css")

    async def _invite(self, request: web.Request) -> web.StreamResponse:
        return _page(await self._invites.show(request.match_info["token"], self._source(request)))

    async def _accept(self, request: web.Request) -> web.StreamResponse:
        token, source = request.match_info["token"], self._source(request)
        _check_origin(request)
        return _page(await self._invites.accept(token, source, await _form(request)))

    # --- around every request

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self._source(request)
        try:
            async with asyncio.timeout(TIME) as deadline:
                request[DEADLINE] = deadline
                answer = await handler(request)
        except Exception as why:
            answer = self._problem(request, why)
        self.counts[f"{answer.status // 100}xx"] += 1
        return answer

    def _problem(self, request: web.Request, why: Exception) -> web.Response:
        trace = self._trace()
        status, headers = 0, {}
        if isinstance(why, web.HTTPException):
            status, headers = why.status, {k: v for k, v in why.headers.items() if k == "Allow"}
            why = _plain(why)
        elif isinstance(why, TimeoutError):
            status, why = 408, Malformed("the request took too long")
        if not isinstance(why, Error):
            log.error("internal error, trace %s", trace, exc_info=why)
        usual, body = problem(why, trace)
        status = status or usual
        if status in LATER:
            headers["Retry-After"] = LATER[status]
        if request.path.endswith(".sh"):
            bug = Unavailable(f"internal error, trace {trace}")
            return _script(refusal(why if isinstance(why, Error) else bug, status))
        if request.path.startswith(("/webapi/", "/v1/")):
            return web.json_response(body, status=status, headers=headers)
        said = body["error"]
        text = pages.page(
            "problem",
            title=TITLES.get(status, "That did not work"),
            message=_sentence(said["message"]),
            trace="" if isinstance(why, Error) else trace,
        )
        return web.Response(text=text, status=status, headers=headers, content_type="text/html")

    async def _secure(self, _: web.BaseRequest, answer: web.StreamResponse) -> None:
        kept = answer.headers.get("Cache-Control", SECURE["Cache-Control"])
        answer.headers.update(SECURE | {"Cache-Control": kept})
        if self._trusted():
            answer.headers["Strict-Transport-Security"] = HSTS


def _page(shown: Shown) -> web.Response:
    headers = {"Retry-After": LATER[429]} if shown.status == 429 else {}
    return web.Response(
        text=shown.html, status=shown.status, headers=headers, content_type="text/html"
    )


def _script(script: Script) -> web.Response:
    headers = {"Retry-After": LATER[script.status]} if script.status in LATER else {}
    return web.Response(text=script.text, status=script.status, headers=headers)


def _check_origin(request: web.Request) -> None:
    """Only our own page posts its form. Raises Denied.

    Browsers say so in Sec-Fetch-Site (W3C Fetch Metadata §2.4). Older ones send Origin, which
    is "null" from a page with our Referrer-Policy, so that such a one has to be refused. What is
    no browser sends neither, and acts for nobody else.
    """
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is not None:
        fine = site == "same-origin"
    else:
        fine = origin is None or origin.lower() == f"https://{request.host}".lower()
    if not fine:
        raise Denied("the form was not sent by this page; open the link again and fill it in there")


async def _form(request: web.Request) -> Mapping[str, str]:
    """The fields of a plain form, each at most once. Raises Malformed."""
    if request.content_type != "application/x-www-form-urlencoded":
        raise Malformed("a form is expected here")
    try:
        raw = await request.read()  # HTTPRequestEntityTooLarge past MAX_BODY
    except ConnectionError:  # no bug of ours, and nothing for the log
        raise Malformed("the form breaks off") from None
    try:
        pairs = parse_qsl(
            raw.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=8,
        )
    except ValueError:
        raise Malformed("the form can not be read") from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise Malformed("a field of the form comes twice")
    return form


def _plain(why: web.HTTPException) -> Error:
    """What aiohttp itself refuses: no such path, no such method, too much."""
    if why.status == 404:
        return NotFound("there is nothing here")
    return Malformed(why.reason.lower())


def _word(text: str) -> str:
    return f"'{text}'" if PLAIN_WORD.fullmatch(text) else "of that name"


def _sentence(text: str) -> str:
    """Our errors are made for terminals: lower case, no full stop."""
    return f"{text[:1].upper()}{text[1:]}."

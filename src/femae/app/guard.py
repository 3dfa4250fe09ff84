"""ASGI middleware that checks who sent a request and adds security headers to every response.

It protects against pages of other sites open in the same browser: the Host header is checked against a host name that
an attacker points at this computer (DNS rebinding), the Origin header against forms and scripts of other pages (CSRF).
When other computers may connect, the first segment of the path must also be a secret token.
"""

import hmac
import ipaddress
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["PAGE_POLICY", "REPORT_POLICY", "Guard", "allowed_hosts"]

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self' blob:; "
    "connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# A report is self-contained: its inline script may run, but without an origin and without network access.
REPORT_POLICY = (
    "sandbox allow-scripts allow-downloads; default-src 'none'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; img-src data: blob:; media-src data: blob:; font-src data:; connect-src data: blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
_HEADERS = {
    "content-security-policy": PAGE_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "cache-control": "no-store",
}
_SAFE_METHODS = frozenset({"GET", "HEAD"})
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def allowed_hosts(*, all_interfaces: bool) -> frozenset[str]:
    """Host names that requests may name; on all interfaces those of this computer, and IP addresses besides."""
    if not all_interfaces:
        return _LOOPBACK
    name = socket.gethostname().lower()
    return _LOOPBACK | {name, f"{name}.local", socket.getfqdn().lower()}


class Guard:
    """ASGI middleware that refuses foreign requests with status 403 and sets the headers of every response."""

    def __init__(self, app: ASGIApp, *, hosts: Iterable[str], any_address: bool = False, token: str = "") -> None:
        """`any_address`: IP addresses are allowed hosts, too. With a `token`, only paths that begin with it exist."""
        self._app, self._hosts, self._any_address, self._token = app, frozenset(hosts), any_address, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        if refusal is not None:
            await PlainTextResponse(refusal, status_code=403)(scope, receive, send_with_headers)
            return
        if self._token:
            root = f"{scope.get('root_path', '')}/{self._token}"
            scope = {**scope, "root_path": root}
        await self._app(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> str | None:
        """Why a request is refused, or None."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_allowed_host(host):
            return "This server does not answer to that name: use the address that femae has printed.\n"
        if self._token:
            first = scope["path"].removeprefix("/").split("/", 1)[0]
            if not hmac.compare_digest(first.encode("utf-8", "replace"), self._token.encode()):
                return "This page can be reached only at the full address that femae has printed.\n"
        if scope["method"] not in _SAFE_METHODS and not self._is_same_origin(headers.get("origin", ""), host):
            return "This request does not come from femae's own page, so nothing was done.\n"
        return None

    def _is_allowed_host(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name.lower() in self._hosts or (self._any_address and _is_ip_address(name))

    @staticmethod
    def _is_same_origin(origin: str, host: str) -> bool:
        return bool(host) and origin.lower() in (f"http://{host}".lower(), f"https://{host}".lower())


def _is_ip_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True

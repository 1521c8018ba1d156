"""The reference: a reverse proxy for streams on aiohttp and uvloop as everybody writes it.

`python plain_aiohttp.py LISTEN_PORT UPSTREAM_PORT`, both of the loopback interface.
"""

import sys
from collections.abc import AsyncIterator

import aiohttp
import uvloop
from aiohttp import web

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade"}
REMADE = HOP_BY_HOP | {"host", "content-length"}
MOST_BYTES = 64 * 2**20


class Proxy:
    """Sends each request on, and its reply back chunk by chunk."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._session: aiohttp.ClientSession

    async def running(self, _app: web.Application) -> AsyncIterator[None]:
        """The session, as long as the application runs. Neither connections nor time are limited."""
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as self._session:
            yield

    async def handle(self, request: web.Request) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in REMADE}
        url = self._upstream + request.path_qs
        async with self._session.request(request.method, url, headers=headers, data=await request.read()) as reply:
            response = web.StreamResponse(status=reply.status)
            for name, value in reply.headers.items():
                if name.lower() not in HOP_BY_HOP:
                    response.headers.add(name, value)
            await response.prepare(request)
            async for chunk in reply.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response


def main() -> None:
    listen, upstream = sys.argv[1:]
    proxy = Proxy(f"http://127.0.0.1:{upstream}")
    app = web.Application(client_max_size=MOST_BYTES)
    app.cleanup_ctx.append(proxy.running)
    app.router.add_route("*", "/{path:.*}", proxy.handle)
    loop = uvloop.new_event_loop()
    web.run_app(app, host="127.0.0.1", port=int(listen), print=None, access_log=None, backlog=4096, loop=loop)


if __name__ == "__main__":
    main()

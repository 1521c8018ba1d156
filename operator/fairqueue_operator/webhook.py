"""The two HTTP applications of the injector: admissions over TLS, and health, readiness and metrics in plain HTTP."""

import time
from collections.abc import Callable
from typing import Final

import msgspec
from aiohttp import web

from . import log_lines
from .admission import MalformedReview, Review, answer, read_review
from .deciding import Deciding
from .event_notes import notes_on
from .event_poster import EventPoster
from .injector_metrics import InjectorMetrics
from .review_body import BodyRefused, BodyRoom
from .verdict import Verdict

PATH: Final = "/inject"


class Webhook:
    """Answers admission requests. One at a time for each connection, many connections at once."""

    def __init__(
        self,
        deciding: Deciding,
        metrics: InjectorMetrics,
        poster: EventPoster,
        room: BodyRoom,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._deciding = deciding
        self._metrics = metrics
        self._poster = poster
        self._room = room
        self._monotonic = monotonic

    def application(self) -> web.Application:
        """What is served over TLS."""
        application = web.Application()
        application.router.add_post(PATH, self._inject)
        return application

    async def _inject(self, request: web.Request) -> web.Response:
        started = self._monotonic()
        with self._room.place() as place:
            try:
                review = read_review(await self._room.read(request, place))
            except (BodyRefused, MalformedReview) as error:
                status = error.status if isinstance(error, BodyRefused) else 400
                log_lines.warning("an admission request was not understood", status=status, error=str(error))
                response = web.Response(status=status, text=f"{error}\n")
                if status != 400:
                    # What follows of the body must not be taken for another request, nor read.
                    response.force_close()
                return response
            verdict = await self._deciding.decide(review)
            content = msgspec.json.encode(answer(review, verdict))
        seconds = self._monotonic() - started
        self._metrics.decided(verdict, seconds)
        _log(review, verdict, seconds)
        self._poster.tell(notes_on(review, verdict))
        return web.Response(body=content, content_type="application/json")


def _log(review: Review, verdict: Verdict, seconds: float) -> None:
    fields = {
        "decision": verdict.reason.value,
        "namespace": review.namespace,
        "pod": review.name,
        "uid": review.uid,
        "seconds": round(seconds, 4),
    }
    if review.dry_run:
        fields["dry_run"] = True
    if verdict.is_denied:
        fields["because"] = verdict.message
    log_lines.info("admission", **fields)

"""HTTP routes of the page: its static files, the JSON API of its jobs, and their output files."""

import json
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any, Final

from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route

from femae.app.guard import REPORT_POLICY
from femae.app.jobs import Job, JobQueue
from femae.app.upload import RequestError, receive_file
from femae.app.view import DOWNLOADS, choices, file_name, job_view, rows
from femae.config.app import AppConfig
from femae.config.base import Config
from femae.config.options import LabelsOption
from femae.config.predict import DetectConfig, RuleConfig
from femae.errors import FemaeError
from femae.labels import parse_class_set

__all__ = ["routes"]

_STATIC: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_MAX_BODY: Final = 64_000  # bytes of a JSON body
_MAX_ROWS: Final = 200

Handler = Callable[[Request], Awaitable[Response]]


class _JobSettings(Config):
    """Body of the request that creates a job."""

    model: int = Field(0, ge=0, description="number of the model in the list of choices")
    detect: DetectConfig = DetectConfig()
    rules: RuleConfig = RuleConfig()
    labels: LabelsOption | None = None  # None: the server's setting


def routes(config: AppConfig, *, queue: JobQueue, models: list[str]) -> list[BaseRoute]:
    """All routes of the server; `models` are the names of the models to choose from, the shipped one first."""
    page = _Handlers(config, queue=queue, models=models)
    job = "/api/jobs/{job_id}"
    table: list[tuple[str, str, Handler]] = [
        ("GET", "/", page.index),
        ("GET", "/static/{name}", page.static),
        ("GET", "/api/choices", page.choices),
        ("POST", "/api/jobs", page.create),
        ("GET", job, page.status),
        ("DELETE", job, page.delete),
        ("POST", f"{job}/files", page.upload),
        ("POST", f"{job}/start", page.start),
        ("POST", f"{job}/cancel", page.cancel),
        ("GET", f"{job}/rows", page.rows),
        ("GET", f"{job}/files/{{key}}", page.file),
    ]
    return [Route(path, _with_json_errors(handler), methods=[method]) for method, path, handler in table]


def _with_json_errors(handler: Handler) -> Handler:
    """Wrap a handler so that errors become JSON responses {"error": sentence}."""

    async def handle(request: Request) -> Response:
        try:
            return await handler(request)
        except RequestError as error:
            return JSONResponse({"error": error.message}, status_code=error.status)
        except FemaeError as error:
            return JSONResponse({"error": str(error)}, status_code=400)

    return handle


class _Handlers:
    """One handler for each route."""

    def __init__(self, config: AppConfig, *, queue: JobQueue, models: list[str]) -> None:
        self._config, self._queue, self._models = config, queue, models
        folder = resources.files("femae.app") / "static"
        self._static = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}

    async def index(self, _: Request) -> Response:
        return Response(self._static["index.html"], media_type=_STATIC[".html"])

    async def static(self, request: Request) -> Response:
        name = request.path_params["name"]
        kind = _STATIC.get(name[name.rfind(".") :])
        if name not in self._static or kind is None:
            raise RequestError(404, "there is no such file")
        return Response(self._static[name], media_type=kind)

    async def choices(self, _: Request) -> Response:
        return JSONResponse(choices(self._config, models=self._models))

    async def create(self, request: Request) -> Response:
        settings = _JobSettings(**await _json_object(request))
        parse_class_set(settings.rules.classes)
        if settings.detect.detector is not None:
            raise RequestError(400, "the detector cannot be chosen on the page")
        if settings.model >= len(self._models):
            raise RequestError(400, f"there is no model number {settings.model}")
        path = self._config.models[settings.model - 1] if settings.model else None
        labels = settings.labels or self._config.labels
        job = self._queue.add(model=path, detect=settings.detect, rules=settings.rules, labels=labels)
        if job is None:
            number = self._config.max_jobs
            raise RequestError(
                429, f"there are already {number} jobs, the most at a time: remove some, or come back later"
            )
        return JSONResponse(job_view(job, self._queue), status_code=201)

    async def upload(self, request: Request) -> Response:
        job = self._job(request)
        await receive_file(
            request,
            job,
            max_bytes=int(self._config.max_upload_mb * 1e6),
            max_pictures=self._config.max_pictures,
        )
        return JSONResponse(job_view(job, self._queue))

    async def start(self, request: Request) -> Response:
        job = self._job(request)
        if job.state != "uploading":
            raise RequestError(409, "this job has already started")
        if not job.uploads:
            raise RequestError(400, "there is nothing to process: send a film or a picture first")
        self._queue.submit(job)
        return JSONResponse(job_view(job, self._queue))

    async def status(self, request: Request) -> Response:
        return JSONResponse(job_view(self._job(request), self._queue))

    async def cancel(self, request: Request) -> Response:
        job = self._job(request)
        await run_in_threadpool(self._queue.cancel, job)
        return JSONResponse(job_view(job, self._queue))

    async def delete(self, request: Request) -> Response:
        await run_in_threadpool(self._queue.delete, self._job(request))
        return Response(status_code=204)

    async def rows(self, request: Request) -> Response:
        job = self._job(request)
        if "table.parquet" not in job.outputs or job.state != "done":
            raise RequestError(404, "there is no table yet")
        numbers = [request.query_params.get(name, default) for name, default in (("offset", "0"), ("limit", "50"))]
        if not all(number.isdecimal() and len(number) < 12 for number in numbers):
            raise RequestError(400, "offset and limit are whole numbers, 0 or more")
        offset, limit = int(numbers[0]), min(int(numbers[1]), _MAX_ROWS)
        return JSONResponse(await run_in_threadpool(rows, job.outputs["table.parquet"], offset=offset, limit=limit))

    async def file(self, request: Request) -> Response:
        job, key = self._job(request), request.path_params["key"]
        path = job.outputs.get(key)
        if path is None or job.state != "done" or not path.is_file():
            raise RequestError(404, "there is no such file")
        is_table_or_archive = key in DOWNLOADS and key not in ("film.mp4", "report.html")
        as_attachment = is_table_or_archive or "download" in request.query_params
        headers = {"content-security-policy": REPORT_POLICY} if key == "report.html" else {}
        return FileResponse(
            path,
            filename=file_name(job, key),
            headers=headers,
            content_disposition_type="attachment" if as_attachment else "inline",
        )

    def _job(self, request: Request) -> Job:
        job = self._queue.get(request.path_params["job_id"])
        if job is None:
            raise RequestError(404, "this job no longer exists: it was removed, or it expired")
        return job


async def _json_object(request: Request) -> dict[str, Any]:
    """The request's body as a JSON object, {} for an empty one. Raises RequestError: too long, or no JSON object."""
    body = b""
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MAX_BODY:
                raise RequestError(413, "the settings are too long")
        value = json.loads(body or b"{}")
    except (ValueError, RecursionError, ClientDisconnect) as error:
        raise RequestError(400, "the settings are not JSON") from error
    if not isinstance(value, dict):
        raise RequestError(400, "the settings are not a JSON object")
    return value

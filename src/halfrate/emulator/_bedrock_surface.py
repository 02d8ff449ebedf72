"""Bedrock's API: model invocation jobs, and the same models in realtime (InvokeModel and Converse)."""

import re
from typing import ClassVar, Final

from halfrate.emulator._bedrock_jobs import KINDS, BedrockJobs
from halfrate.emulator._bedrock_models import answer, resolve
from halfrate.emulator._bedrock_wire import error_response
from halfrate.emulator._chat_desk import ChatDesk
from halfrate.emulator._context import Context
from halfrate.emulator._routes import Call, Route, Routes
from halfrate.emulator._s3_surface import access_key
from halfrate.emulator._surface import Surface, is_bad
from halfrate.emulator._wire import ApiError, Request, Response

_REGION: Final = re.compile(r"Credential=[^/,\s]+/\d+/([a-z0-9-]+)/")


class BedrockSurface(Surface):
    """Signatures are not checked. The access key id, or the bearer token, with the region stands for an account."""

    provider: ClassVar[str] = "bedrock"
    request_id_header: ClassVar[str] = "x-amzn-requestid"

    def __init__(self, context: Context) -> None:
        self._context = context
        self._desk = ChatDesk(context, "bedrock", lambda body: resolve(body.get("modelId")))
        jobs = BedrockJobs(context)
        # The id of an inference profile may be an ARN, which has a slash in it.
        calls = [
            Route("POST", f"/model/{identifier}/{verb}", "realtime", self._model)
            for identifier in ("{}", "{}/{}")
            for verb in ("invoke", "converse")
        ]
        super().__init__(Routes(jobs.routes(), calls), (jobs,))

    def authenticated(self, request: Request) -> str:
        key = access_key(request)
        if not key:
            name = "MissingAuthenticationTokenException"
            raise ApiError(403, "Missing Authentication Token", code=name)
        if is_bad(key):
            name = "UnrecognizedClientException"
            raise ApiError(403, "The security token included in the request is invalid.", code=name)
        region = _REGION.search(request.header("authorization"))
        return f"{key}/{region.group(1) if region is not None else 'us-east-1'}"

    def refused(self, error: ApiError, request_id: str) -> Response:
        return error_response(error)

    def unknown_path(self, request: Request) -> ApiError:
        return ApiError(404, "Not found", code="UnknownOperationException")

    def environment(self, url: str) -> dict[str, str]:
        # The emulator's own S3, unless the data lies in another one.
        s3 = self._context.s3_url or f"{url.removesuffix('/bedrock')}/s3"
        return {
            "AWS_ENDPOINT_URL_BEDROCK": url,
            "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": url,
            "AWS_ENDPOINT_URL_S3": s3,
            "AWS_ACCESS_KEY_ID": "emulator",
            "AWS_SECRET_ACCESS_KEY": "emulator",
            "AWS_REGION": "us-east-1",
            "HALFRATE_BEDROCK_ROLE": "arn:aws:iam::123456789012:role/emulator",
            "HALFRATE_BEDROCK_BUCKET": "s3://emulator/batches",
        }

    async def _model(self, call: Call) -> Response:
        model = resolve(call.args[-1])
        kind = KINDS[1] if call.request.path.endswith("/converse") else KINDS[0]
        return await self._desk.serve(
            call, lambda body, ask: answer(self._context, model, kind, body, ask), model
        )

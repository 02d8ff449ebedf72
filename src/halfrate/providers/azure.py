"""Azure OpenAI: OpenAI's batches by deployment, in both styles of its API.

Facts are from Microsoft's documentation (how-to "Global Batch", its limits and its REST reference), as of 2026-08.
"""

import asyncio
from typing import Final
from urllib.parse import quote

import msgspec

from halfrate.base.errors import OutcomeUnknown, Refused
from halfrate.base.types import CacheRules, Capabilities, Endpoint, Limits, Option, Setting
from halfrate.providers.base import Account, Call, Intent
from halfrate.providers.dialects import MB
from halfrate.providers.http import Http, Sign
from halfrate.providers.object_credentials import AzureChain
from halfrate.providers.openai_dialect import Dialect, OpenAIDialect
from halfrate.providers.stream_calls import signed

_CREATE_URLS: Final[dict[Endpoint, str]] = {"chat": "/chat/completions", "responses": "/responses"}
_LIFE: Final = 14 * 86_400
"""The shortest life that a file can be given; with one, 10,000 files have room beside each other, not 500."""
_SCOPE: Final = "https://cognitiveservices.azure.com/.default"
_READY: Final = 600.0
"""Seconds to wait until an uploaded file is taken in."""


_VERSION: Final = Setting(
    "api_version",
    "the version of the older style of API, where that is to be used",
    ("OPENAI_API_VERSION",),
    default="",
)


class _State(msgspec.Struct):
    status: str = "processed"
    status_details: str | None = None


class Azure(OpenAIDialect):
    """Azure OpenAI (Microsoft Foundry). A model is the name of a Global-Batch or DataZone-Batch deployment.

    24 hours are a target here: a batch goes on afterwards. Such a deployment serves batches alone, so rows are not
    taken from one to real time.
    """

    capabilities = Capabilities(
        provider="azure",
        title="Azure OpenAI",
        endpoints=("chat", "responses"),
        native_form="openai",
        # 100,000 rows (quota page); 50,000 in the REST reference, which repeats OpenAI's text.
        limits=Limits(rows=49_000, bytes=190 * MB, row_bytes=190 * MB),
        key_variables=("AZURE_OPENAI_API_KEY", "AZURE_OPENAI_AD_TOKEN"),
        # Without either, tokens are those of Azure's own chain of credentials.
        needs_key=False,
        url_variable="AZURE_OPENAI_ENDPOINT",
        default_url="",
        cache_stacks=True,
        cache=CacheRules(key="prompt_cache_key"),
        kept="until deleted",
        adoption="metadata",
        rescues=False,
        settings=(_VERSION,),
        options=(Option("serves", "the model that the deployment serves, to know its price"),),
    )
    dialect = Dialect(
        create_urls=_CREATE_URLS,
        file_life=_LIFE,
        tiers={"chat": ("standard",), "responses": ("standard",)},
    )

    _chain: AzureChain | None = None

    def __init__(self, account: Account) -> None:
        self._version = account.settings.get("api_version", "")
        self.base_url = account.base_url + ("/openai" if self._version else "/openai/v1")
        query = f"api-version={quote(self._version, safe='')}" if self._version else ""
        headers, sign = self._credentials(account)
        self._http = Http(self.base_url, headers, self.title, query=query, sign=sign)
        self._key = account.key

    def _credentials(self, account: Account) -> tuple[dict[str, str], Sign | None]:
        if not account.key:
            chain = self._chain = AzureChain(_SCOPE, self.title)

            def sign(method: str, url: str, body: bytes | None) -> dict[str, str]:
                return chain.headers()

            return {}, sign
        if account.key_variable == "AZURE_OPENAI_AD_TOKEN":
            return {"Authorization": f"Bearer {account.key}"}, None
        return {"api-key": account.key}, None

    async def _credentials_now(self) -> tuple[tuple[tuple[str, str], ...], str]:
        if self._chain is None:
            return await super()._credentials_now()
        headers = await asyncio.to_thread(self._chain.headers)
        return signed(headers), headers["Authorization"].removeprefix("Bearer ")

    def _call_path(self, call: Call) -> str:
        path = super()._call_path(call)
        return f"/deployments/{quote(call.model, safe='')}{path}" if self._version else path

    async def upload(self, intent: Intent) -> str:
        file_id = await super().upload(intent)
        waited, pause = 0.0, 1.0
        while True:
            # A batch of a file that is not taken in yet is refused.
            reply = await self._http.ask("GET", f"/files/{quote(file_id, safe='')}")
            state = self._http.decode(reply, _State)
            word = state.status.lower()
            if word == "processed":
                return file_id
            if word in {"error", "failed", "deleted"}:
                await self.clean_up((file_id,))
                why = state.status_details or "no reason given"
                raise Refused(f"Azure OpenAI could not take in the request file: {why}", status=400)
            if waited >= _READY:
                raise OutcomeUnknown("Azure OpenAI has not taken in the request file yet")
            await asyncio.sleep(pause)
            waited, pause = waited + pause, min(10.0, 1.5 * pause)

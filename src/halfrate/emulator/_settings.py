"""How fast the emulated providers work, and where their limits are."""

import msgspec

DAY = 86_400.0


class Pace(msgspec.Struct, frozen=True):
    """How long a batch takes, in seconds of the world's clock.

    The default lets a thousand rows finish in about three seconds: somebody watching sees every state.
    """

    validate: float = 0.4
    queue: float = 0.3
    per_1000_rows: float = 1.8
    finalize: float = 0.4
    cancel: float = 0.3
    window: float = DAY
    realtime: float = 0.0
    """How long a realtime call takes before the first token of its answer."""
    realtime_per_token: float = 0.0
    """And for each token of it."""
    realtime_spread: float = 0.0
    """How much times differ from call to call: the standard deviation of their logarithm. 0.5 is usual."""
    realtime_flex: float = 1.0
    """How many times as long a flex call takes."""

    @classmethod
    def instant(cls) -> "Pace":
        """A batch is done by the next request after its creation."""
        return cls(validate=0.0, queue=0.0, per_1000_rows=0.0, finalize=0.0, cancel=0.0)


class Limits(msgspec.Struct, frozen=True):
    """The providers' documented limits; every one can be lowered to meet it in a test.

    OpenAI: batch guide and API reference (2026-09-26). Anthropic: batch guide (2026-09-26), rate limits page. Mistral,
    xAI, Fireworks, Bedrock: their batch guides (2026); Bedrock's are service quotas that differ by model and region.
    """

    openai_rows: int = 50_000
    openai_batch_bytes: int = 200 * 1024 * 1024
    openai_embedding_inputs: int = 50_000
    openai_file_bytes: int = 512 * 1024 * 1024
    openai_creates_per_hour: int = 2_000
    openai_enqueued_tokens: int | None = None
    """Prompt tokens a project may have in unfinished batches of one model; None: no limit."""
    openai_upload_bytes: int = 8 * 1024 * 1024 * 1024
    openai_part_bytes: int = 64 * 1024 * 1024
    openai_file_days: float = 30.0
    anthropic_rows: int = 100_000
    anthropic_batch_bytes: int = 256 * 1024 * 1024
    anthropic_queue_rows: int = 500_000
    anthropic_result_days: float = 29.0
    gemini_concurrent_batches: int = 100
    gemini_enqueued_tokens: int | None = None
    """Prompt tokens a project may have in unfinished batches of one model; None: no limit."""
    gemini_file_bytes: int = 2 * 1024 * 1024 * 1024
    gemini_inline_bytes: int = 20 * 1024 * 1024
    gemini_storage_bytes: int = 20 * 1024 * 1024 * 1024
    gemini_file_hours: float = 48.0
    gemini_requests_per_minute: int | None = None
    gemini_tokens_per_minute: int | None = None
    """These two hold for Vertex AI as well."""
    vertex_rows: int = 200_000
    vertex_file_bytes: int = 1024 * 1024 * 1024
    vertex_shard_rows: int = 50_000
    """Results of more rows than this come in several files. Google does not say how many rows it takes."""
    openai_requests_per_minute: int | None = None
    """Realtime calls of one model in one project; None: no limit, and no headers that speak of one."""
    openai_tokens_per_minute: int | None = None
    anthropic_requests_per_minute: int | None = None
    anthropic_input_tokens_per_minute: int | None = None
    anthropic_output_tokens_per_minute: int | None = None
    mistral_file_bytes: int = 512 * 1024 * 1024
    mistral_inline_rows: int = 9_999
    mistral_pending_rows: int = 1_000_000
    """Rows a workspace may have in unfinished jobs."""
    xai_rows: int = 50_000
    xai_file_bytes: int = 200 * 1024 * 1024
    xai_add_bytes: int = 25 * 1024 * 1024
    xai_creates_per_second: int = 2
    xai_adds_per_half_minute: int = 1_000
    fireworks_upload_bytes: int = 150 * 1024 * 1024
    fireworks_input_bytes: int = 1024 * 1024 * 1024
    bedrock_least_rows: int = 100
    bedrock_rows: int = 50_000
    bedrock_file_bytes: int = 1024 * 1024 * 1024
    bedrock_job_bytes: int = 5 * 1024 * 1024 * 1024
    bedrock_jobs: int = 20
    """Jobs of one model that may be unfinished at a time: a quota that differs by account."""
    cohere_dataset_bytes: int = 1536 * 1024 * 1024
    cohere_dataset_days: float = 30.0
    """These two are the dataset guide's. Nothing is said of how many rows a batch may have."""
    cohere_part_rows: int = 50_000
    """Results of more rows than this come in several parts. Cohere does not say how many rows it takes."""
    burst_seconds: float = 60.0
    """The time over which a limit by the minute is enforced: OpenAI says that it may be as short as a second."""
    realtime_at_once: int | None = None
    """Realtime calls that are answered at a time; more are told that the service is overloaded."""


class CacheModel(msgspec.Struct, frozen=True):
    """Prompt caching as the providers describe it: best effort. Off unless one is given to the emulator.

    `hit_rate` is the share of rows that find a prefix which is there to be found. OpenAI caches prefixes from
    1,024 tokens by itself; Anthropic caches what `cache_control` marks, for 5 minutes or 1 hour. In practice
    the rows of one batch mostly miss what others of it have written: `within_batch=False`.
    """

    hit_rate: float = 1.0
    openai_minimum: int = 1_024
    openai_ttl: float = 600.0
    anthropic_minimum: int = 1_024
    within_batch: bool = True

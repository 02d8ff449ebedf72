"""Together's batches: OpenAI's life cycle in an object of its own (together 3.1, `types/batch_job.py`).

The create call answers with `{"job": ..., "warning": null}`, the listing is a bare array, and there are no metadata:
whoever looks for a lost batch has its input file to go by.
"""

from halfrate.emulator._openai_batches import OpenAIBatches
from halfrate.emulator._openai_run import OpenAIBatch
from halfrate.emulator._routes import Call
from halfrate.emulator._wire import Document, Response, json_response


class TogetherBatches(OpenAIBatches):
    """The batches of every key."""

    def _view(self, batch: OpenAIBatch, now: float) -> Document:
        status, hidden = batch.shown(now)
        failed = batch.phase == "failed" and not hidden
        return {
            "id": batch.id,
            "user_id": "user-emulator",
            "input_file_id": batch.input_file_id,
            "file_size_bytes": batch.input_bytes,
            "status": status,
            "job_deadline": self._dialect.time(batch.expires_at),
            "created_at": self._dialect.time(batch.created_at),
            "completed_at": self._dialect.time(None if hidden else batch.ended_at),
            "endpoint": batch.endpoint,
            "progress": batch.progress(),
            "model_id": batch.model,
            "output_file_id": None if hidden else batch.output_file_id,
            "error_file_id": None if hidden else batch.error_file_id,
            "error": "; ".join(problem["message"] for problem in batch.problems) if failed else None,
        }

    def _created(self, batch: OpenAIBatch, now: float) -> Document:
        return {"job": self._view(batch, now), "warning": None}

    async def _list(self, call: Call) -> Response:
        return json_response([self._view(batch, call.now) for batch in self._listed(call)])

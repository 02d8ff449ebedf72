"""Together's API: files that come by a signed address, batches in an object of their own."""

from halfrate.emulator._context import Context
from halfrate.emulator._dialects import TOGETHER
from halfrate.emulator._openai_batches import OpenAIBatches
from halfrate.emulator._openai_files import OpenAIFiles
from halfrate.emulator._openai_surface import DialectSurface
from halfrate.emulator._together_batches import TogetherBatches
from halfrate.emulator._together_files import SIGNED, TogetherFiles
from halfrate.emulator._wire import Request


class TogetherSurface(DialectSurface, dialect=TOGETHER):
    """Together AI."""

    def __init__(self, context: Context) -> None:
        self._uploads = TogetherFiles(context)
        super().__init__(context)

    def _files(self, context: Context) -> OpenAIFiles:
        return self._uploads

    def _batches(self, context: Context, files: OpenAIFiles) -> OpenAIBatches:
        return TogetherBatches(context, files, self.dialect)

    def authenticated(self, request: Request) -> str:
        if request.path.startswith(SIGNED):
            return self._uploads.holder(request.path.removeprefix(SIGNED))
        return super().authenticated(request)

"""Credentials for object stores, and for AWS's own APIs: found by each cloud's ordinary chain, never by obstore.

Without credentials of its own obstore asks the address at which cloud machines tell theirs, whatever machine it runs
on, and waits for that. So they are looked for here first; where there are none, that is said at once.
"""

import importlib
import os
import threading
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from halfrate.base.errors import UNREACHABLE, Refused, SettingsError

if TYPE_CHECKING:
    from obstore.store import AzureCredential, GCSCredential, S3Credential

_LIFE: Final = timedelta(minutes=10)
"""After which the chain is asked again. What it gives lives longer than that when it gives it: botocore renews what has
a quarter of an hour left."""
_MORE_THAN_KEYS: Final = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_CREDENTIAL_EXPIRATION")
"""Variables with which the keys of the environment are not the end of it."""
_SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
_STORAGE_SCOPE: Final = "https://storage.azure.com/.default"
_STORAGE_KEYS: Final = ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_KEY")
_STORAGE_SIGNATURES: Final = ("AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SAS_KEY")


def extra_missing(what: str, extra: str) -> SettingsError:
    """What is to be installed before something can be done."""
    return SettingsError(f"{what} needs more than halfrate alone: pip install 'halfrate[{extra}]'.")


class AwsKeys(NamedTuple):
    """An access key as it is now. Left out of every repr."""

    access_key: str
    secret_key: str
    token: str | None

    def __repr__(self) -> str:
        return "AwsKeys()"


class AwsChain:
    """AWS's chain, by botocore: environment, profiles, single sign-on, roles, containers, instances."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fixed: AwsKeys | None = None
        self._found: Any = None

    def __repr__(self) -> str:
        return "AwsChain()"

    def keys(self) -> AwsKeys:
        """The keys as they are now; renewed where they were about to end. May take a moment.

        Raises SettingsError where there are none.
        """
        with self._lock:
            if self._fixed is None and self._found is None:
                self._fixed = _in_environment(os.environ)
            return self._fixed or self._current()

    def _current(self) -> AwsKeys:
        try:
            from botocore.exceptions import BotoCoreError, ClientError
            from botocore.session import Session
        except ImportError:
            raise extra_missing("AWS", "aws") from None
        try:
            if self._found is None:
                session: Any = Session()
                self._found = session.get_credentials()
            frozen: Any = self._found.get_frozen_credentials() if self._found is not None else None
        except (BotoCoreError, ClientError) as error:
            raise SettingsError(
                f"The credentials for AWS cannot be had: {error}. Nothing was sent."
            ) from error
        if frozen is None or not frozen.access_key or not frozen.secret_key:
            raise SettingsError(
                "There are no credentials for AWS. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, "
                "or sign in with `aws sso login`. Nothing was sent."
            )
        return AwsKeys(frozen.access_key, frozen.secret_key, frozen.token)

    def for_obstore(self) -> "S3Credential":
        keys = self.keys()
        return {
            "access_key_id": keys.access_key,
            "secret_access_key": keys.secret_key,
            "token": keys.token,
            "expires_at": datetime.now(UTC) + _LIFE,
        }


def _in_environment(environ: Mapping[str, str]) -> AwsKeys | None:
    """What the first link of the chain would give, if it is all there and does not end; the chain as a whole takes
    long to import. All else is the chain's to say, that there is no such profile and that half of a key is missing too.
    """
    if any(map(environ.get, _MORE_THAN_KEYS)):
        return None
    access_key, secret_key = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
    if not access_key or not secret_key:
        return None
    token = environ.get("AWS_SECURITY_TOKEN") or environ.get("AWS_SESSION_TOKEN") or None
    return AwsKeys(access_key, secret_key, token)


class GoogleToken(NamedTuple):
    """A token as it is now. Left out of every repr. `project`: whose quotas are used, where the credentials name one; a
    person's own sign-in belongs to no project."""

    token: str
    expires_at: datetime | None
    project: str | None

    def __repr__(self) -> str:
        return "GoogleToken()"


class GoogleChain:
    """Google's chain (application default credentials), by google-auth: the file that GOOGLE_APPLICATION_CREDENTIALS
    names, what `gcloud auth application-default login` left, the machine's own account.

    A token that is given, or that stands in GOOGLE_BEARER_TOKEN, is used as it is instead.
    """

    def __init__(self, given: str = "") -> None:
        self._given = given or os.environ.get("GOOGLE_BEARER_TOKEN", "").strip()
        self._lock = threading.Lock()
        self._found: Any = None

    def __repr__(self) -> str:
        return "GoogleChain()"

    def headers(self) -> dict[str, str]:
        """What a call bears; renewed where it was about to end. May take a moment, and may be asked by many threads.

        Raises SettingsError where there are no credentials, Refused where Google does not renew them now.
        """
        if self._given:
            return {"Authorization": f"Bearer {self._given}"}
        found = self._renewed()
        headers = {"Authorization": f"Bearer {found.token}"}
        return headers | {"x-goog-user-project": found.project} if found.project else headers

    def for_obstore(self) -> "GCSCredential":
        if self._given:
            return {"token": self._given, "expires_at": None}
        found = self._renewed()
        return {"token": found.token, "expires_at": found.expires_at}

    def _renewed(self) -> GoogleToken:
        try:
            import google.auth
            from google.auth.exceptions import GoogleAuthError, RefreshError, TransportError
            from google.auth.transport.requests import Request
        except ImportError:
            raise extra_missing("Google Cloud", "google") from None
        library: Any = google.auth
        transport: Any = Request
        try:
            with self._lock:
                if self._found is None:
                    self._found = library.default(scopes=[_SCOPE])[0]
                found = self._found
                if not found.valid:
                    found.refresh(transport())
                # google-auth writes UTC without saying so.
                until = found.expiry.replace(tzinfo=UTC) if found.expiry is not None else None
                return GoogleToken(found.token, until, getattr(found, "quota_project_id", None))
        except TransportError as error:
            raise Refused(f"Google's sign-in cannot be reached: {error}", code=UNREACHABLE) from error
        except GoogleAuthError as error:
            if isinstance(error, RefreshError) and getattr(error, "retryable", False):
                raise Refused(f"Google's sign-in did not answer as it should: {error}", status=503) from error
            raise SettingsError(
                f"The credentials for Google Cloud cannot be had: {error}. Sign in with `gcloud auth "
                "application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS. Nothing was sent."
            ) from error


class AzureChain:
    """Azure's chain (DefaultAzureCredential), by azure-identity: the environment, the machine's own account,
    `az login`.

    Args:
        scope: what the tokens are for.
        title: what needs them, for messages.
    """

    def __init__(self, scope: str, title: str) -> None:
        self._scope = scope
        self._title = title
        self._lock = threading.Lock()
        self._found: Any = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def headers(self) -> dict[str, str]:
        """What a call bears. May take a moment, and may be asked by many threads; azure-identity keeps a token until it
        is about to end. Raises SettingsError where there are no credentials."""
        return {"Authorization": f"Bearer {self._token().token}"}

    def for_obstore(self) -> "AzureCredential":
        given = self._token()
        return {"token": given.token, "expires_at": datetime.fromtimestamp(given.expires_on, UTC)}

    def _token(self) -> Any:
        try:
            # Whoever uses Azure so has these; they are no part of the development environment.
            identity: Any = importlib.import_module("azure.identity")
            refused: Any = importlib.import_module("azure.core.exceptions").ClientAuthenticationError
        except ImportError:
            raise extra_missing(self._title, "azure") from None
        try:
            with self._lock:
                if self._found is None:
                    self._found = identity.DefaultAzureCredential()
                return self._found.get_token(self._scope)
        except refused as error:
            raise SettingsError(
                f"The credentials for {self._title} cannot be had: {error}. Sign in with `az login`. Nothing was sent."
            ) from error


class AzureStorageChain(AzureChain):
    """The same for a storage account, whose own key, or a signature made with it, may stand in the environment
    instead: then that is used as it is, and azure-identity is not needed."""

    def __init__(self) -> None:
        super().__init__(_STORAGE_SCOPE, "Azure Blob Storage")
        self._key = first_of(_STORAGE_KEYS)
        self._signature = first_of(_STORAGE_SIGNATURES)

    def for_obstore(self) -> "AzureCredential":
        if self._key:
            return {"access_key": self._key, "expires_at": None}
        if self._signature:
            return {"sas_token": self._signature.removeprefix("?"), "expires_at": None}
        return super().for_obstore()


def first_of(names: Iterable[str]) -> str:
    """The first of these variables that says something; "" where none does."""
    return next(filter(None, (os.environ.get(name, "").strip() for name in names)), "")

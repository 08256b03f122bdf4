"""Asking a storage again while that may help, and one sentence for a user where it does not."""

import errno
import logging
import random
import re
import time
from collections.abc import Callable
from typing import TypeVar

from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)

from mmf import MmfError

logger = logging.getLogger(__name__)

T = TypeVar("T")

RETRY_SECONDS = 120.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 10.0
# not those that say: too late, in conflict, too many
_HOPELESS = re.compile(r"status code: (4(?!08|09|29)\d\d|501)")
_NO_CREDENTIALS = re.compile(r"169\.254\.|[Cc]redential|AccessKey|Signature")


class Unreachable(MmfError, ConnectionError):
    """Object storage does not do what is asked of it."""

    exit_code = 74


def asked(url: str, what: str, ask: Callable[[], T]) -> T:
    """What `ask` answers; asks again, ever more slowly, while the storage may come round.

    Raises Unreachable where it does not, with `what` was to be done at `url`.
    """
    end, pause, warned = time.monotonic() + RETRY_SECONDS, _FIRST_PAUSE, False
    while True:
        try:
            return ask()
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise _told(url, what, error) from None
            raise
        except (AlreadyExistsError, PreconditionError):
            raise
        except (BaseError, OSError) as error:
            late = time.monotonic() + pause > end
            if late or _is_hopeless(error):
                raise _told(url, what, error) from error
            if pause > 1 and not warned:
                warned = True
                logger.warning("%s: trying again to %s: %s", url, what, said(error))
        time.sleep(pause * random.uniform(0.5, 1))
        pause = min(2 * pause, _LONGEST_PAUSE)


def _told(url: str, what: str, error: Exception) -> Unreachable:
    """One sentence for a user."""
    text, what = str(error), what.strip()
    if "NoSuchBucket" in text:
        return Unreachable(f"there is no bucket at {url!r}. Make it, or name another with --store.")
    if is_denied(error):
        return denied(url, what, error)
    return Unreachable(
        f"{url!r} could not {what}: {said(error)} What was committed is safe; run "
        "the same command again when the storage can be reached."
    )


def is_denied(error: Exception) -> bool:
    """Whether it is credentials that are missing or not allowed to."""
    kinds = (PermissionDeniedError, UnauthenticatedError)
    return isinstance(error, kinds) or bool(_NO_CREDENTIALS.search(str(error)))


def denied(url: str, what: str, error: Exception) -> Unreachable:
    """The error for a user whose credentials do not do."""
    told = Unreachable(
        f"{url!r} does not let us {what}: the credentials are missing, or not allowed to. Set "
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (for S3; AWS_REGION and AWS_ENDPOINT_URL "
        f"where they are needed), or those of your cloud. It said: {said(error)}"
    )
    told.errno = errno.EACCES
    return told


def _is_hopeless(error: Exception) -> bool:
    text = str(error)
    return is_denied(error) or ("RequestTimeout" not in text and bool(_HOPELESS.search(text)))


def said(error: Exception) -> str:
    """The first line of what an error says, without what was asked."""
    line = re.sub(r"\s+", " ", str(error).partition("\nDebug source")[0]).strip()
    line = re.sub(r".* - (Server returned .*?status code: )?", "", line, count=1)
    return line[:300].rstrip(".") + "."

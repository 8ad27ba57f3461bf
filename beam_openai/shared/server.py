"""The connections of one process to the Redis of a shared quota."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from beam_openai import errors
from beam_openai.shared.address import place

_CONNECTIONS = 8
"""As many as a process has at most; a call takes less than a millisecond of one."""
_SECONDS = 2.0
"""What Redis may take to connect, and to answer."""
_PATIENCE = 10.0
"""Seconds to wait for one of the connections to be free."""
_LONGEST_REASON = 300


class Server:
    """Runs one script, for all threads of a process.

    Args:
      url: it may hold a password, which is in no message.
      script: what `run` runs.

    Raises:
      SharedQuotaError: the package `redis` is not installed. Nothing is connected before the first call.
    """

    def __init__(self, url: str, script: str) -> None:
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError as error:
            raise errors.SharedQuotaError(
                "Quota(shared=...) needs the package redis, which is not on this worker: pip install 'beam-openai[redis]'"
            ) from error
        self._place = place(url)
        self._script, self._digest = script, hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
        # What is tried again, and with which arguments, is for the caller to say.
        self._pool: Any = redis.BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            timeout=_PATIENCE,
            socket_timeout=_SECONDS,
            socket_connect_timeout=_SECONDS,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
        self._redis: Any = redis.Redis(connection_pool=self._pool)
        self._exceptions: Any = redis.exceptions

    def run(self, key: str, arguments: Sequence[object]) -> Any:
        """The script's answer.

        Raises:
          SharedQuotaError: `action` is "wait" where Redis cannot be reached now, "stop" where it refuses. The script may
            have run all the same.
        """
        try:
            try:
                return self._redis.evalsha(self._digest, 1, key, *arguments)
            except self._exceptions.NoScriptError:
                return self._redis.eval(self._script, 1, key, *arguments)
        except (self._exceptions.RedisError, OSError, UnicodeError) as error:
            raise self._trouble(error) from error

    def close(self) -> None:
        self._pool.disconnect()

    def _trouble(self, error: Exception) -> errors.SharedQuotaError:
        them, reason = self._exceptions, " ".join(str(error).split())[:_LONGEST_REASON]
        # Redis' errors of authentication are errors of connection to its client.
        is_refusal = isinstance(error, (them.AuthenticationError, them.AuthorizationError, them.ResponseError))
        if is_refusal and not isinstance(error, (them.ReadOnlyError, them.OutOfMemoryError)):
            return errors.SharedQuotaError(
                f"the Redis of the shared quota, {self._place}, refuses: {reason}. Check Quota(shared=...), its password, "
                "and that it is a single Redis (or Valkey) from version 5 on, whose user may run scripts"
            )
        trouble = errors.SharedQuotaError(
            f"the Redis of the shared quota, {self._place}, cannot be used now: {reason}. Nothing is sent without it. Check "
            "Quota(shared=...), that Redis runs, and that this worker may connect to it"
        )
        trouble.action = "wait"
        return trouble

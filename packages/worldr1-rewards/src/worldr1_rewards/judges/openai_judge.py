"""The judge behind an endpoint: any server with OpenAI's chat-completions protocol (vLLM, SGLang, hosted ones).

Such a server lives in its own environment, often on another machine, so everything it may do wrong is turned into a
reason here: a failed request never becomes a grade.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, ValidationError

from worldr1_core.component import ComponentConfig
from worldr1_core.errors import ScoreUnavailable, UserError
from worldr1_core.judge import Judge, JudgeRequest, JudgeResult
from worldr1_core.log import get_logger
from worldr1_rewards.judges.digits import checked, parse_digit, pooled_grade
from worldr1_rewards.judges.images import ImageFormat, data_url, image_problem, limit_pixels, to_pil
from worldr1_rewards.judges.prompts import remove_markup
from worldr1_rewards.judges.recording import Recording, request_digest

if TYPE_CHECKING:
    from openai import OpenAI

_log = get_logger(__name__)
_NO_KEY = "EMPTY"
"""Conventional key for servers without authentication, because the client refuses to send none."""
_TEXT_TOKENS = 16
"""Tokens of an answer that is read as text: after one token, `10`, `7/10` and `2 boxes` would pass for a digit."""


class OpenAIJudge(Judge):
    """Grades through an OpenAI-compatible endpoint.

    Asks for one token with the log-probabilities of its likeliest alternatives and reads the expected digit from them.
    An endpoint that reports none is read by what it writes (`JudgeResult.source` is then `"text"`): the answer must be
    a digit and nothing else. Since one token does not show how an answer goes on, such an endpoint is asked again for a
    few tokens; `top_logprobs: 0` asks for them at once. Requests that time out, are refused or meet a busy or broken
    server are repeated with growing pauses. Sampling runs at temperature 1, since some servers report
    log-probabilities after dividing by it.

    With `recording` the answers are written down as they came; with `replay` too they are read from there, and a
    question that was never asked has no grade.
    """

    class Config(ComponentConfig):
        """Options of the `openai` judge."""

        base_url: str = Field(
            "http://localhost:8000/v1", description="Root of the endpoint's API, usually ending in /v1."
        )
        model: str = Field(
            "Qwen/Qwen3-VL-4B-Instruct", min_length=1, description="Model name as the endpoint knows it."
        )
        api_key_env: str | None = Field(
            None, description="Name of the environment variable that holds the key; null for none."
        )
        timeout: float = Field(60.0, gt=0, le=3600, description="Seconds to wait for each attempt.")
        max_retries: int = Field(4, ge=0, le=20, description="Repeats after a failed attempt.")
        top_logprobs: int = Field(
            20, ge=0, le=20, description="Alternatives to ask for; 0 reads the written digit, where there are none."
        )
        min_mass: float = Field(0.5, ge=0, le=1, description="Least probability that the answer is a digit at all.")
        image_format: ImageFormat = Field("png", description="png is lossless; jpeg (quality 95) is smaller.")
        max_pixels: int = Field(
            512 * 512, ge=32 * 32, le=2**24, description="Larger images are scaled down to this many pixels."
        )
        concurrency: int = Field(4, ge=1, le=256, description="Requests under way at once.")
        recording: str | None = Field(
            None, min_length=1, description="File to which every answer is appended, or from which it is replayed."
        )
        replay: bool = Field(False, description="Answer from the recording alone; the endpoint is not asked.")

    config: Config

    def __init__(self, config: Any = None, *, device: str = "cpu", **options: Any) -> None:
        super().__init__(config, device=device, **options)
        _check_url(self.config.base_url)
        name = self.config.api_key_env
        if name is not None and not name.isidentifier():
            raise UserError(
                "api_key_env must be the name of an environment variable (letters, digits and underscores), such as "
                "'OPENAI_API_KEY'. It is not repeated here in case it is the key itself: never write it down."
            )
        if self.config.replay and self.config.recording is None:
            raise UserError("replay: true needs the recording to replay. Name its file in `recording`.")
        recording = self.config.recording
        self._recording = None if recording is None else Recording(Path(recording), replay=self.config.replay)
        self._client: OpenAI | None = None

    def grade(self, requests: Sequence[JudgeRequest]) -> list[JudgeResult | Exception]:
        """Grade every question, several requests at a time; see `Judge.grade`.

        Raises:
            UserError: The endpoint refuses the key, does not know the model or the address, or the key's variable is
                not set.
        """
        if not requests:
            return []
        if not self.config.replay:
            self._connect()
        with ThreadPoolExecutor(max_workers=min(self.config.concurrency, len(requests))) as pool:
            futures = [pool.submit(self._grade_one, request) for request in requests]
            try:
                return [future.result() for future in futures]
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _grade_one(self, request: JudgeRequest) -> JudgeResult | Exception:
        if (problem := image_problem(request.images)) is not None:
            return ScoreUnavailable(problem)
        content = self._content(request)
        answer = self._ask(content, num_tokens=1 if self.config.top_logprobs else _TEXT_TOKENS)
        if self.config.top_logprobs and isinstance(answer, _Completion) and answer.is_cut_text:
            answer = self._ask(content, num_tokens=_TEXT_TOKENS)
        if isinstance(answer, ScoreUnavailable):
            _log.warning("judge request failed", endpoint=self.config.base_url, reason=str(answer))
            return answer
        return self._read(answer)

    def _content(self, request: JudgeRequest) -> list[dict[str, Any]]:
        images = to_pil(limit_pixels(request.images, self.config.max_pixels))
        urls = [data_url(image, self.config.image_format) for image in images]
        parts: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
        return [*parts, {"type": "text", "text": remove_markup(request.text)}]

    def _connect(self) -> OpenAI:
        if self._client is None:
            from openai import OpenAI

            self._client = OpenAI(
                base_url=self.config.base_url,
                api_key=self._key() or _NO_KEY,
                timeout=self.config.timeout,
                max_retries=self.config.max_retries,
            )
        return self._client

    def _key(self) -> str | None:
        name = self.config.api_key_env
        if name is None:
            return None
        key = os.environ.get(name, "").strip()
        if not key:
            raise UserError(
                f"Environment variable {name!r} is not set, and api_key_env names it. Set it to the endpoint's key."
            )
        return key

    def _ask(self, content: list[dict[str, Any]], *, num_tokens: int) -> _Completion | ScoreUnavailable:
        """Send one request; a `UserError` is raised, any other failure returned."""
        from openai import APIError

        body: dict[str, Any] = {
            "model": self.config.model,
            "messages": [{"role": "user", "content": content}],
            "max_completion_tokens": num_tokens,
            "temperature": 1.0,
            "top_p": 1.0,
            "seed": 0,
        }
        if self.config.top_logprobs:
            body |= {"logprobs": True, "top_logprobs": self.config.top_logprobs}
        failure: UserError | ScoreUnavailable
        try:
            answer = self._fetch(body)
            if answer is None:
                return ScoreUnavailable(
                    f"The recording {self.config.recording!r} holds no answer to this question. Record it from the "
                    "endpoint first; another model, option, picture or wording is another question."
                )
            return _Completion.model_validate_json(answer)
        except APIError as error:
            failure = self._describe(error)
        except ValidationError as error:
            failure = ScoreUnavailable(
                f"The judge at {self.config.base_url} sent a malformed answer ({error.errors()[0]['msg']})."
            )
        if isinstance(failure, UserError):
            raise failure
        return failure

    def _fetch(self, body: dict[str, Any]) -> str | None:
        """The answer's text, from the recording or from the endpoint; `None` where the recording has none."""
        digest = request_digest(body) if self._recording is not None else ""
        if self._recording is not None and self.config.replay:
            return self._recording.find(digest)
        text: str = self._connect().chat.completions.with_raw_response.create(**body).text
        if self._recording is not None:
            self._recording.keep(digest, text)
        return text

    def _describe(self, error: Exception) -> UserError | ScoreUnavailable:
        """Explain a client error; the API key is removed in case the server repeats it."""
        from openai import (
            APIConnectionError,
            APITimeoutError,
            AuthenticationError,
            NotFoundError,
            PermissionDeniedError,
        )

        config = self.config
        where = f"The judge at {config.base_url}"
        tries = f"tried {config.max_retries + 1} times" if config.max_retries else "tried once"
        key = self._key()
        said = " ".join(str(error).split())[:300]
        said = said.replace(key, "***") if key else said
        if isinstance(error, AuthenticationError | PermissionDeniedError):
            holder = f"the key in {config.api_key_env!r}" if key else "a request without a key: set api_key_env"
            return UserError(f"{where} refuses {holder} ({said}).")
        if isinstance(error, NotFoundError):
            return UserError(f"{where} does not know model {config.model!r} or has no chat completions there ({said}).")
        if isinstance(error, APITimeoutError):
            return ScoreUnavailable(f"{where} did not answer within {config.timeout:g} s, {tries}.")
        if isinstance(error, APIConnectionError):
            return ScoreUnavailable(f"{where} cannot be reached, {tries} ({error.__cause__ or said}).")
        status = getattr(error, "status_code", None)
        repeated = f", {tries}" if status is not None and (status in (408, 409, 429) or status >= 500) else ""
        return ScoreUnavailable(f"{where} failed{repeated}: {said}")

    def _read(self, answer: _Completion) -> JudgeResult | ScoreUnavailable:
        where = f"The judge at {self.config.base_url}"
        if not answer.choices:
            return ScoreUnavailable(f"{where} sent no choices.")
        choice = answer.choices[0]
        if choice.first_token is not None:
            return checked(*pooled_grade(choice.first_token.alternatives()), self.config.min_mass)
        text = choice.message.content or ""
        grade = parse_digit(text)
        if grade is None:
            return ScoreUnavailable(
                f"{where} sent neither log-probabilities nor a digit alone, but {text[:80]!r}. Use an endpoint that "
                "reports log-probabilities, or an instruction-tuned model that answers directly, without thoughts."
            )
        return JudgeResult(score=grade, mass=None, source="text")


class _Alternative(BaseModel):
    token: str
    logprob: float = Field(le=0.01)


class _Token(_Alternative):
    top_logprobs: list[_Alternative] = []

    def alternatives(self) -> list[tuple[str, float]]:
        """The likeliest tokens, and the one that was drawn if it is not among them."""
        table = {self.token: self.logprob} | {other.token: other.logprob for other in self.top_logprobs}
        return list(table.items())


class _Logprobs(BaseModel):
    content: list[_Token] | None = None


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message
    logprobs: _Logprobs | None = None
    finish_reason: str | None = None

    @property
    def first_token(self) -> _Token | None:
        """The answer's first token with its alternatives, or `None` where the endpoint reports none."""
        tokens = self.logprobs.content if self.logprobs is not None else None
        return tokens[0] if tokens and tokens[0].top_logprobs else None


class _Completion(BaseModel):
    """The part of a chat completion that is read; anything else a server adds is ignored."""

    choices: list[_Choice]

    @property
    def is_cut_text(self) -> bool:
        """True if the answer has no log-probabilities and its text was ended by the token limit."""
        return bool(self.choices) and self.choices[0].first_token is None and self.choices[0].finish_reason == "length"


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.username or parts.password:
        raise UserError("base_url must not hold a user name or password. Name a variable in api_key_env instead.")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(
            f"base_url must be an http or https address such as 'http://localhost:8000/v1', received {url!r}."
        )

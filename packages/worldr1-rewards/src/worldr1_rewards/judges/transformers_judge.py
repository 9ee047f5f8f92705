"""The local judge: any image-text-to-text model of the transformers library.

One forward pass a question, no generation: the grade is read from the logits at the answer position (see `digits`).
The model is loaded at the first question, so that composing a manifest stays fast.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from worldr1_core.component import ComponentConfig
from worldr1_core.errors import ScoreUnavailable
from worldr1_core.judge import Judge, JudgeRequest, JudgeResult
from worldr1_core.weights_source import WeightsSource
from worldr1_rewards.judges.digits import checked, digit_token_ids, expected_grades
from worldr1_rewards.judges.images import image_problem, limit_pixels, to_pil
from worldr1_rewards.judges.prompts import remove_control_tokens
from worldr1_rewards.pretrained import from_pretrained, model_from_pretrained


class TransformersJudge(Judge):
    """Grades with a local vision-language model.

    With `batch_size` 1, the default, a question's grade is the same to the last bit however many are asked together.
    Larger batches pad on the left and multiply larger matrices, whose sums a processor may order differently: grades
    then agree within about 1e-5 in float32, and within about 1e-2 in bfloat16.

    No option permits code from a model's repository to run.
    """

    class Config(ComponentConfig):
        """Options of the `transformers` judge."""

        model: str = Field(
            "Qwen/Qwen3-VL-4B-Instruct", min_length=1, description="Hub id or folder of an image-text-to-text model."
        )
        revision: str | None = Field(
            None, description="Branch, tag or commit of a hub model; the default branch if null."
        )
        local_files_only: bool = Field(False, description="Use only what is already on this machine.")
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
            "auto", description="Type of the weights; `auto` is the type they were saved in."
        )
        max_pixels: int = Field(
            512 * 512, ge=32 * 32, le=2**24, description="Larger images are scaled down to this many pixels."
        )
        batch_size: int = Field(
            1, ge=1, le=256, description="Questions per forward pass; 1 makes grades exactly repeatable."
        )
        min_mass: float = Field(0.5, ge=0, le=1, description="Least probability that the answer is a digit at all.")

    config: Config
    _loaded: _Model | None = None

    def grade(self, requests: Sequence[JudgeRequest]) -> list[JudgeResult | Exception]:
        """Grade every question; see `Judge.grade`.

        Raises:
            WeightsError: The model cannot be loaded.
            UserError: Its tokenizer does not keep digits apart.
        """
        results: list[JudgeResult | Exception | None] = [
            None if (problem := image_problem(request.images)) is None else ScoreUnavailable(problem)
            for request in requests
        ]
        pending = [index for index, result in enumerate(results) if result is None]
        for start in range(0, len(pending), self.config.batch_size):
            chunk = pending[start : start + self.config.batch_size]
            for index, answer in zip(chunk, self._grade_chunk([requests[i] for i in chunk]), strict=True):
                results[index] = answer
        return [result for result in results if result is not None]

    def _grade_chunk(self, requests: list[JudgeRequest]) -> list[JudgeResult | Exception]:
        """Grade one batch; if it fails, one by one, so that a single bad question fails alone."""
        model = self._model()
        try:
            grades, masses = model.grade(requests, self.config.max_pixels)
        except (ValueError, RuntimeError, IndexError) as error:
            if len(requests) > 1:
                return [answer for request in requests for answer in self._grade_chunk([request])]
            return [ScoreUnavailable(f"The judge {self.config.model!r} failed: {type(error).__name__}: {error}")]
        pairs = zip(grades.tolist(), masses.tolist(), strict=True)
        return [checked(grade, mass, self.config.min_mass) for grade, mass in pairs]

    def _model(self) -> _Model:
        if self._loaded is None:
            config = self.config
            source = WeightsSource(config.model, config.revision, config.local_files_only)
            self._loaded = _Model(source, dtype=config.dtype, device=self.device)
        return self._loaded


class _Model:
    """A loaded model with its processor, the ids of its digits, and the tokens that text from outside may not hold."""

    def __init__(self, source: WeightsSource, *, dtype: str, device: str) -> None:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        what = "the judge model"
        self.processor = from_pretrained(AutoProcessor, source, what)
        self.tokenizer: Any = getattr(self.processor, "tokenizer", None)
        if self.tokenizer is None or getattr(self.processor, "image_processor", None) is None:
            raise source.fail(what, "its processor does not read images, so it is no image-text-to-text model")
        self.tokenizer.padding_side = "left"
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        model = model_from_pretrained(AutoModelForImageTextToText, source, what, dtype=dtype)
        self.model = model.to(device)
        self.device = torch.device(device)
        self.dtype = next(model.parameters()).dtype
        self.forward_options: dict[str, Any] = {"use_cache": False}
        if "logits_to_keep" in inspect.signature(model.forward).parameters:
            self.forward_options["logits_to_keep"] = 1
        self.control_tokens = control_tokens(self.processor)
        try:
            context = self.render("x", num_images=1)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise source.fail(what, f"it has no usable chat template ({error})") from error
        self.digit_ids = digit_token_ids(self._encode, context)

    def _encode(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def render(self, text: str, num_images: int) -> str:
        """One question as the model's chat text, up to where the answer starts; control tokens in it are taken out."""
        content: list[dict[str, str]] = [{"type": "image"}] * num_images
        content.append({"type": "text", "text": remove_control_tokens(text, self.control_tokens)})
        chat = [{"role": "user", "content": content}]
        return str(self.processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))

    def encode(self, requests: Sequence[JudgeRequest], max_pixels: int) -> dict[str, Any]:
        """Model inputs of a batch, padded on the left, on the model's device."""
        texts = [self.render(request.text, len(request.images)) for request in requests]
        images = [to_pil(limit_pixels(request.images, max_pixels)) for request in requests]
        starts_itself = bool(self.tokenizer.bos_token) and texts[0].startswith(self.tokenizer.bos_token)
        options: dict[str, Any] = {"add_special_tokens": False} if starts_itself else {}
        batch = self.processor(text=texts, images=images, padding=True, return_tensors="pt", **options)
        return {
            key: value.to(self.device, self.dtype if value.is_floating_point() else value.dtype)
            for key, value in batch.items()
            if isinstance(value, Tensor)
        }

    @torch.inference_mode()
    def grade(self, requests: Sequence[JudgeRequest], max_pixels: int) -> tuple[Tensor, Tensor]:
        """Grades and digit masses `(B,)` of a batch."""
        output = self.model(**self.encode(requests, max_pixels), **self.forward_options)
        return expected_grades(output.logits[:, -1], self.digit_ids)


def control_tokens(processor: Any) -> list[str]:
    """Texts that a model's tokenizer or processor reads as something other than words.

    Special tokens, every other token added to the vocabulary (roles, tools, thoughts, image placeholders) unless it is
    a plain word, a digit or a blank, and the placeholders that processors expand.
    """
    tokenizer = processor.tokenizer
    added = {token for token in tokenizer.get_added_vocab() if not token.isalnum()}
    tokens = set(tokenizer.all_special_tokens) | added
    for holder in (processor, tokenizer):
        for name in ("image_token", "video_token", "audio_token", "boi_token", "eoi_token", "fake_image_token"):
            token = getattr(holder, name, None)
            if token:
                tokens.add(str(token))
    return sorted(token for token in tokens if token.strip())

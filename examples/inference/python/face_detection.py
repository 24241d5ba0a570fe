#!/usr/bin/env python3
"""Asks a model server for the faces in pictures, and draws frames around them.

It speaks TensorFlow Serving's protocol over gRPC, which OpenVINO Model Server speaks,
too. The model is CenterFace (https://arxiv.org/abs/1911.03599), with the names of
inputs and outputs that `make demo-model` gives it.
"""

import argparse
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import ovmsclient
from PIL import Image, ImageDraw

CERTS = "/var/OVSA/Modelserver/"
SUFFIXES = {".jpg", ".jpeg", ".png"}
MULTIPLE = 32  # what the sides of the model's input are multiples of
STRIDE = 4  # how many pixels of the input are one point of the answer
OVERLAP = 0.3  # how much of two frames may be the same where both are faces
MAX_PIXELS = 100 << 20

Image.MAX_IMAGE_PIXELS = MAX_PIXELS


class Problem(Exception):
    """What the user is told, and no more."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--grpc_address", default="localhost", metavar="HOST", help="the server's name or address (%(default)s)")
    add("--grpc_port", type=int, default=3335, metavar="PORT", help="its port (%(default)s)")
    add("--tls", action="store_true", help="use TLS, with the three certificates and keys")
    add("--server_cert", default=CERTS + "server.pem", metavar="FILE", help="the server's certificate, or its authority's (%(default)s)")
    add("--client_cert", default=CERTS + "client.pem", metavar="FILE", help="this client's certificate (%(default)s)")
    add("--client_key", default=CERTS + "client.key", metavar="FILE", help="its key (%(default)s)")
    add("--model_name", default="controlled-access-model", metavar="NAME", help="(%(default)s)")
    add("--model_version", type=int, default=0, metavar="NUMBER", help="by default the server's choice")
    add("--batch_size", type=int, default=1, metavar="NUMBER", help="how many pictures to ask for at once (%(default)s)")
    add("--width", type=int, default=640, metavar="PIXELS", help="pictures are scaled to fit into this (%(default)s), and into the model's input")
    add("--height", type=int, default=640, metavar="PIXELS", help="(%(default)s)")
    add("--input_images_dir", type=Path, default=Path("images"), metavar="DIR", help="(%(default)s)")
    add("--output_dir", type=Path, default=Path("results"), metavar="DIR", help="where the pictures go that are drawn (%(default)s)")
    add("--threshold", type=float, default=0.5, metavar="SHARE", help="how sure the model must be, from 0 to 1 (%(default)s)")
    add("--timeout", type=float, default=60, metavar="SECONDS", help="how long to wait for an answer (%(default)s)")
    add("--json", action="store_true", help="say what was found as JSON")
    args = parser.parse_args()
    for name in ("batch_size", "width", "height"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} is a number from 1")
    if args.width * args.height > MAX_PIXELS:
        parser.error("--width and --height are too large")
    return args


@dataclass
class Fit:
    """How a picture lies in the model's input: from the left upper corner."""

    scale: float  # pixels of the input for one of the picture
    width: int  # of the picture in the input
    height: int

    @staticmethod
    def into(picture: Image.Image, width: int, height: int) -> "Fit":
        scale = min(width / picture.width, height / picture.height)
        return Fit(scale, *(min(most, max(1, round(n * scale))) for n, most in ((picture.width, width), (picture.height, height))))


def scaled(pixels: np.ndarray, to: int, axis: int) -> np.ndarray:
    """Pixels, made more or fewer along an axis: each of the two that are nearest."""
    have = pixels.shape[axis]
    at = np.clip((np.arange(to) + 0.5) * have / to - 0.5, 0, have - 1)
    first = at.astype(int)
    share = np.expand_dims(at - first, tuple(i for i in range(pixels.ndim) if i != axis))
    a, b = pixels.take(first, axis), pixels.take(np.minimum(first + 1, have - 1), axis)
    return a + (b - a) * share


def prepare(picture: Image.Image, fit: Fit, width: int, height: int) -> np.ndarray:
    """The picture as the model takes it: red, green and blue, from 0 to 255."""
    pixels = np.asarray(picture, dtype=np.float64)
    pixels = scaled(scaled(pixels, fit.width, 1), fit.height, 0)
    image = np.zeros((3, height, width), dtype=np.float32)
    image[:, : fit.height, : fit.width] = np.floor(pixels + 0.5).transpose(2, 0, 1)
    return image


def faces(heatmap: np.ndarray, scale: np.ndarray, offset: np.ndarray, landmarks: np.ndarray, fit: Fit, threshold: float) -> list[dict]:
    """The faces in the model's answer for one picture, the surest first."""
    ys, xs = np.nonzero(heatmap[0] > threshold)
    scores = heatmap[0, ys, xs]
    height, width = (STRIDE * np.exp(s[ys, xs]) for s in scale)
    most = np.array([fit.width, fit.height])
    middle = np.stack([(xs + offset[1, ys, xs] + 0.5) * STRIDE, (ys + offset[0, ys, xs] + 0.5) * STRIDE], axis=1)
    size = np.stack([width, height], axis=1)
    corner = np.clip(middle - size / 2, 0, most)
    boxes = np.concatenate([corner, np.clip(corner + size, 0, most)], axis=1) / fit.scale
    points = landmarks[:, ys, xs].T.reshape(-1, 5, 2)[:, :, ::-1]
    points = (corner[:, None] + points * size[:, None]) / fit.scale
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        if not any(shared(boxes[i], boxes[k]) >= OVERLAP for k in kept):
            kept.append(int(i))
    return [{"box": boxes[i].tolist(), "score": float(scores[i]), "landmarks": points[i].tolist()} for i in kept]


def shared(a: np.ndarray, b: np.ndarray) -> float:
    """How much of what two boxes cover together both cover: 0 to 1."""

    def area(box: np.ndarray) -> float:
        return float(max(0, box[2] - box[0]) * max(0, box[3] - box[1]))

    both = area(np.concatenate([np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])]))
    return both / (area(a) + area(b) - both) if both else 0.0


def draw(picture: Image.Image, found: list[dict]) -> Image.Image:
    drawn = picture.copy()
    pen = ImageDraw.Draw(drawn)
    line = max(2, min(drawn.size) // 200)
    for face in found:
        left, top, right, bottom = face["box"]
        pen.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=(0x39, 0xFF, 0x14), width=line)
        pen.text((left + 2 * line, top + 2 * line), f"{100 * face['score']:.0f} %", fill=(0x39, 0xFF, 0x14))
        for x, y in face["landmarks"]:
            pen.rectangle((x - line, y - line, x + line, y + line), fill=(0xFF, 0x30, 0x30))
    return drawn


def connect(args: argparse.Namespace) -> "ovmsclient.GrpcClient":
    tls = None
    if args.tls:
        tls = {"server_cert_path": args.server_cert, "client_cert_path": args.client_cert, "client_key_path": args.client_key}
    return ovmsclient.make_grpc_client(f"{args.grpc_address}:{args.grpc_port}", tls)


def input_size(client: "ovmsclient.GrpcClient", args: argparse.Namespace) -> tuple[int, int]:
    """The width and height that the model takes, or those that are asked for."""
    says = client.get_model_metadata(args.model_name, args.model_version, timeout=args.timeout)
    shape = says["inputs"].get("image", {}).get("shape", [])
    if len(shape) != 4 or shape[1] != 3 or not {"heatmap", "scale", "offset", "landmarks"} <= says["outputs"].keys():
        raise Problem(f"model {args.model_name!r} is none that this client knows: {says}")
    if 0 < shape[0] < args.batch_size:
        raise Problem(f"the model takes {shape[0]} pictures at once: say --batch_size {shape[0]}")
    up = [math.ceil(n / MULTIPLE) * MULTIPLE for n in (args.width, args.height)]
    return (shape[3] if shape[3] > 0 else up[0], shape[2] if shape[2] > 0 else up[1])


def ask(client: "ovmsclient.GrpcClient", args: argparse.Namespace, size: tuple[int, int], pictures: list[Image.Image]) -> list[list[dict]]:
    """The faces of each picture."""
    fits = [Fit.into(p, min(args.width, size[0]), min(args.height, size[1])) for p in pictures]
    batch = np.stack([prepare(p, f, *size) for p, f in zip(pictures, fits)])
    answer = client.predict({"image": batch}, args.model_name, args.model_version, timeout=args.timeout)
    points = (size[1] // STRIDE, size[0] // STRIDE)
    for name, per_point in (("heatmap", 1), ("scale", 2), ("offset", 2), ("landmarks", 10)):
        if answer[name].shape != (len(pictures), per_point, *points):
            raise Problem(f"output {name!r} has shape {answer[name].shape}")
    return [
        faces(answer["heatmap"][i], answer["scale"][i], answer["offset"][i], answer["landmarks"][i], fit, args.threshold)
        for i, fit in enumerate(fits)
    ]


def run(args: argparse.Namespace) -> None:
    try:
        names = sorted(p for p in args.input_images_dir.iterdir() if p.suffix.lower() in SUFFIXES)
    except OSError as problem:
        raise Problem(f"look for pictures: {problem}") from problem
    if not names:
        raise Problem(f"{args.input_images_dir} has no picture: *.jpg, *.jpeg or *.png")
    args.output_dir.mkdir(parents=True, exist_ok=True)
    if args.output_dir.samefile(args.input_images_dir):
        raise Problem("the pictures would be written over: say another --output_dir")
    client = connect(args)
    size = input_size(client, args)
    said = []
    for first in range(0, len(names), args.batch_size):
        some = names[first : first + args.batch_size]
        pictures = [Image.open(name).convert("RGB") for name in some]
        for name, picture, found in zip(some, pictures, ask(client, args, size, pictures)):
            to = args.output_dir / name.name
            draw(picture, found).save(to)
            said.append({"picture": str(name), "drawn": str(to), "faces": found})
            if not args.json:
                print(f"{name}: {len(found)} face{'s' * (len(found) != 1)}; drawn in {to}")
                for face in found:
                    left, top, right, bottom = face["box"]
                    print(f"  {100 * face['score']:.0f} % sure: {left:.0f}, {top:.0f} to {right:.0f}, {bottom:.0f}")
    if args.json:
        print(json.dumps(said, indent=2))


def main() -> int:
    try:
        run(arguments())
    except (Problem, ValueError, OSError) as problem:
        print(f"error: {problem}", file=sys.stderr)
    except ovmsclient.tfs_compat.base.errors.ModelServerError as problem:
        print(f"error: the server refuses: {problem}", file=sys.stderr)
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())

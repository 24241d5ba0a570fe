"""What face_detection.py does before and after it asks, beside the same references as
the client in Go: OpenCV's scaling, and what the detector's authors find."""

import json
import unittest
from pathlib import Path

import numpy as np
from PIL import Image

import face_detection as fd

TESTDATA = Path(__file__).resolve().parent.parent / "facedetect" / "testdata"
POINTS = 80


def answer(points: list[dict]) -> list[np.ndarray]:
    """The model's answer. Where it was not sure of anything, it says nothing."""
    maps = np.zeros((15, POINTS * POINTS), dtype=np.float32)
    for p in points:
        maps[:, p["at"]] = p["values"]
    return np.split(maps.reshape(15, POINTS, POINTS), [1, 3, 5])


class Faces(unittest.TestCase):
    def test_are_those_of_the_reference(self):
        references = json.loads((TESTDATA / "answers.json").read_text())
        self.assertEqual([len(r["faces"]) for r in references.values()], [1, 4, 0])
        for name, r in references.items():
            with self.subTest(name):
                picture = Image.new("RGB", (r["width"], r["height"]))
                found = fd.faces(*answer(r["points"]), fd.Fit.into(picture, 320, 320), r["threshold"])
                self.assertEqual(len(found), len(r["faces"]))
                for got, want in zip(found, r["faces"]):
                    np.testing.assert_allclose(got["box"], want["box"], atol=0.01)
                    np.testing.assert_allclose(np.ravel(got["landmarks"]), want["landmarks"], atol=0.01)
                    self.assertAlmostEqual(got["score"], want["score"], 5)

    def test_are_drawn_where_they_are(self):
        drawn = fd.draw(Image.new("RGB", (200, 200)), [{"box": [20, 30, 120, 130], "score": 1, "landmarks": [[70, 80]] * 5}])
        for at, black in (((20, 30), False), ((119, 129), False), ((70, 80), False), ((19, 30), True), ((120, 130), True), ((100, 100), True)):
            self.assertEqual(drawn.getpixel(at) == (0, 0, 0), black, at)


class Input(unittest.TestCase):
    def test_is_what_opencv_makes(self):
        picture = Image.open(TESTDATA / "picture.png").convert("RGB")
        for width, height in ((32, 18), (96, 54)):
            with self.subTest(width=width):
                fit = fd.Fit.into(picture, width, 64)
                self.assertEqual((fit.width, fit.height), (width, height))
                got = fd.prepare(picture, fit, width, 64)
                want = np.asarray(Image.open(TESTDATA / f"picture-{width}x{height}.png").convert("RGB"), dtype=np.float32)
                np.testing.assert_allclose(got[:, :height].transpose(1, 2, 0), want, atol=1)  # OpenCV computes with 11 bits
                self.assertFalse(got[:, height:].any())


if __name__ == "__main__":
    unittest.main()

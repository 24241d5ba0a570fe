"""ovmsclient against our server: ovms.py HTTP GRPC"""
import sys

import numpy as np
import ovmsclient
from ovmsclient.tfs_compat.base.errors import InvalidInputError, ModelNotFoundError, ModelServerError

HTTP, GRPC = sys.argv[1:3]
W = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12.5]], np.float32)
B = np.array([0.5, -0.25, 100], np.float32)
X = np.array([[1, 2, 3, 4], [0.5, -1, 1e-3, 1e6]], np.float32)

ARRAYS = {
    "bool": np.array([[True, False, True]]),
    "uint8": np.array([[0, 1, 255]], np.uint8),
    "uint16": np.array([[0, 1, 65535]], np.uint16),
    "uint32": np.array([[0, 1, 2**32 - 1]], np.uint32),
    "uint64": np.array([[0, 1, 2**64 - 1]], np.uint64),
    "int8": np.array([[-128, 0, 127]], np.int8),
    "int16": np.array([[-(2**15), 0, 2**15 - 1]], np.int16),
    "int32": np.array([[-(2**31), 0, 2**31 - 1]], np.int32),
    "int64": np.array([[-(2**63), 0, 2**63 - 1]], np.int64),
    "fp16": np.array([[-1.5, 0, 65504]], np.float16),
    "fp32": np.array([[-1.5, 0.1, 3.4e38], [np.inf, -np.inf, np.nan]], np.float32),
    "fp64": np.array([[-1.5, 0.1, 1.7e308], [np.inf, -np.inf, np.nan]], np.float64),
}


def clients():
    return ovmsclient.make_http_client(HTTP), ovmsclient.make_grpc_client(GRPC)


def fails(kind, says, call):
    try:
        call()
    except kind as e:
        assert says in str(e), e
        return
    raise AssertionError("it does not fail")


def test_predict_and_versions():
    for c in clients():
        for version, factor in (1, 1), (2, 2), (0, 2):  # the newest cannot be loaded
            y = c.predict({"x": X}, "affine", version)
            assert y.dtype.kind == "f", y
            np.testing.assert_allclose(y, factor * (X @ W) + B, rtol=1e-5)


def test_every_type():
    for name, array in ARRAYS.items():
        for c in clients():
            if name == "fp16" and not isinstance(c, type(clients()[1])):
                fails(InvalidInputError, "FP16", lambda: c.predict({"x": array}, "echo_" + name))
                continue
            y = c.predict({"x": array}, "echo_" + name)
            assert y.shape == array.shape, (name, y)
            if isinstance(c, type(clients()[1])):  # JSON has no types
                assert y.dtype == array.dtype, (name, y)
            if name == "uint64" and y.dtype.kind == "f":  # so numpy reads numbers in JSON
                np.testing.assert_array_equal(y, np.array(array.tolist()), name)
                continue
            np.testing.assert_array_equal(np.asarray(y, array.dtype), array, name)


def test_lists_and_scalars():
    for c in clients():
        np.testing.assert_allclose(c.predict({"x": X.tolist()}, "affine"), 2 * (X @ W) + B, rtol=1e-5)
        np.testing.assert_array_equal(c.predict({"x": 2.5}, "total"), 2.5)  # a scalar is sent as [1]


def test_texts():
    for c in clients():
        r = c.predict({"text": [b"abc", b"", "h\u00e9".encode()]}, "texts")
        assert r["length"].tolist() == [3, 0, 3], r
        assert r["upper"][0] in (b"ABC", "ABC"), r
        assert r["text_bytes"][0] in (b"abc", {"b64": "YWJj"}), r
        r = c.predict({"text": ["abc"]}, "texts")
        assert r["length"].tolist() == [3], r


def test_several_inputs_and_outputs():
    a, b = np.array([[1, 2]], np.float32), np.array([[3, 4]], np.float32)
    for c in clients():
        r = c.predict({"b": b, "a": a}, "two")
        np.testing.assert_array_equal(r["sum"], a + b)
        np.testing.assert_array_equal(r["product"], a * b)


def test_metadata():
    for c in clients():
        for version, want in (0, 2), (1, 1):
            m = c.get_model_metadata("affine", version)
            assert m == {
                "model_version": want,
                "inputs": {"x": {"shape": [-1, 4], "dtype": "DT_FLOAT"}},
                "outputs": {"y": {"shape": [-1, 3], "dtype": "DT_FLOAT"}},
            }, m
        for name, dtype in ("bool", "DT_BOOL"), ("bytes", "DT_STRING"), ("fp16", "DT_HALF"), ("bf16", "DT_BFLOAT16"), ("uint64", "DT_UINT64"):
            assert c.get_model_metadata("echo_" + name)["inputs"]["x"]["dtype"] == dtype
        fails(ModelNotFoundError, '"nobody"', lambda: c.get_model_metadata("nobody"))
        fails(ConnectionError, "weights.bin is cut", lambda: c.get_model_metadata("affine", 3))


def test_status():
    for c in clients():
        s = c.get_model_status("affine")
        assert {v: (s[v]["state"], s[v]["error_code"]) for v in s} == {3: ("END", 14), 2: ("AVAILABLE", 0), 1: ("AVAILABLE", 0)}, s
        assert "weights.bin is cut" in s[3]["error_message"], s
        assert s[1]["error_message"] in ("", "OK"), s
        assert list(c.get_model_status("affine", 1)) == [1]
        fails(ModelNotFoundError, '"nobody"', lambda: c.get_model_status("nobody"))
        fails(ModelNotFoundError, "version 9", lambda: c.get_model_status("affine", 9))


def test_wrong_requests():
    for c in clients():
        fails(ModelNotFoundError, '"nobody"', lambda: c.predict({"x": X}, "nobody"))
        fails(ModelNotFoundError, "version 9", lambda: c.predict({"x": X}, "affine", 9))
        fails(ConnectionError, "weights.bin is cut", lambda: c.predict({"x": X}, "affine", 3))
        fails(ConnectionError, "no model that can be loaded", lambda: c.predict({"x": X}, "broken"))
        fails(InvalidInputError, '"z"', lambda: c.predict({"x": X, "z": X}, "affine"))
        fails(InvalidInputError, "[2 3]", lambda: c.predict({"x": X[:, :3]}, "affine"))
        fails(InvalidInputError, "dimensions", lambda: c.predict({"x": X[0]}, "affine"))
        fails(InvalidInputError, "FP32", lambda: c.predict({"x": [["text"]]}, "affine"))
        fails((ModelServerError, ConnectionError), "a layer has no memory", lambda: c.predict({"x": X[0]}, "failing"))
    fails(InvalidInputError, "FP64", lambda: clients()[1].predict({"x": X.astype(np.float64)}, "affine"))
    fails(InvalidInputError, "missing", lambda: clients()[1].predict({"z": X}, "affine"))

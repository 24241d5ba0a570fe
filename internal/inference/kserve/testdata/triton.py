"""tritonclient against our server: triton.py HTTP GRPC DESCRIPTORS"""
import sys

import ml_dtypes
import numpy as np
import tritonclient.grpc as tg
import tritonclient.http as th
from grpc import insecure_channel as channel
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

HTTP, GRPC, DESCRIPTORS = sys.argv[1:4]
W = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12.5]], np.float32)
B = np.array([0.5, -0.25, 100], np.float32)
X = np.array([[1, 2, 3, 4], [0.5, -1, 1e-3, 1e6]], np.float32)

ARRAYS = {
    "BOOL": np.array([[True, False, True]]),
    "UINT8": np.array([[0, 1, 255]], np.uint8),
    "UINT16": np.array([[0, 1, 65535]], np.uint16),
    "UINT32": np.array([[0, 1, 2**32 - 1]], np.uint32),
    "UINT64": np.array([[0, 1, 2**64 - 1]], np.uint64),
    "INT8": np.array([[-128, 0, 127]], np.int8),
    "INT16": np.array([[-(2**15), 0, 2**15 - 1]], np.int16),
    "INT32": np.array([[-(2**31), 0, 2**31 - 1]], np.int32),
    "INT64": np.array([[-(2**63), 0, 2**63 - 1]], np.int64),
    "FP16": np.array([[-1.5, 0, 65504]], np.float16),
    "BF16": np.array([[-1.5, 0, 3e38]], ml_dtypes.bfloat16),
    "FP32": np.array([[-1.5, 0.1, 3.4e38], [np.inf, -np.inf, np.nan]], np.float32),
    "FP64": np.array([[-1.5, 0.1, 1.7e308], [np.inf, -np.inf, np.nan]], np.float64),
    "BYTES": np.array([[b"", "h\u00e9".encode(), b"a\"\\\n"]], np.object_),
}


def http():
    return th.InferenceServerClient(HTTP)


def grpc():
    return tg.InferenceServerClient(GRPC)


def inputs(lib, **arrays):
    all = []
    for name, (datatype, array) in arrays.items():
        i = lib.InferInput(name, array.shape, datatype)
        i.set_data_from_numpy(array)
        all.append(i)
    return all


def fails(status, says, call):
    try:
        call()
    except InferenceServerException as e:
        assert str(e.status()) == status, e
        assert says in e.message(), e
        return
    raise AssertionError("it does not fail")


def test_health():
    for c in http(), grpc():
        assert c.is_server_live()
        assert not c.is_server_ready()  # of the model "broken" there is none
        assert c.is_model_ready("affine")
        assert c.is_model_ready("affine", "1")
        assert not c.is_model_ready("affine", "3")
        assert not c.is_model_ready("broken")
    assert not http().is_model_ready("nobody")
    fails("StatusCode.NOT_FOUND", "nobody", lambda: grpc().is_model_ready("nobody"))


def test_server_metadata():
    m = http().get_server_metadata()
    assert m["name"] == "ovsa-engine" and m["version"] and m["extensions"] == ["binary_tensor_data"], m
    m = grpc().get_server_metadata()
    assert m.name == "ovsa-engine" and m.version, m


def test_model_metadata():
    want = {
        "name": "affine", "versions": ["1", "2"], "platform": "reference",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}],
    }
    assert http().get_model_metadata("affine") == want
    assert http().get_model_metadata("affine", "1") == want
    g = grpc().get_model_metadata("affine", as_json=True)
    assert g["inputs"] == [{"name": "x", "datatype": "FP32", "shape": ["-1", "4"]}], g
    assert g["versions"] == ["1", "2"], g
    fails("404", "nobody", lambda: http().get_model_metadata("nobody"))
    fails("503", "weights.bin is cut", lambda: http().get_model_metadata("affine", "3"))
    fails("StatusCode.UNAVAILABLE", "weights.bin is cut", lambda: grpc().get_model_metadata("affine", "3"))


def test_versions():
    for lib, c in (th, http()), (tg, grpc()):
        i = inputs(lib, x=("FP32", X))
        for version, factor in ("1", 1), ("2", 2), ("", 2):  # the newest cannot be loaded
            r = c.infer("affine", i, model_version=version, request_id="7")
            np.testing.assert_allclose(r.as_numpy("y"), factor * (X @ W) + B, rtol=1e-5)
    r = http().infer("affine", inputs(th, x=("FP32", X)), request_id='"7"').get_response()
    assert r["model_version"] == "2" and r["id"] == '"7"' and r["model_name"] == "affine", r
    r = grpc().infer("affine", inputs(tg, x=("FP32", X)), request_id="7").get_response()
    assert r.model_version == "2" and r.id == "7" and r.model_name == "affine", r


def test_every_type_binary():
    for datatype, array in ARRAYS.items():
        for lib, c in (th, http()), (tg, grpc()):
            y = c.infer("echo_" + datatype.lower(), inputs(lib, x=(datatype, array))).as_numpy("y")
            assert y.dtype == array.dtype and y.shape == array.shape, (datatype, lib, y)
            np.testing.assert_array_equal(y, array, f"{datatype} {lib}")


def test_every_type_json():
    for datatype, array in ARRAYS.items():
        if datatype in ("FP16", "BF16"):
            continue
        i = th.InferInput("x", array.shape, datatype)
        i.set_data_from_numpy(array, binary_data=False)
        r = http().infer("echo_" + datatype.lower(), [i], outputs=[th.InferRequestedOutput("y", binary_data=False)])
        assert r.get_output("y")["data"] is not None
        y = r.as_numpy("y")
        if datatype == "BYTES":
            y = np.vectorize(lambda s: s.encode(), otypes=[np.object_])(y)
        np.testing.assert_array_equal(y, array, datatype)


def test_json_in_binary_out_and_the_other_way():
    i = th.InferInput("x", X.shape, "FP32")
    i.set_data_from_numpy(X, binary_data=False)
    a = http().infer("affine", [i], outputs=[th.InferRequestedOutput("y", binary_data=True)])
    assert "data" not in a.get_output("y")
    b = http().infer("affine", inputs(th, x=("FP32", X)), outputs=[th.InferRequestedOutput("y", binary_data=False)])
    assert "data" in b.get_output("y")
    np.testing.assert_array_equal(a.as_numpy("y"), b.as_numpy("y"))


def test_half_floats_have_no_json():
    i = inputs(th, x=("FP16", ARRAYS["FP16"]))
    fails("400", "binary_data", lambda: http().infer("echo_fp16", i, outputs=[th.InferRequestedOutput("y", binary_data=False)]))


def test_outputs_by_name_and_order():
    a, b = np.array([[1, 2]], np.float32), np.array([[3, 4]], np.float32)
    for lib, c in (th, http()), (tg, grpc()):
        i = inputs(lib, b=("FP32", b), a=("FP32", a))  # not in the model's order
        r = c.infer("two", i)
        np.testing.assert_array_equal(r.as_numpy("sum"), a + b)
        np.testing.assert_array_equal(r.as_numpy("product"), a * b)
        r = c.infer("two", i, outputs=[lib.InferRequestedOutput("product")])
        assert r.as_numpy("sum") is None
        np.testing.assert_array_equal(r.as_numpy("product"), a * b)


def test_mixed_binary_and_json_outputs():
    a, b = np.array([[1, 2]], np.float32), np.array([[3, 4]], np.float32)
    r = http().infer("two", inputs(th, a=("FP32", a), b=("FP32", b)), outputs=[
        th.InferRequestedOutput("product", binary_data=True), th.InferRequestedOutput("sum", binary_data=False)])
    np.testing.assert_array_equal(r.as_numpy("product"), a * b)
    np.testing.assert_array_equal(r.as_numpy("sum"), a + b)


FIELDS = {
    "BOOL": "bool_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}


def test_typed_contents():
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel(GRPC))
    for datatype, field in FIELDS.items():
        array = ARRAYS[datatype]
        r = service_pb2.ModelInferRequest(model_name="echo_" + datatype.lower())
        i = r.inputs.add(name="x", datatype=datatype, shape=array.shape)
        getattr(i.contents, field).extend(array.flatten().tolist())
        answer = stub.ModelInfer(r)
        assert not answer.raw_output_contents
        y = np.array(getattr(answer.outputs[0].contents, field), array.dtype).reshape(answer.outputs[0].shape)
        np.testing.assert_array_equal(y, array, datatype)


def test_empty_batch():
    x = np.zeros((0, 4), np.float32)
    for lib, c in (th, http()), (tg, grpc()):
        assert c.infer("affine", inputs(lib, x=("FP32", x))).as_numpy("y").shape == (0, 3)


def test_wrong_requests():
    x64 = X.astype(np.float64)
    for lib, c, invalid, missing, unavailable, internal in (
        (th, http(), "400", "404", "503", "500"),
        (tg, grpc(), *("StatusCode." + s for s in ("INVALID_ARGUMENT", "NOT_FOUND", "UNAVAILABLE", "INTERNAL"))),
    ):
        right = inputs(lib, x=("FP32", X))
        fails(missing, '"nobody"', lambda: c.infer("nobody", right))
        fails(missing, "version 9", lambda: c.infer("affine", right, model_version="9"))
        fails(invalid, '"nine"', lambda: c.infer("affine", right, model_version="nine"))
        fails(unavailable, "weights.bin is cut", lambda: c.infer("affine", right, model_version="3"))
        fails(unavailable, "no model that can be loaded", lambda: c.infer("broken", right))
        fails(internal, "a layer has no memory", lambda: c.infer("failing", inputs(lib, x=("FP32", X[0]))))
        fails(invalid, '"x" is missing', lambda: c.infer("affine", inputs(lib, z=("FP32", X))))
        fails(invalid, '"z"', lambda: c.infer("affine", right + inputs(lib, z=("FP32", X))))
        fails(invalid, "FP64", lambda: c.infer("affine", inputs(lib, x=("FP64", x64))))
        fails(invalid, "[2 3]", lambda: c.infer("affine", inputs(lib, x=("FP32", X[:, :3]))))
        fails(invalid, "dimensions", lambda: c.infer("affine", inputs(lib, x=("FP32", X[0]))))
        fails(invalid, '"nope"', lambda: c.infer("affine", right, outputs=[lib.InferRequestedOutput("nope")]))
        o = lib.InferRequestedOutput("y", class_count=2)
        fails(invalid, "classification", lambda: c.infer("affine", right, outputs=[o]))
        i = lib.InferInput("x", X.shape, "FP32")
        i.set_shared_memory("region", 32)
        fails(invalid, "shared_memory_region", lambda: c.infer("affine", [i]))


def test_compression():
    for algorithm in "gzip", "deflate":
        r = http().infer("affine", inputs(th, x=("FP32", X)), request_compression_algorithm=algorithm, response_compression_algorithm=algorithm)
        np.testing.assert_allclose(r.as_numpy("y"), 2 * (X @ W) + B, rtol=1e-5)
    r = grpc().infer("affine", inputs(tg, x=("FP32", X)), compression_algorithm="gzip")
    np.testing.assert_allclose(r.as_numpy("y"), 2 * (X @ W) + B, rtol=1e-5)


def test_too_large():
    x = np.zeros((1, 1 << 18), np.float32)  # 1 MiB; the server was started with half of it
    fails("413", "too large", lambda: http().infer("echo_fp32", inputs(th, x=("FP32", x))))
    fails("413", "too large", lambda: http().infer("echo_fp32", inputs(th, x=("FP32", x)), request_compression_algorithm="gzip"))
    fails("StatusCode.RESOURCE_EXHAUSTED", "larger than max", lambda: grpc().infer("echo_fp32", inputs(tg, x=("FP32", x))))
    fails("StatusCode.RESOURCE_EXHAUSTED", "larger than", lambda: grpc().infer("echo_fp32", inputs(tg, x=("FP32", x)), compression_algorithm="gzip"))


def test_parameters_and_concurrency():
    c = th.InferenceServerClient(HTTP, concurrency=4)
    runs = [c.async_infer("affine", inputs(th, x=("FP32", X * n)), request_id=str(n), parameters={"mine": "1"}) for n in range(20)]
    for n, run in enumerate(runs):
        r = run.get_result()
        assert r.get_response()["id"] == str(n)
        np.testing.assert_allclose(r.as_numpy("y"), 2 * (X * n @ W) + B, rtol=1e-5)


def test_messages_are_the_protocols():
    assert same_messages(DESCRIPTORS, service_pb2.DESCRIPTOR.pool) > 50  # noqa: F821

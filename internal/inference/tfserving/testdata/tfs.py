"""tensorflow-serving-api against our server: tfs.py GRPC DESCRIPTORS"""
import sys

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2, get_model_metadata_pb2, get_model_status_pb2, model_service_pb2, model_service_pb2_grpc, predict_pb2,
    prediction_service_pb2, prediction_service_pb2_grpc,
)

CHANNEL = grpc.insecure_channel(sys.argv[1])
PREDICT = prediction_service_pb2_grpc.PredictionServiceStub(CHANNEL)
MODEL = model_service_pb2_grpc.ModelServiceStub(CHANNEL)
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
    "bf16": np.array([[-1.5, 0, 3e38]], tf.bfloat16.as_numpy_dtype),
    "fp32": np.array([[-1.5, 0.1, 3.4e38], [np.inf, -np.inf, np.nan]], np.float32),
    "fp64": np.array([[-1.5, 0.1, 1.7e308], [np.inf, -np.inf, np.nan]], np.float64),
    "bytes": np.array([[b"", "h\u00e9".encode(), b"\x00\xff"]], np.object_),
}


def predict(model, version=None, signature="serving_default", outputs=(), **inputs):
    r = predict_pb2.PredictRequest()
    r.model_spec.name = model
    r.model_spec.signature_name = signature
    if version is not None:
        r.model_spec.version.value = version
    r.output_filter.extend(outputs)
    for name, value in inputs.items():
        if not isinstance(value, tf.make_tensor_proto(0).__class__):
            value = tf.make_tensor_proto(value)
        r.inputs[name].CopyFrom(value)
    return PREDICT.Predict(r, 10.0)


def fails(code, says, call):
    try:
        call()
    except grpc.RpcError as e:
        assert e.code() == code, e
        assert says in e.details(), e
        return
    raise AssertionError("it does not fail")


def test_predict_and_versions():
    for version, factor in (1, 1), (2, 2), (None, 2):
        r = predict("affine", version, x=X)
        np.testing.assert_allclose(tf.make_ndarray(r.outputs["y"]), factor * (X @ W) + B, rtol=1e-5)
        # How the clients of TensorFlow Serving's examples read it.
        np.testing.assert_allclose(np.array(r.outputs["y"].float_val).reshape(2, 3), factor * (X @ W) + B, rtol=1e-5)
        assert r.model_spec.name == "affine" and r.model_spec.version.value == (version or 2), r
        assert r.model_spec.signature_name == "serving_default", r


def test_every_type():
    for name, array in ARRAYS.items():
        y = tf.make_ndarray(predict("echo_" + name, x=array).outputs["y"])
        assert y.dtype == array.dtype, (name, y)
        np.testing.assert_array_equal(y, array, name)


def test_every_type_by_value():
    """Elements in the field of their type, and one that stands for all."""
    for name, array in ARRAYS.items():
        one = tf.make_tensor_proto(array[0, 0], shape=(2, 3), dtype=None if name == "bytes" else array.dtype)
        assert not one.tensor_content
        y = tf.make_ndarray(predict("echo_" + name, x=one).outputs["y"])
        np.testing.assert_array_equal(y, np.full((2, 3), array[0, 0], array.dtype), name)


def test_output_filter():
    a, b = np.array([[1, 2]], np.float32), np.array([[3, 4]], np.float32)
    assert sorted(predict("two", a=a, b=b).outputs) == ["product", "sum"]
    assert sorted(predict("two", outputs=["sum"], a=a, b=b).outputs) == ["sum"]
    fails(grpc.StatusCode.INVALID_ARGUMENT, '"nope"', lambda: predict("two", outputs=["nope"], a=a, b=b))


def test_metadata():
    r = get_model_metadata_pb2.GetModelMetadataRequest()
    r.model_spec.name = "affine"
    fails(grpc.StatusCode.INVALID_ARGUMENT, "signature_def", lambda: PREDICT.GetModelMetadata(r))
    r.metadata_field.append("signature_def")
    m = PREDICT.GetModelMetadata(r)
    assert m.model_spec.version.value == 2, m
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert m.metadata["signature_def"].Unpack(signatures), m
    s = signatures.signature_def["serving_default"]
    assert s.method_name == tf.saved_model.PREDICT_METHOD_NAME, s
    assert s.inputs["x"].dtype == tf.float32.as_datatype_enum, s
    assert [d.size for d in s.inputs["x"].tensor_shape.dim] == [-1, 4], s
    assert [d.size for d in s.outputs["y"].tensor_shape.dim] == [-1, 3], s
    r.model_spec.version.value = 3
    fails(grpc.StatusCode.UNAVAILABLE, "weights.bin is cut", lambda: PREDICT.GetModelMetadata(r))
    r.model_spec.name = "nobody"
    fails(grpc.StatusCode.NOT_FOUND, '"nobody"', lambda: PREDICT.GetModelMetadata(r))


def test_status():
    r = get_model_status_pb2.GetModelStatusRequest()
    r.model_spec.name = "affine"
    states = {s.version: (s.state, s.status.error_code) for s in MODEL.GetModelStatus(r).model_version_status}
    S = get_model_status_pb2.ModelVersionStatus
    assert states == {1: (S.AVAILABLE, 0), 2: (S.AVAILABLE, 0), 3: (S.END, tf.errors.UNAVAILABLE)}, states
    r.model_spec.version.value = 9
    fails(grpc.StatusCode.NOT_FOUND, "version 9", lambda: MODEL.GetModelStatus(r))


def test_wrong_requests():
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    fails(grpc.StatusCode.NOT_FOUND, '"nobody"', lambda: predict("nobody", x=X))
    fails(grpc.StatusCode.NOT_FOUND, "version 9", lambda: predict("affine", 9, x=X))
    fails(grpc.StatusCode.UNAVAILABLE, "weights.bin is cut", lambda: predict("affine", 3, x=X))
    fails(grpc.StatusCode.UNAVAILABLE, "no model that can be loaded", lambda: predict("broken", x=X))
    fails(grpc.StatusCode.INTERNAL, "a layer has no memory", lambda: predict("failing", x=X[0]))
    fails(invalid, '"other"', lambda: predict("affine", signature="other", x=X))
    fails(invalid, "missing", lambda: predict("affine", z=X))
    fails(invalid, '"z"', lambda: predict("affine", x=X, z=X))
    fails(invalid, "FP64", lambda: predict("affine", x=X.astype(np.float64)))
    fails(invalid, "[2 3]", lambda: predict("affine", x=X[:, :3]))
    fails(invalid, "dimensions", lambda: predict("affine", x=X[0]))
    fails(invalid, "DT_COMPLEX64", lambda: predict("affine", x=X.astype(np.complex64)))
    r = predict_pb2.PredictRequest()
    r.model_spec.name = "affine"
    r.model_spec.version_label = "stable"
    fails(grpc.StatusCode.NOT_FOUND, '"stable"', lambda: PREDICT.Predict(r))
    c = classification_pb2.ClassificationRequest()
    c.model_spec.name = "affine"
    fails(grpc.StatusCode.UNIMPLEMENTED, "Classify", lambda: PREDICT.Classify(c))


def test_a_small_request_for_a_large_tensor():
    """2^40 elements, of which one is sent; and as many as fit in no answer of this server."""
    for shape in ((1 << 20, 1 << 20), (1, 1 << 22)):
        p = tf.make_tensor_proto(1.0)
        p.tensor_shape.CopyFrom(tf.TensorShape(shape).as_proto())
        fails(grpc.StatusCode.RESOURCE_EXHAUSTED, "too large", lambda: predict("echo_fp32", x=p))


def test_messages_are_the_protocols():
    assert prediction_service_pb2 and model_service_pb2  # they describe the services
    assert same_messages(sys.argv[2], predict_pb2.DESCRIPTOR.pool) > 50  # noqa: F821

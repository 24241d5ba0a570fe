"""Runs a model with OpenVINO's own Python interface: a request as JSON on stdin, the
outputs as JSON on stdout. Data is base64."""
import base64, json, sys

import numpy
import openvino

request = json.load(sys.stdin)
core = openvino.Core()
model = core.compile_model(request["model"], "CPU", request.get("properties", {}))
given = {}
for t in request["inputs"]:
    data = numpy.frombuffer(base64.b64decode(t["data"]), dtype=t["dtype"])
    given[t["name"]] = data.reshape(t["shape"])
answer = model(given)
outputs = []
for port in model.outputs:
    data = answer[port]
    outputs.append({"name": port.get_any_name(), "shape": list(data.shape), "data": base64.b64encode(data.tobytes()).decode()})
json.dump({"version": openvino.__version__, "outputs": outputs}, sys.stdout)

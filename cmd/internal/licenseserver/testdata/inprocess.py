"""Runs a model with OpenVINO's own interface for Python, and says how long answers take.

inprocess.py MODEL.xml ROWS COLUMNS CLIENTS SECONDS
"""

import json
import sys
import time

import numpy
import openvino


def main():
    path, rows, columns, clients, seconds = sys.argv[1], *map(int, sys.argv[2:5]), float(sys.argv[5])
    compiled = openvino.Core().compile_model(path, "CPU")
    x = numpy.ones((rows, columns), numpy.float32)
    took = []
    # Its own way for several requests at the same time. Threads that call infer() at the
    # same time have been seen to wait for one another for ever.
    queue = openvino.AsyncInferQueue(compiled, clients)
    queue.set_callback(lambda request, asked: took.append(time.perf_counter() - asked))
    queue.start_async({0: x}, time.perf_counter())
    queue.wait_all()
    took.clear()
    began = time.perf_counter()
    while time.perf_counter() < began + seconds:
        queue.get_idle_request_id()  # waits until there is one
        queue.start_async({0: x}, time.perf_counter())
    queue.wait_all()
    took.sort()
    json.dump({"best": took[0], "p50": took[len(took) // 2], "p99": took[len(took) * 99 // 100], "rate": len(took) / (time.perf_counter() - began)}, sys.stdout)


main()

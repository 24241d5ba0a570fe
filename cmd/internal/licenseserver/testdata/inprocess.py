"""Runs a model with OpenVINO's own interface for Python, and says how long answers take.

inprocess.py MODEL.xml ROWS COLUMNS CLIENTS SECONDS
"""

import json
import sys
import threading
import time

import numpy
import openvino


def main():
    path, rows, columns, clients, seconds = sys.argv[1], *map(int, sys.argv[2:5]), float(sys.argv[5])
    compiled = openvino.Core().compile_model(path, "CPU")
    took = []

    def ask():
        request = compiled.create_infer_request()
        x = numpy.ones((rows, columns), numpy.float32)
        request.infer({0: x})
        end = time.perf_counter() + seconds
        mine = []
        while (began := time.perf_counter()) < end:
            request.infer({0: x})
            mine.append(time.perf_counter() - began)
        took.extend(mine)

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    began = time.perf_counter()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    took.sort()
    json.dump({"p50": took[len(took) // 2], "p99": took[len(took) * 99 // 100], "rate": len(took) / (time.perf_counter() - began)}, sys.stdout)


main()

"""Runs each function test_* of a script, and says how it ended, one line for each."""
import json
import runpy
import sys
import traceback

sys.argv = sys.argv[1:]
script = runpy.run_path(sys.argv[0])
for name, function in script.items():
    if name.startswith("test_"):
        why = ""
        try:
            function()
        except BaseException:
            why = traceback.format_exc()
        print("CASE " + json.dumps({"name": name[len("test_"):], "why": why}), flush=True)

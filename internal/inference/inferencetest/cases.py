"""Runs each function test_* of a script, and says how it ended, one line for each."""
import json
import runpy
import sys
import traceback



def same_messages(path, pool):
    """What a file describes is what a client knows by these names, on the wire."""
    from google.protobuf import descriptor_pb2

    with open(path, "rb") as f:
        files = descriptor_pb2.FileDescriptorSet.FromString(f.read())
    compared = 0

    def message(prefix, ours):
        nonlocal compared
        name = prefix + "." + ours.name
        theirs = descriptor_pb2.DescriptorProto()
        pool.FindMessageTypeByName(name).CopyToProto(theirs)
        fields = {f.name: (f.number, f.type, f.label, f.type_name if f.type == f.TYPE_MESSAGE else "") for f in theirs.field}
        for f in ours.field:
            got = (f.number, f.type, f.label, f.type_name if f.type == f.TYPE_MESSAGE else "")
            assert fields[f.name] == got, (name, f.name, fields[f.name], got)
            compared += 1
        for nested in ours.nested_type:
            message(name, nested)

    for file in files.file:
        for m in file.message_type:
            message(file.package, m)
        for e in file.enum_type:
            theirs = pool.FindEnumTypeByName(file.package + "." + e.name).values_by_name
            for v in e.value:
                assert theirs[v.name].number == v.number, v
        for s in file.service:
            theirs = pool.FindServiceByName(file.package + "." + s.name).methods_by_name
            for m in s.method:
                t = theirs[m.name]
                assert (m.input_type, m.output_type) == ("." + t.input_type.full_name, "." + t.output_type.full_name), m
    return compared


sys.argv = sys.argv[1:]
script = runpy.run_path(sys.argv[0], {"same_messages": same_messages})
for name, function in script.items():
    if name.startswith("test_"):
        why = ""
        try:
            function()
        except BaseException:
            why = traceback.format_exc()
        print("CASE " + json.dumps({"name": name[len("test_"):], "why": why}), flush=True)

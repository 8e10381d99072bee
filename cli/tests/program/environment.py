"""What systemd itself reads in environment files: for each file that is named, a line of JSON, null where it refuses the file."""

import ctypes
import glob
import json
import sys

folders = ["/usr/lib/systemd", "/usr/lib64/systemd", "/usr/lib/*/systemd"]
path = [path for folder in folders for path in glob.glob(folder + "/libsystemd-shared-*.so")]
if not path:
    sys.exit("libsystemd-shared is missing: run tools/setup test first")
systemd = ctypes.CDLL(path[-1])
strings = ctypes.POINTER(ctypes.c_char_p)
systemd.load_env_file.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.POINTER(strings)]
systemd.env_assignment_is_valid.argtypes = [ctypes.c_char_p]
systemd.env_assignment_is_valid.restype = ctypes.c_bool

for name in sys.argv[1:]:
    found = strings()
    if systemd.load_env_file(None, name.encode(), ctypes.byref(found)) < 0:
        print("null")
        continue
    variables = {}
    at = 0
    while found and found[at] is not None:
        if systemd.env_assignment_is_valid(found[at]):
            variable, _, value = found[at].decode().partition("=")
            variables[variable] = value
        at += 1
    print(json.dumps(variables))

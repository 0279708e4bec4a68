"""A plugin of Intercede in Python: programs see the host name that the config says."""

import os

import intercede

MANIFEST = {
    "name": "hostname_python",
    "version": "1.0.0",
    "description": "gives programs the host name that the config says",
    "syscalls": [
        {"name": "uname", "if_settings": ["name"], "arguments": [{"name": "buf"}], "repeat": "REPEAT_SAFE"},
        {
            "name": "sethostname",
            "if_settings": ["name"],
            "arguments": [{"name": "name"}, {"name": "len", "format": "FORMAT_UINT"}],
            "repeat": "REPEAT_SAFE",
        },
    ],
    "settings": [
        {
            "key": "name",
            "type": "TYPE_STRING",
            "default_json": '""',
            "help": "the host name that programs see; empty: their own",
            "pattern": "[A-Za-z0-9.-]{0,64}",
            "example": "web1.test",
        }
    ],
    # gRPC's library tries a TCP socket when it starts. The process has a network of its own, without interfaces.
    "uses": {"syscalls": ["socket"]},
    "on_failure": {"continue": True},  # uname(2) needs no privilege, and the kernel checks who sets the name
}

EPERM = 1


def handle(call, settings):
    if call.syscall == "sethostname":
        return intercede.errno(EPERM)  # the name is the operator's
    host = os.uname()
    fields = [host.sysname, settings["name"], host.release, host.version, host.machine, "(none)"]
    utsname = b"".join(field.encode()[:64].ljust(65, b"\0") for field in fields)  # uname(2)
    return intercede.value(0, writes=[(call.pointer(0), utsname)])


if __name__ == "__main__":
    intercede.serve(MANIFEST, handle)

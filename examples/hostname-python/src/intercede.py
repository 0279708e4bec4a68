"""The protocol between Intercede and a plugin, for plugins that answer from the notification alone.

docs/plugins/other-languages.md describes it. Nothing in this file is about one plugin.
"""

import json
import os
import sys
import threading
from concurrent import futures

import grpc

import plugin_pb2 as pb
from google.protobuf import json_format

COOKIE = ("INTERCEDE_PLUGIN", "a4f0c1d2-seccomp-user-notification")
PROTOCOL = 1
THREADS = 32  # calls at once; further ones wait
MAX_MESSAGE = 8 << 20  # bytes


class Call:
    """One system call of a container, which waits for its answer."""

    def __init__(self, notification):
        self.syscall = notification.syscall
        self.args = list(notification.args)  # six registers as they are
        self.reads = notification.reads  # one for each declared read
        self.is_32_bit = not notification.arch & 0x80000000  # __AUDIT_ARCH_64BIT

    def pointer(self, i):
        return self.args[i] & 0xFFFFFFFF if self.is_32_bit else self.args[i]


def value(result, writes=()):
    """The call returns this, after (address, bytes) were written to the caller's memory."""
    return pb.Response(value=result, writes=[pb.Write(address=a, data=d) for a, d in writes])


def errno(number):
    """The call fails with this, 1 to 4095."""
    return pb.Response(errno=number)


def next_plugin():
    """The call is not this plugin's: the next one is asked, and after the last the kernel performs it."""
    return pb.Response(next=True)


def because(response, code, text=""):
    """Says why, for the operator: one of the manifest's reasons, and what that leaves open."""
    response.reason.code, response.reason.text = code, text
    return response


def serve(manifest, handle):
    """Is a plugin's main function. handle(call, settings) makes a Response; an exception is a failure."""
    manifest = json_format.ParseDict(manifest, pb.Manifest())
    if sys.argv[1:] == ["manifest"]:
        print(json_format.MessageToJson(manifest, preserving_proto_field_name=True))
        return
    if os.environ.get(COOKIE[0]) != COOKIE[1]:
        sys.exit("this is a plugin of intercede: enable it in config.toml")
    follow_lifeline()
    server = grpc.server(
        futures.ThreadPoolExecutor(THREADS),
        options=[("grpc.max_receive_message_length", MAX_MESSAGE), ("grpc.max_send_message_length", MAX_MESSAGE)],
    )
    ended = threading.Event()
    server.add_generic_rpc_handlers(services(manifest, handle, ended))
    path = os.path.join(os.environ["PLUGIN_UNIX_SOCKET_DIR"], "plugin")
    server.add_insecure_port("unix://" + path)
    server.start()
    print(f"1|{PROTOCOL}|unix|{path}|grpc|", flush=True)  # the handshake: the broker connects now
    ended.wait()
    server.stop(grace=1).wait()


def follow_lifeline():
    """Ends the process when the broker is gone: its end of this socket is closed then."""
    lifeline = int(os.environ["INTERCEDE_LIFELINE_FD"])
    os.set_inheritable(lifeline, False)

    def watch():
        while os.read(lifeline, 1):
            pass
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def services(manifest, handle, ended):
    """The gRPC services of a plugin: its own, the health check, and the controller that ends it."""
    sessions = {}

    def attach(request, context):
        sessions[request.session] = json.loads(request.settings_json)
        return pb.AttachResponse()

    def detach(request, context):
        sessions.pop(request.session, None)
        return pb.DetachResponse()

    def answer(messages, context):
        notification = next(messages).notification
        yield pb.PluginMessage(response=handle(Call(notification), sessions[notification.session]))

    def shutdown(request, context):
        ended.set()
        return b""  # plugin.Empty

    return (
        grpc.method_handlers_generic_handler(
            "intercede.plugin.v1.Plugin",
            {
                "Manifest": unary(pb.ManifestRequest, lambda request, context: manifest),
                "Attach": unary(pb.AttachRequest, attach),
                "Detach": unary(pb.DetachRequest, detach),
                "Handle": grpc.stream_stream_rpc_method_handler(
                    answer, pb.BrokerMessage.FromString, pb.PluginMessage.SerializeToString
                ),
            },
        ),
        # HealthCheckResponse{status: SERVING}, of grpc/health/v1/health.proto
        grpc.method_handlers_generic_handler(
            "grpc.health.v1.Health", {"Check": grpc.unary_unary_rpc_method_handler(lambda request, context: b"\x08\x01")}
        ),
        grpc.method_handlers_generic_handler(
            "plugin.GRPCController", {"Shutdown": grpc.unary_unary_rpc_method_handler(shutdown)}
        ),
    )


def unary(request, method):
    return grpc.unary_unary_rpc_method_handler(method, request.FromString, lambda reply: reply.SerializeToString())

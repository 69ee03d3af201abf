"""A client of Tollgate that knows nothing beforehand: it learns the contract by reflection.

There is no generated code. The server describes its own services; messages are made from those
descriptors, so that this client speaks whatever contract the server has.

    tollgate = Client("127.0.0.1:50051", token)
    answer = tollgate.CreditService.GetBalance(account="acme")
    print(answer.balance.available.amount)

A request is written as in JSON: enum values by name, times as "2026-01-31T12:00:00Z", ids and
amounts as strings. An answer is the message itself. A refusal is raised as `Refused`.
"""

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

# Longer than anything here takes on a busy machine; a call without a deadline can wait for ever.
DEADLINE_SECONDS = 30


class Refused(Exception):
    """A gRPC status other than OK, with the `google.rpc` details that a program can read."""

    def __init__(self, error, pool):
        super().__init__(f"{error.code().name}: {error.details()}")
        self.code = error.code().name
        self.message = error.details()
        self.reason = None
        self.field = None
        self.retry_after_seconds = None
        for key, value in error.trailing_metadata() or ():
            if key == "grpc-status-details-bin":
                status = _class_of(pool.FindMessageTypeByName("google.rpc.Status"))
                for detail in status.FromString(value).details:
                    self._read(detail, pool)

    def _read(self, detail, pool):
        name = detail.type_url.rpartition("/")[2]
        message = _class_of(pool.FindMessageTypeByName(name)).FromString(detail.value)
        if name == "google.rpc.ErrorInfo":
            self.reason = message.reason
        elif name == "google.rpc.BadRequest":
            self.field = message.field_violations[0].field
        elif name == "google.rpc.RetryInfo":
            delay = message.retry_delay
            self.retry_after_seconds = delay.seconds + delay.nanos / 1e9


class Client:
    """All services of one server, called with one token."""

    def __init__(self, address, token=None, package="tollgate.v1"):
        self._channel = grpc.insecure_channel(address)
        self._database = ProtoReflectionDescriptorDatabase(self._channel)
        self._pool = descriptor_pool.DescriptorPool(self._database)
        self._package = package
        self._metadata = [("authorization", f"Bearer {token}")] if token else []

    def services(self):
        """The full names of the services that the server describes."""
        return sorted(self._database.get_services())

    def __getattr__(self, name):
        """A service by its name in the contract, such as `client.UsageService`."""
        if name.startswith("_"):
            raise AttributeError(name)
        service = self._pool.FindServiceByName(f"{self._package}.{name}")
        return Service(self._channel, self._metadata, service, self._pool)

    def close(self):
        self._channel.close()


class Service:
    """One service; its RPCs are methods that take the request's fields."""

    def __init__(self, channel, metadata, descriptor, pool):
        self._channel = channel
        self._metadata = metadata
        self._descriptor = descriptor
        self._pool = pool

    def __getattr__(self, name):
        method = self._descriptor.methods_by_name.get(name)
        if method is None:
            raise AttributeError(f"{self._descriptor.full_name} has no RPC {name}")
        if method.client_streaming:
            return lambda requests: self._stream(method, requests)
        return lambda **fields: self._unary(method, fields)

    def _unary(self, method, fields):
        call = self._channel.unary_unary(
            self._path(method),
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=_class_of(method.output_type).FromString,
        )
        request = _message(method.input_type, fields)
        try:
            return call(request, metadata=self._metadata, timeout=DEADLINE_SECONDS)
        except grpc.RpcError as error:
            raise Refused(error, self._pool) from error

    def _stream(self, method, requests):
        """Both directions at once: requests as dictionaries in, answers out as they come."""
        call = self._channel.stream_stream(
            self._path(method),
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=_class_of(method.output_type).FromString,
        )
        messages = (_message(method.input_type, fields) for fields in requests)
        try:
            yield from call(messages, metadata=self._metadata, timeout=DEADLINE_SECONDS)
        except grpc.RpcError as error:
            raise Refused(error, self._pool) from error

    def _path(self, method):
        return f"/{self._descriptor.full_name}/{method.name}"


def enum_name(message, field):
    """The name of an enum field's value, such as "DENIAL_REASON_UNKNOWN_KEY"."""
    enum = message.DESCRIPTOR.fields_by_name[field].enum_type
    return enum.values_by_number[getattr(message, field)].name


def _class_of(descriptor):
    return message_factory.GetMessageClass(descriptor)


def _message(descriptor, fields):
    return json_format.ParseDict(fields, _class_of(descriptor)())

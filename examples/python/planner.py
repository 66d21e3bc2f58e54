"""Acquires quota from Tollgate before a calculation, and settles the points that the calculation used.

Usage: PYTHONPATH=generated PASSWORD=... python3 planner.py HOST:PORT LOGIN USERNAME
LOGIN is the planner's own user, with the role BOT. USERNAME is the user whose quota is used.
"""

import os
import sys
import uuid
from typing import TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from tollgate.v1 import lease_pb2, token_pb2, tracedata_pb2

Response = TypeVar("Response", bound=Message)


def call(channel: grpc.Channel, method: str, request: Message, response: type[Response], token: str = "") -> Response:
    """Calls a unary RPC. The generated messages are enough: it needs no gRPC plugin of protoc."""
    rpc = channel.unary_unary(
        f"/tollgate.v1.{method}",
        request_serializer=type(request).SerializeToString,
        response_deserializer=response.FromString,
    )
    metadata = [("authorization", f"Bearer {token}")] if token else []
    return rpc(request, timeout=10, metadata=metadata)


def login(channel: grpc.Channel, username: str, password: str) -> str:
    request = token_pb2.CreateTokenRequest(username=username, password=password)
    return call(channel, "AuthService/CreateToken", request, token_pb2.CreateTokenResponse).token


def acquire(channel: grpc.Channel, token: str, username: str, points: int) -> lease_pb2.Lease:
    """Acquires a lease. It expires after 60 seconds: a longer calculation renews it with QuotaService/RenewLease."""
    request = lease_pb2.AcquireQuotaRequest(
        username=username,
        service=tracedata_pb2.Service.UNIVERSAL,
        method_group=tracedata_pb2.Method.PLAN,
        points=points,
        # A call that is repeated after a failure must have the same id: the points are then charged once.
        operation_id=str(uuid.uuid4()),
    )
    return call(channel, "QuotaService/AcquireQuota", request, lease_pb2.AcquireQuotaResponse, token).lease


def settle(channel: grpc.Channel, token: str, lease: lease_pb2.Lease, points: int) -> lease_pb2.Lease:
    request = lease_pb2.SettleLeaseRequest(
        lease_id=lease.lease_id, points=points, outcome=lease_pb2.Outcome.SUCCESS, operation="run_plan_calculation"
    )
    return call(channel, "QuotaService/SettleLease", request, lease_pb2.SettleLeaseResponse, token).lease


def explain(error: grpc.RpcError) -> None:
    """Prints an error with its details. They are a google.rpc.Status in the trailing metadata."""
    print(f"{error.code().name}: {error.details()}")
    trailers = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b""))
    info, failure, retry = error_details_pb2.ErrorInfo(), error_details_pb2.QuotaFailure(), error_details_pb2.RetryInfo()
    for detail in status.details:
        # Unpack reads a detail only if it has the type of the message.
        if detail.Unpack(info):
            print(f"  reason: {info.reason} of {info.domain}, {dict(sorted(info.metadata.items()))}")
        elif detail.Unpack(failure):
            for violation in failure.violations:
                print(f"  violated: {violation.subject}, {violation.description}")
        elif detail.Unpack(retry):
            print(f"  retry after: {retry.retry_delay.ToSeconds()} seconds")


def main(target: str, planner: str, username: str) -> None:
    # With TLS: grpc.secure_channel(target, grpc.ssl_channel_credentials()).
    with grpc.insecure_channel(target) as channel:
        token = login(channel, planner, os.environ["PASSWORD"])
        lease = acquire(channel, token, username, points=300)
        print(f"granted: {lease.points} points, lease {lease.lease_id}")
        try:
            acquire(channel, token, username, points=1500)
        except grpc.RpcError as error:
            explain(error)
        settled = settle(channel, token, lease, points=250)
        print(f"settled: {settled.settled_points} points, {lease_pb2.Lease.State.Name(settled.state)}")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except grpc.RpcError as error:
        explain(error)
        sys.exit(1)

"""Publishes one event over gRPC, from the .proto file."""

import json
import os
import pathlib
import sys
import uuid

import grpc

sys.path.append(str(pathlib.Path(__file__).parents[2] / "proto"))
messages, services = grpc.protos_and_services("tidings/fanout/v1/fanout.proto")

key = os.environ.get("TIDINGS_API_KEY")
with grpc.insecure_channel(os.environ.get("TIDINGS_SERVER", "127.0.0.1:9000")) as channel:
    event = messages.Event(
        id=str(uuid.uuid4()),
        type="task.created",
        source="python-example",
        channels=["tasks:1"],
        data=json.dumps({"title": "Hello from Python"}).encode(),
    )
    published = services.FanoutStub(channel).Publish(
        messages.PublishRequest(event=event),
        metadata=[("authorization", f"Bearer {key}")] if key else None,
        timeout=10,
    )
print(f"published {published.event_id} to {', '.join(result.channel for result in published.results)}")

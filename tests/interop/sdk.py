"""The centrifuge SDK in Python, driven by lines of JSON: commands on standard input, events on standard output.

Usage: python sdk.py [protobuf]. Commands and events are those of driver.mjs.
"""

import asyncio
import json
import sys

from centrifuge import CentrifugeError, Client, DeltaType, FilterNode, ReplyError, StreamPosition

BINARY = sys.argv[1:] == ["protobuf"]


def say(event, **fields):
    present = {name: value for name, value in fields.items() if value is not None}
    print(json.dumps({"event": event, **present}), flush=True)


def to_wire(data):
    return json.dumps(data).encode() if BINARY else data


def from_wire(data):
    return json.loads(data) if BINARY and data else data


def person(info):
    return info and {
        "client": info.client,
        "user": info.user,
        "connInfo": from_wire(info.conn_info),
        "chanInfo": from_wire(info.chan_info),
    }


def heard(pub):
    return {"data": from_wire(pub.data), "info": person(pub.info), "offset": pub.offset, "tags": pub.tags}


def position(at):
    return at and {"offset": at.offset, "epoch": at.epoch}


class Events:
    """What the SDK calls: for a subscription of its own, or (channel None) for the client, and what that hears unasked."""

    def __init__(self, channel=None):
        self.channel = channel
        self.differences = 0

    def of(self, ctx):
        return {"channel": self.channel or ctx.channel, "server": self.channel is None}

    async def on_connecting(self, ctx):
        say("connecting", code=ctx.code, reason=ctx.reason)

    async def on_connected(self, ctx):
        say("connected", client=ctx.client, data=from_wire(ctx.data), transport="websocket")

    async def on_disconnected(self, ctx):
        say("disconnected", code=ctx.code, reason=ctx.reason)

    async def on_error(self, ctx):
        # The SDK's own code says at what, the server's why.
        code = ctx.error.code if isinstance(ctx.error, ReplyError) else ctx.code
        say("error", channel=self.channel, code=code, message=str(ctx.error))

    async def on_subscribing(self, ctx):
        if self.channel:
            say("subscribing", channel=self.channel, code=ctx.code, reason=ctx.reason)

    async def on_subscribed(self, ctx):
        say(
            "subscribed",
            **self.of(ctx),
            recovered=ctx.recovered,
            wasRecovering=ctx.was_recovering,
            recoverable=ctx.recoverable,
            positioned=ctx.positioned,
            streamPosition=position(ctx.stream_position),
            data=from_wire(ctx.data),
        )

    async def on_unsubscribed(self, ctx):
        say("unsubscribed", **self.of(ctx), code=getattr(ctx, "code", None), reason=getattr(ctx, "reason", None))

    async def on_publication(self, ctx):
        self.differences += ctx.pub.delta
        say("publication", **self.of(ctx), **heard(ctx.pub))

    async def on_join(self, ctx):
        say("join", **self.of(ctx), info=person(ctx.info))

    async def on_leave(self, ctx):
        say("leave", **self.of(ctx), info=person(ctx.info))


class Driver:
    """One client and its subscriptions; a method for each command."""

    def __init__(self):
        self.subscriptions = {}
        self.waiting = {}  # for tokens: the client under "", each subscription under its channel

    async def token_for(self, channel=""):
        self.waiting[channel] = asyncio.get_running_loop().create_future()
        say("token_wanted", channel=channel)
        return await self.waiting[channel]

    async def connect(self, server, token="", ask=False, data=None, name="python", headers=None, **_):
        self.client = Client(
            f"ws://{server}/connection/websocket",
            events=Events(),
            token=token or "",
            get_token=self.token_for if ask else None,
            use_protobuf=BINARY,
            name=name,
            headers=headers,
            data=to_wire(data) if data else None,
            min_reconnect_delay=0.05,
            max_reconnect_delay=0.5,
            proxy=None,
        )
        await self.client.connect()

    async def subscribe(
        self, channel, token="", ask=False, data=None, positioned=False, recoverable=False, joinLeave=False, delta=None, tagsFilter=None
    ):
        events = Events(channel)
        subscription = self.client.new_subscription(
            channel,
            events=events,
            token=token,
            get_token=self.token_for if ask else None,
            data=to_wire(data) if data else None,
            min_resubscribe_delay=0.05,
            max_resubscribe_delay=0.5,
            positioned=positioned,
            recoverable=recoverable,
            join_leave=joinLeave,
            delta=DeltaType.FOSSIL if delta else None,
            tags_filter=FilterNode(tagsFilter) if tagsFilter else None,
        )
        self.subscriptions[channel] = subscription, events
        await subscription.subscribe()

    async def resubscribe(self, channel):
        await self.subscriptions[channel][0].subscribe()

    async def unsubscribe(self, channel):
        await self.subscriptions[channel][0].unsubscribe()

    async def token(self, token, channel=""):
        self.waiting[channel].set_result(token)

    async def disconnect(self):
        await self.client.disconnect()

    async def publish(self, channel, data):
        await self.client.publish(channel, to_wire(data))
        return {}

    async def rpc(self, method, data):
        return {"data": from_wire((await self.client.rpc(method, to_wire(data))).data)}

    async def presence(self, channel):
        clients = (await self.client.presence(channel)).clients
        return {"clients": [person(info) for info in clients.values()]}

    async def presence_stats(self, channel):
        stats = await self.client.presence_stats(channel)
        return {"numClients": stats.num_clients, "numUsers": stats.num_users}

    async def history(self, channel, limit=0, since=None, reverse=False):
        since = StreamPosition(**since) if since else None
        result = await self.client.history(channel, limit, since, reverse)
        return {"publications": [heard(pub) for pub in result.publications], "offset": result.offset, "epoch": result.epoch}

    async def differences(self, channel):
        return self.subscriptions[channel][1].differences


async def obey(driver, command):
    try:
        result = await getattr(driver, command.pop("do"))(**command)
        if result is not None:
            say("answer", result=result)
    except ReplyError as error:
        say("answer", code=error.code, message=str(error))
    except CentrifugeError as error:
        say("answer", code=0, message=repr(error))


async def main():
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    driver = Driver()
    tasks = set()
    while line := await lines.readline():
        # A command that waits for the server keeps no other from being given.
        task = loop.create_task(obey(driver, json.loads(line)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


asyncio.run(main())

"""The server API as cent, the ecosystem's Python client, speaks it: nothing of the client is changed.

Usage: python cent_api.py URL KEY CHANNEL USER. USER is in CHANNEL, which has history and presence. Prints what the calls
gave as one line of JSON.
"""

import asyncio
import json
import sys
import time

import requests
from cent import (
    AsyncClient,
    BatchRequest,
    BroadcastRequest,
    CentApiResponseError,
    CentUnauthorizedError,
    ChannelsRequest,
    Client,
    DisconnectRequest,
    HistoryRemoveRequest,
    HistoryRequest,
    InfoRequest,
    PresenceRequest,
    PresenceStatsRequest,
    PublishRequest,
    RefreshRequest,
    StreamPosition,
    SubscribeRequest,
    UnsubscribeRequest,
)


def code_of(call):
    try:
        call()
    except CentApiResponseError as error:
        return error.code
    return None


def refused(url, channel):
    try:
        Client(url, "another key").publish(PublishRequest(channel=channel, data=1))
    except CentUnauthorizedError:
        return True
    return False


async def asynchronous(url, key, channel):
    client = AsyncClient(url, key)
    result = await client.publish(PublishRequest(channel=channel, data={"n": 4}))
    await client.close()
    return result.offset


def main(url, key, channel, user):
    client = Client(url, key)
    publish = PublishRequest(channel=channel, data={"n": 1}, tags={"lang": "en"}, idempotency_key="once")
    first = client.publish(publish)
    again = client.publish(publish)
    broadcast = client.broadcast(BroadcastRequest(channels=[channel, "nobody:1"], data={"n": 2}))
    batch = client.batch(
        BatchRequest(requests=[PublishRequest(channel=channel, data={"n": 3}), PresenceStatsRequest(channel=channel)])
    )
    fourth = asyncio.run(asynchronous(url, key, channel))
    presence = client.presence(PresenceRequest(channel=channel)).presence
    stats = client.presence_stats(PresenceStatsRequest(channel=channel))
    history = client.history(HistoryRequest(channel=channel, limit=-1))
    since = StreamPosition(offset=1, epoch=history.epoch)
    rest = client.history(HistoryRequest(channel=channel, limit=1, since=since))
    lost = HistoryRequest(channel=channel, limit=1, since=StreamPosition(offset=1, epoch="lost"))
    said = {
        "offsets": [first.offset, again.offset, broadcast.responses[0].result.offset, batch.replies[0].offset, fourth],
        "broadcast_error": broadcast.responses[1].error.code,
        "batch_clients": batch.replies[1].num_clients,
        "presence": [info.user for info in presence.values()],
        "stats": [stats.num_clients, stats.num_users],
        "history": [publication.data["n"] for publication in history.publications],
        "tags": history.publications[0].tags,
        "rest": [publication.offset for publication in rest.publications],
        "errors": [
            code_of(lambda: client.history(lost)),
            code_of(lambda: client.publish(PublishRequest(channel="nobody:1", data=1))),
        ],
        "nodes": [
            [node.num_clients, node.num_users, node.num_channels, node.num_subs]
            for node in client.info(InfoRequest()).nodes
        ],
        "channels": {
            name: of.num_clients for name, of in client.channels(ChannelsRequest(pattern="ch*")).channels.items()
        },
        "refused": refused(url, channel),
        "by_query": requests.post(f"{url}/info?api_key={key}", json={}, timeout=10).status_code,
    }
    client.subscribe(SubscribeRequest(user=user, channel="chat:asked", data={"welcome": 1}))
    # It is answered when gateways have begun with it.
    deadline = time.monotonic() + 20
    while client.presence_stats(PresenceStatsRequest(channel="chat:asked")).num_clients == 0:
        assert time.monotonic() < deadline, "the user is not in the channel"
        time.sleep(0.05)
    client.publish(PublishRequest(channel="chat:asked", data={"n": 5}))
    client.unsubscribe(UnsubscribeRequest(user=user, channel="chat:asked"))
    client.refresh(RefreshRequest(user=user, expire_at=4102444800))
    client.history_remove(HistoryRemoveRequest(channel=channel))
    said["removed"] = len(client.history(HistoryRequest(channel=channel, limit=-1)).publications)
    client.disconnect(DisconnectRequest(user=user))
    print(json.dumps(said))


main(*sys.argv[1:])

"""The example of the SDK's README, but for the URL and the tokens, which are an application's own.

Usage: python readme.py URL TOKEN SUBSCRIPTION_TOKEN. Prints what the calls gave as one line of JSON.
"""

import asyncio
import json
import sys

from centrifuge import Client, ClientEventHandler, SubscriptionEventHandler


async def main(url, token, subscription_token):
    heard = asyncio.get_running_loop().create_future()

    class Listener(SubscriptionEventHandler):
        async def on_publication(self, ctx):
            heard.set_result(ctx.pub.data)

    async def get_token():
        return token

    async def get_subscription_token(_channel):
        return subscription_token

    client = Client(url, events=ClientEventHandler(), get_token=get_token, use_protobuf=False)
    sub = client.new_subscription("example:channel", events=Listener(), get_token=get_subscription_token)
    await client.connect()
    await sub.subscribe()
    await sub.publish(data={"input": "test"})
    said = {
        "heard": await heard,
        "presence": len((await sub.presence()).clients),
        "stats": (await sub.presence_stats()).num_users,
        "history": [pub.data for pub in (await sub.history(limit=1, reverse=True)).publications],
    }
    await client.disconnect()
    print(json.dumps(said))


asyncio.run(main(*sys.argv[1:]))

// What the centrifuge SDK is told to do and what it says of it: the same in Node and in a page.
//
// `Client` is the SDK's class and `settings` what it needs where it runs. Tests give commands and read events, so that
// all judgement is in one place, the test.

const path = { websocket: "/connection/websocket", http_stream: "/connection/http_stream", sse: "/connection/sse" };

export function drive({ Client, settings, say }) {
  let client;
  let binary; // in Protobuf data is bytes
  const subscriptions = new Map();
  const waiting = new Map(); // for tokens: the client under "", each subscription under its channel

  const toWire = (data) => (binary ? new TextEncoder().encode(JSON.stringify(data)) : data);
  const parse = (bytes) => (bytes?.length ? JSON.parse(new TextDecoder().decode(bytes)) : undefined);
  const fromWire = (data) => (binary ? parse(data) : data);
  const person = (info) => info && { ...info, connInfo: fromWire(info.connInfo), chanInfo: fromWire(info.chanInfo) };
  const heard = ({ data, info, offset, tags }) => ({ data: fromWire(data), info: person(info), offset, tags });

  const asksFor = (channel) => () => new Promise((resolve) => {
    waiting.set(channel, resolve);
    say("token_wanted", { channel });
  });

  // What clients tell of channels that they hear unasked, and subscriptions of their own.
  function follow(emitter, server) {
    emitter.on("subscribed", ({ channel, recovered, wasRecovering, recoverable, positioned, streamPosition, data }) =>
      say("subscribed", { channel, server, recovered, wasRecovering, recoverable, positioned, streamPosition, data: fromWire(data) }));
    emitter.on("unsubscribed", ({ channel, code, reason }) => say("unsubscribed", { channel, server, code, reason }));
    emitter.on("publication", ({ channel, ...rest }) => say("publication", { channel, server, ...heard(rest) }));
    emitter.on("join", ({ channel, info }) => say("join", { channel, info: person(info) }));
    emitter.on("leave", ({ channel, info }) => say("leave", { channel, info: person(info) }));
  }

  function connect({ server, transport, protobuf, ask, data, ...options }) {
    binary = protobuf;
    const scheme = transport === "websocket" ? "ws" : "http";
    client = new Client([{ transport, endpoint: `${scheme}://${server}${path[transport]}` }], {
      emulationEndpoint: `http://${server}/emulation`,
      minReconnectDelay: 50,
      maxReconnectDelay: 500,
      ...settings,
      ...options,
      ...(data && { data: toWire(data) }),
      ...(ask && { getToken: asksFor("") }),
    });
    client.on("connecting", ({ code, reason }) => say("connecting", { code, reason }));
    client.on("connected", ({ client, data, transport }) => say("connected", { client, data: fromWire(data), transport }));
    client.on("disconnected", ({ code, reason }) => say("disconnected", { code, reason }));
    client.on("error", ({ type, error }) => say("error", { type, code: error.code, message: error.message }));
    client.on("message", ({ data }) => say("message", { data: fromWire(data) }));
    follow(client, true);
    client.connect();
  }

  // `kind` is one of the SDK's other sorts of subscription: "Map", "SharedPoll".
  function subscribe({ channel, kind = "", ask, data, ...options }) {
    const subscription = client[`new${kind}Subscription`](channel, {
      minResubscribeDelay: 50,
      maxResubscribeDelay: 500,
      ...options,
      ...(data && { data: toWire(data) }),
      ...(ask && { getToken: asksFor(channel) }),
    });
    subscription.on("subscribing", ({ code, reason }) => say("subscribing", { channel, code, reason }));
    subscription.on("error", ({ error }) => say("error", { channel, code: error.code, message: error.message }));
    follow(subscription, false);
    subscriptions.set(channel, subscription);
    subscription.subscribe();
  }

  const answer = (promise, shape) =>
    promise.then((result) => say("answer", { result: shape(result) }), ({ code, message }) => say("answer", { code, message }));

  return {
    connect,
    subscribe,
    resubscribe: ({ channel }) => subscriptions.get(channel).subscribe(),
    unsubscribe: ({ channel }) => subscriptions.get(channel).unsubscribe(),
    token: ({ channel = "", token }) => waiting.get(channel)(token),
    disconnect: () => client.disconnect(),
    publish: ({ channel, data }) => answer(client.publish(channel, toWire(data)), () => ({})),
    rpc: ({ method, data }) => answer(client.rpc(method, toWire(data)), ({ data }) => ({ data: fromWire(data) })),
    send: ({ data }) => client.send(toWire(data)).catch(({ code, message }) => say("error", { code, message })),
    presence: ({ channel }) => answer(client.presence(channel), ({ clients }) => ({ clients: Object.values(clients).map(person) })),
    presence_stats: ({ channel }) => answer(client.presenceStats(channel), (stats) => stats),
    history: ({ channel, ...options }) => answer(client.history(channel, options), ({ publications, offset, epoch }) =>
      ({ publications: publications.map(heard), offset, epoch })),
    // How many publications came as differences.
    differences: ({ channel }) => say("answer", { result: subscriptions.get(channel).deltaStats().numDeltaPayloads }),
  };
}

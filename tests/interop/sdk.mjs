// The centrifuge SDK, driven by lines of JSON: commands on standard input, events on standard output.
import { createInterface } from "node:readline";
import { Centrifuge } from "centrifuge";
import { Centrifuge as ProtobufCentrifuge } from "centrifuge/build/protobuf";
import WebSocket from "ws";

const say = (event, fields = {}) => console.log(JSON.stringify({ event, ...fields }));

// The SDK does not tell of pings: the socket does. They are an empty reply, in JSON or in Protobuf.
class Listening extends WebSocket {
  constructor(...args) {
    super(...args);
    this.on("message", (data) => ["{}", "\0"].includes(Buffer.from(data).toString()) && say("ping"));
  }
}

let client;
let binary; // in Protobuf data is bytes
let give; // takes the token that the SDK waits for
const subscriptions = new Map();

const askForToken = () => new Promise((resolve) => {
  give = resolve;
  say("token_wanted");
});

const toWire = (data) => (binary ? new TextEncoder().encode(JSON.stringify(data)) : data);
const fromWire = (data) => (binary ? JSON.parse(new TextDecoder().decode(data)) : data);

function connect({ url, token, protobuf }) {
  binary = protobuf;
  client = new (protobuf ? ProtobufCentrifuge : Centrifuge)(url, {
    websocket: Listening,
    minReconnectDelay: 50,
    maxReconnectDelay: 500,
    ...(token && { token, getToken: askForToken }),
  });
  client.on("connecting", ({ code, reason }) => say("connecting", { code, reason }));
  client.on("connected", ({ client }) => say("connected", { client }));
  client.on("disconnected", ({ code, reason }) => say("disconnected", { code, reason }));
  client.on("error", ({ type, error }) => say("error", { type, code: error.code, message: error.message }));
  client.connect();
}

function subscribe({ channel }) {
  const subscription = client.newSubscription(channel);
  subscription.on("subscribed", () => say("subscribed", { channel }));
  subscription.on("unsubscribed", ({ code, reason }) => say("unsubscribed", { channel, code, reason }));
  subscription.on("error", ({ error }) => say("error", { channel, code: error.code, message: error.message }));
  subscription.on("publication", ({ data, info }) => say("publication", { channel, data: fromWire(data), user: info?.user }));
  subscriptions.set(channel, subscription);
  subscription.subscribe();
}

const commands = {
  connect,
  subscribe,
  unsubscribe: ({ channel }) => subscriptions.get(channel).unsubscribe(),
  token: ({ token }) => give(token),
  disconnect: () => client.disconnect(),
  publish: ({ channel, data }) => answer(subscriptions.get(channel).publish(toWire(data))),
  presence: ({ channel }) => answer(subscriptions.get(channel).presence()),
  presence_stats: ({ channel }) => answer(subscriptions.get(channel).presenceStats()),
};

function answer(promise) {
  promise.then(
    (result) => say("answer", { result }),
    ({ code, message }) => say("answer", { code, message }),
  );
}

createInterface({ input: process.stdin })
  .on("line", (line) => {
    const command = JSON.parse(line);
    commands[command.do](command);
  })
  .on("close", () => process.exit());

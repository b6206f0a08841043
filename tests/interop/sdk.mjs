// The centrifuge SDK in Node, driven by lines of JSON: commands on standard input, events on standard output.
// Usage: node sdk.mjs [protobuf]
import { createInterface } from "node:readline";
import { Centrifuge } from "centrifuge";
import { Centrifuge as ProtobufCentrifuge } from "centrifuge/build/protobuf";
import { EventSource } from "eventsource";
import WebSocket from "ws";
import { drive } from "./driver.mjs";

const say = (event, fields = {}) => console.log(JSON.stringify({ event, ...fields }));

// The SDK does not tell of pings: the socket does. They are an empty reply, in JSON or in Protobuf.
class Listening extends WebSocket {
  constructor(...args) {
    super(...args);
    this.on("message", (data) => ["{}", "\0"].includes(Buffer.from(data).toString()) && say("ping"));
  }
}

const Client = process.argv[2] === "protobuf" ? ProtobufCentrifuge : Centrifuge;
const commands = drive({ Client, settings: { websocket: Listening, eventsource: EventSource }, say });

createInterface({ input: process.stdin })
  .on("line", (line) => {
    const { do: command, ...parameters } = JSON.parse(line);
    commands[command](parameters);
  })
  .on("close", () => process.exit());

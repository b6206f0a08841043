// Publishes one event over gRPC, from the .proto file.
import { randomUUID } from "node:crypto";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const { TIDINGS_SERVER = "127.0.0.1:9000", TIDINGS_API_KEY } = process.env;
const includeDirs = [fileURLToPath(new URL("../../proto", import.meta.url))];
const definition = loadSync("tidings/fanout/v1/fanout.proto", { includeDirs });
const { Fanout } = grpc.loadPackageDefinition(definition).tidings.fanout.v1;

const client = new Fanout(TIDINGS_SERVER, grpc.credentials.createInsecure());
const metadata = new grpc.Metadata();
if (TIDINGS_API_KEY) metadata.set("authorization", `Bearer ${TIDINGS_API_KEY}`);
const event = {
  id: randomUUID(),
  type: "task.created",
  source: "node-example",
  channels: ["tasks:1"],
  data: Buffer.from(JSON.stringify({ title: "Hello from Node" })),
};
const publish = promisify(client.publish).bind(client);
const published = await publish({ event }, metadata, { deadline: Date.now() + 10_000 });
console.log(`published ${published.eventId} to ${published.results.map((result) => result.channel).join(", ")}`);
client.close();

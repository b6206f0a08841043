// A backend that has nothing of ours but the .proto files. Usage: node publish.mjs ADDRESS KEY EVENT_AS_JSON
// Prints the answer, or the refusal, as one line of JSON.
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const [address, key, event] = process.argv.slice(2);
const includeDirs = [fileURLToPath(new URL("../../proto", import.meta.url))];
const definition = loadSync("tidings/fanout/v1/fanout.proto", { includeDirs, keepCase: true, longs: Number, defaults: true });
const { Fanout } = grpc.loadPackageDefinition(definition).tidings.fanout.v1;

const client = new Fanout(address, grpc.credentials.createInsecure());
const metadata = new grpc.Metadata();
if (key) metadata.set("x-api-key", key);
const { data, ...rest } = JSON.parse(event);
const request = { event: { ...rest, data: Buffer.from(JSON.stringify(data)) } };

client.publish(request, metadata, { deadline: Date.now() + 20_000 }, (error, response) => {
  console.log(JSON.stringify(error ? { code: error.code, message: error.details } : response));
  client.close();
});

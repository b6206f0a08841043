// The quick start of the SDK's README, but for the URL and the WebSocket that Node lacks. Usage: node readme.mjs URL
// Prints the data of the first publication that it hears.
import { Centrifuge } from "centrifuge";
import WebSocket from "ws";

const centrifuge = new Centrifuge(process.argv[2], { websocket: WebSocket });
const sub = centrifuge.newSubscription("news");
sub.on("publication", ({ data }) => {
  console.log(JSON.stringify(data));
  centrifuge.disconnect();
});
sub.subscribe();
centrifuge.connect();

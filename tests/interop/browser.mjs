// A page in Chromium, driven by lines of JSON: commands on standard input, events on standard output.
// Usage: node browser.mjs CHROMIUM
//
// The page comes from a server of its own, so that it has an origin. Chromium is spoken to through a pipe (the DevTools
// protocol: JSON messages, each ended by a zero byte). It ends when standard input does, and when this program does.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

const files = {
  "/": ["text/html", new URL("page.html", import.meta.url)],
  "/page.mjs": ["text/javascript", new URL("page.mjs", import.meta.url)],
  "/driver.mjs": ["text/javascript", new URL("driver.mjs", import.meta.url)],
  "/centrifuge.js": ["text/javascript", new URL("node_modules/centrifuge/dist/centrifuge.js", import.meta.url)],
};

const server = createServer(async ({ url }, response) => {
  const [type, file] = files[url] ?? [];
  if (!file) return response.writeHead(404).end();
  response.writeHead(200, { "content-type": type }).end(await readFile(file));
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const origin = `http://localhost:${server.address().port}`;

const profile = mkdtempSync(join(tmpdir(), "chromium-"));
const chromium = spawn(process.argv[2], [
  "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--no-proxy-server",
  "--disable-extensions", "--disable-component-update", "--disable-background-networking", "--disable-sync",
  `--user-data-dir=${profile}`, "--remote-debugging-pipe", "about:blank",
], { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
const [, , , toChromium, fromChromium] = chromium.stdio;
chromium.on("exit", () => {
  rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
  process.exit();
});

let lastId = 0;
const waiting = new Map();
function call(method, params = {}, sessionId) {
  toChromium.write(JSON.stringify({ id: ++lastId, method, params, sessionId }) + "\0");
  return new Promise((resolve, reject) => waiting.set(lastId, { resolve, reject }));
}

function take({ id, error, result, method, params }) {
  if (id) {
    const { resolve, reject } = waiting.get(id);
    error ? reject(new Error(error.message)) : resolve(result);
  } else if (method === "Runtime.bindingCalled" && params.name === "tell") {
    console.log(params.payload);
  } else if (method === "Runtime.exceptionThrown") {
    console.error(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
  }
}

let rest = "";
fromChromium.setEncoding("utf8").on("data", (chunk) => {
  const messages = (rest + chunk).split("\0");
  rest = messages.pop();
  messages.forEach((message) => take(JSON.parse(message)));
});

const { targetId } = await call("Target.createTarget", { url: "about:blank" });
const { sessionId } = await call("Target.attachToTarget", { targetId, flatten: true });
const page = (method, params) => call(method, params, sessionId);
await page("Runtime.enable");
await page("Runtime.addBinding", { name: "tell" });
await page("Page.enable");
await page("Page.navigate", { url: origin });

// A module has run when the document is loaded.
const loaded = "new Promise((resolve) => document.readyState === 'complete' && window.obey ? resolve() : addEventListener('load', resolve))";
await page("Runtime.evaluate", { expression: loaded, awaitPromise: true });
console.log(JSON.stringify({ event: "page", origin }));

createInterface({ input: process.stdin })
  .on("line", (line) => page("Runtime.evaluate", { expression: `obey(${line})` }))
  .on("close", () => {
    call("Browser.close");
    setTimeout(() => chromium.kill("SIGKILL"), 3000).unref();
  });

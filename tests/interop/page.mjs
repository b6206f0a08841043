// What the page does: the centrifuge SDK's commands (driver.mjs), and what every browser has without it.
import { drive } from "./driver.mjs";

// `tell` is what browser.mjs gives the page.
const say = (event, fields = {}) => tell(JSON.stringify({ event, ...fields }));

let socket;
let source;

const native = {
  websocket({ url }) {
    socket = new WebSocket(url);
    socket.onopen = () => say("opened");
    socket.onmessage = ({ data }) => say("heard", { data });
    socket.onclose = ({ code, reason }) => say("closed", { code, reason });
  },
  say: ({ data }) => socket.send(data),
  // `types` are the events' types that it wants to hear, beside those without one.
  eventsource({ url, types }) {
    source = new EventSource(url);
    const hear = ({ type, data, lastEventId }) => say("heard", { type, data, id: lastEventId });
    source.onopen = () => say("opened");
    source.onerror = () => say("failed", { closed: source.readyState === EventSource.CLOSED });
    ["message", ...types].forEach((type) => source.addEventListener(type, hear));
  },
  fetch: ({ url, options }) => fetch(url, options).then(
    async (response) => say("answer", { result: { status: response.status, body: await response.text() } }),
    (error) => say("answer", { code: 0, message: String(error) }),
  ),
};

const commands = { ...drive({ Client: window.Centrifuge, settings: {}, say }), ...native };
window.obey = ({ do: command, ...parameters }) => void commands[command](parameters);

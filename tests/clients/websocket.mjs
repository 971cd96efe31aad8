// A message to itself over WebSocket with the client that browsers use. Argument: the URL.

import { wsconnect } from "@nats-io/nats-core";

const nc = await wsconnect({ servers: process.argv[2], reconnect: false, timeout: 60_000 });
const echo = nc.subscribe("echo", { max: 2 });
nc.publish("echo", "hello");
nc.publish("echo", "x".repeat(100_000));
for await (const message of echo) {
  console.log(message.string().length);
}
await nc.close();

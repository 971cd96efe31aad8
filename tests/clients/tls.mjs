// A message to itself over TLS with Node's client. Arguments: the way, the URL, the authority, a certificate, its key.

import { connect } from "@nats-io/transport-node";

const [way, url, caFile, certFile, keyFile] = process.argv.slice(2);

const tls = { caFile };
if (way === "certificate") {
  Object.assign(tls, { certFile, keyFile });
}
if (way === "first") {
  tls.handshakeFirst = true;
}

try {
  const nc = await connect({ servers: url, tls, reconnect: false, timeout: 60_000 });
  const echo = nc.subscribe("echo", { max: 1 });
  nc.publish("echo", "hello");
  for await (const message of echo) {
    console.log(message.string());
  }
  await nc.close();
} catch (error) {
  console.error(`${error.name}: ${error.message}`);
  process.exit(3);
}

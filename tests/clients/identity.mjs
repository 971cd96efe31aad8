// Says for each way of coming in whether Node's client is let in. Arguments: the URL, then `creds=PATH` or `nkey=PATH`.

import { readFileSync } from "node:fs";
import { connect, credsAuthenticator, nkeyAuthenticator } from "@nats-io/transport-node";

const [url, ...ways] = process.argv.slice(2);

async function met(way) {
  const [kind, path] = way.split("=", 2);
  const secret = readFileSync(path);
  const authenticator = kind === "creds" ? credsAuthenticator(secret) : nkeyAuthenticator(secret);
  try {
    const nc = await connect({ servers: url, authenticator, reconnect: false, timeout: 60_000 });
    const echo = nc.subscribe("echo", { max: 1 });
    nc.publish("echo", "hello");
    for await (const _ of echo) {
      break;
    }
    await nc.close();
    return "in";
  } catch (error) {
    console.error(`${way}: ${error.name}: ${error.message}`);
    return "out";
  }
}

for (const way of ways) {
  console.log(await met(way));
}

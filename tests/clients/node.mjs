// What @nats-io/transport-node sees of a server. `tests/clients` says what the lines mean; the steps are the same in
// every language.

import { connect, headers, RequestError } from "../node_modules/@nats-io/transport-node/index.js";

const [url] = process.argv.slice(2);
const [alice, bob] = [{ user: "alice", pass: "a" }, { user: "bob", pass: "b" }];
const PATIENCE = 60_000;

const saw = (step, what) => console.log(JSON.stringify({ step, saw: what }));
const ask = (what) => console.log(JSON.stringify({ ask: what }));
const numbers = (count) => [...Array(count).keys()];

async function within(promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("waited in vain")), PATIENCE);
  });
  return await Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// A subscription whose messages wait to be taken.
function listen(nc, subject, options = {}) {
  const sub = nc.subscribe(subject, options);
  const messages = sub[Symbol.asyncIterator]();
  const next = async () => (await within(messages.next())).value;
  const take = async (count) => {
    const taken = [];
    for (let i = 0; i < count; i++) {
      const message = await next();
      taken.push([message.subject, message.string()]);
    }
    return taken;
  };
  return { sub, next, take, pending: () => sub.getPending() };
}

async function failure(attempt) {
  try {
    await attempt();
    return "none";
  } catch (error) {
    return error instanceof RequestError && error.isNoResponders() ? "no responders" : error.name;
  }
}

async function refusal(options) {
  try {
    await connect({ servers: url, reconnect: false, ...options });
    return "none";
  } catch (error) {
    return [error.name, error.message];
  }
}

// What happens to a connection, one after the other.
function watch(nc, wanted) {
  const statuses = nc.status()[Symbol.asyncIterator]();
  return async () => {
    for (;;) {
      const { value } = await within(statuses.next());
      if (wanted.includes(value.type)) return value;
    }
  };
}

const nc = await connect({
  servers: url, ...alice, name: "node", reconnectTimeWait: 50, maxReconnectAttempts: 200,
});
const { max_payload, headers: has_headers, auth_required, proto, version } = nc.info;
saw("connect", [max_payload, has_headers, auth_required, proto, version]);

// Wildcards.
const [one, rest, literal] = ["a.*.c", "a.>", "a.b.c"].map((subject) => listen(nc, subject));
for (const subject of ["a.b.c", "a.x.c", "a.b", "a.b.c.d", "b.b.c"]) nc.publish(subject, subject.toUpperCase());
await nc.flush();
saw("wildcards", [await one.take(2), await rest.take(4), await literal.take(1)]);
saw("nothing more", [one, rest, literal].map((it) => it.pending()));
for (const it of [one, rest, literal]) it.sub.unsubscribe();

// Queue groups.
const members = numbers(3).map(() => listen(nc, "work", { queue: "workers" }));
const watcher = listen(nc, "work");
for (const number of numbers(60)) nc.publish("work", `${number}`);
await nc.flush();
const shares = [];
for (const member of members) shares.push(await member.take(member.pending()));
const done = shares.flat().map(([, data]) => Number(data)).sort((a, b) => a - b);
const equal = (a, b) => JSON.stringify(a) === JSON.stringify(b);
saw("queue", [equal(done, numbers(60)), shares.every((it) => it.length > 0), (await watcher.take(60)).length]);

// Requests.
nc.subscribe("reverse", { callback: (_, message) => message.respond([...message.string()].reverse().join("")) });
nc.subscribe("silence", { callback: () => {} });
const reverse = async () => (await nc.request("reverse", "stressed", { timeout: PATIENCE })).string();
saw("request", await reverse());
saw("no responders", await failure(() => nc.request("nobody.home", "?", { timeout: PATIENCE })));
saw("no answer", await failure(() => nc.request("silence", "?", { timeout: 50 })));

// Headers.
const labelled = listen(nc, "headers");
const fields = headers();
fields.append("Unit", "°C");
fields.append("Sensor", "attic 7");
fields.append("Sensor", "roof");
nc.publish("headers", "21.5", { headers: fields });
const message = await labelled.next();
saw("headers", [[...message.headers].sort(), message.string()]);

// Ends of subscriptions.
const few = listen(nc, "few", { max: 2 });
for (const number of numbers(5)) nc.publish("few", `${number}`);
await nc.flush();
saw("unsubscribe after 2", [await few.take(2), few.pending()]);
let handled = [];
const callback = (_, message) => handled.push(message.string());
const drained = nc.subscribe("drained", { callback });
for (const number of numbers(10)) nc.publish("drained", `${number}`);
await drained.drain();
nc.publish("drained", "late");
await nc.flush();
saw("drain", handled);

// Sizes.
const large = listen(nc, "large");
nc.publish("large", "x".repeat(max_payload));
const size = (await large.next()).data.length;
saw("max payload", [size, await failure(async () => nc.publish("large", "x".repeat(max_payload + 1)))]);
const burst = listen(nc, "burst");
for (const number of numbers(5000)) nc.publish("burst", `${number}`);
saw("burst", equal((await burst.take(5000)).map(([, data]) => Number(data)), numbers(5000)));

// Who may connect, and whom they meet.
const elsewhere = await connect({ servers: url, ...bob, pedantic: true });
const [own, foreign] = [listen(elsewhere, "own"), listen(elsewhere, "work")];
await elsewhere.flush();
nc.publish("work", "for alice's account");
await nc.flush();
elsewhere.publish("own", "for bob's account");
saw("accounts", [await own.take(1), foreign.pending()]);
saw("no credentials", await refusal({}));
saw("wrong password", await refusal({ user: "alice", pass: "b" }));

// What the server objects to.
const objection = watch(elsewhere, ["error"]);
elsewhere.publish("a.*", "nobody publishes to a wildcard");
saw("invalid subject", (await objection()).error.message);

const guest = await connect({ servers: url, user: "guest", pass: "g" });
const objections = watch(guest, ["error"]);
guest.publish("private.temp", "not for a guest to say");
const first_objection = (await objections()).error;
guest.subscribe("private.>", { callback: () => {} });
saw("permissions", [first_objection, (await objections()).error].map((it) => [it.name, it.message]));
const open = listen(guest, "public.*");
guest.publish("public.temp", "21.5");
saw("permitted", await open.take(1));
await guest.close();

// A connection that ends in order.
const other = await connect({ servers: url, ...bob });
handled = [];
other.subscribe("last", { callback });
for (const number of numbers(10)) other.publish("last", `${number}`);
await within(other.drain());
saw("drained connection", [handled, other.isClosed()]);
await elsewhere.close();

// The power fails.
const [after, member] = [listen(nc, "after.>"), listen(nc, "after.*", { queue: "workers" })];
await nc.flush();
const fate = watch(nc, ["disconnect", "reconnect", "ldm"]);
ask("restart");
saw("restart", [(await fate()).type, (await fate()).type]);
nc.publish("after.restart", "still there");
saw("restored", [await after.take(1), await member.take(1)]);
saw("request again", await reverse());

ask("lame duck");
saw("lame duck", (await fate()).type);
await nc.close();

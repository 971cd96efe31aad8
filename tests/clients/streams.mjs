// What the clients for Node see of streams, consumers and stores. `tests/clients` says what the lines mean; the steps
// are the same in every language.

import { createHash } from "node:crypto";

import { AckPolicy, DeliverPolicy, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { Kvm } from "@nats-io/kv";
import { Objm } from "@nats-io/obj";
import { connect, nanos } from "@nats-io/transport-node";

const [url] = process.argv.slice(2);
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

async function failure(attempt) {
  try {
    await attempt();
    return "none";
  } catch (error) {
    return [error.name, error.code ?? null, error.message];
  }
}

// A message of a consumer: where it is in the stream, and what the consumer says of it.
function facts(message) {
  const { streamSequence, deliverySequence, deliveryCount, pending } = message.info;
  return [message.subject, message.string(), [streamSequence, deliverySequence, deliveryCount, pending]];
}

// So many messages of a consumer, acknowledged if `ack` is true.
async function take(messages, count, ack) {
  const taken = [];
  const iterator = messages[Symbol.asyncIterator]();
  while (taken.length < count) {
    const { value, done } = await within(iterator.next());
    if (done) throw new Error("the consumer has ended");
    if (ack) await value.ackAck();
    taken.push(value);
  }
  messages.stop();
  return taken;
}

const nc = await connect({ servers: url, reconnectTimeWait: 50, maxReconnectAttempts: 200 });
const statuses = nc.status()[Symbol.asyncIterator]();
const js = jetstream(nc);
const jsm = await jetstreamManager(nc);

// Streams.
const config = { name: "PLANT", subjects: ["plant.>"], max_msgs_per_subject: 500, allow_direct: true };
const { config: made, state } = await jsm.streams.add(config);
saw("stream", [made.retention, made.storage, made.subjects, state.messages]);
const short = { name: "SHORT", subjects: ["short"], max_age: nanos(10) };
saw("too short", await failure(() => jsm.streams.add(short)));
saw("overlap", await failure(() => jsm.streams.add({ name: "OTHER", subjects: ["plant.attic"] })));
saw("names", (await jsm.streams.list().next()).map((info) => info.config.name));
saw("no such stream", await failure(() => jsm.streams.info("NONE")));

// Publishing.
const acks = [];
for (const n of numbers(6)) acks.push(await js.publish(`plant.${n % 3}`, `${n}`));
saw("acknowledged", acks.map((ack) => [ack.stream, ack.seq, ack.duplicate]));
const twice = [];
for (const _ of numbers(2)) twice.push(await js.publish("plant.once", "once", { msgID: "1" }));
saw("once", twice.map((ack) => [ack.seq, ack.duplicate]));
const late = () => js.publish("plant.0", "late", { expect: { lastSequence: 1 } });
saw("not expected", await failure(late));
saw("no stream", await failure(() => js.publish("nowhere", "?", { retries: 0 })));

// Single messages.
let message = await jsm.streams.getMessage("PLANT", { seq: 2 });
saw("get", [message.subject, message.string(), message.seq]);
message = await jsm.direct.getMessage("PLANT", { last_by_subj: "plant.1" });
saw("last of a subject", [message.subject, message.string(), message.seq]);
saw("no message", await jsm.streams.getMessage("PLANT", { seq: 99 }));
await jsm.streams.deleteMessage("PLANT", 7);
saw("deleted", await jsm.streams.getMessage("PLANT", { seq: 7 }));

// A consumer that is pulled from.
const explicit = { ack_policy: AckPolicy.Explicit };
await jsm.consumers.add("PLANT", { durable_name: "pull", ...explicit });
const pull = await js.consumers.get("PLANT", "pull");
const first = await take(await pull.fetch({ max_messages: 4, expires: PATIENCE }), 4, false);
saw("pull", first.map(facts));
for (const message of first.slice(0, 3)) await message.ackAck();
first[3].nak();
const again = await take(await pull.consume(), 3, true);
saw("pull again", again.map((message) => [message.string(), message.info.deliveryCount]).sort());
const info = await pull.info();
saw("pulled", [info.num_pending, info.num_ack_pending, info.ack_floor.stream_seq, info.delivered.consumer_seq]);
saw("nothing to pull", await pull.next({ expires: 1000 }));

// Consumers that push.
await jsm.consumers.add("PLANT", {
  durable_name: "push", deliver_subject: "pushed", filter_subject: "plant.1", ...explicit,
});
const push = await js.consumers.getPushConsumer("PLANT", "push");
saw("push", (await take(await push.consume(), 2, true)).map(facts));
const { name } = await jsm.consumers.add("PLANT", {
  deliver_subject: "last", deliver_policy: DeliverPolicy.LastPerSubject, ack_policy: AckPolicy.None,
  filter_subject: "plant.*",
});
const last = await js.consumers.getPushConsumer("PLANT", name);
saw("last per subject", (await take(await last.consume(), 3, false)).map(facts));
await jsm.consumers.add("PLANT", {
  durable_name: "workers", deliver_subject: "work", deliver_group: "workers", filter_subject: "plant.2", ...explicit,
});
const shared = [];
const all = new Promise((resolve) => {
  for (const _ of numbers(2)) {
    nc.subscribe("work", {
      queue: "workers",
      callback: (_, message) => shared.push([message.subject, message.string()]) === 2 && resolve(),
    });
  }
});
await within(all);
saw("queue", shared.sort());

// In order, without acknowledgements.
for (const n of numbers(200)) await js.publish("plant.many", `${n}`);
const ordered = await js.consumers.get("PLANT", { filter_subjects: "plant.many" });
const many = await take(await ordered.consume(), 200, false);
saw("ordered", many.every((message, n) => message.string() === `${n}`));

// The power fails.
ask("restart");
for (;;) {
  const { value } = await within(statuses.next());
  if (value.type === "reconnect") break;
}
const { state: kept } = await jsm.streams.info("PLANT");
// Where it is isn't asked: acknowledgements that nobody confirmed may be forgotten, and on nats-server are.
const { name: puller } = await jsm.consumers.info("PLANT", "pull");
saw("restart", [kept.messages, kept.last_seq, puller]);
message = await jsm.streams.getMessage("PLANT", { seq: kept.last_seq });
saw("still there", [message.subject, message.string()]);

// Key-value.
const kv = await new Kvm(nc).create("conf", { history: 3 });
saw("put", [await kv.put("attic.limit", "21"), await kv.put("attic.limit", "22"), await kv.create("cellar", "8")]);
let entry = await kv.get("attic.limit");
saw("entry", [entry.key, entry.string(), entry.revision]);
saw("update", [await kv.update("attic.limit", "23", 2), await failure(() => kv.update("attic.limit", "24", 2))]);
saw("create again", await failure(() => kv.create("cellar", "9")));
const watched = (await kv.watch({ key: "attic.*" }))[Symbol.asyncIterator]();
entry = (await within(watched.next())).value;
await kv.put("attic.limit", "24");
const later = (await within(watched.next())).value;
saw("watch", [entry, later].map((entry) => [entry.string(), entry.revision]));
const collect = async (iterator) => {
  const items = [];
  for await (const item of iterator) items.push(item);
  return items;
};
saw("keys", (await collect(await kv.keys())).sort());
const history = await collect(await kv.history({ key: "attic.limit" }));
saw("history", history.map((entry) => [entry.string(), entry.revision]));
await kv.delete("cellar");
saw("deleted key", [(await kv.get("cellar")).operation, await collect(await kv.keys())]);
const status = await kv.status();
saw("bucket", [status.bucket, status.values, status.history]);

// Objects.
const store = await new Objm(nc).create("files", { description: "firmware" });
const image = Uint8Array.from(numbers(300_000), (n) => n * n % 251);
const hash = (bytes) => createHash("sha256").update(bytes).digest("hex");
const object = await store.putBlob({ name: "image" }, image);
saw("object", [object.name, object.size, object.chunks, object.digest]);
const got = await store.getBlob("image");
saw("object again", [got.length, hash(got) === hash(image)]);
saw("objects", (await store.list()).map((info) => info.name));
await store.delete("image");
saw("no object", await store.getBlob("image"));

// What goes.
const { purged } = await jsm.streams.purge("PLANT", { filter: "plant.many" });
saw("purge", [purged, (await jsm.streams.info("PLANT")).state.messages]);
saw("delete", [await jsm.consumers.delete("PLANT", "pull"), await jsm.streams.delete("PLANT")]);
saw("gone", await failure(() => jsm.streams.info("PLANT")));
saw("account", (await jsm.getAccountInfo()).streams);
await nc.close();

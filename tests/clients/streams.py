"""What nats-py sees of streams, consumers and stores. `tests/clients` says what the lines mean; the steps are the same
in every language."""

import asyncio
import hashlib
import json
import sys

import nats
from nats.errors import Error, TimeoutError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, KeyValueConfig, ObjectStoreConfig, StreamConfig
from nats.js.errors import APIError, NoKeysError, NotFoundError

URL = sys.argv[1]
PATIENCE = 60


def saw(step, what):
    print(json.dumps({"step": step, "saw": what}), flush=True)


def ask(what):
    print(json.dumps({"ask": what}), flush=True)


async def failure(attempt):
    try:
        await attempt
    except APIError as error:
        # Those of the key-value store say only that they are such.
        told = [vars(error).get(name) for name in ("code", "err_code", "description")]
        return [type(error).__name__, *told]
    except (Error, asyncio.TimeoutError) as error:
        return type(error).__name__
    return "none"


async def found(look):
    """What is there. nats-py takes a store whose entries are on their way to it for an empty one."""

    async def again():
        while True:
            try:
                return await look()
            except (NoKeysError, NotFoundError):
                pass

    return await asyncio.wait_for(again(), PATIENCE)


def facts(message):
    """A message of a consumer: where it is in the stream, and what the consumer says of it."""
    meta = message.metadata
    place = [meta.sequence.stream, meta.sequence.consumer, meta.num_delivered, meta.num_pending]
    return [message.subject, message.data.decode(), place]


async def main():
    reconnected = asyncio.Event()

    async def is_back():
        reconnected.set()

    nc = await nats.connect(
        URL, reconnect_time_wait=0.05, max_reconnect_attempts=200, reconnected_cb=is_back
    )
    js = nc.jetstream(timeout=PATIENCE)

    # Streams.
    config = StreamConfig(name="PLANT", subjects=["plant.>"], max_msgs_per_subject=500, allow_direct=True)
    info = await js.add_stream(config)
    saw("stream", [info.config.retention, info.config.storage, info.config.subjects, info.state.messages])
    saw("too short", await failure(js.add_stream(name="SHORT", subjects=["short"], max_age=0.01)))
    saw("overlap", await failure(js.add_stream(name="OTHER", subjects=["plant.attic"])))
    saw("names", [info.config.name for info in await js.streams_info()])
    saw("no such stream", await failure(js.stream_info("NONE")))

    # Publishing.
    acks = [await js.publish(f"plant.{n % 3}", b"%d" % n) for n in range(6)]
    saw("acknowledged", [[ack.stream, ack.seq, ack.duplicate] for ack in acks])
    twice = [await js.publish("plant.once", b"once", headers={"Nats-Msg-Id": "1"}) for _ in range(2)]
    saw("once", [[ack.seq, ack.duplicate] for ack in twice])
    late = js.publish("plant.0", b"late", headers={"Nats-Expected-Last-Sequence": "1"})
    saw("not expected", await failure(late))
    saw("no stream", await failure(js.publish("nowhere", b"?")))

    # Single messages.
    message = await js.get_msg("PLANT", 2)
    saw("get", [message.subject, message.data.decode(), message.seq])
    message = await js.get_last_msg("PLANT", "plant.1", direct=True)
    saw("last of a subject", [message.subject, message.data.decode(), message.seq])
    saw("no message", await failure(js.get_msg("PLANT", 99)))
    await js.delete_msg("PLANT", 7)
    saw("deleted", await failure(js.get_msg("PLANT", 7)))

    # A consumer that is pulled from.
    pull = await js.pull_subscribe("plant.>", durable="pull", stream="PLANT")
    first = await pull.fetch(4, timeout=PATIENCE)
    saw("pull", [facts(message) for message in first])
    for message in first[:3]:
        await message.ack_sync(timeout=PATIENCE)
    await first[3].nak()
    again = []
    for _ in range(3):
        message = (await pull.fetch(1, timeout=PATIENCE))[0]
        again.append([message.data.decode(), message.metadata.num_delivered])
        await message.ack_sync(timeout=PATIENCE)
    saw("pull again", sorted(again))
    info = await pull.consumer_info()
    saw("pulled", [info.num_pending, info.num_ack_pending, info.ack_floor.stream_seq, info.delivered.consumer_seq])
    saw("nothing to pull", await failure(pull.fetch(1, timeout=0.2)))

    # Consumers that push.
    push = await js.subscribe("plant.1", durable="push", stream="PLANT", manual_ack=True)
    pushed = [await push.next_msg(PATIENCE) for _ in range(2)]
    saw("push", [facts(message) for message in pushed])
    for message in pushed:
        await message.ack_sync(timeout=PATIENCE)
    await push.unsubscribe()
    config = ConsumerConfig(deliver_policy=DeliverPolicy.LAST_PER_SUBJECT, ack_policy=AckPolicy.NONE)
    last = await js.subscribe("plant.*", stream="PLANT", config=config)
    saw("last per subject", [facts(await last.next_msg(PATIENCE)) for _ in range(3)])
    await last.unsubscribe()
    members = [await js.subscribe("plant.2", "workers", durable="workers", stream="PLANT") for _ in range(2)]
    shared = await next_of(members, 2)
    saw("queue", sorted(facts(message)[:2] for message in shared))
    for member in members:
        await member.unsubscribe()

    # In order, without acknowledgements.
    for n in range(200):
        await js.publish("plant.many", b"%d" % n)
    ordered = await js.subscribe("plant.many", stream="PLANT", ordered_consumer=True)
    numbers = [int((await ordered.next_msg(PATIENCE)).data) for _ in range(200)]
    saw("ordered", numbers == list(range(200)))
    await ordered.unsubscribe()

    # The power fails.
    ask("restart")
    await asyncio.wait_for(reconnected.wait(), PATIENCE)
    info, consumer = await js.stream_info("PLANT"), await js.consumer_info("PLANT", "pull")
    # Where it is isn't asked: acknowledgements that nobody confirmed may be forgotten, and on nats-server are.
    saw("restart", [info.state.messages, info.state.last_seq, consumer.name])
    message = await js.get_msg("PLANT", info.state.last_seq)
    saw("still there", [message.subject, message.data.decode()])

    # Key-value.
    kv = await js.create_key_value(KeyValueConfig(bucket="conf", history=3))
    puts = [await kv.put("attic.limit", b"21"), await kv.put("attic.limit", b"22"), await kv.create("cellar", b"8")]
    saw("put", puts)
    entry = await kv.get("attic.limit")
    saw("entry", [entry.key, entry.value.decode(), entry.revision])
    saw("update", [await kv.update("attic.limit", b"23", 2), await failure(kv.update("attic.limit", b"24", 2))])
    saw("create again", await failure(kv.create("cellar", b"9")))
    watcher = await kv.watch("attic.*")
    # What is there, and nothing for its end, which comes first if it is on its way.
    entry = next(entry for entry in [await watcher.updates(timeout=PATIENCE) for _ in range(2)] if entry)
    await kv.put("attic.limit", b"24")
    later = await watcher.updates(timeout=PATIENCE)
    saw("watch", [[entry.value.decode(), entry.revision], [later.value.decode(), later.revision]])
    await watcher.stop()
    saw("keys", sorted(await found(kv.keys)))
    saw("history", [[entry.value.decode(), entry.revision] for entry in await found(lambda: kv.history("attic.limit"))])
    await kv.delete("cellar")
    saw("deleted key", [await failure(kv.get("cellar")), sorted(await found(kv.keys))])
    status = await kv.status()
    saw("bucket", [status.bucket, status.values, status.history])

    # Objects.
    store = await js.create_object_store("files", config=ObjectStoreConfig(description="firmware"))
    image = bytes(n * n % 251 for n in range(300_000))
    info = await store.put("image", image)
    saw("object", [info.name, info.size, info.chunks, info.digest])
    got = (await store.get("image")).data
    saw("object again", [len(got), hashlib.sha256(got).hexdigest() == hashlib.sha256(image).hexdigest()])
    saw("objects", [entry.name for entry in await found(store.list)])
    await store.delete("image")
    saw("no object", await failure(store.get("image")))

    # What goes.
    saw("purge", [await js.purge_stream("PLANT", subject="plant.many"), (await js.stream_info("PLANT")).state.messages])
    saw("delete", [await js.delete_consumer("PLANT", "pull"), await js.delete_stream("PLANT")])
    saw("gone", await failure(js.stream_info("PLANT")))
    saw("account", (await js.account_info()).streams)
    await nc.close()


async def next_of(members, count):
    """That many messages, whichever of them has them."""
    waits = {asyncio.create_task(member.next_msg(PATIENCE)): member for member in members}
    messages = []
    while len(messages) < count:
        # Several may have one at once.
        done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in done:
            member = waits.pop(wait)
            messages.append(wait.result())
            waits[asyncio.create_task(member.next_msg(PATIENCE))] = member
    for wait in waits:
        wait.cancel()
    return messages


asyncio.run(main())

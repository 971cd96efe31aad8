"""What nats-py sees of a server. `tests/clients` says what the lines mean; the steps are the same in every language."""

import asyncio
import json
import sys

import nats
from nats.errors import Error

URL = sys.argv[1]
ALICE, BOB = {"user": "alice", "password": "a"}, {"user": "bob", "password": "b"}
GUEST = {"user": "guest", "password": "g"}
PATIENCE = 60


def saw(step, what):
    print(json.dumps({"step": step, "saw": what}), flush=True)


def ask(what):
    print(json.dumps({"ask": what}), flush=True)


def text(message):
    return [message.subject, message.data.decode()]


async def take(sub, count):
    return [text(await sub.next_msg(PATIENCE)) for _ in range(count)]


async def settle(nc):
    """Returns when what was published before has been delivered: this client's flush may overtake it."""
    inbox = nc.new_inbox()
    sub = await nc.subscribe(inbox)
    await nc.publish(inbox)
    await sub.next_msg(PATIENCE)


async def failure(attempt):
    try:
        await attempt
    except (Error, asyncio.TimeoutError) as error:
        return type(error).__name__
    return "none"


async def main():
    events = asyncio.Queue()

    def event(name):
        async def happened(*_):
            events.put_nowait(name)

        return happened

    nc = await nats.connect(
        URL,
        **ALICE,
        name="python",
        reconnect_time_wait=0.05,
        max_reconnect_attempts=200,
        disconnected_cb=event("disconnected"),
        reconnected_cb=event("reconnected"),
        lame_duck_mode_cb=event("lame duck"),
    )
    info = nc._server_info
    saw("connect", [nc.max_payload, info["headers"], info["auth_required"], info["proto"], info["version"]])

    # Wildcards.
    one, rest, literal = [await nc.subscribe(it) for it in ("a.*.c", "a.>", "a.b.c")]
    for subject in ("a.b.c", "a.x.c", "a.b", "a.b.c.d", "b.b.c"):
        await nc.publish(subject, subject.upper().encode())
    await settle(nc)
    saw("wildcards", [await take(one, 2), await take(rest, 4), await take(literal, 1)])
    saw("nothing more", [sub.pending_msgs for sub in (one, rest, literal)])
    for sub in (one, rest, literal):
        await sub.unsubscribe()

    # Queue groups.
    members = [await nc.subscribe("work", "workers") for _ in range(3)]
    watcher = await nc.subscribe("work")
    for number in range(60):
        await nc.publish("work", str(number).encode())
    await settle(nc)
    shares = [await take(member, member.pending_msgs) for member in members]
    done = sorted(int(data) for share in shares for _, data in share)
    saw("queue", [done == list(range(60)), all(shares), len(await take(watcher, 60))])

    # Requests.
    async def answer(message):
        await message.respond(message.data[::-1])

    async def ignore(_message):
        pass

    await nc.subscribe("reverse", cb=answer)
    await nc.subscribe("silence", cb=ignore)
    saw("request", (await nc.request("reverse", b"stressed", PATIENCE)).data.decode())
    saw("no responders", await failure(nc.request("nobody.home", b"?", PATIENCE)))
    saw("no answer", await failure(nc.request("silence", b"?", 0.05)))

    # Headers.
    sub = await nc.subscribe("headers")
    await nc.publish("headers", b"21.5", headers={"Unit": "°C", "Sensor": "attic 7"})
    await nc.publish("headers", b"", headers={"Empty": ""})
    first, second = await sub.next_msg(PATIENCE), await sub.next_msg(PATIENCE)
    saw("headers", [sorted(first.headers.items()), first.data.decode(), sorted((second.headers or {}).items())])

    # Ends of subscriptions.
    sub = await nc.subscribe("few")
    await sub.unsubscribe(limit=2)
    for number in range(5):
        await nc.publish("few", str(number).encode())
    await settle(nc)
    saw("unsubscribe after 2", [await take(sub, 2), sub.pending_msgs])
    handled = []

    async def handle(message):
        handled.append(message.data.decode())

    sub = await nc.subscribe("drained", cb=handle)
    for number in range(10):
        await nc.publish("drained", str(number).encode())
    await settle(nc)
    await sub.drain()
    await nc.publish("drained", b"late")
    await settle(nc)
    saw("drain", handled)

    # Sizes.
    sub = await nc.subscribe("large")
    await nc.publish("large", b"x" * nc.max_payload)
    message = await sub.next_msg(PATIENCE)
    saw("max payload", [len(message.data), await failure(nc.publish("large", b"x" * (nc.max_payload + 1)))])
    sub = await nc.subscribe("burst")
    for number in range(5000):
        await nc.publish("burst", b"%d" % number)
    burst = [int(data) for _, data in await take(sub, 5000)]
    saw("burst", burst == list(range(5000)))

    # Who may connect, and whom they meet.
    closed = asyncio.Event()

    async def is_closed():
        closed.set()

    elsewhere = await nats.connect(URL, **BOB, pedantic=True, closed_cb=is_closed)
    own, foreign = await elsewhere.subscribe("own"), await elsewhere.subscribe("work")
    await settle(elsewhere)
    await nc.publish("work", b"for alice's account")
    await settle(nc)
    await elsewhere.publish("own", b"for bob's account")
    saw("accounts", [await take(own, 1), foreign.pending_msgs])
    saw("no credentials", await refusal(URL))
    saw("wrong password", await refusal(URL, user="alice", password="b"))

    # What the server objects to. This client leaves a server that complains.
    await elsewhere.publish("a.*", b"nobody publishes to a wildcard")
    await asyncio.wait_for(closed.wait(), PATIENCE)
    saw("invalid subject", str(elsewhere.last_error))

    objections = asyncio.Queue()

    async def objected(error):
        objections.put_nowait(str(error))

    guest = await nats.connect(URL, **GUEST, error_cb=objected)
    await guest.publish("private.temp", b"not for a guest to say")
    await guest.subscribe("private.>")
    saw("permissions", [await asyncio.wait_for(objections.get(), PATIENCE) for _ in range(2)])
    public = await guest.subscribe("public.*")
    await guest.publish("public.temp", b"21.5")
    saw("permitted", await take(public, 1))
    await guest.close()

    # A connection that ends in order.
    other = await nats.connect(URL, **BOB)
    handled.clear()
    await other.subscribe("last", cb=handle)
    for number in range(10):
        await other.publish("last", str(number).encode())
    await settle(other)
    await other.drain()
    saw("drained connection", [handled, other.is_closed])

    # The power fails.
    sub, member = await nc.subscribe("after.>"), await nc.subscribe("after.*", "workers")
    await settle(nc)
    ask("restart")
    saw("restart", [await asyncio.wait_for(events.get(), PATIENCE) for _ in range(2)])
    await nc.publish("after.restart", b"still there")
    saw("restored", [await take(sub, 1), await take(member, 1)])
    saw("request again", (await nc.request("reverse", b"stressed", PATIENCE)).data.decode())

    ask("lame duck")
    saw("lame duck", await asyncio.wait_for(events.get(), PATIENCE))
    await nc.close()


async def refusal(url, **options):
    """What a connection fails with, in the library's and in the server's words."""
    said = set()

    async def failed(error):
        said.add(str(error))

    attempt = nats.connect(url, **options, error_cb=failed, allow_reconnect=False)
    return [await failure(attempt), sorted(said)]


asyncio.run(main())

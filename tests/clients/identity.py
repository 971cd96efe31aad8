"""Says for each way of coming in whether nats-py is let in. Arguments: the URL, then `creds=PATH` or `nkey=PATH` each."""

import asyncio
import sys

import nats

PATIENCE = 60


async def met(url, way):
    kind, path = way.split("=", 1)
    options = {"user_credentials": path} if kind == "creds" else {"nkeys_seed": path}
    errors = []

    async def note(error):
        errors.append(error)

    try:
        nc = await nats.connect(
            url,
            allow_reconnect=False,
            max_reconnect_attempts=0,
            connect_timeout=PATIENCE,
            error_cb=note,
            **options,
        )
        echo = await nc.subscribe("echo")
        await nc.publish("echo", b"hello")
        await echo.next_msg(PATIENCE)
        await nc.close()
        return "in"
    except Exception as error:
        print(f"{way}: {type(error).__name__}: {error} {errors}", file=sys.stderr)
        return "out"


async def main():
    url, *ways = sys.argv[1:]
    for way in ways:
        print(await met(url, way), flush=True)


asyncio.run(main())

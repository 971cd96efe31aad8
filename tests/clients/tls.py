"""A message to itself over TLS with nats-py. Arguments: the way, the URL, the authority, a certificate, its key."""

import asyncio
import ssl
import sys

import nats

WAY, URL, CA, CERT, KEY = sys.argv[1:]
PATIENCE = 60


async def main():
    context = ssl.create_default_context(cafile=CA)
    if WAY == "certificate":
        context.load_cert_chain(CERT, KEY)

    async def ignore(_):
        pass

    try:
        nc = await nats.connect(
            URL,
            tls=context,
            tls_handshake_first=WAY == "first",
            allow_reconnect=False,
            max_reconnect_attempts=0,
            connect_timeout=PATIENCE,
            error_cb=ignore,
        )
        echo = await nc.subscribe("echo")
        await nc.publish("echo", b"hello")
        print((await echo.next_msg(PATIENCE)).data.decode())
        await nc.close()
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(3)


asyncio.run(main())

//! A broker with a driver without sockets.

use std::sync::Arc;

use midge_broker::{Broker, CloseReason, ConnId, Next, Now, Outbox, Peer, Session, Settings};

/// What is written disappears.
pub(crate) struct World {
    pub(crate) broker: Broker<Arc<Outbox>>,
    /// Kept between turns, as a driver does.
    ready: Vec<Arc<Outbox>>,
    /// Bytes, all connections together.
    pub(crate) written: usize,
}

pub(crate) struct Client {
    id: ConnId,
    session: Session,
    pub(crate) outbox: Arc<Outbox>,
}

impl World {
    pub(crate) fn new(settings: Settings) -> Self {
        Self { broker: Broker::new(settings, 1), ready: Vec::new(), written: 0 }
    }

    /// A client that has said CONNECT and `words`.
    pub(crate) fn client(&mut self, words: &str) -> Client {
        let peer = Peer { host: "127.0.0.1".into(), port: 50_000 };
        let outbox = Arc::default();
        let id = self.broker.attach(Arc::clone(&outbox), peer, Now::default());
        let mut client = Client { id, session: Session::new(&self.broker, id), outbox };
        self.turn(
            &mut client,
            format!("CONNECT {{\"verbose\":false,\"pedantic\":false}}\r\n{words}").as_bytes(),
        );
        client
    }

    /// Lets a client's socket take nothing from now on.
    pub(crate) fn block(&mut self, client: &mut Client) {
        client.session.receive(&mut self.broker, Now::default(), b"PING\r\n");
        self.broker.flush(Now::default(), |_, _| {});
        let pong = client.outbox.take().expect("an answer that was not written");
        client.outbox.put_back(pong, 0);
    }

    /// A client that goes.
    pub(crate) fn leave(&mut self, client: Client) {
        self.broker.detach(client.id, CloseReason::ClientClosed, Now::default());
        self.broker.flush(Now::default(), |_, _| {});
    }

    /// One read: the session works, and all that came of it is written.
    pub(crate) fn turn(&mut self, client: &mut Client, input: &[u8]) {
        let mut rest = input;
        while !rest.is_empty() {
            let received = client.session.receive(&mut self.broker, Now::default(), rest);
            assert!(matches!(received.next, Next::Read(1) | Next::Yield), "{received:?}");
            rest = &rest[received.used..];
            self.write();
        }
    }

    /// One read of which nothing is written. Returns the outboxes that it filled, in the order in which they should be.
    pub(crate) fn turn_unwritten(&mut self, client: &mut Client, input: &[u8]) -> Vec<Arc<Outbox>> {
        let received = client.session.receive(&mut self.broker, Now::default(), input);
        assert_eq!(received.used, input.len(), "{received:?}");
        let mut order = Vec::new();
        self.broker.flush(Now::default(), |outbox, _| order.push(Arc::clone(outbox)));
        order
    }

    /// Writes what came of a turn.
    pub(crate) fn write(&mut self) {
        let Self { broker, ready, written } = self;
        broker.flush(Now::default(), |outbox, _| ready.push(Arc::clone(outbox)));
        for outbox in ready.drain(..) {
            let Some(mut batch) = outbox.take() else { continue };
            let bytes = batch.slices().map(<[u8]>::len).sum();
            batch.advance(bytes);
            outbox.put_back(batch, bytes);
            *written += bytes;
        }
    }
}

/// A message of `size` bytes, as its publisher says it.
pub(crate) fn publish(subject: &str, size: usize) -> String {
    format!("PUB {subject} {size}\r\n{}\r\n", "x".repeat(size))
}

//! Streams: what the daemon's storage thread does, at once after each turn, on a disk in memory.

use midge_attach::{Accounts, Outputs, Wanted, input, interest, moment, settings};
use midge_broker::{Broker, Instant, MailboxId, Now};
use midge_config::Options;
use midge_store::Store;
use midge_store::disk::sim::SimDisk;
use midge_stream::Engine;
use midge_stream::log::{FileShelf, Keeper};

use super::net::Socket;

const MAILBOX_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of a segment: a disk in memory is none to waste.
const SEGMENT_BYTES: u32 = 4 << 20;
const SEED: u64 = 7;

pub(super) struct Streams {
    engine: Engine,
    keeper: Keeper<SimDisk>,
    mailbox: MailboxId,
    accounts: Accounts,
    outputs: Outputs,
}

impl Streams {
    /// Those on `disk`, if the configuration wants streams.
    pub(super) fn open(
        options: &Options,
        disk: Option<SimDisk>,
        broker: &mut Broker<Socket>,
        now: Now,
    ) -> Result<Option<Self>, String> {
        if !options.jetstream.enabled {
            return Ok(None);
        }
        let store = midge_store::Options { segment_bytes: SEGMENT_BYTES, seed: SEED, ..Default::default() };
        let (store, _) =
            Store::open(disk.unwrap_or_else(|| SimDisk::new(SEED)), store).map_err(|err| err.to_string())?;
        let shelf = FileShelf::new(store);
        let settings = settings(options, &broker.settings().info.name, SEED);
        let mailbox = broker.open_mailbox(MAILBOX_BYTES_MAX).ok_or("no mailbox is left")?;
        broker.follow_traces(mailbox);
        let keeper = shelf.keeper();
        let engine = Engine::new(settings, Box::new(shelf));
        let (accounts, outputs) = (Accounts::default(), Outputs::new(mailbox));
        let mut this = Self { engine, keeper, mailbox, accounts, outputs };
        this.follow_accounts(broker, now);
        if let Some((name, why)) = this.accounts.refused().next() {
            return Err(format!("error enabling jetstream on configured accounts: {name}: {why}"));
        }
        this.engine.load(moment(now)).map_err(|err| err.to_string())?;
        this.engine.commit(moment(now));
        Ok(Some(this))
    }

    /// Opens and closes accounts as the broker has them now.
    fn follow_accounts(&mut self, broker: &mut Broker<Socket>, now: Now) {
        let at = moment(now);
        let change = self.accounts.begin(Wanted::of(broker), &mut self.engine, at);
        if change.closes() {
            self.engine.commit(at);
            self.say(broker, now);
        }
        self.accounts.finish(change, &mut self.engine, at);
    }

    /// Writes all that is to be kept, and gives what it is on.
    pub(super) fn shut(mut self, now: Now) -> Result<SimDisk, String> {
        self.engine.save(moment(now)).map_err(|err| err.to_string())?;
        Ok(self.keeper.with_disk(SimDisk::clone))
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.engine.deadline()
    }

    /// Takes in what came, does what is due, and commits. False if nothing is to be done.
    pub(super) fn work(&mut self, broker: &mut Broker<Socket>, now: Now) -> bool {
        let letters = broker.take_letters(self.mailbox);
        let changes = broker.take_interest(self.mailbox);
        let at = moment(now);
        let same = broker.accounts_version() == self.accounts.version();
        let idle = same && letters.is_empty() && changes.is_empty() && !self.outputs.has_lost();
        if idle && !self.engine.is_hungry() && self.deadline().is_none_or(|due| due > now.mono) {
            return false;
        }
        if !same {
            self.follow_accounts(broker, now);
        }
        let engine = &mut self.engine;
        self.outputs.take_lost(|lost| engine.handle(lost, at));
        for change in &changes {
            engine.handle(interest(change), at);
        }
        for letter in &letters {
            engine.handle(input(letter), at);
        }
        self.engine.tick(at);
        self.engine.commit(at);
        true
    }

    /// The server is about to close its connections.
    pub(super) fn part(&mut self, now: Now) {
        self.engine.part(moment(now));
        self.engine.commit(moment(now));
    }

    /// What goes to the log.
    pub(super) fn take_complaints(&mut self) -> Vec<String> {
        self.engine.take_complaints()
    }

    /// Does what the engine says.
    pub(super) fn say(&mut self, broker: &mut Broker<Socket>, now: Now) {
        self.accounts.look(broker);
        while let Some(output) = self.engine.poll() {
            self.outputs.act(broker, &self.accounts, output, now, Broker::inject);
        }
    }
}

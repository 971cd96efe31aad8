//! Streams that an account imports: its subscriptions reach into the accounts that export them.

use std::sync::Arc;

use midge_protocol::subject::Filter;
use midge_router::SubId;

use super::AccountId;
use super::import::{ImportedStream, Name};
use super::target::{Beyond, Shadow, Target};
use crate::broker::{Broker, Now};
use crate::conn::{ConnId, Port};
use crate::inside::Inside;

impl ImportedStream {
    /// The part of `filter`, asked for in the importing account, that this import can bring: as a filter of the
    /// exporting account.
    fn part_of(&self, filter: Filter<'_>) -> Option<Vec<u8>> {
        let here = Filter::new(self.here.as_bytes()).ok()?;
        let mut common = Vec::new();
        for (i, token) in filter.common(here)?.enumerate() {
            if i > 0 {
                common.push(b'.');
            }
            common.extend_from_slice(token);
        }
        Some(match &self.name {
            Name::Same => common,
            Name::Fixed => self.there.as_bytes().to_vec(),
            Name::Other(rename) => {
                let mut there = Vec::new();
                rename.back(&common, &mut there);
                there
            }
        })
    }

    /// Appends the name in the importing account of a subject of the exporting one.
    pub(crate) fn rename(&self, subject: &[u8], out: &mut Vec<u8>) {
        match &self.name {
            Name::Same => out.extend_from_slice(subject),
            Name::Fixed => out.extend_from_slice(self.here.as_bytes()),
            Name::Other(rename) => rename.forth(subject, out),
        }
    }
}

impl<P: Port> Broker<P> {
    /// Adds to a subscription what the streams that its account imports may bring it.
    pub(crate) fn add_shadows(&mut self, account: AccountId, main: SubId, now: Now) {
        let importer = &self.accounts[account.index()];
        let mut filter = Vec::new();
        importer.router.filter_of(main, &mut filter);
        let Ok(filter) = Filter::new(&filter) else { return };
        let found = importer.ties.streams.iter();
        let found: Vec<(Arc<ImportedStream>, Vec<u8>)> =
            found.filter_map(|import| Some((Arc::clone(import), import.part_of(filter)?))).collect();
        let mut queue = Vec::new();
        let queue = importer.router.queue_of(main, &mut queue).then_some(queue);
        let Some(sub) = importer.subs.get(main) else { return };
        let (conn, sid): (ConnId, Box<[u8]>) = (sub.conn(), sub.sid().into());
        let filtered = importer.subs.is_filtered(main);
        let mut shadows = Vec::new();
        for (import, part) in found {
            let exporter = import.exporter;
            let Some(there) = self.accounts.get_mut(exporter.index()) else { continue };
            let Some(Ok(id)) =
                Filter::new(&part).ok().map(|part| there.router.insert(part, queue.as_deref()))
            else {
                continue;
            };
            let shadow = Shadow { conn, sid: sid.clone(), main, import };
            let target = there.targets.insert(Target::Shadow(Box::new(shadow)));
            there.subs.insert_target(id, target);
            let watched = !there.watches.is_empty();
            if let Some((record, _)) = there.subs.get_mut(id) {
                record.set_filtered(filtered);
            }
            shadows.push((exporter, id));
            if watched {
                self.heed_interest(exporter, &part, queue.as_deref(), true);
            }
            if self.system_account == Some(exporter) {
                self.heed_events(now);
            }
        }
        if !shadows.is_empty() {
            self.accounts[account.index()].shadows.insert(main, shadows);
        }
    }

    /// The same for a subscription inside the daemon.
    pub(crate) fn add_beyond(&mut self, account: AccountId, main: SubId, inside: Inside) {
        let importer = &self.accounts[account.index()];
        let mut filter = Vec::new();
        importer.router.filter_of(main, &mut filter);
        let Ok(filter) = Filter::new(&filter) else { return };
        let found = importer.ties.streams.iter();
        let found: Vec<(Arc<ImportedStream>, Vec<u8>)> =
            found.filter_map(|import| Some((Arc::clone(import), import.part_of(filter)?))).collect();
        let mut shadows = Vec::new();
        for (import, part) in found {
            let exporter = import.exporter;
            let beyond = Beyond { inside, account, import };
            if let Some(id) = self.insert_target(exporter, &part, Target::Beyond(Box::new(beyond))) {
                shadows.push((exporter, id));
            }
        }
        if !shadows.is_empty() {
            self.accounts[account.index()].shadows.insert(main, shadows);
        }
    }

    /// Notes whether the messages of a subscription must be looked at one by one.
    pub(crate) fn filter_shadows(&mut self, account: AccountId, main: SubId, filtered: bool) {
        let shadows = self.accounts[account.index()].shadows.get(&main).cloned();
        for (exporter, id) in shadows.into_iter().flatten() {
            let exporter = self.accounts.get_mut(exporter.index());
            if let Some((record, _)) = exporter.and_then(|exporter| exporter.subs.get_mut(id)) {
                record.set_filtered(filtered);
            }
        }
    }

    /// Takes away what [`Broker::add_shadows`] gave.
    pub(crate) fn remove_shadows(&mut self, account: AccountId, main: SubId) {
        for (exporter, id) in self.accounts[account.index()].shadows.remove(&main).into_iter().flatten() {
            self.remove_target(exporter, id);
        }
    }

    /// Ends a subscription that is no connection's own.
    pub(crate) fn remove_target(&mut self, account_id: AccountId, id: SubId) {
        let Some(account) = self.accounts.get_mut(account_id.index()) else { return };
        let Some(target) = account.subs.get(id).map(|sub| sub.conn()).filter(|id| id.target().is_some())
        else {
            return;
        };
        let (mut filter, mut queue) = (Vec::new(), Vec::new());
        let watched = !account.watches.is_empty() && account.router.filter_of(id, &mut filter);
        let queue = (watched && account.router.queue_of(id, &mut queue)).then_some(queue);
        account.router.remove(id);
        account.subs.remove_target(id);
        let target = account.targets.remove(target);
        if watched && matches!(target, Some(Target::Hub(_))) {
            self.heed_watches(account_id, &filter, false);
        } else if watched {
            self.heed_interest(account_id, &filter, queue.as_deref(), false);
        }
    }

    /// Subscribes a target. `None` if the router has no more room, or `filter` is none.
    pub(crate) fn insert_target(
        &mut self,
        account_id: AccountId,
        filter: &[u8],
        target: Target,
    ) -> Option<SubId> {
        let account = self.accounts.get_mut(account_id.index())?;
        let id = account.router.insert(Filter::new(filter).ok()?, None).ok()?;
        let target = account.targets.insert(target);
        account.subs.insert_target(id, target);
        if !account.watches.is_empty() {
            self.heed_interest(account_id, filter, None, true);
        }
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use midge_router::mapping::Rename;

    fn import(there: &str, here: &str) -> ImportedStream {
        let (here, name) = if there == here {
            (here.to_owned(), Name::Same)
        } else if there.contains(['*', '>']) {
            let rename = Rename::new(there, here).unwrap();
            (rename.there().to_owned(), Name::Other(rename))
        } else {
            (here.to_owned(), Name::Fixed)
        };
        ImportedStream {
            exporter: AccountId(1),
            here: here.into(),
            there: there.into(),
            name,
            expires: None,
            allow_trace: false,
        }
    }

    #[test]
    fn only_what_is_imported_is_asked_for() {
        for (there, here, filter, part) in [
            ("out.>", "out.>", "out.a", Some("out.a")),
            ("out.>", "out.>", ">", Some("out.>")),
            ("out.>", "out.>", "*.a.>", Some("out.a.>")),
            ("out.>", "out.>", "*", None),
            ("out.>", "from.a.out.>", "from.>", Some("out.>")),
            ("out.>", "from.a.out.>", "from.*.out.x", Some("out.x")),
            ("out.>", "from.a.out.>", "out.>", None),
            ("out.*.*", "in.$2.$1", "in.b.*", Some("out.*.b")),
            ("out.*.*", "in.$2.$1", "in.>", Some("out.*.*")),
            ("out.*.*", "in.$2.$1", "*.b.a", Some("out.a.b")),
            ("one", "other", "*", Some("one")),
            ("one", "other", "one", None),
        ] {
            let part_of = import(there, here).part_of(Filter::new(filter.as_bytes()).unwrap());
            let text = part_of.map(|part| String::from_utf8(part).unwrap());
            assert_eq!(text.as_deref(), part, "{filter} of {there} as {here}");
        }
    }
}

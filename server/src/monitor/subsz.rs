//! /subsz: the subject trees, and the subscriptions in them.

use midge_broker::{Account, Sub};
use midge_protocol::subject::Subject;
use serde::Serialize;

use super::ROWS_MAX;
use super::query::{BadRequest, Page, Query};
use super::sub::SubDetail;
use super::text::{Number, Time};
use crate::hub::Hub;

/// nats-server's `Subsz`.
#[derive(Serialize)]
pub(super) struct Subsz {
    server_id: String,
    now: Time,
    #[serde(flatten)]
    figures: Figures,
    /// Subscriptions that the listing would hold without `offset` and `limit`.
    total: usize,
    offset: usize,
    limit: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions_list: Vec<SubDetail>,
}

/// nats-server's `SublistStats`, over all accounts that were asked for.
#[derive(Serialize)]
pub(super) struct Figures {
    num_subscriptions: usize,
    num_cache: usize,
    num_inserts: u64,
    num_removes: u64,
    num_matches: u64,
    cache_hit_rate: Number,
    max_fanout: usize,
    avg_fanout: Number,
}

impl Figures {
    pub(super) fn sum<'a>(accounts: impl Iterator<Item = &'a Account>) -> Self {
        let mut sum = midge_router::Stats::default();
        for stats in accounts.map(|account| account.router().stats()) {
            sum.subs += stats.subs;
            sum.cache += stats.cache;
            sum.inserts += stats.inserts;
            sum.removes += stats.removes;
            sum.matches += stats.matches;
            sum.cache_hits += stats.cache_hits;
            sum.fanout_max = sum.fanout_max.max(stats.fanout_max);
            sum.fanout_total += stats.fanout_total;
        }
        let ratio = |part: f64, whole: f64| Number(if whole > 0.0 { part / whole } else { 0.0 });
        Self {
            num_subscriptions: sum.subs,
            num_cache: sum.cache,
            num_inserts: sum.inserts,
            num_removes: sum.removes,
            num_matches: sum.matches,
            cache_hit_rate: ratio(sum.cache_hits as f64, sum.matches as f64),
            max_fanout: sum.fanout_max,
            avg_fanout: ratio(sum.fanout_total as f64, sum.cache as f64),
        }
    }
}

/// Rows without `limit`.
const LIMIT: usize = 1024;

struct Options<'q> {
    list: bool,
    page: Page,
    account: Option<&'q str>,
    /// Only subscriptions that a message on this subject would reach.
    test: Option<Subject<'q>>,
}

impl<'q> Options<'q> {
    fn read(query: &'q Query) -> Result<Self, BadRequest> {
        let list = query.flag("subs")?;
        let page = query.page(LIMIT, ROWS_MAX)?;
        let test = query.text("test").map(|subject| {
            Subject::new(subject.as_bytes()).map_err(|_| {
                BadRequest(format!("invalid test subject, must be valid publish subject: {subject}"))
            })
        });
        Ok(Self { list, page, account: query.text("acc"), test: test.transpose()? })
    }

    fn wants(&self, account: &Account) -> bool {
        self.account.is_none_or(|name| name == account.name())
    }
}

impl Subsz {
    pub(super) fn collect(hub: &Hub, query: &Query) -> Result<Self, BadRequest> {
        let options = Options::read(query)?;
        let Page { offset, limit } = options.page;
        Ok(hub.look(|broker, now| {
            let figures = Figures::sum(broker.accounts().filter(|account| options.wants(account)));
            let (mut total, mut rows) = (0, Vec::new());
            if options.list {
                // Asking the tree takes the time of a message; comparing every filter would take that of all of them.
                let reached: Vec<_> = broker
                    .accounts_mut()
                    .map(|account| options.test.map(|subject| account.matching(subject.as_bytes())))
                    .collect();
                let listed = || {
                    let accounts = broker.accounts().zip(&reached);
                    accounts.filter(|(account, _)| options.wants(account))
                };
                total = listed()
                    .map(|(account, reached)| reached.as_ref().map_or(account.router().len(), Vec::len))
                    .sum();
                let subs = listed().flat_map(
                    |(account, reached)| -> Box<dyn Iterator<Item = (&Account, Sub<'_>)>> {
                        match reached {
                            None => Box::new(account.subscriptions().map(move |sub| (account, sub))),
                            Some(ids) => Box::new(
                                ids.iter()
                                    .filter_map(|id| account.subscription(*id))
                                    .map(move |sub| (account, sub)),
                            ),
                        }
                    },
                );
                rows = subs
                    .skip(offset)
                    .take(limit)
                    .map(|(account, sub)| {
                        let cid = broker.conn(sub.conn()).map_or(0, |conn| conn.cid());
                        SubDetail::new(account, sub, cid).in_account(account)
                    })
                    .collect();
            }
            Self {
                server_id: broker.settings().info.id.clone(),
                now: Time(now.wall),
                figures,
                total,
                offset,
                limit,
                subscriptions_list: rows,
            }
        }))
    }
}

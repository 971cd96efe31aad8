//! Buckets: what `midge kv` and `midge object` have in common. Each is a stream whose name begins as its kind's do.

use std::error::Error;
use std::io::Write;
use std::num::NonZeroU64;
use std::pin::pin;

use async_nats::jetstream::stream::StorageType;
use futures_util::{Stream, StreamExt};
use serde_json::{Value, json};

use crate::api::{Api, Parts, STREAM_NOT_FOUND, check_name, library_failure};
use crate::cli::{Force, Output, Storage};
use crate::confirm::confirm;
use crate::exit::{Failure, Outcome};
use crate::show::print_json;
use crate::signals::Signals;
use crate::stream::sheet;

/// A kind of bucket, by what its streams' names begin with.
#[derive(Clone, Copy)]
pub(crate) struct Kind(&'static str);

impl Kind {
    pub(crate) const KEY_VALUE: Kind = Kind("KV_");
    pub(crate) const OBJECT: Kind = Kind("OBJ_");

    /// What the server knows of every bucket of this kind, in the order of their names.
    pub(crate) async fn all(self, api: &mut Api) -> Outcome<Vec<(String, Value)>> {
        let streams = api.pages("STREAM.LIST", "streams", json!({})).await?;
        let mut buckets: Vec<(String, Value)> = streams
            .into_iter()
            .filter_map(|stream| {
                let bucket = stream["config"].text("name").strip_prefix(self.0)?.to_owned();
                Some((bucket, stream))
            })
            .collect();
        buckets.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(buckets)
    }

    /// What the server knows of a bucket, which has to exist.
    pub(crate) async fn find(self, name: &str, api: &mut Api) -> Outcome<Value> {
        check_name("bucket", name)?;
        match api.try_ask(&format!("STREAM.INFO.{}{name}", self.0), &Value::Null).await? {
            Err(refusal) if refusal.err_code == STREAM_NOT_FOUND => {
                Err(Failure::runtime(format_args!("there is no bucket {name}")))
            }
            answer => answer.map_err(Failure::from),
        }
    }

    /// Prints what the server knows of a bucket.
    pub(crate) async fn show(self, name: &str, output: Output, api: &mut Api) -> Outcome {
        let info = self.find(name, api).await?;
        match output.json {
            true => print_json(&info),
            false => Ok(sheet(&info).print()?),
        }
    }

    /// Removes a bucket. `holds` says what goes with it, from the state of its stream.
    pub(crate) async fn remove(
        self,
        name: &str,
        force: Force,
        holds: impl FnOnce(&Value) -> String,
        api: &mut Api,
    ) -> Outcome {
        let info = self.find(name, api).await?;
        confirm(force, &format!("remove bucket {name} with {}", holds(&info["state"])))?;
        api.ask(&format!("STREAM.DELETE.{}{name}", self.0), &Value::Null).await?;
        Ok(writeln!(std::io::stdout().lock(), "Removed bucket {name}")?)
    }
}

/// Shows changes as they come, until there were `count`, or somebody ends it.
pub(crate) async fn watch<T, E: Error + 'static>(
    changes: impl Stream<Item = Result<T, E>>,
    count: Option<NonZeroU64>,
    mut signals: Signals,
    api: &mut Api,
    mut show: impl FnMut(&T) -> Outcome,
) -> Outcome {
    let mut changes = pin!(changes);
    let mut seen = 0;
    loop {
        let change = tokio::select! {
            biased;
            () = signals.wanted() => return Ok(()),
            failure = api.link.notices() => return Err(failure),
            change = changes.next() => change,
        };
        let Some(change) = change else { return Ok(()) };
        show(&change.map_err(|error| library_failure(&error))?)?;
        seen += 1;
        if count.is_some_and(|count| seen == count.get()) {
            return Ok(());
        }
    }
}

/// Where to store, in the client library's terms.
pub(crate) fn storage(storage: Option<Storage>) -> StorageType {
    match storage {
        Some(Storage::Memory) => StorageType::Memory,
        Some(Storage::File) | None => StorageType::File,
    }
}

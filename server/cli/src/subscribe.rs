//! `midge sub`

use futures_util::StreamExt;
use futures_util::stream::select_all;

use crate::cli::{Connection, Subscribe};
use crate::connect::Link;
use crate::exit::{Failure, Outcome};
use crate::show::Show;
use crate::signals::Signals;

/// Shows messages until it has enough of them, or someone has enough of it.
pub(crate) async fn run(args: &Subscribe, connection: &Connection) -> Outcome {
    let mut signals = Signals::catch()?;
    let mut link = Link::open(connection).await?;
    let mut subscriptions = Vec::new();
    for subject in &args.subjects {
        subscriptions.push(link.subscribe(subject, args.queue.as_deref()).await?);
    }
    // Whoever waits for the notice may publish right after it.
    link.round_trip().await?;
    eprintln!("Listening on {} (Ctrl-C ends)", args.subjects.join(", "));

    let mut show = Show::new(args.display).typed(args.typed.postcard.clone());
    let mut messages = select_all(subscriptions).ready_chunks(CHUNK_MESSAGES_MAX);
    let mut seen = 0;
    loop {
        let chunk = tokio::select! {
            biased;
            () = signals.wanted() => return Ok(()),
            failure = link.notices() => return Err(failure),
            chunk = messages.next() => chunk,
            () = quiet(args.wait) => return short_of(seen, args),
        };
        let Some(chunk) = chunk else { return Ok(()) };
        for message in &chunk {
            seen += 1;
            show.message(seen, message, None)?;
            if args.count.is_some_and(|count| seen == count.get()) {
                return Ok(show.flush()?);
            }
        }
        show.flush()?;
    }
}

/// Completes after that time. Each message starts a new wait.
async fn quiet(wait: Option<std::time::Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

fn short_of(seen: u64, args: &Subscribe) -> Outcome {
    match args.count {
        Some(count) => Err(Failure::unavailable(format_args!("{seen} of {count} messages came in time"))),
        None => Ok(()),
    }
}

/// Messages that are written before the output is flushed.
const CHUNK_MESSAGES_MAX: usize = 256;

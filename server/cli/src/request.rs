//! `midge request`

use std::time::Instant;

use async_nats::StatusCode;
use futures_util::StreamExt;
use tokio::time::{Instant as Deadline, timeout_at};

use crate::cli::{Connection, Request};
use crate::connect::Link;
use crate::draft::Draft;
use crate::exit::{Failure, Outcome};
use crate::show::Show;

/// Sends one request and shows as many replies as asked for.
pub(crate) async fn run(args: &Request, connection: &Connection) -> Outcome {
    let mut link = Link::open(connection).await?;
    let draft = Draft::complete(&args.subject, None, &args.content, link.client.max_payload()).await?;
    let mut message = draft.message(1)?;
    let subject = message.subject.clone();
    let inbox = link.client.new_inbox();
    let mut replies = link.subscribe(&inbox, None).await?;
    message.reply = Some(inbox.into());

    let started = Instant::now();
    let deadline = Deadline::now() + link.timeout;
    link.publish(message).await?;
    let mut show = Show::new(args.display).typed(args.typed.postcard.clone());
    let mut seen = 0;
    while args.replies == 0 || seen < args.replies {
        let next = async {
            tokio::select! {
                biased;
                failure = link.trouble() => Err(failure),
                reply = replies.next() => reply.ok_or_else(|| Failure::unavailable("the connection was closed")),
            }
        };
        let Ok(reply) = timeout_at(deadline, next).await else { break };
        let reply = reply?;
        if reply.status == Some(StatusCode::NO_RESPONDERS) {
            return Err(Failure::unavailable(format_args!("nobody answers on {subject} (no responders)")));
        }
        seen += 1;
        show.message(seen, &reply, Some(started.elapsed()))?;
        show.flush()?;
    }
    let wait = link.timeout;
    match (seen, args.replies) {
        (0, _) => Err(Failure::unavailable(format_args!("no reply from {subject} within {wait:?}"))),
        (seen, wanted) if seen < wanted => Err(Failure::unavailable(format_args!(
            "{seen} of {wanted} replies from {subject} within {wait:?}"
        ))),
        _ => Ok(()),
    }
}

//! `midge pub`

use std::time::{Duration, Instant};

use bytes::Bytes;
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressState, ProgressStyle};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Stdin};

use crate::cli::{Connection, Publish};
use crate::connect::Link;
use crate::draft::Draft;
use crate::exit::{Failure, Outcome};
use crate::show::short;
use crate::signals::Signals;

/// Publishes, and returns once the server has it all.
pub(crate) async fn run(args: &Publish, connection: &Connection) -> Outcome {
    let mut link = Link::open(connection).await?;
    let started = Instant::now();
    let mut tally = Tally::default();
    match args.lines {
        true => lines(args, &mut link, &mut tally).await?,
        false => repeat(args, &mut link, &mut tally).await?,
    }
    link.round_trip().await?;
    if !args.quiet {
        tally.print(started.elapsed(), args)?;
    }
    Ok(())
}

async fn repeat(args: &Publish, link: &mut Link, tally: &mut Tally) -> Outcome {
    let len_max = link.client.max_payload();
    let draft = Draft::complete(&args.subject, args.reply.as_ref(), &args.content, len_max).await?;
    let count = args.count.get();
    let bar = match count > 1 && !args.quiet {
        true => ProgressBar::new(count).with_style(bar_style()),
        false => ProgressBar::hidden(),
    };
    for number in 1..=count {
        let message = draft.message(number)?;
        tally.add(message.payload.len());
        link.publish(message).await?;
        bar.inc(1);
        if let Some(pause) = args.sleep.filter(|_| number < count) {
            rest(link, pause).await?;
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// Each line goes out when it is there, since a slow source is what people watch.
async fn lines(args: &Publish, link: &mut Link, tally: &mut Tally) -> Outcome {
    let draft = Draft::without_body(&args.subject, args.reply.as_ref(), &args.content);
    let mut signals = Signals::catch()?;
    let mut stdin = BufReader::new(tokio::io::stdin());
    let len_max = link.client.max_payload();
    loop {
        let line = tokio::select! {
            biased;
            () = signals.wanted() => return Ok(()),
            failure = link.trouble() => return Err(failure),
            line = next_line(&mut stdin, len_max) => line?,
        };
        let Some(line) = line else { return Ok(()) };
        tally.add(line.len());
        link.publish(draft.with_body(tally.count, line)?).await?;
        if stdin.buffer().is_empty() {
            link.client.flush().await.map_err(Failure::unavailable)?;
        }
        if let Some(pause) = args.sleep {
            rest(link, pause).await?;
        }
    }
}

/// A line without its end, or `None` after the last. Not cancel-safe: who drops it must not read on.
async fn next_line(stdin: &mut BufReader<Stdin>, len_max: usize) -> Outcome<Option<Bytes>> {
    let mut line = Vec::new();
    let len_read_max = len_max as u64 + 3;
    let read = (&mut *stdin).take(len_read_max).read_until(b'\n', &mut line).await;
    if read.map_err(|error| Failure::runtime(format_args!("cannot read stdin: {error}")))? == 0 {
        return Ok(None);
    }
    if line.ends_with(b"\n") {
        line.pop();
        if line.ends_with(b"\r") {
            line.pop();
        }
    }
    match line.len() > len_max {
        true => Err(Failure::runtime(format_args!(
            "the server takes messages of up to {len_max} bytes; a line has more"
        ))),
        false => Ok(Some(line.into())),
    }
}

async fn rest(link: &mut Link, pause: Duration) -> Outcome {
    tokio::select! {
        failure = link.trouble() => Err(failure),
        () = tokio::time::sleep(pause) => Ok(()),
    }
}

/// What was published.
#[derive(Default)]
struct Tally {
    count: u64,
    bytes: u64,
}

impl Tally {
    fn add(&mut self, len: usize) {
        self.count += 1;
        self.bytes += len as u64;
    }

    fn print(&self, took: Duration, args: &Publish) -> Outcome {
        use std::io::Write;
        let Tally { count, bytes } = *self;
        let per_second = (count as f64 / took.as_secs_f64().max(1e-9)).round();
        let mut out = std::io::stdout().lock();
        if args.json {
            let summary = Summary { count, bytes, seconds: took.as_secs_f64(), per_second };
            serde_json::to_writer(&mut out, &summary).map_err(std::io::Error::from)?;
            writeln!(out)?;
        } else if count == 1 {
            writeln!(out, "Published {bytes} B in {}", short(took))?;
        } else {
            let (messages, rate) = (HumanCount(count), HumanCount(per_second as u64));
            writeln!(
                out,
                "Published {messages} messages, {}, in {} ({rate}/s)",
                HumanBytes(bytes),
                short(took)
            )?;
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct Summary {
    count: u64,
    /// Bytes in all bodies.
    bytes: u64,
    /// Until the server had the last one.
    seconds: f64,
    per_second: f64,
}

fn bar_style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:32} {human_pos}/{human_len}  {rate}/s  {eta} left")
        .expect("the template is a constant and well-formed")
        .with_key("rate", |state: &ProgressState, text: &mut dyn std::fmt::Write| {
            // A line without its rate is still a line.
            let _ = write!(text, "{}", HumanCount(state.per_sec() as u64));
        })
}

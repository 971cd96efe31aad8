//! The command line, as clap types. Names and defaults follow natscli: hands and scripts need not relearn.

pub(crate) mod account;
pub(crate) mod consumer;
pub(crate) mod dlq;
pub(crate) mod kv;
pub(crate) mod object;
pub(crate) mod stream;

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use async_nats::HeaderName;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::postcard::Shape;
use crate::template::Template;
use crate::units::duration;

/// Publish, watch and answer messages, and look after streams, on midged or any NATS server
#[derive(Parser)]
#[command(name = "midge", version, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Publish a message, or many
    #[command(visible_alias = "publish", after_help = TEMPLATES)]
    Pub(Publish),
    /// Show messages as they arrive
    #[command(visible_alias = "subscribe")]
    Sub(Subscribe),
    /// Send a request and show the reply
    #[command(visible_alias = "req", after_help = TEMPLATES)]
    Request(Request),
    /// Answer requests
    #[command(after_help = REPLY_TEMPLATES)]
    Reply(Reply),
    /// Measure the round trip to the server
    Rtt(Rtt),
    /// Look after streams: what is stored, for how long, and backups of it
    #[command(subcommand, visible_alias = "str")]
    Stream(stream::Stream),
    /// Look after consumers, and take messages from them
    #[command(subcommand, visible_alias = "con")]
    Consumer(consumer::Consumer),
    /// Keep values under keys
    #[command(subcommand)]
    Kv(kv::Kv),
    /// Keep files and other large things
    #[command(subcommand, visible_alias = "obj")]
    Object(object::Object),
    /// See messages that could not be handled, and send them again
    #[command(subcommand)]
    Dlq(dlq::Dlq),
    /// See what an account may store, and how much it does
    #[command(subcommand)]
    Account(account::Account),
    /// Check a midged configuration file without starting anything
    CheckConfig(CheckConfig),
    /// Look at the files of a stream store whose daemon isn't running, and repair them
    #[command(subcommand)]
    Store(Store),
    /// Print a completion script for a shell
    Completions {
        /// The shell to complete for
        shell: clap_complete::Shell,
    },
    /// Print the version
    Version,
}

/// Where the server is and who we are. A flag beats its environment variable, and both beat the context.
#[derive(Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connection {
    /// Server URL, or several separated by commas [default: nats://127.0.0.1:4222]
    #[arg(short, long, global = true, env = "NATS_URL", hide_env_values = true, value_name = "URL")]
    pub(crate) server: Option<String>,
    /// User name; without a password it is taken as a token
    #[arg(long, global = true, env = "NATS_USER", hide_env_values = true, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// Password of the user; the variable keeps it out of process lists
    #[arg(long, global = true, env = "NATS_PASSWORD", hide_env_values = true)]
    pub(crate) password: Option<String>,
    /// Token to log in with
    #[arg(long, global = true, env = "NATS_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// Credentials file, as nsc makes them
    #[arg(long, global = true, env = "NATS_CREDS", value_name = "FILE")]
    pub(crate) creds: Option<PathBuf>,
    /// File with an nkey seed
    #[arg(long, global = true, env = "NATS_NKEY", value_name = "FILE")]
    pub(crate) nkey: Option<PathBuf>,
    /// Certificate of the authority that signed the server's
    #[arg(long, global = true, env = "NATS_CA", value_name = "FILE")]
    pub(crate) tlsca: Option<PathBuf>,
    /// Our certificate, if the server asks for one
    #[arg(long, global = true, env = "NATS_CERT", value_name = "FILE")]
    pub(crate) tlscert: Option<PathBuf>,
    /// The key of our certificate
    #[arg(long, global = true, env = "NATS_KEY", value_name = "FILE")]
    pub(crate) tlskey: Option<PathBuf>,
    /// Encrypt before the server greets, as it does with `handshake_first`
    #[arg(long, alias = "tls-first", global = true)]
    pub(crate) tlsfirst: bool,
    /// Take connection settings from a context (~/.config/nats/context/NAME.json)
    #[arg(long, global = true, env = "NATS_CONTEXT", value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// Streams of that JetStream domain, behind a leaf node for instance
    #[arg(long, global = true, value_name = "DOMAIN", conflicts_with = "js_api_prefix")]
    pub(crate) js_domain: Option<String>,
    /// What subjects of the API start with, if it is imported from another account
    #[arg(long, global = true, value_name = "PREFIX")]
    pub(crate) js_api_prefix: Option<String>,
    /// How long to wait for the server or for a reply
    #[arg(long, global = true, env = "NATS_TIMEOUT", value_name = "DURATION")]
    #[arg(default_value = "5s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

#[derive(Args)]
pub(crate) struct Publish {
    /// Subject to publish to
    pub(crate) subject: Template,
    #[command(flatten)]
    pub(crate) content: Content,
    /// Subject that receivers should reply to
    #[arg(long, value_name = "SUBJECT")]
    pub(crate) reply: Option<Template>,
    /// Publish each line of stdin as its own message, as it arrives
    #[arg(long, conflicts_with_all = ["body", "count"])]
    pub(crate) lines: bool,
    /// How often to publish
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) count: NonZeroU64,
    /// Pause between messages, such as 100ms
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) sleep: Option<Duration>,
    /// Print the summary as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Print neither summary nor progress
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// What a message carries.
#[derive(Args)]
pub(crate) struct Content {
    /// The body; without it stdin is sent as it is, unless that is a terminal
    pub(crate) body: Option<String>,
    /// Add a header; may be given more than once
    #[arg(short = 'H', long = "header", value_name = "KEY:VALUE", value_parser = header)]
    pub(crate) headers: Vec<(HeaderName, Template)>,
    /// Send {{…}} in the body as written
    #[arg(long)]
    pub(crate) no_templates: bool,
}

/// How received messages are shown.
#[derive(Args, Clone, Copy)]
pub(crate) struct Display {
    /// Print bodies alone, each followed by a newline
    #[arg(long, conflicts_with_all = ["json", "headers_only", "timestamp"])]
    pub(crate) raw: bool,
    /// Print one JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
    /// Leave bodies out
    #[arg(long)]
    pub(crate) headers_only: bool,
    /// Print the local time of arrival (JSON always has it)
    #[arg(short, long)]
    pub(crate) timestamp: bool,
}

/// What bodies mean.
#[derive(Args)]
pub(crate) struct Typed {
    /// Show bodies as values in postcard's format: names and types of the fields, as `number: u32, celsius: f32`
    #[arg(long, value_name = "FIELDS", long_help = POSTCARD)]
    pub(crate) postcard: Option<Shape>,
}

const POSTCARD: &str = "\
Show bodies as values in postcard's format, in which firmware sends them. FIELDS are names and types:

    midge sub 'plant.*.reading' --postcard 'number: u32, uptime_ms: u32, celsius_x100: i16, heater: bool'

Types are bool, u8 to u64, i8 to i64, f32, f64, char, str, bytes; {name: type, …} is a struct, (type, …) a tuple,
[type] any number of them, <A | B type> an enum, and type? an Option. Without names the body is one value of a type.
With --json the value is `value`. A body that is no such value is shown as it is, with what is wrong.";

#[derive(Args)]
pub(crate) struct Subscribe {
    /// Subjects to listen to; `*` stands for one token, a last `>` for one or more
    #[arg(required = true, value_name = "SUBJECT")]
    pub(crate) subjects: Vec<String>,
    /// Join a queue group: each message goes to one member
    #[arg(long, value_name = "GROUP")]
    pub(crate) queue: Option<String>,
    /// End after this many messages
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<NonZeroU64>,
    /// End after this long without a message; an error (69) if --count was not reached
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) wait: Option<Duration>,
    #[command(flatten)]
    pub(crate) display: Display,
    #[command(flatten)]
    pub(crate) typed: Typed,
}

#[derive(Args)]
pub(crate) struct Request {
    /// Subject to ask
    pub(crate) subject: Template,
    #[command(flatten)]
    pub(crate) content: Content,
    /// Replies to wait for; 0 collects until the timeout
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) replies: u64,
    #[command(flatten)]
    pub(crate) display: Display,
    #[command(flatten)]
    pub(crate) typed: Typed,
}

#[derive(Args)]
pub(crate) struct Reply {
    /// Subject to answer on
    pub(crate) subject: String,
    /// The answer
    #[arg(required_unless_present_any = ["echo", "command"])]
    pub(crate) body: Option<Template>,
    /// Answer with the request's own body and headers
    #[arg(long, conflicts_with_all = ["body", "command"])]
    pub(crate) echo: bool,
    /// Answer with the output of a shell command, which gets the request on its stdin
    #[arg(long, value_name = "CMD", conflicts_with = "body")]
    pub(crate) command: Option<String>,
    /// Queue group: of all who answer in it, one gets each request
    #[arg(long, value_name = "GROUP", default_value = "NATS-RPLY-22")]
    pub(crate) queue: String,
    /// End after this many requests
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<NonZeroU64>,
    /// Requests to work on at the same time
    #[arg(long, value_name = "N", default_value = "8")]
    pub(crate) concurrency: std::num::NonZeroU16,
    /// Add a header to each answer; may be given more than once
    #[arg(short = 'H', long = "header", value_name = "KEY:VALUE", value_parser = header)]
    pub(crate) headers: Vec<(HeaderName, Template)>,
    /// Print nothing per request
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Args)]
pub(crate) struct Rtt {
    /// Round trips to make
    #[arg(long, value_name = "N", default_value = "5")]
    pub(crate) count: std::num::NonZeroU32,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct CheckConfig {
    /// The file to check, and with it those that it includes
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: PathBuf,
}

#[derive(Subcommand)]
pub(crate) enum Store {
    /// Read every byte and name what isn't as it was written. Exits with 0, or 74 if there is damage; nothing is changed
    Check {
        /// The store's directory
        directory: PathBuf,
    },
    /// Print what is stored, one JSON object a line: streams, states, then messages, and damage on stderr
    Dump {
        /// The store's directory
        directory: PathBuf,
        /// Only this stream, by its number
        #[arg(long, value_name = "N")]
        stream: Option<u32>,
        /// Leave payloads out
        #[arg(long)]
        no_payload: bool,
    },
    /// Make a damaged store right: what can be read stays, what is lost is written down, so that it is named and never served.
    /// Files with damage are kept aside in a directory of their own, and copies take their place. Exits with 0 if the store is
    /// right now, or 74 if it can't be made so
    Repair {
        /// The store's directory
        directory: PathBuf,
        /// Only say what would be done; exits with 74 if that is anything
        #[arg(long)]
        dry_run: bool,
    },
}

/// How a table is shown.
#[derive(Args, Clone, Copy)]
pub(crate) struct Output {
    /// Print JSON, one object a line, with all that the server says
    #[arg(short, long)]
    pub(crate) json: bool,
}

/// Whether to ask before something is done that can't be undone.
#[derive(Args, Clone, Copy)]
pub(crate) struct Force {
    /// Do it without asking; needed where there is no terminal
    #[arg(short, long)]
    pub(crate) force: bool,
}

/// Where a server keeps something.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Storage {
    /// On disk
    #[value(alias = "f")]
    File,
    /// In memory, gone when the server ends
    #[value(alias = "m")]
    Memory,
}

/// Reads `Key:value`; blanks around the value are dropped, as receivers do.
fn header(text: &str) -> Result<(HeaderName, Template), String> {
    let (name, value) = text.split_once(':').ok_or("expected KEY:VALUE")?;
    let name = name.parse().map_err(|_| format!("{name:?} cannot be a header name"))?;
    if value.contains(['\r', '\n']) {
        return Err("a header's value cannot hold a line break".to_owned());
    }
    Ok((name, value.trim().parse()?))
}

/// Reads `key=value`, or `key:value` as natscli has it.
fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once(['=', ':']).ok_or("expected KEY=VALUE")?;
    match key.is_empty() {
        true => Err("expected KEY=VALUE".to_owned()),
        false => Ok((key.to_owned(), value.to_owned())),
    }
}

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 failed, 2 bad arguments, 69 no server, no responder or too late, 78 bad configuration";

const TEMPLATES: &str = "\
Templates in SUBJECT, BODY and header values:
  {{Count}}           number of the message, from 1
  {{Time}}            local time, 3:04PM
  {{TimeStamp}}       RFC 3339 time
  {{Unix}}            seconds since 1970
  {{UnixNano}}        nanoseconds since 1970
  {{ID}}              a unique identifier
  {{Random MIN MAX}}  random letters and digits, MIN to MAX of them
In a subject the dots, blanks and wildcards that a template gives become `_`.";

const REPLY_TEMPLATES: &str = "\
Templates in BODY and header values: those of `midge pub`, and {{Request}} and {{Subject}} of the request.
A command finds them in NATS_REQUEST_BODY (if it is text) and NATS_REQUEST_SUBJECT, also as NATS_SUBJECT.
If it fails, the answer is empty and has the headers Nats-Service-Error and Nats-Service-Error-Code.";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn headers_split_at_the_first_colon() {
        let (name, _) = header("Trace: a:b").unwrap();
        assert_eq!(name.to_string(), "Trace");
        assert!(header("no colon").is_err());
        assert!(header("bad name:1").is_err());
        assert!(header("A:x\r\nB:y").is_err());
    }
}

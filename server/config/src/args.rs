//! The command line of the daemon.
//!
//! The flags are nats-server's (reference 3.8), read as Go reads them: `-x` and `--x` are the same flag, a value
//! follows behind `=` or as the next argument, a boolean's value only behind `=`, and the last of several wins.

use std::path::{Path, PathBuf};

use crate::check::{Unserved, find};
use crate::keys::{ROOT, Stance};
use crate::load::{Loaded, finish, read_file};
use crate::options::{Options, Secret};
use crate::parse::World;
use crate::report::{Problem, Report};
use crate::tls::{Certificate, Tls};

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Invocation {
    /// Run a server.
    Run(Run),
    /// Check the configuration file that [`Run::config_file`] names, and say so.
    TestConfig(Run),
    /// Tell a running server something.
    Signal {
        /// What to tell.
        command: SignalCommand,
        /// A process id or the path of a file that holds one. None: the only server there is.
        target: Option<String>,
    },
    /// Print [`HELP`].
    Help,
    /// Print the version.
    Version,
}

/// What a running server can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalCommand {
    /// Leave slowly.
    LameDuck,
    /// End at once, in the middle of things.
    Stop,
    /// End.
    Quit,
    /// End, unless it is leaving slowly already.
    Term,
    /// Open the log file anew.
    Reopen,
    /// Read the configuration file anew.
    Reload,
}

/// How a server is to run: a configuration file and the flags that win over it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Run {
    /// The configuration file.
    pub config_file: Option<PathBuf>,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Print one line of JSON on the standard output when the server is ready, with its addresses.
    pub ready: bool,
    /// Flags in their order, checked.
    flags: Vec<(Flag, String)>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// As nats-server's.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Run {
    /// Reads the configuration file, if there is one, lets the flags win over it and checks the whole; where streams are kept is
    /// said in one of them only. For a reload it is called again.
    pub fn load(&self, world: World<'_>) -> Loaded {
        let (mut options, mut report) = match &self.config_file {
            Some(path) => {
                let kept =
                    self.flags.iter().any(|(flag, value)| *flag == Flag::StoreDir && !value.is_empty());
                read_file(path, world, if kept { &["store_dir"] } else { &[] })?
            }
            None => (Options::default(), Report::default()),
        };
        for (flag, value) in &self.flags {
            flag.apply(value, &mut options);
        }
        self.apply_tls(&mut options, &mut report);
        finish((options, report))
    }

    /// The TLS flags count together: `--tls=false` switches TLS off, any other one makes the flags the whole setting.
    fn apply_tls(&self, options: &mut Options, report: &mut Report) {
        let last = |wanted| {
            self.flags.iter().rev().find(|(flag, _)| *flag == wanted).map(|(_, value)| value.as_str())
        };
        if last(Flag::Tls) == Some("false") {
            options.tls = None;
            return;
        }
        let path = |flag| last(flag).filter(|path| !path.is_empty()).map(PathBuf::from);
        let given = [Flag::Tls, Flag::TlsVerify, Flag::TlsCert, Flag::TlsKey, Flag::TlsCaCert];
        if !given.into_iter().any(|flag| last(flag).is_some()) {
            return;
        }
        let (Some(cert_file), Some(key_file)) = (path(Flag::TlsCert), path(Flag::TlsKey)) else {
            let text = "with --tls go --tlscert and --tlskey: the server's certificate and its private key";
            report.errors.push(Problem::general(text));
            return;
        };
        options.tls = Some(Tls {
            certificates: vec![Certificate { cert_file, key_file }],
            ca_file: path(Flag::TlsCaCert),
            verify: last(Flag::TlsVerify) == Some("true"),
            ..Tls::default()
        });
        if !options.unserved.iter().any(|unserved| unserved.key == "tls") {
            unserved(options, "tls");
        }
    }
}

/// Reads the arguments behind the program's name. The error is a usage error: print it and exit with 2.
pub fn parse_args(args: impl IntoIterator<Item = String>) -> Result<Invocation, String> {
    let mut args = args.into_iter();
    let mut run = Run::default();
    let (mut test, mut help, mut version, mut signal) = (false, false, false, None);
    while let Some(arg) = args.next() {
        let Some(name) =
            arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')).filter(|name| !name.is_empty())
        else {
            match arg.to_ascii_lowercase().as_str() {
                "--" => continue,
                "help" => return Ok(Invocation::Help),
                "version" => return Ok(Invocation::Version),
                _ => return Err(format!("unrecognized command: {arg:?}")),
            }
        };
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (name, None),
        };
        let known = FLAGS.iter().find(|(names, ..)| names.split(' ').any(|alias| alias == name));
        let Some((_, flag, takes)) = known else {
            return Err(format!("flag provided but not defined: -{name}"));
        };
        let value = match (takes, value) {
            (Takes::Bool, value) => bool_value(name, value.as_deref())?.to_string(),
            (_, Some(value)) => value,
            (_, None) => args.next().ok_or_else(|| format!("flag needs an argument: -{name}"))?,
        };
        takes.check(name, &value)?;
        match flag {
            Flag::Help => help = value == "true",
            Flag::Version => version = value == "true",
            Flag::Test => test = value == "true",
            Flag::Signal => signal = Some(value),
            Flag::Config => run.config_file = Some(PathBuf::from(value)).filter(|path| path != Path::new("")),
            Flag::Ready => run.ready = value == "true",
            Flag::LogFormat => {
                run.log_format = match value.as_str() {
                    "text" => LogFormat::Text,
                    "json" => LogFormat::Json,
                    _ => return Err(format!("invalid value {value:?} for flag -{name}: it is text or json")),
                }
            }
            flag => run.flags.push((*flag, value)),
        }
    }
    match signal {
        _ if version => Ok(Invocation::Version),
        _ if help => Ok(Invocation::Help),
        Some(signal) => parse_signal(&signal),
        None if test && run.config_file.is_none() => {
            Err("must specify [-c, --config] option to check configuration file syntax".to_owned())
        }
        None if test => Ok(Invocation::TestConfig(run)),
        None => Ok(Invocation::Run(run)),
    }
}

fn parse_signal(text: &str) -> Result<Invocation, String> {
    let (command, target) = match text.split_once('=') {
        Some((command, target)) => (command, Some(target.to_owned()).filter(|target| !target.is_empty())),
        None => (text, None),
    };
    let command = match command {
        "ldm" => SignalCommand::LameDuck,
        "stop" => SignalCommand::Stop,
        "quit" => SignalCommand::Quit,
        "term" => SignalCommand::Term,
        "reopen" => SignalCommand::Reopen,
        "reload" => SignalCommand::Reload,
        _ => {
            return Err(format!("unknown signal {command:?}: it is ldm, stop, quit, term, reopen or reload"));
        }
    };
    Ok(Invocation::Signal { command, target })
}

/// What a flag takes.
#[derive(Clone, Copy, Debug)]
enum Takes {
    Bool,
    /// An integer in a range, both ends included.
    Int(i64, i64),
    Text,
}

impl Takes {
    fn check(self, name: &str, value: &str) -> Result<(), String> {
        match self {
            Self::Int(low, high) if !value.parse().is_ok_and(|int: i64| (low..=high).contains(&int)) => Err(
                format!("invalid value {value:?} for flag -{name}: it is an integer from {low} to {high}"),
            ),
            _ => Ok(()),
        }
    }
}

fn bool_value(name: &str, value: Option<&str>) -> Result<bool, String> {
    match value {
        None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(value) => Err(format!("invalid boolean value {value:?} for -{name}")),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flag {
    Help,
    Version,
    Test,
    Config,
    Signal,
    Ready,
    LogFormat,
    Port,
    Name,
    Host,
    ClientAdvertise,
    Debug,
    Trace,
    VerboseTrace,
    DebugTrace,
    DebugVerboseTrace,
    LogTime,
    LogTimeUtc,
    User,
    Password,
    Token,
    HttpPort,
    HttpsPort,
    UnixSocket,
    PidFile,
    PortsFileDir,
    LogFile,
    LogSizeLimit,
    MaxTracedMsgLen,
    Syslog,
    RemoteSyslog,
    JetStream,
    StoreDir,
    Tls,
    TlsVerify,
    TlsCert,
    TlsKey,
    TlsCaCert,
    /// Of clusters and profiling, by the name of the key that it stands for.
    Unserved(&'static str),
}

const PORT: Takes = Takes::Int(-1, u16::MAX as i64);

/// The names of every flag, the flag and what it takes.
static FLAGS: &[(&str, Flag, Takes)] = &[
    ("h help help_tls", Flag::Help, Takes::Bool),
    ("v version", Flag::Version, Takes::Bool),
    ("t", Flag::Test, Takes::Bool),
    ("c config", Flag::Config, Takes::Text),
    ("sl signal", Flag::Signal, Takes::Text),
    ("ready", Flag::Ready, Takes::Bool),
    ("log-format", Flag::LogFormat, Takes::Text),
    ("p port", Flag::Port, PORT),
    ("n name server_name", Flag::Name, Takes::Text),
    ("a addr net", Flag::Host, Takes::Text),
    ("client_advertise", Flag::ClientAdvertise, Takes::Text),
    ("D debug", Flag::Debug, Takes::Bool),
    ("V trace", Flag::Trace, Takes::Bool),
    ("VV", Flag::VerboseTrace, Takes::Bool),
    ("DV", Flag::DebugTrace, Takes::Bool),
    ("DVV", Flag::DebugVerboseTrace, Takes::Bool),
    ("T logtime", Flag::LogTime, Takes::Bool),
    ("logtime_utc", Flag::LogTimeUtc, Takes::Bool),
    ("user", Flag::User, Takes::Text),
    ("pass", Flag::Password, Takes::Text),
    ("auth", Flag::Token, Takes::Text),
    ("m http_port", Flag::HttpPort, PORT),
    ("ms https_port", Flag::HttpsPort, PORT),
    ("unix_socket", Flag::UnixSocket, Takes::Text),
    ("P pid", Flag::PidFile, Takes::Text),
    ("ports_file_dir", Flag::PortsFileDir, Takes::Text),
    ("l log", Flag::LogFile, Takes::Text),
    ("log_size_limit", Flag::LogSizeLimit, Takes::Int(0, i64::MAX)),
    ("max_traced_msg_len", Flag::MaxTracedMsgLen, Takes::Int(0, i32::MAX as i64)),
    ("s syslog", Flag::Syslog, Takes::Bool),
    ("r remote_syslog", Flag::RemoteSyslog, Takes::Text),
    ("js jetstream", Flag::JetStream, Takes::Bool),
    ("sd store_dir", Flag::StoreDir, Takes::Text),
    ("tls", Flag::Tls, Takes::Bool),
    ("tlsverify", Flag::TlsVerify, Takes::Bool),
    ("tlscert", Flag::TlsCert, Takes::Text),
    ("tlskey", Flag::TlsKey, Takes::Text),
    ("tlscacert", Flag::TlsCaCert, Takes::Text),
    ("profile", Flag::Unserved("prof_port"), PORT),
    ("routes", Flag::Unserved("cluster.routes"), Takes::Text),
    ("cluster cluster_listen", Flag::Unserved("cluster.listen"), Takes::Text),
    ("cluster_name", Flag::Unserved("cluster.name"), Takes::Text),
    ("cluster_advertise", Flag::Unserved("cluster.advertise"), Takes::Text),
    ("no_advertise", Flag::Unserved("cluster.no_advertise"), Takes::Bool),
    ("connect_retries", Flag::Unserved("cluster.connect_retries"), Takes::Int(i64::MIN, i64::MAX)),
];

impl Flag {
    /// Sets what the flag stands for. TLS is set by all of its flags together.
    fn apply(self, value: &str, options: &mut Options) {
        let on = value == "true";
        let text = || Some(value.to_owned()).filter(|value| !value.is_empty());
        let path = || text().map(PathBuf::from);
        let secret = || text().map(Secret::from);
        // -1 asks for any free port, which is 0 here; 0 for the default.
        let port = || {
            value.parse::<i64>().ok().filter(|port| *port != 0).map(|port| u16::try_from(port).unwrap_or(0))
        };
        match self {
            Self::Port => options.listen.port = port().unwrap_or(4222),
            Self::Name => options.server_name = text(),
            Self::Host => options.listen.host = text().unwrap_or_else(|| "0.0.0.0".to_owned()),
            Self::ClientAdvertise => options.client_advertise = text(),
            Self::Debug => options.log.debug = on,
            Self::Trace => options.log.trace = on,
            Self::VerboseTrace => (options.log.trace, options.log.trace_verbose) = (on, on),
            Self::DebugTrace => (options.log.debug, options.log.trace) = (on, on),
            Self::DebugVerboseTrace => {
                (options.log.debug, options.log.trace, options.log.trace_verbose) = (on, on, on);
            }
            Self::LogTime => options.log.time = on,
            Self::LogTimeUtc => options.log.time_utc = on,
            Self::User => options.authorization.user = text(),
            Self::Password => options.authorization.password = secret(),
            Self::Token => options.authorization.token = secret(),
            Self::HttpPort => options.monitor.http_port = port(),
            Self::HttpsPort => {
                options.monitor.https_port = port();
                unserved(options, "https_port");
            }
            Self::UnixSocket => options.unix_socket = path(),
            Self::PidFile => options.pid_file = path(),
            Self::PortsFileDir => options.ports_file_dir = path(),
            Self::LogFile => options.log.file = path(),
            Self::LogSizeLimit => options.log.file_bytes_max = value.parse().ok().filter(|bytes| *bytes > 0),
            Self::MaxTracedMsgLen => {
                options.log.max_traced_msg_len = value.parse().ok().filter(|bytes| *bytes > 0)
            }
            Self::Syslog => {
                options.log.syslog = on;
                if on {
                    unserved(options, "syslog");
                }
            }
            Self::RemoteSyslog => {
                options.log.remote_syslog = text();
                unserved(options, "remote_syslog");
            }
            Self::JetStream => options.jetstream.enabled = on,
            Self::StoreDir => options.jetstream.store_dir = path(),
            Self::Unserved(key) => unserved(options, key),
            Self::Tls | Self::TlsVerify | Self::TlsCert | Self::TlsKey | Self::TlsCaCert => {}
            // The reader of the arguments keeps these to itself.
            Self::Help
            | Self::Version
            | Self::Test
            | Self::Config
            | Self::Signal
            | Self::Ready
            | Self::LogFormat => {}
        }
    }
}

/// Notes that a flag asks for a key that midge does not serve, if it does not.
fn unserved(options: &mut Options, key: &str) {
    let top = key.split('.').next().unwrap_or(key);
    let stance = find(ROOT, top).map(|key| key.stance);
    if let Some(stance @ (Stance::Ignored | Stance::Refused)) = stance {
        options.unserved.push(Unserved { key: key.to_owned(), at: None, refused: stance == Stance::Refused });
    }
}

/// What `-h` prints.
pub const HELP: &str = "\
Usage: midged [flags]

A server for the NATS protocol. -x and --x are the same flag; values follow behind
'=' or a space, those of switches only behind '='. Flags win over the file.

Server
  -a, --addr, --net HOST        listen on this host (0.0.0.0)
  -p, --port PORT               listen on this port (4222), -1 for any free one
      --unix_socket PATH        listen on this Unix socket too
  -n, --name, --server_name     the server's name
      --client_advertise ADDR   address that clients are told
  -c, --config FILE             configuration file
  -t                            check the configuration file and exit
  -P, --pid FILE                write the process id to this file
      --ports_file_dir DIR      write the open ports to a file in this directory
      --ready                   print a line of JSON when ready
  -sl, --signal CMD[=PID]       tell a running server: ldm, stop, quit, term,
                                reopen, reload; PID may be a file that holds it
Monitoring
  -m, --http_port PORT          HTTP port
  -ms, --https_port PORT        HTTPS port
Logging
  -l, --log FILE                log to this file
      --log-format text|json    how lines look (text)
      --log_size_limit BYTES    set the file aside at this size
  -T, --logtime                 lines begin with the time (on; -T=false)
      --logtime_utc             in UTC
  -s, --syslog                  log to the system's log
  -r, --remote_syslog ADDR      log to a system's log elsewhere
  -D, --debug                   log what helps to find a fault
  -V, --trace                   log the protocol
  -VV                           the system account's too
  -DV, -DVV                     both together
      --max_traced_msg_len N    at most N bytes of a message
Streams
  -js, --jetstream              enable streams
  -sd, --store_dir DIR          keep them here
Who may connect
      --user NAME, --pass PASSWORD
      --auth TOKEN
TLS
      --tls                     encrypt; needs --tlscert and --tlskey
      --tlscert FILE            certificate
      --tlskey FILE             its private key
      --tlsverify               clients must show a certificate
      --tlscacert FILE          authorities for those
Other
  -h, --help                    this text
  -v, --version                 the version
";

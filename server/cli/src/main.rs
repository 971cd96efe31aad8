//! `midge`, the operator's command line tool.
//!
//! [`cli`] has the arguments; each command is a module of its name with a `run`. They share the connection
//! ([`connect`], [`login`], [`context`]), what is sent ([`draft`], [`template`]), how received messages look
//! ([`show`]), and how a command ends ([`signals`], [`exit`]).
//!
//! Those that look after streams also share the server's interface to them ([`api`]), what a stream says about a
//! message ([`origin`]), tables ([`table`], [`units`]), progress ([`progress`]), and the question before something is
//! gone for good ([`confirm`]).

mod account;
mod api;
mod backup;
mod bucket;
mod check_config;
mod cli;
mod confirm;
mod connect;
mod consumer;
mod context;
mod dlq;
mod draft;
mod exit;
mod kv;
mod login;
mod object;
mod origin;
mod postcard;
mod progress;
mod publish;
mod reply;
mod request;
mod rtt;
mod show;
mod signals;
mod store;
mod stream;
mod subscribe;
mod table;
mod template;
mod units;

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::cli::{Cli, Command};
use crate::exit::{Failure, Outcome};

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(cli: Cli) -> Outcome {
    let Cli { connection, command } = &cli;
    match command {
        Command::Pub(args) => online(publish::run(args, connection)),
        Command::Sub(args) => online(subscribe::run(args, connection)),
        Command::Request(args) => online(request::run(args, connection)),
        Command::Reply(args) => online(reply::run(args, connection)),
        Command::Rtt(args) => online(rtt::run(args, connection)),
        Command::Stream(command) => online(stream::run(command, connection)),
        Command::Consumer(command) => online(consumer::run(command, connection)),
        Command::Kv(command) => online(kv::run(command, connection)),
        Command::Object(command) => online(object::run(command, connection)),
        Command::Dlq(command) => online(dlq::run(command, connection)),
        Command::Account(command) => online(account::run(command, connection)),
        Command::CheckConfig(args) => check_config::run(args),
        Command::Store(command) => store::run(command),
        Command::Completions { shell } => {
            // Into memory first: the generator panics if its writer fails.
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "midge", &mut script);
            Ok(std::io::stdout().lock().write_all(&script)?)
        }
        Command::Version => Ok(writeln!(std::io::stdout().lock(), "midge {}", env!("CARGO_PKG_VERSION"))?),
    }
}

/// Drives a command that talks to a server. One thread does it.
fn online(command: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::runtime(format_args!("cannot start: {error}")))?;
    let outcome = runtime.block_on(command);
    // A read from stdin that is under way would hold the process until the next line.
    runtime.shutdown_background();
    outcome
}

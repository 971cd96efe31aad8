//! A midge inside the test: the daemon's core without its shell, on a network and a clock of its own.
//!
//! ```text
//!   Wire::send ──> Session ──> Broker ──> Outbox ──> pipe (bounded) ──> Wire::read
//!                                │ ▲
//!                                v │
//!                              Engine ──> a disk in memory
//!
//!                 time passes only in World::advance, and while a read waits
//! ```
//!
//! What the daemon does around its core is done here as well, a turn at a time: configuration, reload, lame duck,
//! write deadlines, the last words. Nothing runs beside the test and nothing is random, so a play is the same each
//! time, and hours take no time.

mod net;
mod server;
mod streams;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use crate::script::Signal;
use crate::target::{Wire, World};
pub(crate) use server::EPOCH;
use server::Server;

/// A simulated server.
pub struct Sim(Rc<RefCell<Server>>);

impl Sim {
    /// Starts one with this configuration text and these flags.
    pub fn start(config: Option<&str>, flags: &[String]) -> Result<Self, String> {
        Ok(Self(Rc::new(RefCell::new(Server::start(config, flags)?))))
    }
}

impl World for Sim {
    fn connect(&mut self) -> Result<Box<dyn Wire>, String> {
        Ok(Box::new(net::Cable::plug(&self.0)?))
    }

    fn is_real(&self) -> bool {
        false
    }

    fn advance(&mut self, time: Duration) {
        let mut server = self.0.borrow_mut();
        let until = server.now() + time;
        while server.pass(until) {}
    }

    fn reload(&mut self, config: &str) -> Result<(), String> {
        self.0.borrow_mut().write_config(config);
        self.signal(Signal::Hup)
    }

    fn signal(&mut self, signal: Signal) -> Result<(), String> {
        self.0.borrow_mut().signal(signal)
    }

    fn restart(&mut self) -> Result<(), String> {
        self.0.borrow_mut().restart()
    }

    fn exit(&mut self, within: Duration) -> Result<i32, String> {
        let mut server = self.0.borrow_mut();
        let until = server.now() + within;
        loop {
            if let Some(code) = server.exit_code() {
                return Ok(code);
            }
            if !server.pass(until) {
                return Err("the server still runs".into());
            }
        }
    }

    fn log(&self) -> String {
        self.0.borrow().log()
    }
}

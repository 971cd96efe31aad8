//! The composition root: the one file that names every part.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use midge_broker::{Broker, ServerKeys, TlsOffer, Way};
use midge_config::{HandshakeFirst, Listen, Options, OsFiles, Run, SerialLine, World, unserved};
use midge_setup::{NATS_VERSION, VERSION};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::accounts::{self, Registrar};
use crate::callout::Courier;
use crate::clock::{Clock, entropy};
use crate::elsewhere::Outside;
use crate::exit::Exit;
use crate::hub::Hub;
use crate::log::Log;
use crate::memory::Budget;
use crate::monitor::{self, About, Desk, Order};
use crate::net::{Acceptor, Gate, Keeper, Listener, Protocol, Service};
use crate::notify::ServiceManager;
use crate::ports::{PidFile, Ports, PortsFiles, urls};
use crate::serial::{self, Leaving};
use crate::signals::{Request, Signals};
use crate::uplink::{self, Uplinks};
use crate::workers::{self, Workers};

/// How long connections may take to read their last words when the daemon ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// Orders that wait at most; whoever gives another waits.
const ORDERS_MAX: usize = 4;

fn load(run: &Run) -> midge_config::Loaded {
    let world = World { files: &OsFiles, environment: &|name| std::env::var(name).ok() };
    run.load(world)
}

/// `-t`: says what is wrong with the configuration, or that nothing is.
pub(crate) fn check(run: &Run) -> Exit {
    let file = run.config_file.as_deref().unwrap_or_else(|| std::path::Path::new(""));
    match load(run) {
        Err(report) => {
            eprint!("{report}");
            Exit::Config
        }
        Ok((options, report)) => {
            let mut errors: Vec<_> =
                midge_setup::problems(&options).iter().map(ToString::to_string).collect();
            errors.extend(uplink::problems(&options));
            let mut warnings = Vec::new();
            for loaded in [Acceptor::load(&options), Acceptor::load_websocket(&options)] {
                match loaded {
                    Ok((_, found)) => warnings.extend(found),
                    Err(error) => errors.push(error),
                }
            }
            eprint!("{report}");
            warnings.iter().chain(&errors).for_each(|line| eprintln!("{line}"));
            let digest = options.config_digest.as_deref().unwrap_or_default();
            match (errors.is_empty(), report.warnings.is_empty() && warnings.is_empty()) {
                (false, _) => Exit::Config,
                // As nats-server: a warning alone fails the check, though the server would start.
                (true, false) => Exit::Failure,
                (true, true) => {
                    println!("midged: configuration file {} is valid ({digest})", file.display());
                    Exit::Ok
                }
            }
        }
    }
}

/// Runs the daemon until a signal ends it.
pub(crate) fn run(run: Run) -> Exit {
    let (options, report) = match load(&run) {
        Ok(loaded) => loaded,
        Err(report) => {
            eprint!("{report}");
            return Exit::Config;
        }
    };
    let log = match Log::open(run.log_format, &options.log) {
        Ok(log) => Arc::new(log),
        Err(error) => {
            eprintln!("midged: the log can't be opened: {error}");
            return Exit::Config;
        }
    };
    for warning in &report.warnings {
        log.warn(warning);
    }
    if !check_served(&options, &log) {
        return Exit::Config;
    }
    match workers::runtime() {
        Ok(runtime) => runtime.block_on(serve(run, options, log)),
        Err(error) => {
            log.fatal(format_args!("the runtime can't be started: {error}"));
            Exit::Failure
        }
    }
}

fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

/// Says which keys have no effect. False if running without one of them would not be what the operator meant.
fn check_served(options: &Options, log: &Log) -> bool {
    let mut fit = true;
    for key in unserved(options) {
        if key.refused {
            log.fatal(key);
            fit = false;
        } else {
            log.warn(key);
        }
    }
    fit
}

async fn serve(run: Run, options: Options, log: Arc<Log>) -> Exit {
    let clock = Clock::start();
    let keys = ServerKeys::new(entropy());
    let id = keys.id();
    log.info("Starting midged");
    log.info(format_args!("  Version:  {NATS_VERSION} (midge {VERSION})"));
    log.info(format_args!("  Name:     {}", options.server_name.as_ref().unwrap_or(&id)));
    log.info(format_args!("  ID:       {id}"));
    if let Some(file) = &options.config_file {
        let digest = options.config_digest.as_deref().unwrap_or_default();
        log.info(format_args!("Using configuration file: {} ({digest})", file.display()));
    }

    let workers = match Workers::start() {
        Ok(workers) => workers,
        Err(error) => {
            log.fatal(format_args!("a thread can't be started: {error}"));
            return Exit::Failure;
        }
    };
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => {
            log.fatal(format_args!("signals can't be listened to: {error}"));
            return Exit::Failure;
        }
    };
    let keepers = match Keepers::load(&options, &log) {
        Ok(keepers) => keepers,
        Err(error) => {
            log.fatal(error);
            return Exit::Config;
        }
    };
    let bound = match Bound::bind(&options) {
        Ok(bound) => bound,
        Err(error) => {
            log.fatal(error);
            return Exit::Unavailable;
        }
    };
    let info = midge_setup::server_info(&options, keys, bound.client_port());
    let mut settings = match midge_setup::settings(&options, info.clone()) {
        Ok(settings) => settings,
        Err(errors) => {
            errors.iter().for_each(|error| log.fatal(error));
            return Exit::Config;
        }
    };
    for warning in midge_setup::warnings(&options, seconds(clock.now().wall)) {
        log.warn(warning);
    }
    let budget = Budget::find(options.limits.memory_budget);
    log.info(budget.explain(settings.max_pending));
    settings.memory_budget = budget.bytes;
    settings.websocket.iter_mut().for_each(|it| it.port = bound.port_of(Protocol::Websocket));
    let accounts = match accounts::open(&options, &mut settings, clock, &log).await {
        Ok(accounts) => accounts,
        Err(error) => {
            log.fatal(error);
            return Exit::Config;
        }
    };
    let mut broker = Broker::new(settings, u64::from_le_bytes(entropy()));
    broker.begin(clock.now());
    let outside = Outside { clock, accounts };
    let hub = Arc::new(Hub::new(broker, clock, Arc::clone(&log), outside, workers.clone()));
    let ports = bound.ports();
    let ready_line = bound.ready_line();
    let monitor_port = bound.monitor.as_ref().map(|(_, listen)| (listen.port, bound.monitor_secure));
    bound.announce(&log);
    let websocket_port = bound.port_of(Protocol::Websocket);
    let gate = options.websocket.as_ref().filter(|websocket| websocket.listen.is_some());
    let gate = match gate.map(|websocket| Gate::new(websocket, Arc::clone(&keepers.websocket))).transpose() {
        Ok(gate) => gate.map(Arc::new),
        Err(error) => {
            log.fatal(error);
            return Exit::Config;
        }
    };
    let (tls, websocket) = (Arc::clone(&keepers.clients), (Arc::clone(&keepers.websocket), websocket_port));
    let wall = clock.now().wall;
    let about = Arc::new(About::new(info, options, tls, websocket, workers.count(), monitor_port, wall));
    let (manager, unreachable) = ServiceManager::find();
    if let Some(error) = unreachable {
        log.warn(format_args!("the service manager can't be reached: {error}"));
    }
    let uplinks = match Uplinks::start(&hub, &workers, &about.options()) {
        Ok(uplinks) => uplinks,
        Err(error) => {
            log.fatal(error);
            return Exit::Config;
        }
    };
    let mut daemon = Daemon {
        run,
        uplinks,
        manager: Arc::new(manager),
        log,
        hub: Arc::clone(&hub),
        about: Arc::clone(&about),
        files: Files::default(),
        ports,
        keepers: keepers.clone(),
        websocket_port,
    };
    if let Err(error) = daemon.write_files() {
        daemon.log.fatal(error);
        return Exit::Failure;
    }
    let timers = {
        let hub = Arc::clone(&hub);
        tokio::spawn(async move { hub.run_timers().await })
    };
    tokio::spawn({
        let hub = Arc::clone(&hub);
        async move { hub.memory.run().await }
    });
    tokio::spawn(Arc::clone(&daemon.manager).stay_alive(Arc::clone(&hub)));
    let (orders, ordered) = mpsc::channel(ORDERS_MAX);
    tokio::spawn(Desk::new(Arc::clone(&hub), Arc::clone(&about), orders).run());
    tokio::spawn({
        let hub = Arc::clone(&hub);
        async move { Courier::run(&hub).await }
    });
    if let Some(registrar) = Registrar::open(&hub) {
        tokio::spawn(registrar.run());
    }
    let parts = match Parts::start(&hub, &about) {
        Ok(parts) => parts,
        Err(error) => {
            daemon.log.fatal(error);
            return Exit::Failure;
        }
    };
    let listeners = bound.serve(&hub, &about, (&keepers.clients, gate), &workers);
    daemon.log.info("Server is ready");
    daemon.greet(&ready_line);
    daemon.manager.ready();
    // Whoever hears the greeting need not wait for this.
    midge_heap::unmap_program();

    let exit = daemon.attend(&mut signals, ordered, listeners, &parts).await;
    parts.stop();
    timers.abort();
    daemon.log.info("Server Exiting..");
    exit
}

/// What is offered of TLS, by listener.
#[derive(Clone)]
struct Keepers {
    clients: Arc<Keeper>,
    websocket: Arc<Keeper>,
}

impl Keepers {
    fn load(options: &Options, log: &Log) -> Result<Self, String> {
        let keeper = |(acceptor, warnings): (Option<Acceptor>, Vec<String>)| {
            warnings.iter().for_each(|warning| log.warn(warning));
            Arc::new(Keeper::new(acceptor))
        };
        let (clients, websocket) = (Acceptor::load(options)?, Acceptor::load_websocket(options)?);
        Ok(Self { clients: keeper(clients), websocket: keeper(websocket) })
    }
}

/// What can be left out of a build.
struct Parts {
    #[cfg(feature = "jetstream")]
    streams: Option<crate::jetstream::Streams>,
}

#[cfg(feature = "jetstream")]
impl Parts {
    fn start(hub: &Arc<Hub>, about: &About) -> Result<Self, String> {
        let (options, name) = (about.options(), about.info().name);
        let start = || crate::jetstream::Streams::start(hub, &options, &name);
        Ok(Self { streams: options.jetstream.enabled.then(start).transpose()? })
    }

    async fn part(&self) {
        if let Some(streams) = &self.streams {
            streams.part().await;
        }
    }

    fn stop(self) {
        self.streams.into_iter().for_each(crate::jetstream::Streams::stop);
    }
}

#[cfg(not(feature = "jetstream"))]
impl Parts {
    fn start(_: &Arc<Hub>, about: &About) -> Result<Self, String> {
        if about.options().jetstream.enabled {
            Err("this build has no streams".to_owned())
        } else {
            Ok(Self {})
        }
    }

    async fn part(&self) {}

    fn stop(self) {}
}

/// Sockets that are listened on and not served yet.
struct Bound {
    client: Listener,
    client_listen: Listen,
    monitor: Option<(std::net::TcpListener, Listen)>,
    /// The monitor is encrypted.
    monitor_secure: bool,
    tls: Option<TlsOffer>,
    /// Nobody is told anything before the handshake.
    tls_first: bool,
    others: Vec<(Protocol, Listener, Listen)>,
    /// WebSocket is encrypted.
    websocket_secure: bool,
    serial: Vec<SerialLine>,
    unix: Option<(Listener, PathBuf)>,
}

impl Bound {
    fn bind(options: &Options) -> Result<Self, String> {
        let tcp = |listen: &Listen| -> Result<(Listener, Listen), String> {
            let listener = Listener::tcp(&listen.host, listen.port)
                .map_err(|error| format!("Error listening on port: {listen}, {error}"))?;
            let port = listener.port();
            Ok((listener, Listen { host: listen.host.clone(), port }))
        };
        let (client, client_listen) = tcp(&options.listen)?;
        let monitor_secure = options.monitor.https_port.is_some();
        let monitor = match options.monitor.http_port.or(options.monitor.https_port) {
            None => None,
            Some(port) => {
                let host = options.monitor.host.clone().unwrap_or_else(|| options.listen.host.clone());
                match tcp(&Listen { host, port })? {
                    (Listener::Tcp(listener), listen) => Some((listener, listen)),
                    (Listener::Unix(..), _) => None,
                }
            }
        };
        let mut others = Vec::new();
        for (protocol, listen) in [
            (Protocol::Leafnode, options.leafnodes.as_ref().and_then(|leafnodes| leafnodes.listen.as_ref())),
            (Protocol::Websocket, options.websocket.as_ref().and_then(|websocket| websocket.listen.as_ref())),
            (Protocol::Mqtt, options.mqtt.as_ref().and_then(|mqtt| mqtt.listen.as_ref())),
        ] {
            if let Some(listen) = listen {
                let (listener, listen) = tcp(listen)?;
                others.push((protocol, listener, listen));
            }
        }
        let unix = match &options.unix_socket {
            None => None,
            Some(path) => {
                let listener = Listener::unix(path)
                    .map_err(|error| format!("Error listening on Unix socket {}: {error}", path.display()))?;
                Some((listener, path.clone()))
            }
        };
        let tls = options.tls.as_ref().map(|_| midge_setup::tls_offer(options));
        let tls_first = options.tls.as_ref().is_some_and(|tls| tls.handshake_first == HandshakeFirst::Yes);
        let serial = options.serial.clone();
        let websocket_secure = options.websocket.as_ref().is_some_and(|websocket| websocket.tls.is_some());
        Ok(Self {
            client,
            client_listen,
            monitor,
            monitor_secure,
            tls,
            tls_first,
            others,
            websocket_secure,
            serial,
            unix,
        })
    }

    fn client_port(&self) -> u16 {
        self.client_listen.port
    }

    /// The port of another listener; 0 if there is none.
    fn port_of(&self, protocol: Protocol) -> u16 {
        self.others.iter().find(|(it, ..)| *it == protocol).map_or(0, |(_, _, listen)| listen.port)
    }

    fn websocket_scheme(&self) -> &'static str {
        if self.websocket_secure { "wss" } else { "ws" }
    }

    fn announce(&self, log: &Log) {
        if let Some((_, listen)) = &self.monitor {
            let scheme = if self.monitor_secure { "https" } else { "http" };
            log.info(format_args!("Starting {scheme} monitor on {listen}"));
        }
        for (protocol, _, listen) in &self.others {
            let what = match protocol {
                Protocol::Websocket => {
                    let scheme = self.websocket_scheme();
                    log.info(format_args!("Listening for websocket clients on {scheme}://{listen}"));
                    if !self.websocket_secure {
                        log.warn("Websocket not configured with TLS. DO NOT USE IN PRODUCTION!");
                    }
                    continue;
                }
                Protocol::Leafnode => "leafnode",
                Protocol::Mqtt => "MQTT",
            };
            log.info(format_args!("Listening for {what} connections on {listen}"));
        }
        if let Some((_, path)) = &self.unix {
            log.info(format_args!("Listening for client connections on Unix socket {}", path.display()));
        }
        log.info(format_args!("Listening for client connections on {}", self.client_listen));
        if let Some(tls) = self.tls {
            let word = if tls.required || self.tls_first { "required" } else { "available" };
            log.info(format_args!("TLS {word} for client connections"));
        }
    }

    fn ports(&self) -> Ports {
        let of = |protocol, scheme| {
            let found = self.others.iter().find(|(p, ..)| *p == protocol);
            found.map_or_else(Vec::new, |(_, _, listen)| urls(scheme, &listen.host, listen.port))
        };
        Ports {
            nats: urls(
                if self.tls.is_some() { "tls" } else { "nats" },
                &self.client_listen.host,
                self.client_listen.port,
            ),
            monitoring: self.monitor.as_ref().map_or_else(Vec::new, |(_, listen)| {
                urls(if self.monitor_secure { "https" } else { "http" }, &listen.host, listen.port)
            }),
            websocket: of(Protocol::Websocket, self.websocket_scheme()),
            leafnodes: of(Protocol::Leafnode, "nats"),
            mqtt: of(Protocol::Mqtt, "mqtt"),
        }
    }

    fn ready_line(&self) -> String {
        let mut line = serde_json::json!({
            "client": self.client_listen.to_string(),
            "pid": std::process::id(),
        });
        if let Some((_, listen)) = &self.monitor {
            line["monitor"] = listen.to_string().into();
        }
        if let Some((_, path)) = &self.unix {
            line["unix"] = path.display().to_string().into();
        }
        for (protocol, _, listen) in &self.others {
            let key = match protocol {
                Protocol::Leafnode => "leafnode",
                Protocol::Websocket => "websocket",
                Protocol::Mqtt => "mqtt",
            };
            line[key] = listen.to_string().into();
        }
        line.to_string()
    }

    fn serve(
        self,
        hub: &Arc<Hub>,
        about: &Arc<About>,
        (keeper, gate): (&Arc<Keeper>, Option<Arc<Gate>>),
        workers: &Workers,
    ) -> Listeners {
        let mut tasks = Vec::new();
        let clients = || Service::Clients(Arc::clone(keeper));
        let unix = self.unix.map(|(listener, _)| (clients(), listener));
        let others = self.others.into_iter().map(|(protocol, listener, _)| match (protocol, &gate) {
            (Protocol::Websocket, Some(gate)) => (Service::WebSocket(Arc::clone(gate)), listener),
            _ => (Service::Refused(protocol), listener),
        });
        for (service, listener) in std::iter::once((clients(), self.client)).chain(unix).chain(others) {
            let (hub, workers) = (Arc::clone(hub), workers.clone());
            tasks.push(tokio::spawn(async move {
                if let Err(error) = listener.serve(Arc::clone(&hub), workers, service).await {
                    hub.log.error(format_args!("a listener failed: {error}"));
                }
            }));
        }
        let secure = self.monitor_secure;
        let monitor = self.monitor.map(|(listener, _)| {
            tokio::spawn(monitor::serve(listener, secure, Arc::clone(hub), Arc::clone(about)))
        });
        let leaving = Leaving::default();
        for line in self.serial {
            tokio::spawn(serial::run(line, Arc::clone(hub), workers.clone(), leaving.clone()));
        }
        Listeners { tasks, lines: leaving, _monitor: monitor }
    }
}

/// The tasks that let connections in.
struct Listeners {
    tasks: Vec<JoinHandle<()>>,
    /// Serial lines go on, without new sessions.
    lines: Leaving,
    /// Goes on in lame duck mode, so that somebody can watch.
    _monitor: Option<JoinHandle<()>>,
}

impl Listeners {
    async fn close(&mut self) {
        self.lines.begin();
        for task in self.tasks.drain(..) {
            task.abort();
            // The socket is closed once the task is gone.
            let _ = task.await;
        }
    }
}

#[derive(Default)]
struct Files {
    pid: Option<PidFile>,
    ports: Option<PortsFiles>,
}

struct Daemon {
    run: Run,
    uplinks: Uplinks,
    manager: Arc<ServiceManager>,
    log: Arc<Log>,
    hub: Arc<Hub>,
    about: Arc<About>,
    files: Files,
    ports: Ports,
    keepers: Keepers,
    websocket_port: u16,
}

impl Daemon {
    fn write_files(&mut self) -> Result<(), String> {
        let options = self.about.options();
        self.files = Files::default();
        if let Some(path) = &options.pid_file {
            let file =
                PidFile::write(path).map_err(|error| format!("pid file {}: {error}", path.display()))?;
            self.files.pid = Some(file);
        }
        if let Some(dir) = &options.ports_file_dir {
            let file = PortsFiles::write(dir, &self.ports)
                .map_err(|error| format!("ports file in {}: {error}", dir.display()))?;
            self.files.ports = Some(file);
        }
        Ok(())
    }

    /// The line for programs, and for a person who started it by hand, what to type next.
    fn greet(&self, ready_line: &str) {
        if self.run.ready {
            println!("{ready_line}");
        }
        if self.run.config_file.is_none() && std::io::stderr().is_terminal() {
            let port = self.about.info().port;
            eprintln!();
            eprintln!("  Try it, from two other terminals:");
            eprintln!("    printf 'SUB sensors.> 1\\r\\n' | nc -q -1 127.0.0.1 {port}");
            eprintln!("    printf 'PUB sensors.attic.temp 4\\r\\n21.5\\r\\n' | nc -q 1 127.0.0.1 {port}");
            eprintln!(
                "  Or with midge's own tool: midge sub 'sensors.>' and midge pub sensors.attic.temp 21.5"
            );
            eprintln!("  Ctrl-C ends the daemon.");
            eprintln!();
        }
    }

    /// Does what signals ask, and those who may give orders, until a signal ends it.
    async fn attend(
        &mut self,
        signals: &mut Signals,
        mut orders: mpsc::Receiver<Order>,
        mut listeners: Listeners,
        parts: &Parts,
    ) -> Exit {
        loop {
            let signal = tokio::select! {
                signal = signals.next() => signal,
                Some(Order::Reload(answer)) = orders.recv() => {
                    // Whoever asked may have left.
                    let _ = answer.send(self.reload());
                    continue;
                }
            };
            match signal {
                Request::Reload => drop(self.reload()),
                Request::Reopen => match self.log.reopen() {
                    Ok(()) => self.log.info("File log re-opened"),
                    Err(error) => self.log.error(format_args!("the log file can't be opened: {error}")),
                },
                Request::Interrupt | Request::Terminate => {
                    self.manager.stopping();
                    self.log.info("Initiating Shutdown...");
                    listeners.close().await;
                    self.farewell(parts).await;
                    return Exit::Ok;
                }
                Request::LameDuck => {
                    drop(orders);
                    self.manager.stopping();
                    self.log.info("Entering lame duck mode, stop accepting new clients");
                    listeners.close().await;
                    self.leave_slowly(signals).await;
                    self.farewell(parts).await;
                    return Exit::Ok;
                }
            }
        }
    }

    /// Lame duck mode: clients are told to go elsewhere, get time for it, and are closed one by one.
    async fn leave_slowly(&self, signals: &mut Signals) {
        let (duration, grace) = {
            let options = self.about.options();
            (options.lame_duck.duration, options.lame_duck.grace)
        };
        self.hub.turn(|broker, now| broker.enter_lame_duck(now));
        let closing = async {
            if self.hub.look(|broker, _| broker.open()) == 0 {
                return;
            }
            tokio::time::sleep(grace).await;
            self.log.info("Closing existing clients");
            let count = self.hub.look(|broker, _| broker.open()).max(1);
            let rest = duration.saturating_sub(grace).max(Duration::from_secs(1));
            let step = (rest / count).min(Duration::from_secs(1));
            loop {
                let (left, _) = self.hub.turn(|broker, now| broker.close_one(now));
                if !left {
                    return;
                }
                tokio::time::sleep(step).await;
            }
        };
        tokio::pin!(closing);
        loop {
            tokio::select! {
                () = &mut closing => return,
                request = signals.next() => if request == Request::Interrupt { return },
            }
        }
    }

    /// Tells who waits, closes all connections, and gives them a moment to read what is queued for them.
    async fn farewell(&mut self, parts: &Parts) {
        // Not longer: a disk may hang.
        let _ = tokio::time::timeout(FAREWELL, parts.part()).await;
        self.uplinks.leave();
        self.hub.turn(|broker, now| broker.close_all(now));
        let _ = tokio::time::timeout(FAREWELL, self.hub.all_gone()).await;
    }

    /// HUP: the whole file is read and checked before anything changes.
    fn reload(&mut self) -> Result<(), String> {
        self.manager.reloading();
        let reloaded = self.try_reload();
        self.manager.ready();
        if let Err(why) = &reloaded {
            why.lines().for_each(|line| {
                self.log.error(format_args!("Failed to reload server configuration: {line}"));
            });
        }
        reloaded
    }

    fn try_reload(&mut self) -> Result<(), String> {
        if self.run.config_file.is_none() {
            return Err("there is no file, name one with -c at the next start".to_owned());
        }
        let (new, report) = load(&self.run).map_err(|report| report.to_string().trim_end().to_owned())?;
        for warning in &report.warnings {
            self.log.warn(warning);
        }
        if !check_served(&new, &self.log) {
            return Err("the old one stays".to_owned());
        }
        let old = self.about.options();
        let changes = midge_config::diff(&old, &new);
        let fixed: Vec<_> = changes
            .iter()
            .filter(|change| change.verdict == midge_config::Verdict::NeedsRestart)
            .map(|change| {
                let midge_config::Change { option, old, new, .. } = change;
                format!("config reload not supported for {option}: old={old}, new={new}")
            })
            .collect();
        if !fixed.is_empty() {
            return Err(fixed.join("\n"));
        }
        let hubs = uplink::problems(&new);
        if !hubs.is_empty() {
            return Err(hubs.join("\n"));
        }
        let (acceptor, warnings) = Acceptor::load(&new)?;
        let (over_websocket, more) = Acceptor::load_websocket(&new)?;
        let mut info = self.about.info();
        info.connect_urls = midge_setup::connect_urls(&new, info.port);
        info.tls = midge_setup::tls_offer(&new);
        let mut settings = midge_setup::settings(&new, info.clone())
            .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
        settings.memory_budget = Budget::find(new.limits.memory_budget).bytes;
        settings.websocket.iter_mut().for_each(|it| it.port = self.websocket_port);
        self.log.reconfigure(&new.log).map_err(|error| format!("the log can't be opened: {error}"))?;
        let now = seconds(self.hub.clock.now().wall);
        for warning in warnings.into_iter().chain(more).chain(midge_setup::warnings(&new, now)) {
            self.log.warn(warning);
        }
        for change in changes.iter().filter(|change| change.option != "tls") {
            self.log.info(format_args!("Reloaded: {} = {}", change.option, change.new));
        }
        let files_moved = old.pid_file != new.pid_file || old.ports_file_dir != new.ports_file_dir;
        let pins = |acceptor: &Option<Acceptor>| acceptor.as_ref().map(|it| it.pinned.clone());
        let (pinned, pinned_websocket) = (pins(&acceptor), pins(&over_websocket));
        let found = self.keepers.clients.replace(acceptor);
        let found_websocket = self.keepers.websocket.replace(over_websocket);
        if found.certificates || old.tls != new.tls {
            let state = if new.tls.is_some() { "enabled" } else { "disabled" };
            self.log.info(format_args!("Reloaded: tls = {state}"));
        }
        self.about.replace(info, new, self.hub.clock.now().wall);
        if files_moved && let Err(error) = self.write_files() {
            self.log.error(error);
        }
        let options = self.about.options();
        if let Some(store) = &self.hub.outside.accounts.store {
            accounts::preload(&options, store, self.hub.clock, &self.log);
        }
        self.hub.turn(|broker, now| broker.reconfigure(settings, now));
        self.uplinks.follow(&options);
        let pinned = pinned.filter(|_| found.pins).map(|pinned| (Way::Tls, pinned));
        let pinned_websocket =
            pinned_websocket.filter(|_| found_websocket.pins).map(|pinned| (Way::WebSocket, pinned));
        for (way, pinned) in pinned.into_iter().chain(pinned_websocket).filter(|(_, pins)| !pins.is_empty()) {
            let (count, _) = self.hub.turn(|broker, now| broker.close_unpinned(way, &pinned, now));
            self.log.info(format_args!("Disconnect {count} clients due to pinned certs reload"));
        }
        self.log.info("Reloaded server configuration");
        Ok(())
    }
}

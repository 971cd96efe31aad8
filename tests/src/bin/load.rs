//! Compares midged with nats-server under load, in turns: A B A B …
//!
//! ```sh
//! cargo build --release -p midged -p midge-tests
//! MIDGED=target/release/midged target/release/load [rounds]
//! ```
//!
//! For each shape and payload size: messages delivered per second, and CPU time of the server per delivery from the
//! process' own accounting. Medians over the rounds, lowest and highest in brackets. Loopback only; every server is
//! ended by its own process id. The load is made by threads of this program on the same machine, so throughput is
//! what both can do together; the CPU figure is the server's alone.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use midge_tests::daemon::{Daemon, Program};

/// One kind of traffic.
#[derive(Clone, Copy)]
struct Shape {
    name: &'static str,
    publishers: usize,
    subscribers: usize,
    /// Bytes of payload.
    size: usize,
    /// Messages of all publishers together.
    messages: usize,
}

const SHAPES: &[Shape] = &[
    Shape { name: "publish only", publishers: 1, subscribers: 0, size: 16, messages: 2_000_000 },
    Shape { name: "1:1", publishers: 1, subscribers: 1, size: 16, messages: 1_000_000 },
    Shape { name: "1:1", publishers: 1, subscribers: 1, size: 128, messages: 1_000_000 },
    Shape { name: "1:10", publishers: 1, subscribers: 10, size: 16, messages: 300_000 },
    Shape { name: "1:10", publishers: 1, subscribers: 10, size: 128, messages: 300_000 },
    Shape { name: "10:1", publishers: 10, subscribers: 1, size: 128, messages: 1_000_000 },
    Shape { name: "1:1", publishers: 1, subscribers: 1, size: 65_536, messages: 20_000 },
];

/// What one run of a shape showed.
#[derive(Clone, Copy)]
struct Figures {
    per_second: f64,
    cpu_us: f64,
}

fn main() -> Result<(), String> {
    let rounds = match std::env::args().nth(1) {
        None => 5,
        Some(text) => text.parse().map_err(|_| format!("{text:?} is not a number of rounds"))?,
    };
    let ours = Program::ours()?;
    let reference = Program::reference()?;
    println!(
        "| shape | payload B | midged msgs/s | nats-server msgs/s | ratio | midged CPU µs | nats-server CPU µs | ratio |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for shape in SHAPES {
        let mut runs = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            for (program, runs) in [&ours, &reference].into_iter().zip(&mut runs) {
                runs.push(measure(program, *shape)?);
            }
        }
        let [a, b] = runs.map(|runs| {
            let rate = spread(runs.iter().map(|run| run.per_second / 1000.0).collect());
            let cpu = spread(runs.iter().map(|run| run.cpu_us).collect());
            (rate, cpu)
        });
        let show = |(low, median, high): (f64, f64, f64), digits: usize| {
            format!("{median:.digits$} ({low:.digits$}–{high:.digits$})")
        };
        println!(
            "| {} | {} | {} k | {} k | {:.2} | {} | {} | {:.2} |",
            shape.name,
            shape.size,
            show(a.0, 0),
            show(b.0, 0),
            a.0.1 / b.0.1,
            show(a.1, 2),
            show(b.1, 2),
            a.1.1 / b.1.1,
        );
    }
    Ok(())
}

/// Lowest, median, highest.
fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    let last = values.len() - 1;
    (values[0], values[last / 2], values[last])
}

fn measure(program: &Program, shape: Shape) -> Result<Figures, String> {
    let server = Daemon::start(program.clone(), None, &[])?;
    let address = server.address();
    let io = |error: std::io::Error| error.to_string();
    let line = format!("PUB load.subject {}\r\n", shape.size);
    let message = [line.as_bytes(), &vec![b'x'; shape.size], b"\r\n"].concat();
    let delivered = format!("MSG load.subject 1 {}\r\n", shape.size).len() + shape.size + 2;

    let start = Arc::new(Barrier::new(shape.publishers + 1));
    let mut readers = Vec::new();
    for _ in 0..shape.subscribers {
        let mut socket = connect(address, "SUB load.subject 1\r\n").map_err(io)?;
        let expected = delivered * shape.messages;
        readers.push(thread::spawn(move || drain(&mut socket, expected)));
    }
    let mut writers = Vec::new();
    for _ in 0..shape.publishers {
        let mut socket = connect(address, "").map_err(io)?;
        let (start, message) = (Arc::clone(&start), message.clone());
        let count = shape.messages / shape.publishers;
        writers.push(thread::spawn(move || {
            let per_write = (64 * 1024 / message.len()).clamp(1, count);
            let batch = message.repeat(per_write);
            start.wait();
            for _ in 0..count / per_write {
                socket.write_all(&batch)?;
            }
            socket.write_all(&message.repeat(count % per_write))?;
            fence(&mut socket)
        }));
    }
    let cpu = cpu_time(server.pid())?;
    start.wait();
    let began = Instant::now();
    for thread in writers.into_iter().chain(readers) {
        thread.join().map_err(|_| "a load thread panicked".to_owned())?.map_err(io)?;
    }
    let took = began.elapsed();
    let cpu = cpu_time(server.pid())?.saturating_sub(cpu);
    let deliveries = (shape.messages * shape.subscribers.max(1)) as f64;
    Ok(Figures { per_second: deliveries / took.as_secs_f64(), cpu_us: cpu.as_secs_f64() * 1e6 / deliveries })
}

/// Connects, says `more`, and waits until the server has heard it.
fn connect(address: SocketAddr, more: &str) -> std::io::Result<TcpStream> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(Duration::from_secs(60)))?;
    socket.write_all(format!("CONNECT {{\"verbose\":false,\"pedantic\":false}}\r\n{more}").as_bytes())?;
    fence(&mut socket)?;
    Ok(socket)
}

/// Sends PING and reads up to its PONG.
fn fence(socket: &mut TcpStream) -> std::io::Result<()> {
    socket.write_all(b"PING\r\n")?;
    let mut seen = Vec::new();
    let mut byte = [0; 1];
    while !seen.ends_with(b"PONG\r\n") {
        if socket.read(&mut byte)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        seen.push(byte[0]);
    }
    Ok(())
}

/// Reads `expected` bytes. Pings come rarely enough to be read as part of them.
fn drain(socket: &mut TcpStream, mut expected: usize) -> std::io::Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    while expected > 0 {
        let n = socket.read(&mut buffer)?;
        if n == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        expected = expected.saturating_sub(n);
    }
    Ok(())
}

/// CPU time that a process has used, user and system, in the kernel's ticks of 10 ms.
fn cpu_time(pid: u32) -> Result<Duration, String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).map_err(|error| error.to_string())?;
    let fields: Vec<_> =
        stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
    let (user, system) = ticks(11).zip(ticks(12)).ok_or("the kernel's stat line is not understood")?;
    Ok(Duration::from_millis((user + system) * 10))
}

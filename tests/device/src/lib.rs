//! A board, as QEMU has it, and a server whose words are in memory: what every firmware here stands on.
//!
//! Nothing in here has initialized memory, so nothing is copied at the start.
#![no_std]

use core::arch::asm;
use core::future::Future;
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use embedded_io::{ErrorType, Read, Write};

#[cfg(feature = "nopanic")]
unsafe extern "C" {
    fn PANIC_IS_REACHABLE() -> !;
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    #[cfg(feature = "nopanic")]
    // Safety: never linked into anything that runs.
    unsafe {
        PANIC_IS_REACHABLE()
    }
    #[cfg(not(feature = "nopanic"))]
    exit(1)
}

unsafe extern "Rust" {
    /// The firmware.
    safe fn job();
}

#[unsafe(no_mangle)]
#[unsafe(link_section = ".vectors")]
static RESET: unsafe extern "C" fn() -> ! = Reset;

#[unsafe(no_mangle)]
unsafe extern "C" fn Reset() -> ! {
    // SysTick: counts the processor's clock, no interrupt.
    register(0xE000_E014).write(0x00ff_ffff);
    register(0xE000_E018).write(0);
    register(0xE000_E010).write(5);
    #[cfg(feature = "measure")]
    let low = paint();
    job();
    #[cfg(feature = "measure")]
    say("stack", high_water(low));
    exit(0)
}

struct Register(*mut u32);

fn register(address: usize) -> Register {
    Register(address as *mut u32)
}

impl Register {
    fn write(&self, value: u32) {
        // Safety: a register of this board.
        unsafe { self.0.write_volatile(value) }
    }

    #[cfg(feature = "measure")]
    fn read(&self) -> u32 {
        // Safety: as above.
        unsafe { self.0.read_volatile() }
    }
}

#[cfg(feature = "measure")]
unsafe extern "C" {
    static __stack_low: u32;
}

#[cfg(feature = "measure")]
const PAINT: u32 = 0xa5a5_5a5a;

#[cfg(feature = "measure")]
fn stack_pointer() -> usize {
    let at: usize;
    // Safety: reads a register.
    unsafe { asm!("mov {}, sp", out(reg) at, options(nomem, nostack)) };
    at
}

#[cfg(feature = "measure")]
/// Fills what is free of the stack.
#[inline(never)]
fn paint() -> usize {
    let low = &raw const __stack_low as usize;
    for at in (low..stack_pointer() - 64).step_by(4) {
        register(at).write(PAINT);
    }
    low
}

#[cfg(feature = "measure")]
/// Bytes of the stack that were used since, below this function's own.
fn high_water(low: usize) -> u32 {
    let mut at = low;
    while register(at).read() == PAINT {
        at += 4;
    }
    (stack_pointer() - at) as u32
}

/// Instructions since the board was started, modulo 2^24 / 1.6. Good for differences: QEMU with `-icount shift=7` gives
/// each 128 ns, and the clock has 12.5 MHz.
#[inline(never)]
#[cfg(feature = "measure")]
pub fn ticks() -> u32 {
    register(0xE000_E018).read()
}

/// Nothing is counted.
#[cfg(not(feature = "measure"))]
pub fn ticks() -> u32 {
    0
}

/// Instructions between two [`ticks`].
pub fn instructions(before: u32, after: u32) -> u32 {
    (before.wrapping_sub(after) & 0x00ff_ffff) * 10 / 16
}

/// Prints a name and a number, through the debugger.
#[cfg(not(feature = "measure"))]
pub fn say(_: &str, _: u32) {}

/// Prints a name and a number, through the debugger.
#[cfg(feature = "measure")]
#[inline(never)]
pub fn say(name: &str, number: u32) {
    let mut line = [b' '; 64];
    let mut at = 63;
    line[62] = b'\n';
    line[63] = 0;
    at -= 1;
    let mut number = number;
    loop {
        at -= 1;
        line[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    let mut to = 0;
    while to < name.len() && to < at {
        line[to] = name.as_bytes()[to];
        to += 1;
    }
    semihosting(4, line.as_ptr() as usize);
}

/// Ends QEMU.
pub fn exit(code: u32) -> ! {
    semihosting(0x18, if code == 0 { 0x20026 } else { 0x20023 });
    loop {}
}

fn semihosting(operation: usize, argument: usize) {
    // Safety: the debugger only reads what it is given.
    unsafe { asm!("bkpt 0xab", inout("r0") operation => _, in("r1") argument, options(nostack)) };
}

/// A server that says one thing at each read, and takes what it is told.
pub struct Canned {
    says: &'static [&'static [u8]],
    /// What is left of the first.
    now: &'static [u8],
    /// Calls of write and read.
    pub writes: u32,
    /// As above.
    pub reads: u32,
    /// Bytes that were written.
    pub written: u32,
}

/// Instructions that the transport took.
#[cfg(feature = "measure")]
static SPENT: core::sync::atomic::AtomicU32 = core::sync::atomic::AtomicU32::new(0);

/// Instructions since `before`, without those that the transport took.
pub fn client_instructions(before: u32) -> u32 {
    let all = instructions(before, ticks());
    #[cfg(feature = "measure")]
    return all - SPENT.load(core::sync::atomic::Ordering::Relaxed);
    #[cfg(not(feature = "measure"))]
    all
}

/// [`ticks`], to be given to [`client_instructions`].
pub fn begin() -> u32 {
    #[cfg(feature = "measure")]
    SPENT.store(0, core::sync::atomic::Ordering::Relaxed);
    ticks()
}

impl Canned {
    /// A server with so much to say.
    pub const fn new(says: &'static [&'static [u8]]) -> Self {
        Self { says, now: &[], writes: 0, reads: 0, written: 0 }
    }

    fn take(&mut self, buffer: &mut [u8]) -> usize {
        self.reads += 1;
        if self.now.is_empty() {
            let Some((now, later)) = self.says.split_first() else { return 0 };
            (self.now, self.says) = (now, later);
        }
        let n = self.now.len().min(buffer.len());
        if let (Some(space), Some(bytes)) = (buffer.get_mut(..n), self.now.get(..n)) {
            space.copy_from_slice(bytes);
        }
        self.now = self.now.get(n..).unwrap_or_default();
        n
    }

    fn give(&mut self, bytes: &[u8]) -> usize {
        self.writes += 1;
        self.written = self.written.wrapping_add(bytes.len() as u32);
        bytes.len()
    }
}

/// Nothing goes wrong here.
pub type Never = core::convert::Infallible;

/// The transport that firmware gets: [`Canned`], wherever it is.
pub struct Wire<'a>(pub &'a mut Canned);

impl ErrorType for Wire<'_> {
    type Error = Never;
}

impl Read for Wire<'_> {
    #[inline(never)]
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Never> {
        let before = ticks();
        let n = self.0.take(buffer);
        #[cfg(feature = "measure")]
        SPENT.store(instructions(before, ticks()), core::sync::atomic::Ordering::Relaxed);
        #[cfg(not(feature = "measure"))]
        let _ = before;
        Ok(n)
    }
}

impl Write for Wire<'_> {
    #[inline(never)]
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Never> {
        Ok(self.0.give(bytes))
    }

    fn flush(&mut self) -> Result<(), Never> {
        Ok(())
    }
}

impl embedded_io_async::Read for Wire<'_> {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Never> {
        Read::read(self, buffer)
    }
}

impl embedded_io_async::Write for Wire<'_> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Never> {
        Write::write(self, bytes)
    }

    async fn flush(&mut self) -> Result<(), Never> {
        Ok(())
    }
}

/// Runs what never waits.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
}

/// What nats-server 2.15.1 says to a client that authenticates, subscribes, publishes and receives.
pub static SERVER: &[&[u8]] = &[
    b"INFO {\"server_id\":\"NAABBCCDDEEFFGGHHIIJJKKLLMMNNOOPPQQRRSSTTUUVVWWXXYYZZAAB\",\"server_name\":\"gateway\",\"version\":\"2.15.1\",\"proto\":1,\"go\":\"go1.27.2\",\"host\":\"0.0.0.0\",\"port\":4222,\"headers\":true,\"auth_required\":true,\"max_payload\":1048576,\"client_id\":7,\"nonce\":\"Zm9vYmFyYmF6cXV\",\"client_ip\":\"10.0.2.15\"} \r\n",
    b"PONG\r\n",
    MESSAGE,
    MESSAGE,
    MESSAGE,
    MESSAGE,
];

const MESSAGE: &[u8] = b"MSG sensors.a.temp 1 16\r\n0123456789abcdef\r\n";

/// What the firmware publishes.
pub const PAYLOAD: &[u8] = b"0123456789abcdef";

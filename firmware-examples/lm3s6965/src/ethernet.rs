//! The Ethernet controller: a queue of words either way. Chapter 16 of the data sheet.

const BASE: usize = 0x4004_8000;
/// What happened: a frame is there. Written, it is done with.
#[cfg(feature = "embassy")]
const STATUS: usize = BASE;
#[cfg(feature = "embassy")]
const MASK: usize = BASE + 0x04;
const RECEIVE: usize = BASE + 0x08;
const TRANSMIT: usize = BASE + 0x0c;
const DATA: usize = BASE + 0x10;
const ADDRESS: usize = BASE + 0x14;
/// Frames that have arrived.
const FRAMES: usize = BASE + 0x34;
const SEND: usize = BASE + 0x38;
/// The chip's switch for clocks.
const CLOCKS: usize = 0x400f_e108;

/// A frame without its checksum.
const FRAME: usize = 1_514;

/// The controller. There is one.
pub struct Ethernet {
    frame: [u8; FRAME],
    address: [u8; 6],
}

impl Ethernet {
    /// Switches it on.
    pub fn start() -> Self {
        // MAC and PHY.
        write(CLOCKS, read(CLOCKS) | 5 << 28);
        // Checksums, short frames filled up, both ways at once, on; a queue that is empty, bad frames left out, on.
        write(TRANSMIT, 0x17);
        write(RECEIVE, 0x10);
        write(RECEIVE, 0x09);
        let mut address = [0; 6];
        address[..4].copy_from_slice(&read(ADDRESS).to_le_bytes());
        address[4..].copy_from_slice(&read(ADDRESS + 4).to_le_bytes()[..2]);
        Self { frame: [0; FRAME], address }
    }

    /// What it is called on the wire.
    pub fn address(&self) -> [u8; 6] {
        self.address
    }

    /// Takes a frame that has arrived.
    fn take(&mut self) -> Option<&mut [u8]> {
        while read(FRAMES) & 0x3f != 0 {
            // Its length comes first, and counts itself and the checksum behind the frame.
            let head = read(DATA);
            let length = (head & 0xffff) as usize;
            let mut last = head >> 16;
            let mut at = 0;
            let content = length.saturating_sub(6);
            let mut words = length.div_ceil(4).saturating_sub(1);
            let mut half = 2;
            while half != 0 || words != 0 {
                if half == 0 {
                    (last, half, words) = (read(DATA), 4, words - 1);
                }
                if at < content.min(FRAME) {
                    self.frame[at] = last as u8;
                }
                (at, last, half) = (at + 1, last >> 8, half - 1);
            }
            if content <= FRAME {
                return Some(&mut self.frame[..content]);
            }
        }
        None
    }
}

/// Sends one frame.
fn send(frame: &[u8]) {
    // The last one is on its way.
    while read(SEND) & 1 != 0 {}
    // Its length comes first, without its head of 14 bytes.
    let length = (frame.len() as u32).saturating_sub(14);
    let (head, rest) = frame.split_at(frame.len().min(2));
    write(DATA, length | u32::from(head[0]) << 16 | u32::from(head[1]) << 24);
    for bytes in rest.chunks(4) {
        let mut word = [0; 4];
        word[..bytes.len()].copy_from_slice(bytes);
        write(DATA, u32::from_le_bytes(word));
    }
    write(SEND, 1);
}

fn write(register: usize, value: u32) {
    // Safety: all callers name a register of this chip.
    unsafe { (register as *mut u32).write_volatile(value) }
}

fn read(register: usize) -> u32 {
    // Safety: as above.
    unsafe { (register as *const u32).read_volatile() }
}

#[cfg(feature = "smoltcp")]
mod under_smoltcp {
    use super::{Ethernet, FRAME, send};
    use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
    use smoltcp::time::Instant;

    /// A frame that has arrived.
    pub struct Received<'a>(&'a mut [u8]);
    /// Room for one to send.
    pub struct Room;

    impl Device for Ethernet {
        type RxToken<'a> = Received<'a>;
        type TxToken<'a> = Room;

        fn receive(&mut self, _: Instant) -> Option<(Received<'_>, Room)> {
            Some((Received(self.take()?), Room))
        }

        fn transmit(&mut self, _: Instant) -> Option<Room> {
            Some(Room)
        }

        fn capabilities(&self) -> DeviceCapabilities {
            let mut capabilities = DeviceCapabilities::default();
            capabilities.medium = Medium::Ethernet;
            capabilities.max_transmission_unit = FRAME;
            capabilities.max_burst_size = Some(1);
            capabilities
        }
    }

    impl RxToken for Received<'_> {
        fn consume<R, F: FnOnce(&[u8]) -> R>(self, use_it: F) -> R {
            use_it(self.0)
        }
    }

    impl TxToken for Room {
        fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
            let mut frame = [0; FRAME];
            let frame = &mut frame[..length.min(FRAME)];
            let result = fill(frame);
            send(frame);
            result
        }
    }
}

#[cfg(feature = "embassy")]
mod under_embassy {
    use super::{Ethernet, FRAME, MASK, STATUS, read, send, write};
    use core::task::Context;
    use cortex_m_rt::exception;
    use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState, RxToken, TxToken};
    use embassy_sync::waitqueue::AtomicWaker;

    static ARRIVED: AtomicWaker = AtomicWaker::new();

    /// The only interrupt that is on: a frame is there. It stays off until that was looked at.
    #[exception]
    unsafe fn DefaultHandler(_: i16) {
        write(MASK, 0);
        ARRIVED.wake();
    }

    /// A frame that has arrived.
    pub struct Received<'a>(&'a mut [u8]);
    /// Room for one to send.
    pub struct Room;

    impl Ethernet {
        /// Has it interrupt.
        pub fn interrupts(self) -> Self {
            // Interrupt 42.
            write(0xe000_e104, 1 << (42 - 32));
            self
        }
    }

    impl Driver for Ethernet {
        type RxToken<'a> = Received<'a>;
        type TxToken<'a> = Room;

        fn receive(&mut self, context: &mut Context<'_>) -> Option<(Received<'_>, Room)> {
            ARRIVED.register(context.waker());
            write(STATUS, read(STATUS));
            write(MASK, 1);
            Some((Received(self.take()?), Room))
        }

        fn transmit(&mut self, _: &mut Context<'_>) -> Option<Room> {
            Some(Room)
        }

        fn link_state(&mut self, _: &mut Context<'_>) -> LinkState {
            LinkState::Up
        }

        fn capabilities(&self) -> Capabilities {
            let mut capabilities = Capabilities::default();
            capabilities.max_transmission_unit = FRAME;
            capabilities.max_burst_size = Some(1);
            capabilities
        }

        fn hardware_address(&self) -> HardwareAddress {
            HardwareAddress::Ethernet(self.address)
        }
    }

    impl RxToken for Received<'_> {
        fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, use_it: F) -> R {
            use_it(self.0)
        }
    }

    impl TxToken for Room {
        fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
            let mut frame = [0; FRAME];
            let frame = &mut frame[..length.min(FRAME)];
            let result = fill(frame);
            send(frame);
            result
        }
    }
}

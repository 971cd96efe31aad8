//! The first serial port.

/// A PL011 with 16 bytes of queue either way: enough for a ms at 115,200 baud.
pub struct Uart0(());

const DATA: *mut u32 = 0x4000_c000 as *mut u32;
const FLAGS: *mut u32 = 0x4000_c018 as *mut u32;
const LINE: *mut u32 = 0x4000_c02c as *mut u32;
const CONTROL: *mut u32 = 0x4000_c030 as *mut u32;
const RECEIVE_EMPTY: u32 = 1 << 4;
const TRANSMIT_FULL: u32 = 1 << 5;

impl Uart0 {
    /// Switches it on. QEMU needs no baud rate.
    pub fn start() -> Self {
        // Safety: registers of this chip. Eight bits, queues on; then receiver, transmitter and the whole.
        unsafe {
            LINE.write_volatile(0x70);
            CONTROL.write_volatile(0x301);
        }
        Self(())
    }

    fn flags() -> u32 {
        // Safety: a register of this chip.
        unsafe { FLAGS.read_volatile() }
    }
}

impl emulated::Port for Uart0 {
    fn receive(&mut self) -> Option<u8> {
        // Safety: a register of this chip.
        (Self::flags() & RECEIVE_EMPTY == 0).then(|| unsafe { DATA.read_volatile() } as u8)
    }

    fn send(&mut self, byte: u8) {
        while Self::flags() & TRANSMIT_FULL != 0 {}
        // Safety: a register of this chip.
        unsafe { DATA.write_volatile(byte.into()) };
    }
}

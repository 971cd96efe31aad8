//! Serial lines.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use crate::auth::Permissions;
use crate::block::Block;
use crate::report::Report;
use crate::value::Written;

/// One `serial` block: a line, and the device at its other end.
#[derive(Clone, Debug, PartialEq)]
pub struct SerialLine {
    /// The device file, an absolute path; it need not be there. A name that stays the same, as those of
    /// `/dev/serial/by-id`, finds an adapter again in whatever socket.
    pub device: PathBuf,
    /// Bits per second. Default 115,200.
    pub baud: u32,
    /// Bits of a byte, 7 or 8. Default 8.
    pub data_bits: u8,
    /// What is added to a byte to check it. Default: nothing.
    pub parity: Parity,
    /// Bits after a byte, 1 or 2. Default 1.
    pub stop_bits: u8,
    /// How one end tells the other to wait. Default: not at all.
    pub flow: Flow,
    /// The kernel switches an RS-485 transceiver between sending and receiving. Default false: there is none, or it
    /// switches itself.
    pub rs485: bool,
    /// How operations are told apart. Default: as lines of text.
    pub framing: Framing,
    /// The largest message from the device, in bytes: header block and payload. Default 4 KiB, at most 1 MiB. A damaged size
    /// swallows no more than that.
    pub payload_bytes_max: u32,
    /// Silence in the middle of an operation after which the rest isn't waited for any longer. Default 2 s.
    pub gap: Duration,
    /// The user that a device without credentials is taken for.
    pub user: Option<String>,
    /// Without [`Self::user`]: the account that such a device is in. Default: the global one.
    pub account: Option<String>,
    /// Without [`Self::user`]: what such a device may do.
    pub permissions: Option<Permissions>,
    /// Where the line was written.
    pub at: Written,
}

/// A bit that is added to a byte to check it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parity {
    /// None.
    None,
    /// An even number of ones.
    Even,
    /// An odd number of ones.
    Odd,
}

/// How one end tells the other to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Not at all.
    None,
    /// Over the wires RTS and CTS.
    RtsCts,
    /// By the bytes XON and XOFF. They may not stand in a payload.
    XonXoff,
}

/// How operations are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// They are lines of text, as over TCP.
    Text,
    /// Each is in a frame of `midge_protocol::frame`, with a checksum.
    Crc,
}

const BAUD: u32 = 115_200;
const PAYLOAD_BYTES_MAX: u32 = 4096;
const GAP: Duration = Duration::from_secs(2);

impl SerialLine {
    pub(crate) fn read_all(root: &Block<'_>, report: &mut Report) -> Vec<Self> {
        let mut lines: Vec<Self> = Vec::new();
        for block in root.blocks("serial") {
            if let Some(line) = Self::read(&block, report) {
                if lines.iter().any(|other| other.device == line.device) {
                    let text = format!("serial line {} is there twice", line.device.display());
                    report.error(&line.at.0, text);
                }
                lines.push(line);
            }
        }
        lines
    }

    fn read(block: &Block<'_>, report: &mut Report) -> Option<Self> {
        let at = block.at()?;
        let Some(device) = block.path("device").filter(|device| device.is_absolute()) else {
            report.error(at, "a serial line requires a device, an absolute path");
            return None;
        };
        let number = |name| block.int(name).and_then(|value| u32::try_from(value).ok());
        let bits = |name| block.int(name).and_then(|value| u8::try_from(value).ok());
        let word = |name| block.word(name).unwrap_or_default().to_ascii_lowercase();
        let this = Self {
            device,
            baud: number("baud").unwrap_or(BAUD),
            data_bits: bits("data_bits").unwrap_or(8),
            parity: match word("parity").as_str() {
                "even" => Parity::Even,
                "odd" => Parity::Odd,
                _ => Parity::None,
            },
            stop_bits: bits("stop_bits").unwrap_or(1),
            flow: match word("flow").as_str() {
                "rts_cts" => Flow::RtsCts,
                "xon_xoff" => Flow::XonXoff,
                _ => Flow::None,
            },
            rs485: block.bool("rs485").unwrap_or_default(),
            framing: if word("framing") == "crc" { Framing::Crc } else { Framing::Text },
            payload_bytes_max: number("max_payload").unwrap_or(PAYLOAD_BYTES_MAX),
            gap: block.nonzero_duration("gap").unwrap_or(GAP),
            user: block.word("user"),
            account: block.word("account"),
            permissions: Permissions::read(block, "permissions"),
            at: Written(at.clone()),
        };
        if this.user.is_some() && (this.account.is_some() || this.permissions.is_some()) {
            report.error(at, "a serial line takes a user, or an account and permissions, not both");
        }
        if this.framing == Framing::Crc && (this.data_bits != 8 || this.flow == Flow::XonXoff) {
            report.error(at, "framing \"crc\" needs 8 data bits, and flow control over wires if any");
        }
        Some(this)
    }

    /// What the line and those who come over it are called: the device's path.
    pub fn name(&self) -> Cow<'_, str> {
        self.device.to_string_lossy()
    }

    /// Everything but who the device is.
    pub(crate) fn wire(&self) -> Self {
        Self { user: None, account: None, permissions: None, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Flow, Framing, MemoryFiles, Parity, World, load_text};
    use std::time::Duration;

    fn load(text: &str) -> crate::Loaded {
        load_text("test.conf", text.as_bytes(), World { files: &MemoryFiles::new(), environment: &|_| None })
    }

    #[test]
    fn one_line_or_many() {
        let (options, _) = load("serial { device: /dev/ttyUSB0 }").unwrap();
        let [line] = &options.serial[..] else { panic!() };
        assert_eq!(
            (line.name().as_ref(), line.baud, line.data_bits, line.stop_bits),
            ("/dev/ttyUSB0", 115_200, 8, 1)
        );
        assert_eq!((line.parity, line.flow, line.framing), (Parity::None, Flow::None, Framing::Text));
        assert_eq!((line.payload_bytes_max, line.gap), (4096, Duration::from_secs(2)));

        let text = "serial: [
            { device: /dev/ttyS1, baud: 9600, parity: even, stop_bits: 2, flow: rts_cts, rs485: true, gap: '500ms'
              framing: crc, max_payload: 256, permissions { publish: 'plant.>' } }
            { device: /dev/ttyACM0, account: A }
        ]
        accounts { A {} }";
        let (options, report) = load(text).unwrap();
        assert!(report.warnings.is_empty(), "{report}");
        let [first, second] = &options.serial[..] else { panic!() };
        assert_eq!((first.baud, first.stop_bits, first.rs485, first.payload_bytes_max), (9600, 2, true, 256));
        assert_eq!((first.parity, first.flow, first.framing), (Parity::Even, Flow::RtsCts, Framing::Crc));
        assert_eq!(second.account.as_deref(), Some("A"));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (text, complaint) in [
            ("serial { baud: 9600 }", "requires a device"),
            ("serial { device: ttyUSB0 }", "an absolute path"),
            ("serial { device: /d, baud: 1 }", "baud"),
            ("serial { device: /d, parity: mark }", "parity"),
            ("serial [{ device: /d }, { device: /d }]", "there twice"),
            ("serial { device: /d, user: a }", "user \"a\" is not defined"),
            ("serial { device: /d, account: A }", "account \"A\" is not defined"),
            ("authorization {users: [{user: a}]}\nserial { device: /d, user: a, account: A }", "not both"),
            ("serial { device: /d, framing: crc, data_bits: 7 }", "needs 8 data bits"),
            ("serial { device: /d, speed: 9600 }", "speed"),
        ] {
            let report = load(text).map(|(_, report)| report).unwrap_or_else(|report| report);
            assert!(report.to_string().contains(complaint), "{text}: {report}");
        }
    }
}

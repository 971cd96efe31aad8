//! A serial device: opening it.

use std::io;

use midge_config::{Flow, Parity, SerialLine};
use rustix::termios::{InputModes, OptionalActions, ioctl_tiocexcl, tcgetattr, tcsetattr};
use serial2::rs4xx::Rs485Config;
use serial2::{CharSize, FlowControl, SerialPort, Settings, StopBits};
use tokio::io::unix::AsyncFd;

use crate::watch::watched;

/// Opens the device and sets it up as `line` says. Nobody else can open it then, but root.
pub(crate) fn open(line: &SerialLine) -> io::Result<AsyncFd<SerialPort>> {
    let port = SerialPort::open(&line.device, |mut settings: Settings| {
        settings.set_raw();
        settings.set_baud_rate(line.baud)?;
        settings.set_char_size(if line.data_bits == 7 { CharSize::Bits7 } else { CharSize::Bits8 });
        settings.set_stop_bits(if line.stop_bits == 2 { StopBits::Two } else { StopBits::One });
        settings.set_parity(match line.parity {
            Parity::None => serial2::Parity::None,
            Parity::Even => serial2::Parity::Even,
            Parity::Odd => serial2::Parity::Odd,
        });
        settings.set_flow_control(match line.flow {
            Flow::None => FlowControl::None,
            Flow::RtsCts => FlowControl::RtsCts,
            Flow::XonXoff => FlowControl::XonXoff,
        });
        Ok(settings)
    })?;
    if line.rs485 {
        port.set_rs4xx_mode(Rs485Config::new())?;
    }
    if line.parity != Parity::None {
        // Bytes with a wrong parity are to be seen, marked as such.
        let mut termios = tcgetattr(&port)?;
        termios.input_modes.remove(InputModes::IGNPAR);
        termios.input_modes.insert(InputModes::INPCK | InputModes::PARMRK);
        tcsetattr(&port, OptionalActions::Now, &termios)?;
    }
    ioctl_tiocexcl(&port)?;
    // Of a conversation that nobody here was part of.
    port.discard_buffers()?;
    watched(port)
}

//! A sensor node on an ESP32-C3, over its USB port, which is a serial port for the gateway: no scheduler, the chip's own
//! thermometer and random numbers, a log as text on its first UART.
#![no_std]
#![no_main]

use core::panic::PanicInfo;
use esp_hal::Blocking;
use esp_hal::clock::CpuClock;
use esp_hal::delay::Delay;
use esp_hal::gpio::{Level, Output, OutputConfig};
use esp_hal::rng::Rng;
use esp_hal::tsens::{self, TemperatureSensor};
use esp_hal::uart::{self, Uart};
use esp_hal::usb::usb_serial_jtag::UsbSerialJtag;
use node::blocking::{Clock, Port, Serial, run};
use node::{Board, Instant, Log, Login, Memory, Names, names};

const NAMES: Names = names!("porch", "esp32c3");
static LOGIN: Login<'_> = Login::ANONYMOUS.named("porch");

esp_bootloader_esp_idf::esp_app_desc!();

#[esp_hal::main]
fn main() -> ! {
    let p = esp_hal::init(esp_hal::Config::default().with_cpu_clock(CpuClock::max()));
    let mut board = Dev {
        thermometer: TemperatureSensor::new(p.TSENS, tsens::Config::default()).unwrap(),
        heater: Output::new(p.GPIO8, Level::High, OutputConfig::default()),
        log: Uart::new(p.UART0, uart::Config::default()).unwrap().with_tx(p.GPIO21).with_rx(p.GPIO20),
    };
    let mut uplink = Serial::new(Usb(UsbSerialJtag::new(p.USB_DEVICE)), Systimer);
    let mut memory = Memory::<512, 512, 8192>::new();
    run(&mut board, &mut uplink, &NAMES, &LOGIN, &mut memory, Rng::new().random())
}

/// Begins anew.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    esp_hal::system::software_reset()
}

#[derive(Clone, Copy)]
struct Systimer;

impl Clock for Systimer {
    fn now_us(self) -> u64 {
        esp_hal::time::Instant::now().duration_since_epoch().as_micros()
    }

    fn wait(self) {
        Delay::new().delay_millis(1);
    }
}

struct Usb(UsbSerialJtag<'static, Blocking>);

impl Port for Usb {
    fn receive(&mut self) -> Option<u8> {
        self.0.read_byte().ok()
    }

    /// Nobody takes it while no gateway listens: then it is lost, as on any line.
    fn send(&mut self, byte: u8) {
        let until = Systimer.now_us() + 10_000;
        while self.0.write_byte_nb(byte).is_err() && Systimer.now_us() < until {
            let _ = self.0.flush_tx_nb();
        }
    }

    fn flush(&mut self) {
        let _ = self.0.flush_tx_nb();
    }
}

struct Dev {
    thermometer: TemperatureSensor<'static>,
    /// The LED of many boards stands for one; it is on when its pin is low.
    heater: Output<'static>,
    log: Uart<'static, Blocking>,
}

impl Board for Dev {
    fn now(&self) -> Instant {
        Instant::from_micros(Systimer.now_us())
    }

    fn celsius_x100(&mut self) -> i16 {
        (self.thermometer.get_temperature().to_celsius() * 100.0) as i16
    }

    fn heat(&mut self, on: bool) {
        self.heater.set_level((!on).into());
    }

    fn log(&mut self, line: Log) {
        for text in [line.as_str(), "\r\n"] {
            let _ = self.log.write(text.as_bytes());
        }
    }
}

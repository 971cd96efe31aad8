//! A sensor node on an nRF52840 development kit, over the serial port that its USB socket carries: embassy, the chip's own
//! thermometer and random numbers, a log in defmt.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicI16, Ordering};
use defmt_rtt as _;
use embassy_executor::Spawner;
use embassy_nrf::bind_interrupts;
use embassy_nrf::buffered_uarte::{self, BufferedUarte};
use embassy_nrf::gpio::{Level, Output, OutputDrive};
use embassy_nrf::peripherals::UARTE0;
use embassy_nrf::rng::Rng;
use embassy_nrf::temp::{self, Temp};
use embassy_nrf::uarte::{Baudrate, Config};
use embassy_time::Timer;
use node::asynchronous::{Serial, run};
use node::{Board, Instant, Log, Login, Memory, Names, names};
use panic_probe as _;
use static_cell::StaticCell;

const NAMES: Names = names!("barn", "nrf52840-dk");
static LOGIN: Login<'_> = Login::ANONYMOUS.named("barn");

bind_interrupts!(struct Irqs {
    UARTE0 => buffered_uarte::InterruptHandler<UARTE0>;
    TEMP => temp::InterruptHandler;
});

/// What the thermometer said last, in hundredths of a degree.
static CELSIUS: AtomicI16 = AtomicI16::new(0);

#[embassy_executor::main]
async fn main(spawner: Spawner) {
    let p = embassy_nrf::init(Default::default());
    let mut start = [0; 4];
    Rng::new_blocking(p.RNG).blocking_fill_bytes(&mut start);
    spawner.spawn(thermometer(Temp::new(p.TEMP, Irqs)).unwrap());

    static RECEIVE: StaticCell<[u8; 512]> = StaticCell::new();
    static TRANSMIT: StaticCell<[u8; 512]> = StaticCell::new();
    let mut config = Config::default();
    config.baudrate = Baudrate::Baud115200;
    let port = BufferedUarte::new(
        p.UARTE0,
        p.TIMER0,
        p.PPI_CH0,
        p.PPI_CH1,
        p.PPI_GROUP0,
        p.P0_08,
        p.P0_06,
        Irqs,
        config,
        RECEIVE.init([0; 512]),
        TRANSMIT.init([0; 512]),
    );
    let mut memory = Memory::<512, 512, 8192>::new();
    // LED 1 stands for a heater; it is on when its pin is low.
    let mut board = Kit { heater: Output::new(p.P0_13, Level::High, OutputDrive::Standard) };
    run(&mut board, &mut Serial::new(port), &NAMES, &LOGIN, &mut memory, u32::from_le_bytes(start)).await
}

#[embassy_executor::task]
async fn thermometer(mut sensor: Temp<'static>) -> ! {
    loop {
        let celsius: f32 = sensor.read().await.to_num();
        CELSIUS.store((celsius * 100.0) as i16, Ordering::Relaxed);
        Timer::after_millis(500).await;
    }
}

struct Kit {
    heater: Output<'static>,
}

impl Board for Kit {
    fn now(&self) -> Instant {
        node::asynchronous::now()
    }

    fn celsius_x100(&mut self) -> i16 {
        CELSIUS.load(Ordering::Relaxed)
    }

    fn heat(&mut self, on: bool) {
        self.heater.set_level((!on).into());
    }

    fn log(&mut self, line: Log) {
        line.defmt();
    }
}
